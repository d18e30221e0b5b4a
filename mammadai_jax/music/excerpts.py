"""Excerpts of equal length from melodies, for learners that need rows of tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.notes import MAGENTA, Alphabet, Melody, canonical, sounding
from mammadai_jax.music.transcription import Skipped

BARS_APART = 4  # bars between the starts of excerpts


class Excerpts(NamedTuple):
    """N excerpts of T steps, which begin on bar lines, and their origin.

    Attributes:
        tokens: int32 (N, T).
        melody: int32 (N,), index in `melodies`.
        start: int32 (N,), the excerpt's first step in the melody.
        shift: int32 (N,), semitones of the transposition.
        melodies: all melodies with an excerpt, in the scale of C.
        skipped: the tunes without one, also those that the corpus has skipped.

    """

    tokens: np.ndarray
    melody: np.ndarray
    start: np.ndarray
    shift: np.ndarray
    melodies: tuple[Melody, ...]
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)


def excerpts(
    corpus: Corpus, length: int = 96, shifts: Sequence[int] = (-12, 0, 12), alphabet: Alphabet = MAGENTA
) -> Excerpts:
    """Excerpts of `length` steps, in whole bars, of every melody of the corpus, in the scale of C.

    They start at a melody's first full bar and every four bars after it, and one ends with the melody; each
    is transposed by those `shifts` that stay in the alphabet. A note that is still sounding at the start
    begins with the excerpt. Melodies shorter than `length`, or whose bars do not divide it, are skipped.
    """
    rows, origins, melodies = [], [], []
    fitting = corpus.in_key(0, alphabet, relative=True)
    skipped = list(fitting.skipped)
    for melody in fitting:
        starts = _starts(melody, length)
        if not starts:
            skipped.append(Skipped(melody.source, _why_none(melody, length)))
            continue
        held = sounding(melody.events)
        for start in starts:
            events = canonical(np.append(held[start], melody.events[start + 1 : start + length]))
            pitched = events[events >= 0]
            if not pitched.size:
                continue
            tokens, lowest, highest = alphabet.encode(events), pitched.min(), pitched.max()
            for shift in shifts:
                if alphabet.lowest <= lowest + shift and highest + shift <= alphabet.highest:
                    rows.append(np.where(tokens >= alphabet.first, tokens + shift, tokens))
                    origins.append((len(melodies), start, shift))
        melodies.append(melody)
    tokens = np.stack(rows) if rows else np.zeros((0, length), np.int32)
    melody, start, shift = np.array(origins, np.int32).reshape(-1, 3).T
    return Excerpts(tokens, melody, start, shift, tuple(melodies), tuple(skipped))


def shortcomings(corpus: Corpus, length: int = 96) -> dict[str, list[Skipped]]:
    """What a corpus does not offer of its sources, each source with the reason, by heading.

    These are the tunes that were skipped, the melodies without an excerpt in MAGENTA, the notes that were
    left out of melodies, and what was assumed about them.
    """
    fitting = corpus.in_key(0, MAGENTA, relative=True)
    short = [Skipped(m.source, _why_none(m, length)) for m in fitting if not _starts(m, length)]
    return {
        "skipped": list(corpus.skipped),
        f"without an excerpt of {length} steps": [*fitting.skipped[len(corpus.skipped) :], *short],
        "with notes left out": [
            Skipped(melody.source, f"lacks notes, {reason}: {count}")
            for melody in corpus
            for reason, count in melody.left_out.items()
        ],
        "with remarks": [Skipped(melody.source, remark) for melody in corpus for remark in melody.remarks],
    }


def usable(corpus: Corpus, length: int) -> Corpus:
    """The melodies of a corpus that have an excerpt of `length` steps."""
    return dataclasses.replace(corpus, melodies=tuple(m for m in corpus if _starts(m, length)))


def _starts(melody: Melody, length: int) -> list[int]:
    """The steps at which excerpts of a melody begin."""
    bar = melody.steps_per_bar
    first, last = bar if melody.pickup else 0, len(melody) - length
    if last < first or length % bar:
        return []
    return sorted({*range(first, last + 1, BARS_APART * bar), last})


def _why_none(melody: Melody, length: int) -> str:
    """Why a melody has no excerpt."""
    if length % melody.steps_per_bar:
        return f"meter {melody.meter}, whose bars of {melody.steps_per_bar} steps do not divide {length}"
    return f"shorter than {length} steps in whole bars"
