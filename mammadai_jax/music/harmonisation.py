"""A tune as the highest of several voices: moved into its range, read by frames, and written with the others.

A network decides frames, of which a quarter note (a dotted one in 3/8, 6/8, 9/8 and 12/8) has as many as the
network knows; it composes on C. So a tune is sampled where frames begin, and moved to C; what the network
decides for the other voices is moved back and held until the next frame. The tune itself stays as it is.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from mammadai_jax.music import harmony
from mammadai_jax.music.chords import beat_steps
from mammadai_jax.music.harmony.constraints import FREE
from mammadai_jax.music.keys import guess_key
from mammadai_jax.music.notes import HOLD, OFF, Alphabet, Melody
from mammadai_jax.music.piece import Piece, sampled, stretched

_MINOR = ("minor", "aeolian", "dorian", "phrygian", "locrian")


class Given(NamedTuple):
    """What is given of a piece in frames.

    Attributes:
        tokens: int32 (T, V); FREE where the network decides.
        on_beat: bool (T,), the frames between which rules hold; the last one is among them.
        ranges: lowest and highest MIDI pitch of each voice, int32 (V, 2).
        minor: whether the mode is minor.
        tonic: pitch class of the tonic.

    """

    tokens: np.ndarray
    on_beat: np.ndarray
    ranges: np.ndarray
    minor: bool = False
    tonic: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """A tune that is set for several voices.

    Attributes:
        melody: as it sounds in the highest voice.
        moved: semitones by which it was moved into that voice's range.
        voices: of the piece.
        alphabet: of the network.
        frame: steps of a frame.

    """

    melody: Melody
    moved: int
    voices: int
    alphabet: Alphabet
    frame: int

    def in_words(self) -> str:
        """How the tune was set."""
        way = "up" if self.moved > 0 else "down"
        by = "an octave" if abs(self.moved) == 12 else f"{abs(self.moved)} semitones"
        range_ = harmony.ranges(self.voices)[0]
        outside = int(((self.melody.pitches < range_[0]) | (self.melody.pitches > range_[1])).sum())
        parts = [f"moved {way} {by} into the highest voice's range" if self.moved else "at its own pitch"]
        parts += [f"{outside} of its notes outside that voice's range"] * bool(outside)
        return ", ".join([*parts, f"{self.voices} voices"])

    @property
    def shift(self) -> int:
        """Semitones from the melody to the network's C, at most six up or down."""
        return (6 - self.melody.tonic) % 12 - 6

    @property
    def last(self) -> int:
        """The number of the last frame: the one with which the last note begins, or in which it lies."""
        note = self.melody.notes[-1]
        return min(-(-note.onset // self.frame), (note.onset + note.duration - 1) // self.frame)

    @property
    def given(self) -> Given:
        """The tune as the network reads it, to its last note; before the first all voices are silent."""
        rows = sampled(_without_rests(self.melody.transpose(self.shift).events), self.frame)
        tune = self.alphabet.encode(rows[: self.last + 1])
        tokens = np.full((len(tune), self.voices), FREE, np.int32)
        tokens[:, 0] = tune
        begin = -(-self.melody.notes[0].onset // self.frame)
        tokens[:begin] = tune[:begin, None]
        on_beat = np.arange(len(tune)) * self.frame % beat_steps(self.melody) == 0
        on_beat[-1] = True
        ranges = harmony.ranges(self.voices) + self.shift
        within = np.clip(ranges, self.alphabet.lowest, self.alphabet.highest)
        return Given(tokens, on_beat, within, self.melody.mode in _MINOR)

    def piece(self, tokens: np.ndarray) -> Piece:
        """The tune with other voices, of tokens int32 (T, V) like those that are given.

        The last chord stands until the tune's last note ends.
        """
        note = self.melody.notes[-1]
        rows = np.full((self.voices, len(self.melody)), HOLD, np.int16)
        for row, decided in zip(rows, np.asarray(tokens).T, strict=True):
            events = self.alphabet.decode(decided)
            moved = np.where(events >= 0, events - self.shift, events)
            part = stretched(moved, self.frame)[: len(row)]
            row[: len(part)] = part
            row[note.onset + note.duration :][:1] = OFF
        rows[0] = self.melody.events
        return Piece(rows, **self.melody.heading)


def setting(melody: Melody, voices: int, alphabet: Alphabet, steps_per_quarter: int) -> Setting:
    """A tune on 16ths as it is set for voices, by a network with frames of so many a quarter note.

    A key that is not stated is estimated. ValueError for a tune without notes.
    """
    if not melody.notes:
        raise ValueError(f"{melody.source or melody.title or 'the tune'} has no notes to harmonise")
    if melody.tonic < 0:
        tonic, mode = guess_key(melody.notes)
        melody = dataclasses.replace(melody, tonic=tonic, mode=mode)
    low, high = harmony.ranges(voices)[0].tolist()
    moved = into_range(melody, low, high)
    beat = beat_steps(melody)
    frame = beat // steps_per_quarter if beat % steps_per_quarter == 0 else max(4 // steps_per_quarter, 1)
    return Setting(melody.transpose(moved), moved, voices, alphabet, frame)


def into_range(melody: Melody, low: int, high: int) -> int:
    """Semitones that move a melody into a range of MIDI pitches, by octaves if that is possible.

    Of several the nearest is taken; of a melody whose range is larger, the one that leaves fewest notes out.
    """
    pitches = melody.pitches.astype(int)
    bounds = low - int(pitches.min()), high - int(pitches.max())
    candidates = range(min(bounds) - 12, max(bounds) + 13)
    outside = lambda by: int(((pitches + by < low) | (pitches + by > high)).sum())
    return min(candidates, key=lambda by: (outside(by), by % 12 != 0, abs(by)))


def _without_rests(events: np.ndarray) -> np.ndarray:
    """Events (T,) whose notes last until the next begins, so that the other voices sound on in rests."""
    begun = np.maximum.accumulate(events >= 0)
    return np.where(begun & (events == OFF), HOLD, events)
