"""A melody prepared for the measures: its notes as columns, its bars, and the hierarchy of its meter."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from mammadai_jax.music.heading import meter_of
from mammadai_jax.music.keys import guess_key
from mammadai_jax.music.notes import Melody

QUARTER, WHOLE = 4, 16  # steps


class Meter(NamedTuple):
    """A meter as the periods of its levels, in steps.

    Attributes:
        levels: of the bar, of its parts, beats and their parts down to one step; each divides the one before.
        beat: a quarter note, in compound meters (6/8) a dotted quarter.
        strong: the bar, or its half where that is a beat of its own weight: in 4/4, 2/2 and 6/8.

    """

    levels: tuple[int, ...]
    beat: int
    strong: int

    @property
    def weights(self) -> np.ndarray:
        """Weight of each step of the bar: on how many levels it is a beat, int (bar,)."""
        steps = np.arange(self.levels[0])
        return np.sum([steps % level == 0 for level in self.levels], axis=0)


@functools.cache
def hierarchy(beats: int, unit: int) -> Meter:
    """The metrical grid of a meter such as 3/4 (Lerdahl & Jackendoff 1983), on a grid of sixteenths.

    A number of beats that 2 divides is halved, another one is taken at once; a beat of a compound meter has
    three parts, all others two.
    """
    bar = WHOLE * beats // unit
    is_compound = beats % 3 == 0 and unit >= 8
    pulses, splits, levels = beats // 3 if is_compound else beats, [], [bar]
    while pulses > 1:
        splits.append(2 if pulses % 2 == 0 else pulses)
        pulses //= splits[-1]
    for parts in (*splits, *([3] if is_compound else []), *[2] * bar.bit_length()):
        if levels[-1] % parts:
            break  # parts of a step
        levels.append(levels[-1] // parts)
    is_halved = bar > 2 * QUARTER and bar == 2 * levels[1]
    return Meter(tuple(levels), 3 * WHOLE // unit if is_compound else QUARTER, bar // 2 if is_halved else bar)


class Tune(NamedTuple):
    """What the measures are computed from; onsets, lengths and positions in steps.

    Attributes:
        onset, duration, pitch: of each note, int (n,).
        events: int (T,), see `music.notes`.
        meter: the hierarchy of its meter.
        start: the first step that is not silence before an upbeat.
        upbeat: steps before the first full bar that belong to the music.
        tonic: pitch class, also of the modes' finals; estimated where it is not stated, -1 without notes.
        line: events int (T,) of an accompaniment, or None.

    """

    onset: np.ndarray
    duration: np.ndarray
    pitch: np.ndarray
    events: np.ndarray
    meter: Meter
    start: int
    upbeat: int
    tonic: int
    line: np.ndarray | None

    @property
    def bar(self) -> int:
        """Steps of a bar."""
        return self.meter.levels[0]

    @property
    def steps(self) -> int:
        """Steps of the music, without silence before an upbeat."""
        return len(self.events) - self.start

    @property
    def first_bar(self) -> int:
        """The step at which the first full bar begins."""
        return self.start + self.upbeat

    @property
    def position(self) -> np.ndarray:
        """Of each note in its bar, int (n,)."""
        return self.onset % self.bar

    @property
    def bars(self) -> np.ndarray:
        """The events of the full bars, int (bars, bar)."""
        number = max(len(self.events) - self.first_bar, 0) // self.bar
        return self.events[self.first_bar : self.first_bar + number * self.bar].reshape(number, self.bar)


def prepared(melody: Melody, line: np.ndarray | None = None) -> Tune:
    """A melody and the line (T,) that it is played over as a `Tune`."""
    notes = melody.notes
    onset, duration, pitch = np.array(notes, int).reshape(-1, 3).T
    tonic = melody.tonic if melody.tonic >= 0 or not notes else guess_key(notes)[0]
    upbeat = melody.pickup if melody.fill else 0
    return Tune(
        onset,
        duration,
        pitch,
        melody.events.astype(int),
        hierarchy(*meter_of(melody)),
        melody.fill,
        upbeat,
        tonic,
        None if line is None else np.asarray(line, int),
    )
