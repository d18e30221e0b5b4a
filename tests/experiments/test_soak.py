import pytest

from experiments import soak
from experiments.soak import Usage


def test_what_grows_is_told():
    early = [Usage(100, 9, 20), Usage(101, 8, 20)]
    assert not soak.faults(early, [Usage(105, 9, 20), Usage(90, 7, 22)])
    for late, name in (
        (Usage(107, 9, 20), "memory"),
        (Usage(99, 10, 20), "files"),
        (Usage(99, 9, 23), "threads"),
    ):
        (grown,) = soak.faults(early, [early[0], late])
        assert grown.startswith(name)


def test_this_process_is_measured():
    now = soak.usage()
    assert now.memory > 50 and now.files > 2 and now.threads >= 1


@pytest.mark.nightly
def test_a_minute_of_all_stages(taught):
    assert soak.main(taught, 1.0) == 0
