import os

import pytest

from experiments import rating_tab


def test_growth_is_measured_after_the_caches_are_full():
    names = (*rating_tab.MEASURES.values(), "processes")
    rows = [dict.fromkeys(names, 50.0) for _ in range(10)]
    rows += [dict.fromkeys(names, 100.0 + number) for number in range(20)]
    found = rating_tab.grown(rows)
    assert found == dict.fromkeys(names, pytest.approx(114.5 / 104.5 - 1))
    assert rating_tab.grown(rows[:1]) == dict.fromkeys(names, 0.0)


def test_memory_is_that_of_a_process_and_its_descendants():
    before = rating_tab.resident(os.getpid())
    held = bytearray(os.urandom(1)) * 50_000_000
    assert 40e6 < rating_tab.resident(os.getpid()) - before < 60e6 and len(held) == 50_000_000
    assert rating_tab.resident(2**22 + 1) == 0
