"""The win matrix over seeds: means, intervals and tests whose unit is a seed.

Each seed has a corpus split, embedding, base, reward model, systems and listeners of its own, so that its win
rates are independent of those of other seeds. The choices within a seed are not: they share all of these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LEVEL = 0.95
NAMES = ("variant", "jury", "noise", "a", "b")


def matrix(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each comparison in the rows of all seeds.

    Its win rate is the mean over seeds, with Student's interval and a two-sided test against 1/2. The tests
    at the listeners' own noise, those of both juries and of all variants, are corrected together by Holm's
    method; other levels of noise repeat them with the same melodies and are not tested.

    Args:
        rows: with the columns NAMES, wins, ties, losses, win_rate, low and high; strings or numbers.

    Returns:
        Rows with the columns NAMES, seeds, wins, ties, losses, win_rate, low, high, p and p_holm; the last
        two are NaN without a test, as for one seed, whose interval is its own.

    """
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(str(row[name]) for name in NAMES), []).append(row)
    table = [{**dict(zip(NAMES, key, strict=True)), **_summary(each)} for key, each in found.items()]
    tested = [row for row in table if float(row["noise"]) == 1 and not math.isnan(row["p"])]
    corrected = dict(zip(map(id, tested), holm([row["p"] for row in tested]), strict=True))
    return [{**row, "p_holm": corrected.get(id(row), math.nan)} for row in table]


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of one comparison's rows, one for each seed."""
    counts = {name: sum(int(row[name]) for row in rows) for name in ("wins", "ties", "losses")}
    rates = [float(row["win_rate"]) for row in rows if str(row["win_rate"]) not in ("", "nan")]
    decided = counts["wins"] + counts["losses"]
    mean, low, high, p = over_seeds(rates, decided)
    if len(rates) == 1:
        low, high = float(rows[0]["low"]), float(rows[0]["high"])
    own = {"win_rate": mean, "low": low, "high": high, "p": p}
    return {"seeds": len(rates), **counts, **own}


def over_seeds(rates: Sequence[float], decided: int) -> tuple[float, float, float, float]:
    """Mean, ends of the interval and p of win rates, one of each seed; NaN for what one seed cannot say.

    The standard error is not below that of as many independent choices as were decided, so that seeds that
    agree by chance do not look certain.
    """
    from scipy import stats  # slow to import

    if len(rates) < 2:
        return (float(np.mean(rates)) if rates else math.nan), math.nan, math.nan, math.nan
    mean, freedom = float(np.mean(rates)), len(rates) - 1
    error = max(float(np.std(rates, ddof=1)) / math.sqrt(len(rates)), 0.5 / math.sqrt(max(decided, 1)))
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(mean - 0.5) / error, freedom))
    return mean, max(mean - half, 0.0), min(mean + half, 1.0), p


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979): the chance of any false one among them is bounded."""
    order, corrected, largest = np.argsort(p, kind="stable"), [0.0] * len(p), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = largest
    return corrected
