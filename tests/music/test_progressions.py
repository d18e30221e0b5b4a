import numpy as np
import pytest

from mammadai_jax.music.chords import QUALITIES, Chord
from mammadai_jax.music.notes import HOLD, OFF, Melody
from mammadai_jax.music.progressions import (
    DEGREES,
    PROGRESSIONS,
    chords_of,
    clashes,
    classes,
    harmonised,
    moved,
    nearest,
    strangers,
    symbols,
)
from mammadai_jax.music.tunes import ACCOMPANIMENTS

ALBERTI = ACCOMPANIMENTS[1].events
C, F, G = (Chord(root, "major", root) for root in (0, 5, 7))
A_MINOR = Chord(9, "minor", 9)


def notes(*pitches, steps=16):
    """Events of pitches that last so many steps each."""
    return np.array([event for pitch in pitches for event in [pitch] + [HOLD] * (steps - 1)], np.int16)


@pytest.mark.parametrize("mode", ["major", "minor"])
def test_progressions_are_four_chords_of_the_mode_and_no_two_are_alike(mode):
    scale = {"major": {0, 2, 4, 5, 7, 9, 11}, "minor": {0, 2, 3, 5, 7, 8, 10, 11}}[mode]
    rows = PROGRESSIONS[mode]
    assert len(set(rows)) == len(rows) >= 3
    for chords in (chords_of(row, mode, 0) for row in rows):
        assert len(chords) == 4 and frozenset().union(*(chord.classes for chord in chords)) <= scale
    for numeral, (_, quality) in DEGREES[mode].items():
        assert (quality == "minor") == numeral.islower()


def test_numerals_are_chords_above_the_tonic():
    assert chords_of("I vi IV V", "major", 0) == [C, A_MINOR, F, G]
    assert chords_of("i VI III VII", "minor", 9) == [A_MINOR, F, C, G]
    assert chords_of("IV", "major", 11) == [Chord(4, "major", 4)]


def test_a_bar_is_moved_to_every_triad_the_nearer_way():
    for root in range(12):
        for quality in ("major", "minor"):
            line = moved(ALBERTI, Chord(root, quality, root))
            pitches = line[line >= 0]
            third = QUALITIES[quality][0][1]
            np.testing.assert_array_equal((pitches - root) % 12, [0, 7, third, 7] * 2)
            assert abs(int(line[0]) - int(ALBERTI[0])) <= 6
            np.testing.assert_array_equal(line < 0, ALBERTI < 0)
    np.testing.assert_array_equal(moved(ALBERTI, C), ALBERTI)


def test_nearest_by_hand():
    np.testing.assert_array_equal(nearest(np.array([60, HOLD, OFF]), 8), [56, HOLD, OFF])


def test_clashes_are_counted_on_beats_and_twice_on_strong_ones():
    still = notes(48)
    of = lambda *pitches, steps: clashes(notes(*pitches, steps=steps), still)
    for interval in range(24):
        assert of(48 + interval, steps=16) == (6 if interval % 12 in (1, 2, 6, 10, 11) else 0)
    assert [of(*row, steps=4) for row in ((62, 60, 60, 60), (60, 62, 60, 60), (60, 60, 60, 62))] == [2, 1, 1]
    assert of(60, 62, 60, 62, steps=2) == 0  # between the beats
    assert clashes(notes(62), notes(OFF)) == clashes(notes(OFF), still) == 0


def test_strangers_are_not_of_the_chord_of_their_bar():
    sounds = notes(60, 62, 64, 66, 65, 71, OFF, 69, steps=4)
    assert strangers(sounds, [C, F]) == 0
    assert strangers(sounds, [A_MINOR, G]) == 1
    assert strangers(sounds, [G, G]) == 3
    assert strangers(notes(62), [C]) == 2


@pytest.mark.parametrize("bar", ACCOMPANIMENTS, ids=lambda bar: bar.name)
def test_each_phrase_takes_the_progression_that_suits_it(bar):
    for first, second in (("I vi IV V", "I V vi IV"), ("I V vi IV", "I IV V I"), ("IV I V I", "I vi ii V")):
        chords = chords_of(f"{first} {second}", "major", 2)
        tones = [60 + chord.root + tone for chord in chords for tone in (*QUALITIES[chord.quality][0], 12)]
        melody = Melody(notes(*tones, steps=4), tonic=2, mode="major")
        assert harmonised(melody, bar.events) == chords == harmonised(melody, bar.events)


def test_a_minor_melody_has_minor_chords_and_the_end_may_be_short():
    melody = Melody(notes(69, 62, 64, 69, 69, steps=16), tonic=9, mode="minor")
    assert harmonised(melody, ALBERTI) == chords_of("i iv V i i", "minor", 9)
    assert harmonised(melody.first(65), ALBERTI) == chords_of("i iv V i i", "minor", 9)


def test_of_progressions_that_suit_equally_the_first_is_taken():
    silent = Melody(notes(OFF, OFF, OFF, OFF), tonic=0, mode="mixolydian")
    assert harmonised(silent, ALBERTI) == chords_of(PROGRESSIONS["major"][0], "major", 0)


def test_the_pitch_classes_of_the_chord_of_each_step():
    held = classes(symbols([C, A_MINOR]), 32)
    assert held.shape == (32, 12)
    for step, expected in ((0, {0, 4, 7}), (15, {0, 4, 7}), (16, {9, 0, 4}), (31, {9, 0, 4})):
        assert set(np.flatnonzero(held[step])) == expected
    assert not classes((), 4).any()


def test_a_symbol_stands_where_the_chord_changes():
    assert symbols([C, C, F, F, C]) == ((0, C), (32, F), (64, C))
    assert symbols([]) == ()
