"""Measures of form: bars and phrases that return, and how phrases answer each other.

A bar repeats another

    equal     if the same notes and silences begin at the same places in both
    sequence  if both have one rhythm of two notes or more, and their intervals differ by a semitone at most
              and none in direction: the same on another degree of the scale
    rhythm    if notes and silences begin at the same places

Each includes the one before it. Bars without a note repeat nothing and are not counted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mammadai_jax.music.statistics.musicality.melody import share
from mammadai_jax.music.statistics.musicality.tune import Tune

Alike = Callable[[np.ndarray, np.ndarray], np.ndarray]
PHRASE = 2  # bars of the phrases whose repetition is counted


def equal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether rows of events (..., T) are the same, bool (...)."""
    return (one == other).all(axis=-1)


def rhythm(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether rows of events (..., T) have the same rhythm, bool (...)."""
    return (np.minimum(one, 0) == np.minimum(other, 0)).all(axis=-1)


def sequence(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether rows (..., T) are equal, or one is the other on another degree of the scale, bool (...)."""
    a, b = intervals(one), intervals(other)
    same = ((np.abs(a - b) <= 1) & (np.sign(a) == np.sign(b))).all(axis=-1)
    return equal(one, other) | (rhythm(one, other) & same & ((one >= 0).sum(axis=-1) > 1))


def intervals(rows: np.ndarray) -> np.ndarray:
    """Semitones from the note before in the same row (..., T), where a note begins; 0 elsewhere."""
    at = np.where(rows >= 0, np.arange(rows.shape[-1]), -1)
    before = np.maximum.accumulate(np.concatenate([np.full_like(at[..., :1], -1), at[..., :-1]], -1), axis=-1)
    pitch = np.take_along_axis(rows, np.maximum(before, 0), axis=-1)
    return np.where((at >= 0) & (before >= 0), rows - pitch, 0)


KINDS: dict[str, Alike] = {"equal": equal, "sequence": sequence, "rhythm": rhythm}


def has_notes(rows: np.ndarray) -> np.ndarray:
    """Which rows of events (N, T) have a note that begins there, bool (N,)."""
    return np.asarray((rows >= 0).any(axis=1))


def bars_alike(tune: Tune, alike: Alike, apart: int) -> float:
    """Of the pairs of bars so many bars apart, the share that are alike; NaN without a pair."""
    one, other = tune.bars[:-apart], tune.bars[apart:]
    return share(alike(one, other)[has_notes(one) & has_notes(other)])


def returning(rows: np.ndarray, alike: Alike) -> float:
    """The share of rows (N, T) with notes that are like an earlier one; NaN for fewer than two."""
    rows = rows[has_notes(rows)]
    if len(rows) < 2:
        return np.nan
    return share(np.asarray(np.tril(alike(rows[:, None], rows[None]), -1).any(axis=1)))


def passages(tune: Tune, bars: int, size: int) -> np.ndarray:
    """Passages of `size` bars, one after another in the first so many bars: their events, int (N, steps)."""
    number = min(bars, len(tune.bars)) // size
    return tune.bars[: number * size].reshape(number, size * tune.bar)


def phrases(tune: Tune, bars: int) -> np.ndarray:
    """The events in phrases of so many bars, each with its upbeat, int (N, steps); the rest is left out."""
    length, begin = bars * tune.bar, tune.start
    number = (len(tune.events) - begin) // length
    return tune.events[begin : begin + number * length].reshape(number, length)


def phrase_symmetry(tune: Tune, bars: int) -> float:
    """Places at which a note begins in both of two neighbouring phrases, as a share of those in either.

    The first phrase is compared with the second, the third with the fourth, and so on: a consequent often
    has the rhythm of its antecedent (Caplin 1998). NaN for less than two phrases of so many bars.
    """
    onsets = phrases(tune, bars) >= 0
    pairs = onsets[: len(onsets) // 2 * 2].reshape(-1, 2, bars * tune.bar)
    either = pairs.any(axis=1).sum(axis=1)
    shares = pairs.all(axis=1).sum(axis=1)[either > 0] / either[either > 0]
    return float(shares.mean()) if shares.size else np.nan


def phrase_ends(tune: Tune, bars: int) -> float:
    """Share of the phrases of so many bars that come to rest.

    No note of them, with the silence after it, is longer than the last, and the mean is shorter. Long gaps
    between onsets are where listeners hear phrases end (Temperley 2001). NaN without a phrase.
    """
    gaps = np.diff(tune.onset, append=len(tune.events))
    phrase = (tune.onset - tune.start) // (bars * tune.bar)
    each = [gaps[phrase == number] for number in range(len(phrases(tune, bars)))]
    return share([own.size > 1 and own[-1] == own.max() > own.mean() for own in each])
