"""Composes with all stages in turn in one process, and watches its memory and its open files.

    python -m experiments.soak RUN --minutes 60

After the first minutes, a sixth of the time, resident memory may grow by no more than 5 %, open files not at
all, and threads, of which pools start some later, by no more than a tenth. Exit code 1 if something grows.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import tyro

from mammadai_jax.music.sample import save
from mammadai_jax.stages import STAGES
from mammadai_jax.training.compose import compose
from mammadai_jax.training.stage import ComposeRequest

GROWTH = 0.05
COMPOSING = [spec.name for spec in STAGES if spec.compose]


class Usage(NamedTuple):
    """What the process has: MiB of resident memory, open files, and threads."""

    memory: float
    files: int
    threads: int


def usage() -> Usage:
    """What this process has now, after what nobody needs was collected."""
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    memory, threads = int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"])
    return Usage(memory, sum(1 for _ in Path("/proc/self/fd").iterdir()), threads)


def faults(early: list[Usage], late: list[Usage]) -> list[str]:
    """What has grown: the most of each that there was late, beside the most that there was early."""
    before, after = (Usage(*map(max, zip(*part, strict=True))) for part in (early, late))
    grown = {
        "memory": after.memory > before.memory * (1 + GROWTH),
        "files": after.files > before.files,
        "threads": after.threads > before.threads * 1.1,
    }
    return [f"{n} {getattr(before, n):.0f} -> {getattr(after, n):.0f}" for n, more in grown.items() if more]


def main(run: tyro.conf.Positional[Path], minutes: float = 60.0) -> int:
    """Compose until the time is over, and print what the process has every sixtieth of it.

    Args:
        run: a finished run.
        minutes: how long.

    """
    begun, rounds, measured = time.monotonic(), 0, []
    print("| minute | rounds | MiB | files | threads |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as room:
        while (passed := (time.monotonic() - begun) / 60) < minutes:
            for stage in COMPOSING:
                # as many lengths and temperatures as a user may ask for: a program is kept for each length
                request = ComposeRequest(1, bars=1 + rounds % 2, temperature=1 + rounds % 7 / 10)
                for sample in compose(run, STAGES, stage, request, seed=rounds):
                    save(sample, Path(room, stage))
            rounds += 1
            if not measured or passed >= len(measured) * minutes / 60:
                measured.append(usage())
                now = measured[-1]
                row = f"{passed:.1f} | {rounds} | {now.memory:.0f} | {now.files} | {now.threads}"
                print(f"| {row} |", flush=True)
    first = max(1, len(measured) // 6)
    grown = faults(measured[:first], measured[first:])
    print(f"\n{rounds} rounds of {len(COMPOSING)} stages; grown: {', '.join(grown) or 'nothing'}")
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
