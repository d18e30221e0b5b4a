"""Tables that experiments write: CSV files, Markdown, and means with their intervals."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from mammadai_jax.music.files import write_atomically


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of the 95 % interval (Student's t) of independent values; NaN for one value."""
    if len(values) < 2:
        return float(np.mean(values)), math.nan
    spread = np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values)), float(spread * scipy.stats.t.ppf(0.975, len(values) - 1))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row for each mapping, a column for each name in any of them; whole or not at all."""
    names, text = list(dict.fromkeys(name for row in rows for name in row)), io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def markdown(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown, without a newline at its end."""
    line = lambda cells: f"| {' | '.join(map(str, cells))} |"
    return "\n".join([line(head), "|---" * len(head) + "|", *map(line, rows)])
