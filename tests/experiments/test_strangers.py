import signal
import time

import pytest

from experiments import strangers
from mammadai_jax import cli


@pytest.mark.parametrize("case", strangers.CASES, ids=lambda case: case.name)
def test_a_hostile_run_is_refused_in_one_line(taught, tmp_path, capsys, case):
    arguments = strangers.prepared(case, taught, tmp_path)
    signal.alarm(60)  # what waits for a pipe would never end
    begun = time.process_time()
    try:
        code = cli.main(arguments)
    finally:
        signal.alarm(0)
    assert not strangers.faults(code, capsys.readouterr().err, tmp_path)
    assert time.process_time() - begun < 10


def test_a_case_that_does_not_hold_is_told(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "new.txt").write_text("")
    said = "mammadai: a\nmammadai: \x1b[31m\nTraceback"
    assert len(strangers.faults(1, said, tmp_path)) == 5
    assert not any("exit code" in fault for fault in strangers.faults(2, said, tmp_path))


@pytest.mark.nightly
def test_within_two_seconds_and_a_gib(taught):
    assert strangers.main(taught) == 0
