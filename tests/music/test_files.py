import os

import pytest

from mammadai_jax.music import files


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
