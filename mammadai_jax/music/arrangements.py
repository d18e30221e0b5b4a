"""Melodies set over accompaniments: the demonstrations of Lowe (2020), rebuilt on old tunes.

The thesis has 10 melodies of 16 bars over 5 accompaniments, all in C, and transposes them to G and D as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mammadai_jax.music.corpus import DEGREES
from mammadai_jax.music.notes import HOLD, Melody
from mammadai_jax.music.tunes import ACCOMPANIMENTS, TUNES, Accompaniment

BARS = 16
KEYS = (0, 7, 2)  # C, G and D as pitch classes


@dataclasses.dataclass(frozen=True, eq=False)
class Arrangement:
    """A melody over an accompaniment, both of one length and in one key.

    Attributes:
        melody: its events fill the whole length.
        accompaniment: name of the accompaniment.
        line: events int16 (T,) of the accompaniment.
        drums: steps (0..15) of the bar at which each General MIDI drum note is struck.
        piece: number of the accompaniment in its key: key * accompaniments + accompaniment.

    """

    melody: Melody
    accompaniment: str
    line: np.ndarray
    drums: dict[int, tuple[int, ...]]
    piece: int


def arrange(
    tunes: Sequence[Melody] = TUNES,
    accompaniments: Sequence[Accompaniment] = ACCOMPANIMENTS,
    keys: Sequence[int] = KEYS,
    bars: int = BARS,
) -> list[Arrangement]:
    """Set tune i over accompaniment i modulo their number, in every key; tunes are repeated to fill the bars.

    A minor tune is set in the relative minor of the key, so that it shares the accompaniment's scale.
    """
    length = bars * 16
    arranged = []
    for key_index, key in enumerate(keys):
        for index, tune in enumerate(tunes):
            number = index % len(accompaniments)
            backing, melody = accompaniments[number], in_key(tune, key)
            arranged.append(
                Arrangement(
                    melody=dataclasses.replace(melody, events=fill(melody.events, length)),
                    accompaniment=backing.name,
                    line=fill(nearest(backing.events, key), length),
                    drums=dict(backing.drums),
                    piece=key_index * len(accompaniments) + number,
                )
            )
    return arranged


def in_key(tune: Melody, key: int) -> Melody:
    """A tune transposed by at most half an octave to a key, or to its relative if it is not in major."""
    if tune.tonic < 0:
        raise ValueError(
            f"{tune.title or 'a melody'} has no known tonic, so it cannot be transposed to a key"
        )
    return tune.transpose((key + DEGREES.get(tune.mode, 0) - tune.tonic + 6) % 12 - 6)


def nearest(events: np.ndarray, semitones: int) -> np.ndarray:
    """Events (T,) transposed by `semitones` modulo an octave, in the direction that is nearer."""
    return np.where(events >= 0, events + (semitones + 6) % 12 - 6, events)


def fill(events: np.ndarray, length: int) -> np.ndarray:
    """Events (T,) repeated, or cut, to `length`: (length,)."""
    if not len(events):
        return np.full(length, HOLD, np.int16)
    return np.resize(events, length)
