"""Melodies set over accompaniments: the demonstrations of Lowe (2020), rebuilt on old tunes.

The thesis has 10 melodies of 16 bars over 5 accompaniments, all in C, and transposes them to G and D as well.
There each accompaniment repeats one bar on one chord; here it may also follow chords that suit the melody.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mammadai_jax.music.chords import Symbol
from mammadai_jax.music.corpus import DEGREES
from mammadai_jax.music.notes import HOLD, Melody
from mammadai_jax.music.progressions import harmonised, moved, nearest, symbols
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
        piece: number of the accompaniment: those in the first key first, then those in the next.
        chords: symbols of the chords that the accompaniment follows; none if it stays on one.

    """

    melody: Melody
    accompaniment: str
    line: np.ndarray
    drums: dict[int, tuple[int, ...]]
    piece: int
    chords: tuple[Symbol, ...] = ()

    @property
    def backing(self) -> str:
        """The accompaniment in words, with the tune that its chords were matched to."""
        return f"{self.accompaniment}, chords of {self.melody.title}" if self.chords else self.accompaniment


def arrange(
    tunes: Sequence[Melody] = TUNES,
    accompaniments: Sequence[Accompaniment] = ACCOMPANIMENTS,
    keys: Sequence[int] = KEYS,
    bars: int = BARS,
    *,
    progressions: bool = False,
) -> list[Arrangement]:
    """Set tune i over accompaniment i modulo their number, in every key; tunes are repeated to fill the bars.

    A minor tune is set in the relative minor of the key, so that it shares the accompaniment's scale. Tunes
    over one accompaniment share its piece, but with `progressions` the accompaniment of each tune follows
    chords of its own, see `progressions.harmonised`, and is a piece of its own.
    """
    place, in_key_count = (_harmonised, len(tunes)) if progressions else (_repeated, len(accompaniments))
    arranged = []
    for key_index, key in enumerate(keys):
        for index, tune in enumerate(tunes):
            melody = in_key(tune, key)
            melody = dataclasses.replace(melody, events=fill(melody.events, bars * 16))
            one = place(melody, accompaniments[index % len(accompaniments)], key)
            piece = key_index * in_key_count + index % in_key_count
            arranged.append(dataclasses.replace(one, piece=piece))
    return arranged


def _repeated(melody: Melody, backing: Accompaniment, key: int) -> Arrangement:
    """A melody over a bar that is repeated on the tonic chord of a key."""
    line = fill(nearest(backing.events, key), len(melody))
    return Arrangement(melody, backing.name, line, dict(backing.drums), 0)


def _harmonised(melody: Melody, backing: Accompaniment, key: int) -> Arrangement:
    """A melody over a bar that is repeated on the chords that suit the melody."""
    del key  # it is the melody's
    chords = harmonised(melody, backing.events)
    line = np.concatenate([moved(backing.events, chord) for chord in chords])
    return Arrangement(melody, backing.name, line, dict(backing.drums), 0, symbols(chords))


def in_key(tune: Melody, key: int) -> Melody:
    """A tune transposed by at most half an octave to a key, or to its relative if it is not in major."""
    if tune.tonic < 0:
        raise ValueError(
            f"{tune.title or 'a melody'} has no known tonic, so it cannot be transposed to a key"
        )
    return tune.transpose((key + DEGREES.get(tune.mode, 0) - tune.tonic + 6) % 12 - 6)


def fill(events: np.ndarray, length: int) -> np.ndarray:
    """Events (T,) repeated, or cut, to `length`: (length,)."""
    if not len(events):
        return np.full(length, HOLD, np.int16)
    return np.resize(events, length)
