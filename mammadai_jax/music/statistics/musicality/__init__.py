"""Musicality: how far a set of melodies is from real tunes in meter, form, cadences, key and rhythm.

These measures are for evaluation only: nothing that is trained or tuned may read them, and a test holds every
learner, reward and stage to it. A measure that is optimised no longer measures anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mammadai_jax.music.notes import Melody
from mammadai_jax.music.statistics.musicality import form, melody
from mammadai_jax.music.statistics.musicality.tune import Tune, prepared

BARS = 8  # that the repetition of bars and phrases is measured in
APART = (1, 2, 4)  # bars


class Measure(NamedTuple):
    """A measure of a melody.

    Attributes:
        aspect: what it is about; all aspects count the same in the distance to real tunes.
        compute: (tune, bars) -> its value; NaN where it is not defined.

    """

    aspect: str
    compute: Callable[[Tune, int], float]


def _plain(aspect: str, *functions: Callable[[Tune], float]) -> dict[str, Measure]:
    """Measures that do not depend on a number of bars, by their functions' names."""
    without_bars = lambda function: lambda tune, bars: function(tune)
    return {function.__name__: Measure(aspect, without_bars(function)) for function in functions}


def _repetition() -> dict[str, Measure]:
    """Bars and phrases that return, by kind and distance."""
    pairs = {f"bars_{kind}_{apart}": _pairs(kind, apart) for kind in form.KINDS for apart in APART}
    bars = {f"repeated_bars_{kind}": _returning(kind, 1) for kind in form.KINDS}
    phrases = {f"repeated_phrases_{kind}": _returning(kind, form.PHRASE) for kind in form.KINDS}
    return {name: Measure("repetition", compute) for name, compute in {**bars, **phrases, **pairs}.items()}


def _pairs(kind: str, apart: int) -> Callable[[Tune, int], float]:
    """Of the pairs of bars so many bars apart, the share that are alike."""
    return lambda tune, bars: form.bars_alike(tune, form.KINDS[kind], apart)


def _returning(kind: str, size: int) -> Callable[[Tune, int], float]:
    """The share of passages of `size` bars, in the first so many bars, that are like an earlier one."""
    return lambda tune, bars: form.returning(form.passages(tune, bars, size), form.KINDS[kind])


def phrase_bars(bars: int) -> int:
    """How long the phrases are of which the symmetry and the ends are measured: four bars, or two."""
    return 4 if bars >= BARS else 2


MEASURES: Mapping[str, Measure] = {
    **_plain("meter", melody.onsets_on_beats, melody.onsets_on_weak_sixteenths, melody.meter_agreement),
    **_repetition(),
    "phrase_symmetry": Measure("phrases", lambda tune, bars: form.phrase_symmetry(tune, phrase_bars(bars))),
    "phrase_ends": Measure("phrases", lambda tune, bars: form.phrase_ends(tune, phrase_bars(bars))),
    **_plain(
        "cadence",
        melody.ends_long,
        melody.ends_on_strong_beat,
        melody.ends_on_tonic,
        melody.full_close,
        melody.cadence_approach,
    ),
    **_plain("key", melody.key_clarity),
    **_plain("rhythm", melody.notes_per_quarter, melody.rhythm_entropy),
    **_plain("intervals", melody.leaps, melody.repeated_notes),
    **_plain("beginning", melody.silence_at_start),
    **_plain("harmony", melody.consonance_on_beats),
}
# What depends on the number of bars that it is measured in.
OF_BARS = tuple(name for name in MEASURES if name.startswith(("repeated_", "phrase_")))


def measure(
    melodies: Sequence[Melody], lines: Sequence[np.ndarray | None] | None = None, *, bars: int = BARS
) -> dict[str, np.ndarray]:
    """Every measure of every melody by name, float64 (N,); NaN where a melody has none.

    Args:
        melodies: of any meter, with or without an upbeat.
        lines: events (T,) of what each is played over, or None.
        bars: that repetition is measured in, from the first full bar on.

    Raises:
        ValueError: for less than two bars, or another number of lines than of melodies.

    """
    if bars < 2:
        raise ValueError(f"repetition needs two bars or more, not {bars}")
    tunes = [prepared(*each) for each in zip(melodies, lines or [None] * len(melodies), strict=True)]
    return {
        name: np.array([each.compute(tune, bars) for tune in tunes], float) for name, each in MEASURES.items()
    }


def common_bars(melodies: Sequence[Melody]) -> int:
    """The full bars that half of the melodies have, but at most BARS and at least two: for `measure`."""
    if not melodies:
        return BARS
    return int(np.clip(np.median([len(prepared(each).bars) for each in melodies]), 2, BARS))
