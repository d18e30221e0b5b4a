"""A tune with gaps that are to be filled: which of its steps are free, and what they may hold.

A composer writes in the scale of C, within the alphabet `MAGENTA`: the tune is moved there, and back.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mammadai_jax.music.corpus import DEGREES, Corpus
from mammadai_jax.music.masks import ends_on, free, pitches_in, scale_of
from mammadai_jax.music.notes import HOLD, MAGENTA, OFF, Melody, sounding

MAX_STEPS = 4096
_LAST = {12: 12}  # steps of the last note of a new ending or more, by those of a bar; else 8


@dataclasses.dataclass(frozen=True, eq=False)
class Gaps:
    """A tune whose free steps are to be filled.

    Attributes:
        tune: in its own key.
        is_free: bool (T,), which steps are; the tune may be shorter, what follows it is free.
        shift: semitones from the tune to the scale of C.
        closes: whether the last note is to be the tonic.

    """

    tune: Melody
    is_free: np.ndarray
    shift: int
    closes: bool = False

    @property
    def tokens(self) -> np.ndarray:
        """The tune in the scale of C as tokens, int32 (T,), with silence after its end."""
        events = self.tune.transpose(self.shift).events
        rest = np.full(max(len(self.is_free) - len(events), 0), HOLD)
        rest[:1] = OFF
        return MAGENTA.encode(np.append(events, rest))[: len(self.is_free)]

    @property
    def allowed(self) -> np.ndarray:
        """The tokens that each step may have, bool (T, tokens); a given step has its own.

        Free steps have the notes of the key's scale, and others that the tune has. A note before a gap is
        held into it only where it was; what sounds at the end of a gap begins there anew.
        """
        mask, tokens = free(len(self.is_free)), self.tokens
        on_c = self.tune.transpose(self.shift)
        pitches_in(mask, scale_of(self.tune.mode) | {int(pitch) % 12 for pitch in on_c.pitches})
        sounds = sounding(MAGENTA.decode(tokens))
        for step in np.flatnonzero(np.diff(self.is_free.astype(int), prepend=0)):
            held = step > 0 and sounds[step - 1] >= 0 and tokens[step] == MAGENTA.hold
            if not self.is_free[step]:
                tokens[step] = MAGENTA.encode(sounds[step : step + 1])[0]
            elif not held or step >= len(self.tune):
                mask[step, MAGENTA.hold] = False
        if self.closes:
            ends_on(mask, DEGREES.get(self.tune.mode, 0), min(_last(self.tune), int(self.is_free.sum())))
        mask[~self.is_free] = np.arange(MAGENTA.size) == tokens[~self.is_free, None]
        return mask

    def filled(self, tokens: np.ndarray, title: str) -> Melody:
        """The tune with the tokens (T,) in its key."""
        events = MAGENTA.decode(tokens)
        on_c = dataclasses.replace(self.tune.transpose(self.shift), events=events, title=title)
        return on_c.transpose(-self.shift)


def bars_of(tune: Melody) -> dict[int, tuple[int, int]]:
    """The first step and the end of each bar by its number; that of an upbeat is 0, else the first is 1."""
    size = tune.steps_per_bar
    starts = range(0, max(len(tune), 1), size)
    return {n + (not tune.fill): (start, min(start + size, len(tune))) for n, start in enumerate(starts)}


def after(tune: Melody, bars: int, *, silence: bool = False) -> Gaps:
    """So many bars after a tune, which end on the tonic; ValueError if it cannot be moved to the scale of C.

    They begin at the bar line after the last note, or with an upbeat of the tune's own length before it. With
    `silence` what is silent at the tune's end stays: they begin where the tune ends.
    """
    size = tune.steps_per_bar
    end = len(tune) if silence else max((note.onset + note.duration for note in tune.notes), default=0)
    line = -(-end // size) * size
    begin = end if line - end <= tune.pickup else line
    is_free = np.arange(_checked(line + bars * size)) >= begin
    short = tune.first(begin) if begin < len(tune) else tune
    return Gaps(short, is_free, shift_of(tune), closes=True)


def within(tune: Melody, first: int, last: int) -> Gaps:
    """The bars of a tune from number `first` to `last`; ValueError if it has not got them."""
    bars = bars_of(tune)
    if not (first in bars and last in bars and first <= last):
        raise ValueError(f"the tune has bars {min(bars)} to {max(bars)}, no bars {first} to {last}")
    return of_bars(tune, [*range(first, last + 1)])


def of_bars(tune: Melody, numbers: list[int]) -> Gaps:
    """Some bars of a tune, by their numbers."""
    is_free, bars = np.zeros(_checked(len(tune)), bool), bars_of(tune)
    for number in numbers:
        is_free[slice(*bars[number])] = True
    is_free[: tune.fill] = False
    return Gaps(tune, is_free, shift_of(tune), closes=bool(is_free[-_last(tune) :].all()))


def _last(tune: Melody) -> int:
    return _LAST.get(tune.steps_per_bar, 8)


def _checked(steps: int) -> int:
    if steps > MAX_STEPS:
        raise ValueError(f"{steps} steps are more than {MAX_STEPS}: give a shorter tune, or fewer bars")
    return steps


def shift_of(tune: Melody) -> int:
    """Semitones to the scale of C, in the octave that fits the alphabet best."""
    if not len(tune.pitches):
        raise ValueError("the tune has no notes")
    moved = Corpus("", (tune,)).in_key(0, MAGENTA, relative=True)
    if not len(moved):
        raise ValueError(f"{moved.skipped[0].reason}: a tune has {MAGENTA.pitches} semitones at most")
    return int(moved.melodies[0].notes[0].pitch - tune.notes[0].pitch)
