import numpy as np
import pytest

from mammadai_jax.music import abc
from mammadai_jax.music.abc_writing import abc as written
from mammadai_jax.music.notes import HOLD, OFF, Melody
from mammadai_jax.music.transcription import to_melody
from tests.music.test_musicxml import random_melodies


def read(text):
    (tune,) = abc.split(text)
    return to_melody(abc.parse(tune), "", "")


def test_random_melodies_come_back():
    compared = 0
    for melody in random_melodies(60, seed=5):
        if not melody.notes or len(melody) <= melody.steps_per_bar:  # no bar line says where an upbeat ends
            continue
        compared += 1
        again = read(written(melody))
        assert again.notes == melody.notes
        assert (again.steps_per_bar, again.tempo) == (melody.steps_per_bar, melody.tempo)
        if melody.fill:
            assert again.pickup == melody.pickup
        if melody.tonic >= 0 and melody.mode:
            assert (again.tonic, again.mode) == (melody.tonic, melody.mode)
    assert compared > 45


def test_a_whole_known_tune():
    events = np.full(32, HOLD)
    for step, event in ((0, OFF), (12, 67), (16, 66), (18, 67), (19, 65), (22, 66), (26, OFF)):
        events[step] = event
    melody = Melody(events, title="50 % G\nminor", pickup=4, tonic=7, mode="major", tempo=72, meter="C")
    assert written(melody, program=73) == (
        "%abc-2.1\nX:1\nT:50 \\% G minor\nM:4/4\nL:1/16\nQ:1/4=72\n%%MIDI program 73\nK:Gmaj\n"
        "G4|F2G1=F1-=F2^F4z2z4|]\n"
    )


@pytest.mark.parametrize("title", ["", "]]>&\"'", "a\0b\x1b", "Ünï\ncode", "[K:D] X:2", "x" * 1000])
def test_any_title_leaves_the_music_as_it_is(title):
    melody = Melody([60, 62, HOLD, 64] * 4, title=title)
    assert read(written(melody)).notes == melody.notes
    assert len(written(melody)) < 700
