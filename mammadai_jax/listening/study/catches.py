"""Catch pairs, whose better side is known: a clip and itself, with wrong notes, or with its bars shuffled."""

from __future__ import annotations

import dataclasses

import numpy as np

from mammadai_jax.music.notes import HOLD, OFF, Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.sample import Sample

WRONG_SHARE = 0.35  # of the notes that are moved
STEPS = (-6, -1, 1, 6)  # semitones by which: no scale and no chord keeps its sense


def with_wrong_notes(
    sample: Sample, random: np.random.Generator, share: float = WRONG_SHARE
) -> Sample | None:
    """A share of the notes moved by a semitone or a tritone; None if there are fewer than four notes."""
    voices = _voices(sample.music)
    places = np.argwhere((voices > 6) & (voices < 121))
    if len(places) < 4:
        return None
    count = max(2, round(share * len(places)))
    for place in places[random.permutation(len(places))[:count]]:
        voices[tuple(place)] += random.choice(STEPS)
    return dataclasses.replace(sample, music=_with_voices(sample.music, voices))


def with_shuffled_bars(sample: Sample, random: np.random.Generator) -> Sample | None:
    """The bars in another order, none where it was; None with fewer than four bars that differ."""
    voices, bar = _voices(sample.music), sample.music.steps_per_bar
    whole = voices.shape[1] // bar
    if whole < 4:
        return None
    bars = voices[:, : whole * bar].reshape(len(voices), whole, bar).swapaxes(0, 1)
    if len(np.unique(bars.reshape(whole, -1), axis=0)) < 4:
        return None
    order = np.roll(random.permutation(whole), 1)
    while (order == np.arange(whole)).any():
        order = random.permutation(whole)
    shuffled = bars[order].swapaxes(0, 1).reshape(len(voices), -1)
    return dataclasses.replace(
        sample, music=_with_voices(sample.music, np.hstack([shuffled, voices[:, whole * bar :]]))
    )


def _voices(music: Melody | Piece) -> np.ndarray:
    """All voices as rows of events of their own, in which a bar that begins within a note is a note too."""
    voices = np.array(music.voices if isinstance(music, Piece) else music.events[None])
    bar = music.steps_per_bar
    for row in voices:
        sounding = OFF
        for step, event in enumerate(row):
            sounding = event if event != HOLD else sounding
            if step % bar == 0 and event == HOLD:
                row[step] = sounding
    return voices


def _with_voices(music: Melody | Piece, voices: np.ndarray) -> Melody | Piece:
    if isinstance(music, Piece):
        return dataclasses.replace(music, voices=voices)
    return dataclasses.replace(music, events=voices[0])
