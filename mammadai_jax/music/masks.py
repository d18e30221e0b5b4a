"""Which tokens of `MAGENTA` each step of a melody may have, so that it keeps what is asked of it.

Melodies are composed in the scale of C (minor on A, dorian on D); `shift_to` says how far they are moved to
the key and the range that are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from mammadai_jax.music.controls import BARS, Controls, Range
from mammadai_jax.music.corpus import DEGREES
from mammadai_jax.music.notes import MAGENTA

_WHITE = (0, 2, 4, 5, 7, 9, 11)
_RAISED = {"minor": (6, 8)}  # the sixth and the seventh degree of A minor in melodies that rise

ENDINGS: Mapping[str, Mapping[int, int]] = {
    "4/4": {8: 275, 16: 177},
    "2/2": {8: 275, 16: 177},
    "2/4": {8: 1},
    "3/4": {12: 1},
    "6/8": {6: 1},
}
"""Steps of the last note by meter, to the end of its bar, and how often. In 4/4 counted: of the 553 melodies
of the folk corpus whose first bar is full, 275 begin their last note on the third beat and 177 on the first.
"""


def free(steps: int) -> np.ndarray:
    """A mask that allows everything, bool (steps, tokens)."""
    return np.ones((steps, MAGENTA.size), bool)


def scale_of(mode: str) -> frozenset[int]:
    """The pitch classes of a mode in the scale of C; of minor with both forms of the sixth and seventh."""
    return frozenset((*_WHITE, *_RAISED.get(mode, ())))


def pitches_in(mask: np.ndarray, classes: Collection[int] = range(12), pitches: Range | None = None) -> None:
    """Allow in a mask (T, tokens) only notes of these pitch classes, within these pitches."""
    midi = np.arange(MAGENTA.lowest, MAGENTA.highest + 1)
    low, high = pitches or (0, 127)
    mask[:, MAGENTA.first :] &= np.isin(midi % 12, list(classes)) & (low <= midi) & (midi <= high)


def bars_begin_anew(mask: np.ndarray, steps_per_bar: int) -> None:
    """Let every bar of a mask (T, tokens) begin with a note or a rest, none with what is held."""
    mask[::steps_per_bar, MAGENTA.hold] = False


def ends_on(mask: np.ndarray, tonic: int, steps: int) -> None:
    """Let the last `steps` of a mask (T, tokens) begin with a note of a pitch class, and have no other note.

    Where the mask has no such note, nothing changes.
    """
    last = free(steps)
    pitches_in(last, {tonic})
    last &= mask[-steps:]
    last[0, [MAGENTA.hold, MAGENTA.silence]] = False
    if last[0].any():
        mask[-steps:] = last


def mask_of(controls: Controls, steps: int) -> np.ndarray:
    """The tokens bool (steps, tokens) of melodies that keep key, meter and range, and begin with a note.

    A melody that begins with silence has a full bar less than is asked for. A key allows the notes of its
    scale, and its tonic as the last note. A meter lets every bar begin anew.
    """
    mask, mode = free(steps), controls.mode or "major"
    mask[:1, [MAGENTA.hold, MAGENTA.silence]] = False
    if controls.range:
        shift = shift_to(controls)
        pitches_in(mask, pitches=Range(controls.range.low - shift, controls.range.high - shift))
    if controls.meter:
        bars_begin_anew(mask, BARS[controls.meter])
    if controls.tonic is not None:
        pitches_in(mask, scale_of(mode))
        ends_on(mask, DEGREES[mode], min(*ENDINGS[controls.meter or "4/4"], steps))
    return mask


def shift_to(controls: Controls) -> int:
    """Semitones from the scale of C to the key, in the octave that has most of the range.

    Without a range the key is at most six semitones away; without a key the range is by octaves.
    """
    up = 0 if controls.tonic is None else (controls.tonic - DEGREES[controls.mode or "major"]) % 12
    if not controls.range:
        return (up + 5) % 12 - 5
    low, high = controls.range

    def fit(shift: int) -> tuple[int, float]:
        inside = min(high - shift, MAGENTA.highest) - max(low - shift, MAGENTA.lowest)
        return inside, -abs((low + high) / 2 - shift - (MAGENTA.lowest + MAGENTA.highest) / 2)

    return max((up + 12 * octave for octave in range(-6, 7)), key=fit)
