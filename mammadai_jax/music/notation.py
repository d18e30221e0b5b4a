"""How a composed melody is written: meter, key and tempo as it is heard, or as a prompt asks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from mammadai_jax.music.captions.parsing import QUOTED, parse
from mammadai_jax.music.engraving import spelling
from mammadai_jax.music.heading import Heading, key_fifths
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.traits import SHORTEST, heard

BARS = {"4/4": 16, "2/2": 16, "2/4": 8, "3/4": 12, "6/8": 12}
TEMPO = 120.0
_METER = re.compile(r"(?<![\w/])(?:4/4|2/2|2/4|3/4|6/8)(?![\w/])")
_OTHER_NAMES = (("6/8", r"\b(?:six-eight|jig)\b"), ("3/4", r"\b(?:three-four|waltz)\b"))
_TEMPO = re.compile(r"(\d{2,3})\s*(?:beats\s+(?:a|per)\s+minute|bpm)\b")


class Notation(NamedTuple):
    """The fields of a `Melody` that say how it is written."""

    meter: str
    steps_per_bar: int
    tonic: int
    mode: str
    tempo: float


def notations(events: Sequence[np.ndarray], prompts: Sequence[str] = ()) -> list[Notation]:
    """How melodies on C, events (T,) of one length, are written; `prompts` are their texts, or none.

    Bars have 12 steps where a melody is heard in three (`traits.triple`) or its prompt claims it. The key is
    A minor where it is heard in minor (`traits.minor`), else C major. Melodies of less than two bars are in
    4/4 and C major. The tempo is that of a prompt such as "90 beats a minute", else TEMPO.
    """
    triple, minor = _heard(events)
    texts = prompts or [""] * len(events)
    return [_notation(*each) for each in zip(texts, triple.tolist(), minor.tolist(), strict=True)]


def in_words(music: Heading) -> str:
    """Key, meter and tempo, such as "A minor, 3/4, 120 quarter notes a minute"."""
    fifths = key_fifths(music)
    words = [music.meter, f"{music.tempo:g} quarter notes a minute"]
    if fifths is not None:
        letter, alteration, _ = spelling(60 + music.tonic, fifths)
        words.insert(0, f"{letter}{'#' * alteration}{'b' * -alteration} {music.mode}")
    return ", ".join(words)


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


def _notation(prompt: str, triple: bool, minor: bool) -> Notation:
    meter = _meter(prompt, triple)
    tempo = _TEMPO.search(QUOTED.sub(" ", prompt.lower()))
    quarters = float(tempo[1]) if tempo else 0.0
    tonic, mode = (9, "minor") if minor else (0, "major")
    return Notation(meter, BARS[meter], tonic, mode, quarters if 20 <= quarters <= 400 else TEMPO)


def _meter(prompt: str, triple: bool) -> str:
    """The meter that a prompt names, unless the melody is heard in three and it is not; else 3/4 or 4/4."""
    text = QUOTED.sub(" ", prompt.lower())
    named = [match[0] for match in _METER.finditer(text)]
    named += [meter for meter, pattern in _OTHER_NAMES if re.search(pattern, text)]
    in_three = triple or parse(prompt).get("meter") == "triple" or any(BARS[m] == 12 for m in named[:1])
    return next((m for m in named if (BARS[m] == 12) == in_three), "3/4" if in_three else "4/4")
