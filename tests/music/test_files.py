import os
import threading
from pathlib import Path

import pytest

from mammadai_jax.music import files
from mammadai_jax.music.files import check_output, expanded, read_text, user_cache, visible, write_output


@pytest.fixture
def homeless(monkeypatch):
    """A user without HOME, whom the system does not know either."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)


def test_the_cache_is_in_the_home_directory_or_where_xdg_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for xdg, place in (
        ("", tmp_path / ".cache"),
        ("relative", tmp_path / ".cache"),
        ("/var/x", Path("/var/x")),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
        assert user_cache() == place / "mammadai_jax"


def test_without_a_home_there_is_no_cache_and_no_tilde(homeless):
    assert user_cache() is None
    with pytest.raises(ValueError, match="no home directory for '~/x': give the whole path"):
        expanded("~/x")
    assert expanded("x/~") == Path("x/~")


def test_the_home_directory_takes_the_place_of_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x") == expanded(Path("~/x")) == tmp_path / "x"


@pytest.mark.parametrize("data", [b"a\n", b"\xef\xbb\xbfa\n"], ids=["utf-8", "with a byte order mark"])
def test_text_is_read_in_utf_8(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    assert read_text(tmp_path / "a", 10) == "a\n"


def test_text_in_another_encoding_or_too_long_is_refused(tmp_path):
    (tmp_path / "a").write_bytes("é".encode("latin-1") + b"123")
    with pytest.raises(ValueError, match="byte 1 is not UTF-8: save it as UTF-8"):
        read_text(tmp_path / "a", 4)
    with pytest.raises(OSError, match="larger than 0 MiB"):
        read_text(tmp_path / "a", 3)


def test_output_replaces_a_file_where_a_link_leads(tmp_path):
    real, link, lost = (tmp_path / name for name in ("real", "link", "lost"))
    real.write_bytes(b"before")
    link.symlink_to(real)
    lost.symlink_to(tmp_path / "made")
    for path in (link, lost, tmp_path / "new"):
        write_output(path, b"after")
        assert path.read_bytes() == b"after"
    assert link.is_symlink() and real.read_bytes() == (tmp_path / "made").read_bytes() == b"after"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "lost", "made", "new", "real"]


def test_output_is_written_through_a_pipe_and_a_device(tmp_path):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_output(pipe, b"numbers")
    reader.join(10)
    assert received == [b"numbers"] and pipe.is_fifo()
    write_output("/dev/null", b"numbers")
    assert Path("/dev/null").is_char_device()


def test_output_follows_what_was_printed_before_it(capfd):
    """Also where standard output leads to a file, as it does here."""
    print("table", flush=True)
    write_output("/dev/stdout", b"numbers\n")
    assert capfd.readouterr().out == "table\nnumbers\n"


def test_output_into_a_folder_or_no_folder_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "no" / "where", Path("/proc/numbers")):
        with pytest.raises(OSError, match=str(path)):
            write_output(path, b"")
        with pytest.raises(OSError, match=str(path)):
            check_output(path)


def test_asking_whether_output_can_be_written_writes_nothing(tmp_path):
    there = tmp_path / "there"
    there.write_bytes(b"before")
    for path in (there, tmp_path / "new", Path("/dev/null")):
        check_output(path)
    assert list(tmp_path.iterdir()) == [there] and there.read_bytes() == b"before"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 小调.mid", "plain é 小调.mid"),
        ("bad\udce9.mid", "bad\\udce9.mid"),
        ("\x1b[31mred\x07\x9b", "\\x1b[31mred\\x07\\x9b"),
        ("a\u202eb\x7f", "a\\u202eb\\x7f"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_names_do_not_steer_the_terminal(text, shown):
    assert visible(text) == shown
    assert visible(text).encode()


def test_a_file_is_read_up_to_its_limit(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert files.read(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 0 MiB"):
        files.read(tmp_path / "a", 4)


def test_what_might_never_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(OSError, match=r"regular file|directory"):
            files.read(path, 1 << 20)


def test_an_error_of_writing_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"missing/a'"):
        files.write_atomically(tmp_path / "missing" / "a", b"")


def test_a_link_in_place_of_the_unfinished_file_is_not_written_through(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    (tmp_path / f".a.{os.getpid()}.part").symlink_to("letter.txt")
    files.write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new" and (tmp_path / "letter.txt").read_text() == "dear"
