"""Rows of measurements: as a table to read, as Markdown, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import measure
from benchmarks.measure import Contest, Job

BY_HAND = "hand-written scan"
HEADINGS = ("workload", "speed", "spread", "of its limit", "beside", "GFLOP/s", "compiled in", "memory")
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))


class Row(NamedTuple):
    """A measurement.

    Attributes:
        workload: its name.
        value: median, in `unit`: units a second, or seconds.
        unit: see value.
        limit: what cannot be passed: "matrix products" or "memory bandwidth" of this machine, whichever the
            counted work meets first, or "hand-written scan".
        fraction: of the limit that is reached.
        peer: whoever does the same otherwise.
        ratio: how many times faster than the peer's ours is.
        spread: the middle half of the measurements, as a share of the median.
        compiling: seconds, apart from all else.
        operations, bytes: counted, a run; memory: bytes that the program occupies.
        seconds: of a run, median.

    """

    workload: str
    value: float
    unit: str
    limit: str | None = None
    fraction: float | None = None
    peer: str | None = None
    ratio: float | None = None
    spread: float | None = None
    compiling: float | None = None
    operations: float = 0.0
    bytes: float = 0.0
    memory: int | None = None
    seconds: float | None = None


def contest_rows(
    name: str, unit: str, contest: Contest, most: Mapping[str, Job], rounds: int
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Measure a contest in turn with the machine's ceilings -> its rows, and the ceilings' seconds.

    There is a row for each peer, and one if there is none.
    """
    ours = contest.ours
    rivals = dict(contest.peers) | ({BY_HAND: contest.by_hand} if contest.by_hand else {})
    clocks = {job_name: job.clock for job_name, job in {"ours": ours, **most, **rivals}.items()}
    taken = measure.in_turn(clocks, rounds)
    times = taken["ours"]
    row = of_job(name, unit, ours, times)
    if contest.by_hand:
        row = row._replace(limit=BY_HAND, fraction=faster(ours, times, contest.by_hand, taken[BY_HAND]))
    elif ours.operations or ours.bytes:
        limit, least = measure.limit(ours, taken, most)
        row = row._replace(limit=limit, fraction=float(np.median(least / times)))
    rows = [
        row._replace(peer=peer, ratio=faster(ours, times, job, taken[peer]))
        for peer, job in contest.peers.items()
    ]
    return rows or [row], {ceiling: taken[ceiling] for ceiling in most}


def of_job(name: str, unit: str, job: Job, times: np.ndarray) -> Row:
    """The row of a job that took such seconds (rounds,), held against nothing."""
    middle = float(np.median(times))
    low, high = np.quantile(times, (0.25, 0.75))
    return Row(
        name,
        middle if unit == "s" else job.units / middle,
        unit,
        spread=float(high - low) / middle,
        compiling=job.compiling,
        operations=job.operations,
        bytes=job.bytes,
        memory=job.memory,
        seconds=middle,
    )


def faster(ours: Job, times: np.ndarray, other: Job, others: np.ndarray) -> float:
    """How many times the other's speed ours is, the median of the rounds."""
    return float(np.median(others / other.units / (times / ours.units)))


def human(value: float | None, unit: str = "", digits: int = 3) -> str:
    """A number with a prefix of its size, to so many digits: 83.1 M steps/s."""
    if value is None:
        return ""
    scale, prefix = next((p for p in PREFIXES if abs(value) >= p[0]), (1, ""))
    scaled = value / scale
    whole = len(str(int(abs(scaled))))
    told = f"{scaled:.{digits}g}" if abs(scaled) < 1 else f"{scaled:.{max(0, digits - whole)}f}"
    return f"{told} {prefix}{unit}".rstrip()


def cells(row: Row) -> tuple[str, ...]:
    """A row as it is read, under HEADINGS."""
    rate = row.operations / row.seconds / 1e9 if row.seconds and row.operations else None
    return (
        row.workload,
        human(row.value, row.unit),
        "" if row.spread is None else f"±{row.spread / 2:.0%}",
        "" if row.fraction is None else f"{row.fraction:.0%} of {row.limit}",
        "" if row.ratio is None else f"{human(row.ratio)} x {row.peer}",
        human(rate),
        "" if row.compiling is None else f"{row.compiling:.1f} s",
        human(row.memory, "B"),
    )


def text(rows: Sequence[Row]) -> str:
    """Rows in aligned columns."""
    lines = [HEADINGS, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    aligned = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(aligned)


def markdown(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """Rows as a Markdown table under a line that says where they were measured."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *map(cells, rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{told(about)}\n\n{table}\n"


def told(about: Mapping[str, Any]) -> str:
    """Where rows were measured, in a line."""
    return ", ".join(f"{name} {value}" for name, value in about.items())


def as_json(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """Rows as a JSON list of objects, each with where it was measured."""
    return json.dumps([{**row._asdict(), **about} for row in rows], indent=1) + "\n"
