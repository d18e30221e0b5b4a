import numpy as np
import pytest

from mammadai_jax.music import corpus
from mammadai_jax.music.keys import guess_key, guess_mode, key_of
from mammadai_jax.music.notes import Note


def notes(pitches, duration=4):
    return [Note(i * duration, duration, pitch) for i, pitch in enumerate(pitches)]


@pytest.mark.parametrize(
    ("degrees", "mode"),
    [
        ([0, 2, 4, 5, 7, 9, 11], "major"),
        ([0, 2, 4, 5, 7, 9, 10], "mixolydian"),
        ([0, 2, 4, 6, 7, 9, 11], "lydian"),
        ([0, 2, 3, 5, 7, 8, 10], "minor"),
        ([0, 2, 3, 5, 7, 8, 11], "minor"),
        ([0, 2, 3, 5, 7, 9, 10], "dorian"),
        ([0, 1, 3, 5, 7, 8, 10], "phrygian"),
        ([0, 2, 5, 7, 9], ""),
    ],
)
def test_modes_on_every_tonic(degrees, mode):
    for tonic in range(12):
        assert guess_mode(tonic, notes([60 + tonic + degree for degree in degrees])) == mode
    assert guess_mode(-1, notes([60])) == ""


def test_the_key_of_a_scale_that_ends_on_its_tonic():
    for tonic in range(12):
        major = [60 + tonic + degree for degree in (0, 4, 7, 5, 9, 7, 4, 2, 11, 0)]
        minor = [60 + tonic + degree for degree in (0, 3, 7, 5, 8, 7, 3, 2, 11, 0)]
        assert guess_key(notes(major)) == (tonic, "major")
        assert guess_key(notes(minor)) == (tonic, "minor")


def test_the_keys_of_the_embedded_tunes():
    tunes = corpus.embedded().transposed(range(-6, 6))
    guessed = [guess_key(melody.notes)[0] == melody.tonic for melody in tunes]
    assert np.mean(guessed) >= 0.8


def test_a_stated_key_stays_and_silence_has_none():
    assert key_of(notes([60, 64, 67]), 7, "dorian") == (7, "dorian", False)
    assert key_of([], -1, "") == (-1, "", False)
    assert key_of(notes([60, 64, 67, 60]), -1, "") == (0, "major", True)
