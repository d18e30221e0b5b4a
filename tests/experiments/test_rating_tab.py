import os
import subprocess
import sys

import pytest

from experiments import rating_tab


def test_growth_is_measured_after_the_caches_are_full():
    names = (*rating_tab.MEASURES.values(), "processes")
    rows = [dict.fromkeys(names, 50.0) for _ in range(10)]
    rows += [dict.fromkeys(names, 100.0 + number) for number in range(20)]
    found = rating_tab.grown(rows)
    assert found == dict.fromkeys(names, pytest.approx(114.5 / 104.5 - 1))
    assert rating_tab.grown(rows[:1]) == dict.fromkeys(names, 0.0)


HOLDS = """import mmap
held = mmap.mmap(-1, 50_000_000)
held.write(bytes(50_000_000))
print(flush=True)
input()
"""


def test_memory_is_that_of_a_process_and_its_descendants():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDS], **pipes) as child:
        child.stdout.readline()
        alone, together = rating_tab.resident(child.pid), rating_tab.resident(os.getpid())
        child.stdin.close()
    assert 50e6 < alone < 150e6 and together > alone
    assert rating_tab.resident(2**22 + 1) == 0
