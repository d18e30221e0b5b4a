"""How a composed melody is written: meter, key and tempo as asked for, or as it is heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from mammadai_jax.music.controls import BARS, Controls, key_name
from mammadai_jax.music.corpus import DEGREES
from mammadai_jax.music.heading import Heading
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.traits import SHORTEST, heard

TEMPO = 120.0


class Notation(NamedTuple):
    """The fields of a `Melody` that say how it is written."""

    meter: str
    steps_per_bar: int
    tonic: int
    mode: str
    tempo: float


def notations(events: Sequence[np.ndarray], asked: Sequence[Controls] = ()) -> list[Notation]:
    """How melodies in the scale of C, events (T,) of one length, are written.

    What is `asked` of each counts. Else bars have 12 steps where a melody is heard in three
    (`traits.triple`), and the key is A minor where it is heard in minor (`traits.minor`), else C major.
    Melodies of less than two bars are in 4/4 and C major. The tempo is TEMPO where none is asked for.
    """
    triple, minor = _heard(events)
    of_each = asked or [Controls()] * len(events)
    return [_notation(*each) for each in zip(of_each, triple.tolist(), minor.tolist(), strict=True)]


def in_words(music: Heading) -> str:
    """Key, meter and tempo, such as "A minor, 3/4, 120 quarter notes a minute"."""
    words = [key_name(music), music.meter, f"{music.tempo:g} quarter notes a minute"]
    return ", ".join(word for word in words if word)


def _heard(events: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Whether melodies are heard in three, and in minor, each bool (N,)."""
    if not len(events) or len(events[0]) < SHORTEST:
        return np.zeros(len(events), bool), np.zeros(len(events), bool)
    minor, triple = _measured(np.stack([MAGENTA.encode(_within_magenta(row)) for row in events]))
    return np.asarray(triple) > 0, np.asarray(minor) > 0


_measured = jax.jit(heard)


def _within_magenta(events: np.ndarray) -> np.ndarray:
    """Events (T,) with pitches moved by octaves into the alphabet."""
    moved = MAGENTA.lowest + (events - MAGENTA.lowest) % MAGENTA.pitches
    return np.where(events >= 0, moved, events)


def _notation(asked: Controls, triple: bool, minor: bool) -> Notation:
    meter = asked.meter or ("3/4" if triple else "4/4")
    mode = asked.mode or ("minor" if minor else "major")
    return Notation(meter, BARS[meter], DEGREES[mode], mode, asked.tempo or TEMPO)
