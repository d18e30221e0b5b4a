"""When enough votes were given: an interval that holds at every look, however often one looks.

The interval is a confidence sequence by betting (Waudby-Smith and Ramdas 2024): for every mean m, a bettor
who would win if m were wrong multiplies the stake by 1 + bet (x - m) with each value x. If m is the mean, the
wealth ever reaches 1 / alpha with at most the probability alpha (Ville 1939).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mammadai_jax.listening.comparison import Comparison

ALPHA = 0.05
MEANS = np.linspace(-0.995, 0.995, 200)
SHARES = np.array([0.05, 0.1, 0.2, 0.4, 0.6, 0.8])  # of the largest bet that cannot lose everything
VOTES_EACH = 10


class Stopping(NamedTuple):
    """Whether one of two systems is better beyond doubt.

    Attributes:
        mean: of the values: how much more often a was chosen than b, -1 to 1.
        low: end of the interval.
        high: likewise.
        values: number of values.
        unit: what a value is: "rater" (the mean of each one's first votes) or "vote".
        may_stop: whether the interval leaves 0 out.

    """

    mean: float
    low: float
    high: float
    values: int
    unit: str
    may_stop: bool


def confidence_sequence(values: np.ndarray, alpha: float = ALPHA) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of the mean after each of T values in -1..1: (T,), (T,).

    The values may depend on those before, as long as their mean given those is the same.
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or (np.abs(values) > 1).any():
        raise ValueError("values should be one row of numbers in -1..1")
    bets = np.concatenate([SHARES / (1 + MEANS)[:, None], -SHARES / (1 - MEANS)[:, None]], axis=1)
    wealth = np.zeros_like(bets)
    allowed, ends = np.ones(len(MEANS), bool), []
    for value in values:
        wealth = wealth + np.log1p(bets * (value - MEANS[:, None]))
        peak = wealth.max(axis=1)
        total = peak + np.log(np.exp(wealth - peak[:, None]).mean(axis=1))
        allowed &= total < -np.log(alpha)
        ends.append(_ends(allowed))
    return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def _ends(allowed: np.ndarray) -> tuple[float, float]:
    """The ends of what is allowed, to the next mean that is not; equal ends if nothing is left."""
    kept = np.flatnonzero(allowed)
    if not kept.size:
        return 0.0, 0.0
    grid = np.concatenate([[-1.0], MEANS, [1.0]])
    return float(grid[kept[0]]), float(grid[kept[-1] + 2])


def stopping(
    comparisons: Sequence[Comparison], a: str, b: str, *, votes_each: int = VOTES_EACH, alpha: float = ALPHA
) -> Stopping | None:
    """Whether the votes between two systems, in their order, suffice; None without any.

    With several raters each counts once, by the mean of the first `votes_each` votes, when those are
    complete: one rater's votes are alike, and single votes would pretend to more raters. One rater alone is
    asked about that rater only, and single votes count. A tie is 0.
    """
    votes: dict[str, list[int]] = {}
    complete = []
    for one in comparisons:
        if {one.system_a, one.system_b} != {a, b}:
            continue
        own = votes.setdefault(one.listener, [])
        own.append(one.sign if one.system_a == a else -one.sign)
        if len(own) == votes_each:
            complete.append(float(np.mean(own)))
    if not votes:
        return None
    alone = len(votes) == 1
    values = np.array(next(iter(votes.values())) if alone else complete, float)
    low, high = confidence_sequence(values, alpha) if len(values) else (np.array([-1.0]), np.array([1.0]))
    mean = float(values.mean()) if len(values) else 0.0
    ends = float(low[-1]), float(high[-1])
    return Stopping(mean, *ends, len(values), "vote" if alone else "rater", not ends[0] <= 0 <= ends[1])
