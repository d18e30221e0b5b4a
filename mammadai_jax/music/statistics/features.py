"""Pitch and rhythm features of single melodies, in the manner of Yang & Lerch 2018.

Every function takes melodies and returns one row for each, float64: (N,) or (N, width). Melodies without
notes are allowed; features that are undefined for them are NaN, and each docstring says which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mammadai_jax.music.notes import HOLD, Melody

STEPS_PER_QUARTER = 4
# Note lengths in quarter notes: plain, dotted and triplets.
NOTE_LENGTHS = np.array([4, 2, 1, 1 / 2, 1 / 4, 3, 3 / 2, 3 / 4, 3 / 8, 4 / 3, 2 / 3, 1 / 3])
# Pitch classes of the 24 major and natural minor keys: 12 sets, since relative keys have the same.
SCALES = np.array(
    [np.isin(np.arange(12), (np.array([0, 2, 4, 5, 7, 9, 11]) + tonic) % 12) for tonic in range(12)]
)


class _Notes(NamedTuple):
    """The notes of a melody as columns, and its length without `fill`; onsets and durations in steps."""

    onset: np.ndarray
    duration: np.ndarray
    pitch: np.ndarray
    steps: int
    steps_per_bar: int


def _notes(melody: Melody) -> _Notes:
    starts = np.flatnonzero(melody.events != HOLD)
    durations = np.diff(starts, append=len(melody))
    pitches = melody.events[starts].astype(np.int64)
    sounds = pitches >= 0
    steps = len(melody) - melody.fill
    return _Notes(starts[sounds], durations[sounds], pitches[sounds], steps, melody.steps_per_bar)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan


def _shares(counts: np.ndarray) -> np.ndarray:
    """Counts divided by their sum; all zero if the sum is."""
    return counts / max(counts.sum(), 1)


def _transitions(kinds: np.ndarray) -> np.ndarray:
    """Shares of the 12 x 12 transitions from one kind to the next, (144,)."""
    return _shares(np.bincount(kinds[:-1] * 12 + kinds[1:], minlength=144))


def _length_kinds(notes: _Notes) -> np.ndarray:
    """Index in NOTE_LENGTHS of the nearest length to each note's."""
    quarters = notes.duration[:, None] / STEPS_PER_QUARTER
    return np.abs(quarters - NOTE_LENGTHS).argmin(axis=1)


def _out_of_scale(notes: _Notes, scale: Sequence[int] | None) -> float:
    if not notes.pitch.size:
        return np.nan
    scales = SCALES if scale is None else np.isin(np.arange(12), np.asarray(scale) % 12)[None]
    return float(1 - scales[:, notes.pitch % 12].mean(axis=1).max())


def _rest(notes: _Notes) -> float:
    return 1 - notes.duration.sum() / notes.steps if notes.steps else np.nan


def _density(notes: _Notes) -> float:
    return len(notes.pitch) * notes.steps_per_bar / notes.steps if notes.steps else np.nan


_FEATURES: dict[str, Callable[[_Notes], float | np.ndarray]] = {
    "pitch_count": lambda notes: len(np.unique(notes.pitch)),
    "pitch_class_histogram": lambda notes: _shares(
        np.bincount(notes.pitch % 12, notes.duration, minlength=12)
    ),
    "pitch_class_transitions": lambda notes: _transitions(notes.pitch % 12),
    "pitch_range": lambda notes: np.ptp(notes.pitch) if notes.pitch.size else np.nan,
    "average_interval": lambda notes: _mean(np.abs(np.diff(notes.pitch))),
    "note_count": lambda notes: len(notes.pitch),
    "average_inter_onset": lambda notes: _mean(np.diff(notes.onset)),
    "note_length_histogram": lambda notes: _shares(np.bincount(_length_kinds(notes), minlength=12)),
    "note_length_transitions": lambda notes: _transitions(_length_kinds(notes)),
    "rest_rate": _rest,
    "note_density": _density,
    "out_of_scale_rate": lambda notes: _out_of_scale(notes, None),
}


def features(melodies: Sequence[Melody]) -> dict[str, np.ndarray]:
    """Every feature of every melody by name, float64 (N, width).

    pitch_count: different pitches. pitch_class_histogram (12): share of the sounding time.
    pitch_class_transitions (144): shares of the moves from note to note. pitch_range: semitones from lowest
    to highest. average_interval: mean absolute semitones. note_count. average_inter_onset: mean steps between
    onsets. note_length_histogram (12), note_length_transitions (144): shares by the nearest of NOTE_LENGTHS,
    a step being a 16th. rest_rate, note_density (notes per bar), out_of_scale_rate: see the functions.

    NaN: range without notes, interval and inter-onset with fewer than two, rest rate and density without
    steps, out of scale without notes. Counts are then 0 and shares all 0.
    """
    measured = [_notes(melody) for melody in melodies]
    return {name: _rows(feature, measured) for name, feature in _FEATURES.items()}


def _rows(feature: Callable[[_Notes], float | np.ndarray], measured: Sequence[_Notes]) -> np.ndarray:
    return (
        np.array([np.atleast_1d(feature(notes)) for notes in measured], float).reshape(len(measured), -1)
        if measured
        else np.zeros((0, 1))
    )


def _scalar(feature: Callable[[_Notes], float | np.ndarray], melodies: Sequence[Melody]) -> np.ndarray:
    return np.array([feature(_notes(melody)) for melody in melodies], float)


def rest_rate(melodies: Sequence[Melody]) -> np.ndarray:
    """Share of silent steps (N,); NaN for a melody without steps."""
    return _scalar(_rest, melodies)


def note_density(melodies: Sequence[Melody]) -> np.ndarray:
    """Notes per bar (N,); NaN for a melody without steps."""
    return _scalar(_density, melodies)


def distinct_pitches(melodies: Sequence[Melody]) -> np.ndarray:
    """Number of different pitches (N,)."""
    return _scalar(_FEATURES["pitch_count"], melodies)


def out_of_scale_rate(melodies: Sequence[Melody], scale: Sequence[int] | None = None) -> np.ndarray:
    """Share of notes whose pitch class is not in `scale` (N,); NaN for a melody without notes.

    Without a scale (pitch classes), each melody is compared with the major or natural minor key that fits it
    best.
    """
    return _scalar(lambda notes: _out_of_scale(notes, scale), melodies)


def mean(values: ArrayLike) -> float:
    """Mean of the defined values (...), NaN if there are none."""
    values = np.asarray(values, float)
    return _mean(values[~np.isnan(values)])
