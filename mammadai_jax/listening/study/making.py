"""Filling a study: pairs of samples, and catch pairs made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mammadai_jax.listening.study.catches import with_shuffled_bars, with_wrong_notes
from mammadai_jax.listening.study.clips import clip_of
from mammadai_jax.listening.study.store import Study
from mammadai_jax.music.sample import Sample


class SamplePair(NamedTuple):
    """Two samples for one prompt, and the probability with which they were chosen, if known."""

    prompt: str
    a: Sample
    b: Sample
    systems: tuple[str, str]
    selected: float | None = None


def add_pairs(
    study: Study,
    pairs: Sequence[SamplePair],
    *,
    number: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[int]:
    """Add pairs of a round of learning, 0 before the first -> their numbers in the study."""
    numbers = []
    for index, pair in enumerate(pairs):
        columns = {"round": number, "selected": pair.selected}
        clips = [clip_of(sample, bank=study.bank) for sample in (pair.a, pair.b)]
        numbers.append(study.add(pair.prompt, *clips, systems=pair.systems, **columns))
        if progress:
            progress(index + 1, len(pairs))
    return numbers


def add_catches(study: Study, pairs: Sequence[SamplePair], count: int = 2, seed: int = 0) -> int:
    """Add so many catch pairs of each kind, made of the samples of pairs -> how many could be made.

    The original is side a; which side is shown first is drawn for every trial.
    """
    random, made = np.random.default_rng(seed), 0
    changes = {
        "identical": lambda sample: sample,
        "wrong_notes": lambda sample: with_wrong_notes(sample, random),
        "shuffled_bars": lambda sample: with_shuffled_bars(sample, random),
    }
    for kind, change in changes.items():
        left = count
        for index in random.permutation(len(pairs)):
            pair = pairs[index]
            changed = change(pair.a) if left else None
            if changed is None:
                continue
            expected = "tie" if kind == "identical" else "a"
            clips = [clip_of(sample, bank=study.bank) for sample in (pair.a, changed)]
            study.add(pair.prompt, *clips, catch=(kind, expected))
            left, made = left - 1, made + 1
    return made
