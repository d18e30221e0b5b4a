import json
import subprocess
import sys

import pytest

from mammadai_jax.training.run import Run, RunError, read, read_rows

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
    record = json.loads((tmp_path / "run.json").read_text())
    record["environment"]["versions"]["jax"] = "0.0.1"
    (tmp_path / "run.json").write_text(json.dumps(record))
    Run(tmp_path, ABOUT, resume=True).close()
    assert "0.0.1" in caplog.text


HOLD_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_directory_that_another_process_trains_in_is_refused(tmp_path):
    begun(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=r"another process is training"):
            Run(tmp_path, ABOUT, resume=True)
    Run(tmp_path, ABOUT, resume=True).close()


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


@pytest.mark.parametrize("text", ['{"format": 2}', '{"format": 2, "settings": 3, "data": []}'])
def test_a_record_of_wrong_types_differs(tmp_path, text):
    begun(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"the run was begun with"):
        Run(tmp_path, ABOUT, resume=True)


def test_a_run_of_another_version_says_what_to_do(tmp_path):
    begun(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 1, "settings": {"imitation": {}}}')
    with pytest.raises(RunError, match=r"format 2, .* train again with another --out"):
        read(tmp_path)


def test_no_record(tmp_path):
    with pytest.raises(RunError, match=r"name the directory given to --out"):
        read(tmp_path)


def logged(tmp_path):
    run = Run(tmp_path, ABOUT)
    for stage, update in (("prior", 10), ("prior", 20), ("gail", 5), ("gail", 10)):
        run.log(stage, update, {"x": 1 / 3}, {"seconds": 0.5})
    return run


def test_rewinding_drops_a_stage_after_an_update_and_keeps_the_other_bytes(tmp_path):
    with logged(tmp_path) as run:
        before = (tmp_path / "log.jsonl").read_bytes().splitlines(keepends=True)
        run.rewind("gail", 5)
        assert (tmp_path / "log.jsonl").read_bytes() == b"".join(before[:3])
        assert [row["update"] for row in read_rows(tmp_path / "timing.jsonl")] == [10, 20, 5]
        run.log("gail", 10, {"x": 1 / 3}, {"seconds": 0.1})
        assert (tmp_path / "log.jsonl").read_bytes() == b"".join(before)


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
