"""What the stages "cloning" and "gail" share: the ten tunes over their accompaniments as a task."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np

from mammadai_jax.agents import cloning
from mammadai_jax.environments import (
    Accompanied,
    AccompaniedParams,
    Representation,
    Source,
    frames_from_events,
)
from mammadai_jax.music.arrangements import BARS, KEYS, Arrangement, arrange
from mammadai_jax.music.notes import PIANO
from mammadai_jax.music.progressions import classes
from mammadai_jax.music.sample import STEPS_PER_BAR

LENGTH = BARS * STEPS_PER_BAR


@dataclasses.dataclass(frozen=True)
class ImitationData:
    """What is imitated: the environment, its params, and the arrangements of the ten tunes."""

    env: Accompanied
    params: AccompaniedParams
    arrangements: list[Arrangement]

    @functools.cached_property
    def demonstrations(self) -> cloning.Demonstrations:
        """All arrangements, played in the environment; computed once, never as part of a program."""
        pieces = np.array([a.piece for a in self.arrangements])
        melodies = np.stack([PIANO.encode(a.melody.events) for a in self.arrangements])
        with jax.ensure_compile_time_eval():
            return cloning.demonstrate(self.env, self.params, pieces, melodies)

    @property
    def backings(self) -> list[Arrangement]:
        """An arrangement over each accompaniment in C, in the order of the accompaniments' numbers."""
        first = {a.piece: a for a in reversed(self.arrangements)}
        return [first[piece] for piece in range(len(first) // len(KEYS))]


def shown(backing: Arrangement) -> np.ndarray:
    """What is observed of an accompaniment, bool (LENGTH, 128): its line, and the chords that it follows.

    The pitch classes of the chord of a step are the twelve lowest of MIDI's notes, which no line has.
    """
    frames = frames_from_events(backing.line, LENGTH)
    frames[:, :12] |= classes(backing.chords, LENGTH)
    return frames


@functools.cache
def imitation_data(
    representation: Representation, source: Source, *, metre: bool = False, progressions: bool = False
) -> ImitationData:
    """Ten tunes over their accompaniments in C, G and D; by default the task of Lowe (2020).

    Args:
        representation: how notes are observed, see environments.Accompanied.
        source: whose notes are observed.
        metre: whether the place in the bar is observed.
        progressions: whether the accompaniments follow chords that are matched to the tunes, see
            music.arrangements.arrange; else each of the five stays on one chord.

    """
    arrangements = arrange(progressions=progressions)
    backings = {a.piece: a for a in arrangements}
    frames = np.stack([shown(backings[piece]) for piece in range(len(backings))])
    with jax.ensure_compile_time_eval():  # the result is cached, also where the first call is traced
        env = Accompanied(representation, source, frames, metre=metre)
        return ImitationData(env, env.default_params, arrangements)
