"""A table of systems by the choices between them, with the effect of being heard first taken out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mammadai_jax.listening import davidson
from mammadai_jax.listening.comparison import Comparison


class Place(NamedTuple):
    """A system's row.

    Attributes:
        system: its name.
        strength: log odds over an average system, with the ends of the 95 % interval.
        low: see strength.
        high: see strength.
        best: the highest rank that the comparisons allow, 1 for the best.
        worst: the lowest.
        votes: answers in which it took part.

    """

    system: str
    strength: float
    low: float
    high: float
    best: int
    worst: int
    votes: int


@dataclasses.dataclass(frozen=True, eq=False)
class Leaderboard:
    """All systems, the strongest first.

    Attributes:
        places: the rows.
        first: log odds that being heard first gives, with the ends of its interval.
        tie: probability of a tie between equal systems.
        names: of the systems in the order of the fit's coefficients.
        fit: of Davidson's model.

    """

    places: tuple[Place, ...]
    first: tuple[float, float, float]
    tie: float
    names: tuple[str, ...]
    fit: davidson.Fit

    def difference(self, a: str, b: str) -> tuple[float, float, float]:
        """How much stronger a is than b: log odds, with the ends of the 95 % interval."""
        return self.fit.interval(_contrast(len(self.names), self.names.index(a), self.names.index(b)))


def leaderboard(comparisons: Sequence[Comparison], *, clustered: bool = True) -> Leaderboard:
    """The table of all systems compared; ValueError if comparisons do not link them all.

    Intervals allow for clusters of raters and of prompts unless `clustered` is false.
    """
    between = [one for one in comparisons if one.system_a != one.system_b]
    names = sorted({name for one in between for name in (one.system_a, one.system_b)})
    check_linked(names, between)
    covariates, outcome = design(between, names)
    clusters = [[one.listener for one in between], [one.prompt for one in between]]
    kinds = [np.unique(each, return_inverse=True)[1] for each in clusters if len(set(each)) > 1]
    fitted = davidson.fit(covariates, outcome, kinds if clustered else ())
    nu = math.exp(fitted.log_nu)
    first = np.append(np.zeros(len(names)), 1.0)
    rows = sorted(_places(fitted, names, between), key=lambda row: -row.strength)
    return Leaderboard(tuple(rows), fitted.interval(first), nu / (2 + nu), tuple(names), fitted)


def check_linked(names: Sequence[str], comparisons: Sequence[Comparison]) -> None:
    """ValueError unless comparisons link all systems into one group, which has a common scale."""
    group = {name: {name} for name in names}
    for one in comparisons:
        both = group[one.system_a] | group[one.system_b]
        group |= dict.fromkeys(both, both)
    parts = sorted({", ".join(sorted(part)) for part in group.values()})
    if len(parts) != 1:
        groups = " | ".join(parts) or "none"
        raise ValueError(f"strengths need comparisons that link all systems into one group, got: {groups}")


def design(comparisons: Sequence[Comparison], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Covariates (N, systems + 1), the last for being heard first, and outcomes (N,) of comparisons."""
    number = {name: index for index, name in enumerate(names)}
    covariates = np.zeros((len(comparisons), len(names) + 1))
    for row, one in zip(covariates, comparisons, strict=True):
        row[number[one.system_a]] += 1
        row[number[one.system_b]] -= 1
        row[-1] = {"a": 1.0, "b": -1.0, "": 0.0}[one.played_first]
    return covariates, np.array([1 - one.sign for one in comparisons], int)


def _contrast(count: int, a: int, b: int | None = None) -> np.ndarray:
    """That of a system with another, or with the mean of all, (systems + 1,)."""
    contrast = np.zeros(count + 1)
    contrast[:count] = -1 / count if b is None else 0.0
    contrast[a] += 1
    if b is not None:
        contrast[b] -= 1
    return contrast


def _places(fitted: davidson.Fit, names: Sequence[str], between: Sequence[Comparison]) -> list[Place]:
    count, places = len(names), []
    for index, name in enumerate(names):
        others = [fitted.interval(_contrast(count, index, other)) for other in range(count) if other != index]
        best = 1 + sum(high < 0 for _, _, high in others)
        worst = count - sum(low > 0 for _, low, _ in others)
        votes = sum(name in (one.system_a, one.system_b) for one in between)
        places.append(Place(name, *fitted.interval(_contrast(count, index)), best, worst, votes))
    return places
