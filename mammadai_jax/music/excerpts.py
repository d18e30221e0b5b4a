"""Excerpts of one length from melodies of many lengths, for what learns from rows of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.notes import HOLD, MAGENTA, Alphabet, Melody, canonical

BARS_APART = 4  # so many bars lie between the starts of excerpts


class Excerpts(NamedTuple):
    """N excerpts of T steps, which begin on bar lines, and where they come from.

    Attributes:
        tokens: int32 (N, T).
        melody: int32 (N,), index in `melodies`.
        start: int32 (N,), step of the melody that the excerpt begins with.
        shift: int32 (N,), semitones that it was transposed by.
        melodies: all melodies that had an excerpt, in the scale of C.
    """

    tokens: np.ndarray
    melody: np.ndarray
    start: np.ndarray
    shift: np.ndarray
    melodies: tuple[Melody, ...]

    def __len__(self) -> int:
        return len(self.tokens)


def excerpts(
    corpus: Corpus, length: int = 96, shifts: Sequence[int] = (-12, 0, 12), alphabet: Alphabet = MAGENTA
) -> Excerpts:
    """Whole bars, `length` steps in all, of every melody of the corpus, in the scale of C.

    One from a melody's first full bar, further ones every four bars, and one that ends with it; each
    transposed by those `shifts` that the alphabet has room for. A note that sounds on into an excerpt
    begins with it. Melodies shorter than `length`, or with bars that do not add up to it, are left out.
    """
    rows, places, melodies = [], [], []
    for melody in corpus.in_key(0, alphabet, relative=True):
        starts = _starts(melody, length)
        if not starts:
            continue
        sounding = _sounding(melody.events)
        for start in starts:
            events = canonical(np.append(sounding[start], melody.events[start + 1 : start + length]))
            pitched = events[events >= 0]
            if not pitched.size:
                continue
            tokens, lowest, highest = alphabet.encode(events), pitched.min(), pitched.max()
            for shift in shifts:
                if alphabet.lowest <= lowest + shift and highest + shift <= alphabet.highest:
                    rows.append(np.where(tokens >= alphabet.first, tokens + shift, tokens))
                    places.append((len(melodies), start, shift))
        melodies.append(melody)
    tokens = np.stack(rows) if rows else np.zeros((0, length), np.int32)
    where = np.array(places, np.int32).reshape(-1, 3)
    return Excerpts(tokens, where[:, 0], where[:, 1], where[:, 2], tuple(melodies))


def _starts(melody: Melody, length: int) -> list[int]:
    """The steps at which excerpts of a melody begin."""
    bar = melody.steps_per_bar
    first, last = bar if melody.pickup else 0, len(melody) - length
    if last < first or length % bar:
        return []
    return sorted({*range(first, last + 1, BARS_APART * bar), last})


def _sounding(events: np.ndarray) -> np.ndarray:
    """The event that each step still belongs to, int16 (T,): no HOLD among them."""
    starts = np.maximum.accumulate(np.where(events == HOLD, 0, np.arange(len(events))))
    return events[starts]
