import errno
import fcntl
import os
import stat
import subprocess
import sys

import pytest

from mammadai_jax.training import sealed
from mammadai_jax.training.run import FORMAT, Run, RunError, read, read_rows

ABOUT = {"settings": {"seed": 0, "prior": {"width": 8}}, "data": {"digest": "abc"}}


def begun(path, about=ABOUT):
    """A directory in which something was learned."""
    with Run(path, about) as run:
        run.log("prior", 10, {"bits": 0.1}, {"seconds": 1.0})
    return path


def test_a_run_says_what_it_is(tmp_path):
    begun(tmp_path / "a" / "run")
    record = read(tmp_path / "a" / "run")
    assert record["settings"] == ABOUT["settings"]
    assert record["environment"]["versions"]["jax"]
    assert record["environment"]["devices"]


def test_an_existing_run_asks_for_resume(tmp_path):
    begun(tmp_path)
    with pytest.raises(RunError, match=r"add --resume .* or choose another --out"):
        Run(tmp_path, ABOUT)
    with Run(tmp_path, ABOUT, resume=True) as run:
        assert run.rows("prior") == [{"stage": "prior", "update": 10, "bits": 0.1}]


def test_where_nothing_was_learned_a_corrected_command_simply_begins(tmp_path):
    Run(tmp_path, ABOUT).close()
    other = {**ABOUT, "data": {"digest": "other"}}
    Run(tmp_path, other).close()
    assert read(tmp_path)["data"] == {"digest": "other"}
    with pytest.raises(RunError, match=r"begun with data\.digest = other, now it is abc"):
        Run(tmp_path, ABOUT, resume=True)


def test_to_go_on_there_must_be_a_run(tmp_path):
    with pytest.raises(RunError, match="holds no run to go on with"):
        Run(tmp_path / "new", ABOUT, resume=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("about", "difference"),
    [
        (
            {"settings": {"seed": 1, "prior": {"width": 8}}, "data": {"digest": "abc"}},
            r"settings.seed = 0, now it is 1",
        ),
        (
            {"settings": {"seed": 0, "prior": {"width": 9}}, "data": {"digest": "abc"}},
            r"prior.width = 8, now it is 9",
        ),
        (
            {"settings": {"seed": 0, "prior": {}}, "data": {"digest": "abc"}},
            r"prior.width = 8, now it is None",
        ),
        ({**ABOUT, "data": {"digest": "xyz"}}, r"data.digest = abc, now it is xyz"),
    ],
)
def test_resuming_as_something_else_names_the_first_difference(tmp_path, about, difference):
    begun(tmp_path)
    with pytest.raises(RunError, match=difference):
        Run(tmp_path, about, resume=True)
    Run(tmp_path, ABOUT, resume=True).close()  # the refusal has let go of the directory


def test_another_environment_is_told(tmp_path, caplog):
    begun(tmp_path)
    record = read(tmp_path)
    record["environment"]["versions"]["jax"] = "0.0.1"
    sealed.write(tmp_path / "run.json", FORMAT, record)
    Run(tmp_path, ABOUT, resume=True).close()
    assert "versions.jax = 0.0.1" in caplog.text and "cores" not in caplog.text


def test_another_number_of_cores_is_told(tmp_path, caplog, monkeypatch):
    begun(tmp_path)
    monkeypatch.setenv("NPROC", "1000")
    Run(tmp_path, ABOUT, resume=True).close()
    assert f"cores = {read(tmp_path)['environment']['cores']}, now it is 1000" in caplog.text


HOLD_LOCK = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_directory_that_another_process_trains_in_is_refused(tmp_path):
    begun(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=r"another process is training"):
            Run(tmp_path, ABOUT, resume=True)
    Run(tmp_path, ABOUT, resume=True).close()


def test_where_directories_cannot_be_locked_a_file_in_them_is(tmp_path, monkeypatch):
    begun(tmp_path)
    (tmp_path / "letter.txt").write_text("dear")
    lock = fcntl.flock

    def on_a_network(opened, how):
        if stat.S_ISDIR(os.fstat(opened).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        lock(opened, how)

    monkeypatch.setattr(fcntl, "flock", on_a_network)
    with Run(tmp_path, ABOUT, resume=True), pytest.raises(RunError, match=r"another process is training"):
        Run(tmp_path, ABOUT, resume=True)
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").symlink_to("letter.txt")
    with pytest.raises(RunError, match=r"cannot be locked"):
        Run(tmp_path, ABOUT, resume=True)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(RunError, match=rf"{tmp_path} cannot be locked .*No locks available.*choose an --out"):
        Run(tmp_path, ABOUT)


@pytest.mark.parametrize("name", ["checkpoints", "log.jsonl", "samples", "timing.jsonl", "run.json"])
def test_links_in_place_of_a_runs_own_files_are_refused(tmp_path, name):
    begun(tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError):
        Run(tmp_path / "run", ABOUT, resume=True)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_directories_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("")
    for out, why in [("file", "is a file"), ("file/below", "cannot be made"), ("full", "holds no run")]:
        with pytest.raises(RunError, match=why):
            Run(tmp_path / out, ABOUT)
        with pytest.raises(RunError, match="holds no run to go on with: leave --resume out"):
            Run(tmp_path / out, ABOUT, resume=True)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["letter.txt"]


def test_a_kill_at_the_very_beginning_leaves_a_usable_directory(tmp_path):
    (tmp_path / ".lock").write_text("")
    (tmp_path / ".run.json.123.part").write_text("{")
    Run(tmp_path, ABOUT).close()
    assert read(tmp_path)["settings"] == ABOUT["settings"]


HOSTILE = [
    "",
    "{",
    "[]",
    "3",
    "null",
    '"format"',
    "{}",
    '{"format": 99}',
    '{"format": "1"}',
    "[" * 100_000,
    "\xff",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_record_is_one_clear_error(tmp_path, text):
    begun(tmp_path)
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    for use in (read, lambda path: Run(path, ABOUT, resume=True)):
        with pytest.raises(RunError, match=r"run\.json"):
            use(tmp_path)


@pytest.mark.parametrize("contents", [{}, {"settings": 3, "data": []}])
def test_a_record_of_wrong_types_differs(tmp_path, contents):
    begun(tmp_path)
    sealed.write(tmp_path / "run.json", FORMAT, contents)
    with pytest.raises(RunError, match=r"the run was begun with"):
        Run(tmp_path, ABOUT, resume=True)


def test_a_run_of_another_version_says_what_to_do(tmp_path):
    begun(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 1, "settings": {"imitation": {}}}')
    with pytest.raises(RunError, match=r"format 1, not 3, .* train again with another --out"):
        read(tmp_path)


def test_no_record(tmp_path):
    with pytest.raises(RunError, match=r"name the directory given to --out"):
        read(tmp_path)


def logged(tmp_path):
    run = Run(tmp_path, ABOUT)
    for stage, update in (("prior", 10), ("prior", 20), ("gail", 5), ("gail", 10)):
        run.log(stage, update, {"x": 1 / 3}, {"seconds": 0.5})
    return run


def test_a_full_disk_is_told_with_the_place_and_how_to_go_on(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device", "samples/1.mid")
    for error, place in ((full, "samples/1.mid"), (OSError(errno.ENOSPC, "No space left"), tmp_path)):
        said = pytest.raises(RunError, match=rf"{place} cannot be written: No space.*go on with --resume")
        with said, Run(tmp_path, ABOUT):
            raise error
    with pytest.raises(FileNotFoundError), Run(tmp_path, ABOUT):
        raise FileNotFoundError(errno.ENOENT, "no such file")


def test_rewinding_drops_a_stage_after_an_update_and_keeps_the_other_bytes(tmp_path):
    with logged(tmp_path) as run:
        before = (tmp_path / "log.jsonl").read_bytes().splitlines(keepends=True)
        run.rewind("gail", 5)
        assert (tmp_path / "log.jsonl").read_bytes() == b"".join(before[:3])
        assert [row["update"] for row in read_rows(tmp_path / "timing.jsonl")] == [10, 20, 5]
        run.log("gail", 10, {"x": 1 / 3}, {"seconds": 0.1})
        assert (tmp_path / "log.jsonl").read_bytes() == b"".join(before)


def test_a_stage_that_begins_anew_is_logged_in_its_place_again(tmp_path):
    with logged(tmp_path) as run:
        before = (tmp_path / "log.jsonl").read_bytes()
        run.rewind("prior", 0)
        for update in (10, 20):
            run.log("prior", update, {"x": 1 / 3}, {"seconds": 0.5})
        run.rewind("gail", 10)
        assert (tmp_path / "log.jsonl").read_bytes() == before


def saved(tmp_path):
    """A log, and what a checkpoint of update 20 of the stage prior says of it."""
    run = Run(tmp_path, ABOUT)
    for update in (10, 20):
        run.log("prior", update, {"x": 1 / 3}, {"seconds": 0.5})
    digests = run.logged()
    run.log("prior", 30, {"x": 1 / 3}, {"seconds": 0.5})
    return run, digests


def test_what_was_logged_until_a_checkpoint_is_what_is_resumed(tmp_path):
    run, digests = saved(tmp_path)
    with run:
        run.rewind("prior", 20, digests)
        assert run.logged() == digests
        assert [row["update"] for row in run.rows("prior")] == [10, 20]


@pytest.mark.parametrize("name", ["log.jsonl", "timing.jsonl"])
def test_a_log_that_was_cut_or_removed_is_told(tmp_path, name):
    run, digests = saved(tmp_path)
    path = tmp_path / name
    lines = path.read_bytes().splitlines(keepends=True)
    with run:
        for text, lost in ((b"", 0), (lines[0], 10), (lines[0] + lines[1][:9], 10), (lines[1], "damaged")):
            path.write_bytes(text)
            said = "it is damaged" if lost == "damaged" else f"it ends at {lost} of 20 updates"
            with pytest.raises(RunError, match=rf"{name} is not what was logged of stage prior: {said}. Put"):
                run.rewind("prior", 20, digests)
            assert path.read_bytes() == text
        path.unlink()
        with pytest.raises(RunError, match=r"ends at 0 of 20 updates"):
            run.rewind("prior", 20, digests)


def test_every_flipped_bit_of_a_log_is_found(tmp_path):
    run, digests = saved(tmp_path)
    path = tmp_path / "log.jsonl"
    sound = path.read_bytes()
    counts = len(b"".join(sound.splitlines(keepends=True)[:2]))
    with run:
        for at in range(0, 8 * counts, 7):
            flipped = bytearray(sound)
            flipped[at // 8] ^= 1 << at % 8
            path.write_bytes(flipped)
            with pytest.raises(RunError, match=r"log\.jsonl"):
                run.rewind("prior", 20, digests)


def test_rewinding_drops_a_last_line_that_was_cut_anywhere(tmp_path):
    with logged(tmp_path) as run:
        path = tmp_path / "log.jsonl"
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        for end in range(len(whole) - len(lines[-1]), len(whole) - 1):
            path.write_bytes(whole[:end])
            run.rewind("gail", 10)
            assert path.read_bytes() == b"".join(lines[:3])


@pytest.mark.parametrize(
    "line", ["{", "3", "{}", '{"stage": 1, "update": 2}', '{"stage": "a"}', "[" * 100_000]
)
def test_a_corrupted_line_in_the_middle_is_named(tmp_path, line):
    with logged(tmp_path) as run:
        path = tmp_path / "log.jsonl"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
        kept = path.read_bytes()
        with pytest.raises(RunError, match=r"log\.jsonl, line 2 cannot be read"):
            run.rewind("gail", 5)
        assert path.read_bytes() == kept
