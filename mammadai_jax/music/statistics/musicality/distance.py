"""One number for how far melodies are from real tunes, with an interval; for evaluation only."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mammadai_jax.music.notes import Melody
from mammadai_jax.music.statistics.musicality import BARS, MEASURES, common_bars, measure

FARTHEST = 4.0  # deviations; what is further off counts as this far, so that no single measure decides
LEAST = 0.02  # deviation of a measure in which the real tunes hardly differ
RESAMPLES = 1000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A value with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float

    def overlaps(self, other: Estimate) -> bool:
        """Whether the intervals of both have a value in common."""
        return self.low <= other.high and other.low <= self.high


class Typical(NamedTuple):
    """Mean and standard deviation of each measure over real tunes, by name."""

    mean: Mapping[str, float]
    deviation: Mapping[str, float]


class Musicality(NamedTuple):
    """How far a set of melodies is from real tunes.

    Attributes:
        bars: that repetition was measured in, of both.
        real: what the real tunes are like.
        means: of each measure over the melodies.
        deviations: of each mean from the real tunes', in their standard deviations, without sign.
        distance: the mean over all aspects of the mean deviation of their measures, at most FARTHEST each.

    """

    bars: int
    real: Typical
    means: dict[str, float]
    deviations: dict[str, Estimate]
    distance: Estimate


@functools.lru_cache(maxsize=16)
def typical(tunes: tuple[Melody, ...], bars: int = BARS) -> Typical:
    """What real tunes are like; NaN for measures that none of them has. The result is cached."""
    values = measure(tunes, bars=bars)
    rows = np.stack(list(values.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a measure that no tune has
        mean, deviation = np.nanmean(rows, axis=1), np.maximum(np.nanstd(rows, axis=1), LEAST)
    named = lambda numbers: dict(zip(values, numbers.tolist(), strict=True))
    return Typical(named(mean), named(deviation))


def musicality(
    melodies: Sequence[Melody],
    tunes: tuple[Melody, ...],
    lines: Sequence[np.ndarray | None] | None = None,
    seed: int = 0,
) -> Musicality:
    """How far melodies are from real tunes.

    Repetition is measured in as many bars of the tunes as the melodies have, see `common_bars`. The intervals
    are those of a bootstrap over the melodies (Efron 1979), moved so that its mean is the estimate: absolute
    deviations of resampled means are larger than those of the means themselves. A measure that no melody or
    no tune has does not count.

    Args:
        melodies: to be compared.
        tunes: the real ones; none that the melodies' composer learned from.
        lines: events (T,) of what each melody is played over, or None.
        seed: of the bootstrap.

    """
    bars = common_bars(melodies)
    real, names = typical(tunes, bars), list(MEASURES)
    rows = np.stack(list(measure(melodies, lines, bars=bars).values()), axis=1)
    mean, scale = (np.array(list(each.values())) for each in real)
    means = _means(rows, np.ones((1, len(rows))))
    off, resampled = (np.abs(m - mean) / scale for m in (means, _means(rows, _resamples(len(rows), seed))))
    return Musicality(
        bars,
        real,
        means=dict(zip(names, means[0].tolist(), strict=True)),
        deviations={name: _estimate(off[:, i], resampled[:, i]) for i, name in enumerate(names)},
        distance=_estimate(_distance(off), _distance(resampled)),
    )


def of_tunes(tunes: tuple[Melody, ...]) -> Musicality:
    """The means of real tunes, and how far half of them are from the other half: the least to be expected."""
    return musicality(tunes[::2], tunes[1::2])._replace(means=dict(typical(tunes).mean))


def _resamples(size: int, seed: int) -> np.ndarray:
    """How often each of `size` melodies is in each resample, int (RESAMPLES, size)."""
    random = np.random.default_rng(seed)
    return random.multinomial(size, np.full(size, 1 / max(size, 1)), RESAMPLES) if size else np.zeros((1, 0))


def _means(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means over the defined values of each column of (N, M), for weights (R, N): (R, M)."""
    defined = ~np.isnan(rows)
    total, count = weights @ np.where(defined, rows, 0.0), weights @ defined
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _distance(off: np.ndarray) -> np.ndarray:
    """The mean over aspects of the mean deviation, of each row of the deviations (R, M): (R,)."""
    aspects = [each.aspect for each in MEASURES.values()]
    kept = np.where(np.isnan(off), np.nan, np.minimum(off, FARTHEST))
    groups = [kept[:, [a == aspect for a in aspects]] for aspect in dict.fromkeys(aspects)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an aspect without a measure
        return np.nanmean([np.nanmean(group, axis=1) for group in groups], axis=0)


def _estimate(value: np.ndarray, resampled: np.ndarray) -> Estimate:
    """A value (1,) with the interval of its resamples (R,), moved to have it as their mean; 0 at least."""
    defined = resampled[~np.isnan(resampled)]
    if math.isnan(value[0]) or not defined.size:
        return Estimate(math.nan, math.nan, math.nan)
    low, high = np.quantile(defined - defined.mean() + value[0], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value[0]), max(float(low), 0.0), float(high))
