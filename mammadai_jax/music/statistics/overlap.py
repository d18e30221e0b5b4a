"""Similarity of two sets of melodies: overlapping areas of distance densities (Yang & Lerch 2018).

For each feature take the Euclidean distances between the melodies of the reference (intra-set) and those from
every melody to every reference melody (inter-set), estimate both densities, and compare them. Unlike in the
authors' published program both densities are evaluated on *one* grid, which covers the tails of both: on two
grids, each fitted to its own sample, the divergence does not depend on shift and scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mammadai_jax.music.notes import Melody
from mammadai_jax.music.statistics.features import features, mean

GRID = 500  # points
TAIL = 4  # bandwidths beyond the outermost distances
LEAST_BANDWIDTH = 0.01  # of the range of both samples
PAIRS = 4000  # distances of each kind, at most


class OverlapResult(NamedTuple):
    """Shared area, 0..1, of intra-set (reference) and inter-set density, and KL(intra || inter) in nats."""

    overlap_area: float
    kl: float


def overlap(melodies: Sequence[Melody], reference: Sequence[Melody]) -> dict[str, OverlapResult]:
    """By feature, the overlap of the distances to the reference with the distances within it.

    An area of 1 and a KL of 0 mean that both have the same distribution. Melodies for which a feature is
    undefined are left out of it; with fewer than two in the reference or none in `melodies` the result is
    NaN. Of more than `PAIRS` pairs, that many are drawn with a fixed seed.
    """
    ours, theirs = features(melodies), features(reference)
    return {name: _compare(_defined(ours[name]), _defined(theirs[name])) for name in theirs}


def mean_overlap(melodies: Sequence[Melody], reference: Sequence[Melody]) -> float:
    """Mean of the overlap areas over all features for which it is defined."""
    return mean([result.overlap_area for result in overlap(melodies, reference).values()])


def overlap_area(p: np.ndarray, q: np.ndarray, grid: np.ndarray) -> float:
    """Area under the smaller of two densities given on one ascending grid, each (points,)."""
    return float(np.trapezoid(np.minimum(p, q), grid))


def kl_divergence(log_p: np.ndarray, log_q: np.ndarray, grid: np.ndarray) -> float:
    """KL(p || q) in nats of two log-densities given on one ascending grid, each (points,)."""
    return float(np.trapezoid(np.exp(log_p) * (log_p - log_q), grid))


def compare_samples(reference: np.ndarray, sample: np.ndarray) -> OverlapResult:
    """Overlap area and KL(reference || sample) of the Gaussian kernel densities of two samples (n,), (m,).

    The bandwidth is Scott's, std n^(-1/5), but at least `LEAST_BANDWIDTH` of the range of both samples (1 if
    that is zero): a sample without variance has a narrow peak, and equal constants overlap fully.
    """
    low, high = min(reference.min(), sample.min()), max(reference.max(), sample.max())
    least = LEAST_BANDWIDTH * (high - low) or 1.0
    widths = [max(least, _scott(values)) for values in (reference, sample)]
    grid = np.linspace(low - TAIL * max(widths), high + TAIL * max(widths), GRID)
    log_p, log_q = (log_density(x, grid, h) for x, h in zip((reference, sample), widths, strict=True))
    return OverlapResult(overlap_area(np.exp(log_p), np.exp(log_q), grid), kl_divergence(log_p, log_q, grid))


def log_density(sample: np.ndarray, grid: np.ndarray, bandwidth: float) -> np.ndarray:
    """Log of the Gaussian kernel density of `sample` (n,) on `grid` (points,); finite wherever it is."""
    from scipy.special import logsumexp  # slow to import

    values, counts = np.unique(sample, return_counts=True)
    exponent = -0.5 * ((grid[:, None] - values) / bandwidth) ** 2
    return logsumexp(exponent, axis=1, b=counts) - np.log(len(sample) * bandwidth * np.sqrt(2 * np.pi))


def _scott(sample: np.ndarray) -> float:
    return sample.std(ddof=1) * len(sample) ** -0.2 if len(sample) > 1 else 0.0


def _defined(rows: np.ndarray) -> np.ndarray:
    return rows[~np.isnan(rows).any(axis=1)]


def _compare(ours: np.ndarray, theirs: np.ndarray) -> OverlapResult:
    if len(theirs) < 2 or not len(ours):
        return OverlapResult(np.nan, np.nan)
    # Leave one out: every ordered pair of the reference but each with itself.
    first, step = np.divmod(_draw(len(theirs) * (len(theirs) - 1)), len(theirs) - 1)
    intra = theirs[first] - theirs[(first + step + 1) % len(theirs)]
    left, right = np.divmod(_draw(len(ours) * len(theirs)), len(theirs))
    inter = ours[left] - theirs[right]
    return compare_samples(np.linalg.norm(intra, axis=1), np.linalg.norm(inter, axis=1))


def _draw(pairs: int) -> np.ndarray:
    """Indices of all pairs, or of `PAIRS` different ones: int (n,)."""
    return (
        np.arange(pairs) if pairs <= PAIRS else np.random.default_rng(0).choice(pairs, PAIRS, replace=False)
    )
