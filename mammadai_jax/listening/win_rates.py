"""Statistics of choices: win rates between systems, their strengths, and the agreement of listeners.

Choices by one listener are correlated, and so are choices for one prompt. Intervals therefore come from
resampling listeners and prompts, both with replacement; a choice has the product of both counts as its weight
(Owen 2007, "The pigeonhole bootstrap", which is conservative). They are never narrower than Wilson's interval
for as many independent choices, so that three wins out of three do not look certain.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.listening.leaderboard import leaderboard

LEVEL = 0.95
RESAMPLES = 2000


class Interval(NamedTuple):
    """A share with the ends of its 95 % interval; NaN without decided choices."""

    share: float
    low: float
    high: float


class Row(NamedTuple):
    """System `a` against system `b`: win_rate = wins / (wins + losses), with its 95 % interval."""

    a: str
    b: str
    wins: int
    ties: int
    losses: int
    win_rate: float
    low: float
    high: float


def win_rates(
    comparisons: Sequence[Comparison],
    pairs: Sequence[tuple[str, str]] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Row]:
    """A row for each pair of systems: `pairs`, by default all that were compared, sorted by name.

    The choice "both_bad" counts as a tie. ValueError for a pair that was never compared.
    """
    rows = []
    for a, b in _compared(comparisons) if pairs is None else pairs:
        selected = _between(comparisons, a, b)
        if not selected:
            names = ", ".join(f"{x} and {y}" for x, y in _compared(comparisons)) or "none"
            raise ValueError(f"{a!r} and {b!r} were never compared; pairs of systems compared: {names}")
        signs = np.array([comparison.sign for comparison in selected])
        wins, ties, losses = (int((signs == sign).sum()) for sign in (1, 0, -1))
        rate = bootstrap(selected, signs, resamples, seed)
        rows.append(Row(a, b, wins, ties, losses, rate.share, rate.low, rate.high))
    return rows


def write_csv(path: str | os.PathLike, rows: Sequence[Row]) -> None:
    """Write rows with the columns a, b, wins, ties, losses, win_rate, low, high; NaN rates are empty."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        for row in rows:
            writer.writerow([*row[:5], *("" if math.isnan(rate) else f"{rate:.4f}" for rate in row[5:])])


def _compared(comparisons: Iterable[Comparison]) -> list[tuple[str, str]]:
    """The pairs of different systems that were compared, sorted."""
    sorted_names = (sorted((one.system_a, one.system_b)) for one in comparisons)
    return sorted({(a, b) for a, b in sorted_names if a != b})


def _between(comparisons: Iterable[Comparison], a: str, b: str) -> list[Comparison]:
    """The comparisons of two different systems, swapped where necessary so that a's melody is a."""
    oriented = (
        one.swapped() if one.system_a == b else one for one in comparisons if one.system_a != one.system_b
    )
    return [one for one in oriented if (one.system_a, one.system_b) == (a, b)]


def bootstrap(
    comparisons: Sequence[Comparison], signs: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Share of signs (N,) that are 1 among those that are not 0, clustered by listener and by prompt.

    `comparisons` (N) give each choice's listener and prompt.
    """
    from scipy import stats  # slow to import

    won, decided = int((signs > 0).sum()), int((signs != 0).sum())
    if not decided:
        return Interval(math.nan, math.nan, math.nan)
    random = np.random.default_rng(seed)
    clusters = [
        _cluster([one.listener for one in comparisons]),
        _cluster([one.prompt for one in comparisons]),
    ]
    rates = []
    for _ in range(resamples):
        weight = np.prod([_resampled_counts(random, cluster) for cluster in clusters], axis=0)
        if total := weight @ np.abs(signs):
            rates.append(weight @ (signs > 0) / total)
    low, high = np.quantile(rates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    wilson = stats.binomtest(won, decided).proportion_ci(LEVEL, method="wilson")
    return Interval(won / decided, float(min(low, wilson.low)), float(max(high, wilson.high)))


def _cluster(names: Sequence[str]) -> np.ndarray:
    """The index of each name among the different ones, (N,)."""
    return np.unique(names, return_inverse=True)[1]


def _resampled_counts(random: np.random.Generator, cluster: np.ndarray) -> np.ndarray:
    """How often each choice's cluster (N,) is drawn when the clusters are resampled: int (N,)."""
    count = cluster.max() + 1
    return np.bincount(random.integers(count, size=count), minlength=count)[cluster]


def position_bias(comparisons: Sequence[Comparison], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """How often the melody played first was chosen, without ties; 0.5 without a bias."""
    ordered = [one for one in comparisons if one.played_first]
    signs = np.array([one.sign if one.played_first == "a" else -one.sign for one in ordered], int)
    return bootstrap(ordered, signs, resamples, seed)


class Strengths(NamedTuple):
    """Davidson's model of all choices: odds of a over b are exp(strength of a - strength of b).

    Attributes:
        strength: by system, with mean 0.
        tie: nu; equal systems tie with the probability nu / (2 + nu).
        first: log odds that a melody gains by being played first.

    """

    strength: dict[str, float]
    tie: float
    first: float


def strengths(comparisons: Sequence[Comparison]) -> Strengths:
    """Maximum likelihood fit of the Bradley-Terry model with ties (Davidson 1970) and a position bias.

    A weak prior (normal, deviation 10) keeps the strength of a system that never lost finite. ValueError if
    comparisons do not link all systems, for then they have no common scale.
    """
    table = leaderboard(comparisons, clustered=False)
    centred = table.fit.beta[:-1] - table.fit.beta[:-1].mean()
    strength = dict(zip(table.names, centred.tolist(), strict=True))
    return Strengths(strength, math.exp(table.fit.log_nu), table.first[0])


class Agreement(NamedTuple):
    """Agreement of listeners on pairs that two or more of them compared; NaN without such pairs.

    Attributes:
        raw: probability that two listeners make the same choice (a, b or tie) on one pair.
        decided: the same for choices other than ties; 0.5 is chance.
        alpha: Krippendorff's, of the choices as -1, 0, 1: 1 is perfect, 0 is chance.
        pairs: number of such pairs of melodies.

    """

    raw: float
    decided: float
    alpha: float
    pairs: int


def agreement(comparisons: Sequence[Comparison]) -> Agreement:
    """Agreement between listeners; of several choices of a listener on one pair the first counts."""
    units: dict[tuple, dict[str, int]] = {}
    for one in comparisons:
        one = one.swapped() if one.b < one.a else one
        units.setdefault((one.prompt, one.a, one.b), {}).setdefault(one.listener, one.sign)
    ratings = [list(unit.values()) for unit in units.values() if len(unit) > 1]
    counts = np.array([[row.count(sign) for sign in (1, 0, -1)] for row in ratings]).reshape(-1, 3)
    same = (counts * (counts - 1)).sum(axis=0)
    votes = counts.sum(axis=1)
    decided = counts[:, 0] + counts[:, 2]
    share = lambda part, whole: float(part / whole) if whole else math.nan
    return Agreement(
        raw=share(same.sum(), (votes * (votes - 1)).sum()),
        decided=share(same[0] + same[2], (decided * (decided - 1)).sum()),
        alpha=krippendorff(ratings, "interval"),
        pairs=len(ratings),
    )


def krippendorff(units: Iterable[Sequence[float]], metric: str = "nominal") -> float:
    """Krippendorff's alpha = 1 - observed / expected disagreement (Krippendorff 2011).

    Arguments: the ratings of each unit, which may differ in number (units with one do not count); `metric`
    is "nominal" (equal or not) or "interval" (squared difference). NaN if all ratings are equal.
    """
    if metric not in ("nominal", "interval"):
        raise ValueError(f"metric should be nominal or interval, got {metric!r}")
    rated = [np.asarray(unit, float) for unit in units if len(unit) > 1]
    if not rated:
        return math.nan
    values, places = np.unique(np.concatenate(rated), return_inverse=True)
    counts = np.zeros((len(rated), len(values)))
    np.add.at(counts, (np.repeat(np.arange(len(rated)), list(map(len, rated))), places), 1)
    difference = values[:, None] - values[None, :]
    distance = difference**2 if metric == "interval" else (difference != 0).astype(float)
    observed = (((counts @ distance) * counts).sum(axis=1) / (counts.sum(axis=1) - 1)).sum()
    total = counts.sum(axis=0)
    expected = total @ distance @ total / (total.sum() - 1)
    return float(1 - observed / expected) if expected else math.nan
