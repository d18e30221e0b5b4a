"""Notes, melodies and alphabets: what a melody is, and how it is spelled in tokens.

A melody is a row of *events*, one per step (a 16th note unless said otherwise):

    0..127   a note of that MIDI pitch begins
    HOLD     the sounding note, or the silence, continues
    OFF      the sounding note ends and silence begins

An `Alphabet` encodes events as small integers (tokens) for networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mammadai_jax.music.heading import Heading

HOLD = -2
OFF = -1


class Note(NamedTuple):
    """A note: `onset` and `duration` in steps, `pitch` as a MIDI number."""

    onset: int
    duration: int
    pitch: int


@dataclasses.dataclass(frozen=True, eq=False)
class Melody(Heading):
    """One monophonic melody on a grid, with its metadata (`Heading`).

    Attributes:
        events: int16 (T,), see the module's docstring. The first event is never HOLD.

    """

    events: np.ndarray

    def __post_init__(self):
        super().__post_init__()
        events = np.asarray(self.events)
        if events.ndim != 1:
            raise ValueError(f"events of a melody should be one row of steps, got shape {events.shape}")
        object.__setattr__(self, "events", canonical(checked(events)))

    def __len__(self) -> int:
        return len(self.events)

    @property
    def notes(self) -> list[Note]:
        """The notes in order of onset."""
        return notes_from_events(self.events)

    @property
    def pitches(self) -> np.ndarray:
        """The MIDI pitches in order, int16 (notes,)."""
        return self.events[self.events >= 0]

    @property
    def fill(self) -> int:
        """Steps of silence that fill the first bar before an upbeat; 0 without one, or with notes there."""
        return fill(self, self.events)

    def first(self, steps: int) -> Melody:
        """The first steps."""
        return dataclasses.replace(self, events=self.events[:steps])

    def transpose(self, semitones: int) -> Melody:
        """The melody `semitones` higher; ValueError if a pitch leaves 0..127."""
        return dataclasses.replace(self, **transposed(self, "events", semitones))


def fill(heading: Heading, events: np.ndarray) -> int:
    """Steps of silence before the upbeat of events (..., T); 0 without one, or with notes there."""
    steps = heading.steps_per_bar - heading.pickup
    if not 0 < steps < min(heading.steps_per_bar, events.shape[-1]) or (events[..., :steps] >= 0).any():
        return 0
    return steps


def upbeat(silence: int, bar: int) -> int:
    """Steps of the upbeat after so many silent steps: silence of half a bar or more, but no whole one."""
    return bar - silence if bar / 2 <= silence < bar else 0


def transposed(music: Heading, name: str, semitones: int) -> dict[str, Any]:
    """The events, which are called `name`, and the tonic, `semitones` higher; ValueError beyond 0..127."""
    before = getattr(music, name)
    events = np.where(before >= 0, before + semitones, before)
    if ((events < 0) | (events > 127))[before >= 0].any():
        raise ValueError(
            f"transposing {music.title or 'a melody'} by {semitones} leaves MIDI's pitches 0..127"
        )
    return {name: events, "tonic": (music.tonic + semitones) % 12 if music.tonic >= 0 else -1}


def checked(events: np.ndarray) -> np.ndarray:
    """Events as int16 of the same shape; ValueError for others than HOLD, OFF and MIDI's pitches."""
    if events.size and (events.min() < HOLD or events.max() > 127):
        raise ValueError("events should be HOLD, OFF or MIDI pitches 0..127")
    return events.astype(np.int16)


def canonical(events: np.ndarray) -> np.ndarray:
    """Canonical events int16 (T,): silence is one OFF followed by HOLD, also at the start."""
    events = np.array(events, dtype=np.int16)
    if events.size and events[0] == HOLD:
        events[0] = OFF
    starts = np.flatnonzero(events != HOLD)
    silent = events[starts] == OFF
    events[starts[1:][silent[1:] & silent[:-1]]] = HOLD
    return events


def notes_from_events(events: np.ndarray) -> list[Note]:
    """The notes of a row of events (T,), in order of onset."""
    starts = np.flatnonzero(np.asarray(events) != HOLD)
    ends = np.append(starts, len(events))[1:]
    return [
        Note(int(start), int(end - start), int(events[start]))
        for start, end in zip(starts, ends, strict=True)
        if events[start] >= 0
    ]


def events_from_notes(notes: Sequence[Note | tuple[int, int, int]], length: int | None = None) -> np.ndarray:
    """Events int16 (length,) of monophonic notes; a note is cut where the next begins.

    `length` defaults to the end of the last note. Of notes with the same onset the highest is
    kept. ValueError for a note before step 0 or shorter than one step.
    """
    by_onset: dict[int, Note] = {}
    for note in sorted((Note(*n) for n in notes), key=lambda note: (note.onset, note.pitch, note.duration)):
        if note.onset < 0 or note.duration < 1:
            raise ValueError(f"a note should begin at step 0 or later and last a step or more, got {note}")
        by_onset[note.onset] = note
    ordered = list(by_onset.values())
    if length is None:
        length = max((n.onset + n.duration for n in ordered), default=0)
    events = np.full(length, HOLD, dtype=np.int16)
    events[:1] = OFF
    for index, note in enumerate(ordered):
        if note.onset >= length:
            break
        events[note.onset] = note.pitch
        end = note.onset + note.duration
        following = ordered[index + 1].onset if index + 1 < len(ordered) else length
        if end < min(following, length):
            events[end] = OFF
    return events


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """An encoding of events as tokens 0..size-1.

    Attributes:
        name: what users call it.
        lowest: MIDI pitch of the first pitch token.
        pitches: how many pitches there are.
        first: token of the lowest pitch.
        silence: token of silence (with a hold token: of the note's end).
        hold: token of HOLD, or None: then a token is what *sounds* in its step, equal neighbours are
            one note, and repeated notes are tied.

    """

    name: str
    lowest: int
    pitches: int
    first: int
    silence: int
    hold: int | None = None

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self.pitches + (1 if self.hold is None else 2)

    @property
    def highest(self) -> int:
        """MIDI pitch of the last pitch token."""
        return self.lowest + self.pitches - 1

    def covers(self, events: np.ndarray) -> bool:
        """Whether every pitch of the events (T,) is in the alphabet."""
        pitched = events[events >= 0]
        return bool(pitched.size == 0 or (pitched.min() >= self.lowest and pitched.max() <= self.highest))

    def encode(self, events: np.ndarray) -> np.ndarray:
        """Tokens int32 (T,) of events (T,); ValueError if a pitch is out of range."""
        events = canonical(events)
        if not self.covers(events):
            raise ValueError(
                f"the alphabet {self.name!r} has MIDI pitches {self.lowest}..{self.highest}, the melody has "
                f"{events[events >= 0].min()}..{events.max()}: transpose it first"
            )
        if self.hold is None:
            events = sounding(events)
        tokens = np.where(events >= 0, events - self.lowest + self.first, self.silence)
        if self.hold is not None:
            tokens = np.where(events == HOLD, self.hold, tokens)
        return tokens.astype(np.int32)

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Events int16 (T,) of tokens (T,); ValueError for tokens outside the alphabet."""
        tokens = np.asarray(tokens)
        if tokens.ndim != 1:
            raise ValueError(f"tokens of one melody should be one row, got shape {tokens.shape}")
        if tokens.size and (tokens.min() < 0 or tokens.max() >= self.size):
            raise ValueError(f"tokens of the alphabet {self.name!r} should be 0..{self.size - 1}")
        events = np.where(tokens == self.silence, OFF, tokens - self.first + self.lowest)
        if self.hold is None:
            events[1:] = np.where(tokens[1:] == tokens[:-1], HOLD, events[1:])
        else:
            events = np.where(tokens == self.hold, HOLD, events)
        return canonical(events)


def sounding(events: np.ndarray) -> np.ndarray:
    """The event that sounds in each step (T,): HOLD replaced by the last event before it, or by OFF."""
    starts = np.maximum.accumulate(np.where(events == HOLD, -1, np.arange(len(events))))
    return np.where(starts >= 0, events[np.maximum(starts, 0)], OFF)


PIANO = Alphabet("piano", lowest=21, pitches=88, first=1, silence=0)
PIANO_HOLD = Alphabet("piano_hold", lowest=21, pitches=88, first=1, silence=0, hold=89)
RL_TUNER = Alphabet("rl_tuner", lowest=48, pitches=36, first=2, silence=0, hold=1)
# MAGENTA is the encoding of the data that RL Tuner was trained on; its paper and program exchange the two
# special events, as RL_TUNER does.
MAGENTA = Alphabet("magenta", lowest=48, pitches=36, first=2, silence=1, hold=0)
# One voice of several: the pitches of all of Bach's chorales.
VOICES = Alphabet("voices", lowest=33, pitches=65, first=1, silence=0)
VOICES_HOLD = Alphabet("voices_hold", lowest=33, pitches=65, first=1, silence=0, hold=66)
ALPHABETS = {
    alphabet.name: alphabet for alphabet in (PIANO, PIANO_HOLD, RL_TUNER, MAGENTA, VOICES, VOICES_HOLD)
}
