import dataclasses

import numpy as np
import pytest

from mammadai_jax.music import gaps
from mammadai_jax.music.notes import HOLD, MAGENTA, OFF, Melody, sounding
from mammadai_jax.music.tunes import TUNES

# an upbeat of four steps, then three bars of E flat major, the second tied to the third; a long rest ends it
EVENTS = np.full(64, HOLD)
for _step, _event in ((0, OFF), (12, 70), (16, 63), (24, 65), (32, 67), (44, 68), (52, 67), (56, OFF)):
    EVENTS[_step] = _event
TUNE = Melody(EVENTS, title="Tune", tonic=3, mode="major", pickup=4, tempo=90)
C_AT = MAGENTA.first - MAGENTA.lowest


def drawn(random, allowed):
    return np.array([random.choice(np.flatnonzero(row)) for row in allowed])


def test_bars_have_the_numbers_of_a_score():
    assert gaps.bars_of(TUNE) == {0: (0, 16), 1: (16, 32), 2: (32, 48), 3: (48, 64)}
    assert gaps.bars_of(dataclasses.replace(TUNE, pickup=0)) == {
        1: (0, 16), 2: (16, 32), 3: (32, 48), 4: (48, 64)
    }  # fmt: skip
    assert gaps.bars_of(Melody(EVENTS[:20])) == {1: (0, 16), 2: (16, 20)}


def test_given_steps_sound_as_before_and_new_notes_are_in_the_scale(random):
    for first, last in ((0, 0), (1, 1), (2, 2), (1, 2), (3, 3), (0, 3)):
        tune = gaps.within(TUNE, first, last)
        bars = gaps.bars_of(TUNE)
        is_free = np.zeros(64, bool)
        is_free[bars[first][0] : bars[last][1]] = True
        is_free[:12] = False
        np.testing.assert_array_equal(tune.is_free, is_free)
        for _ in range(10):
            filled = tune.filled(drawn(random, tune.allowed), "New")
            assert (filled.title, filled.tonic, filled.tempo, filled.pickup) == ("New", 3, 90, 4)
            np.testing.assert_array_equal(sounding(filled.events)[~is_free], sounding(EVENTS)[~is_free])
            assert {note.pitch % 12 for note in filled.notes} <= {3, 5, 7, 8, 10, 0, 2}
            if last == 3:
                assert filled.notes[-1].pitch % 12 == 3


def test_a_note_before_a_gap_is_held_only_where_it_was():
    into_bar_2, into_bar_3 = gaps.within(TUNE, 2, 2).allowed, gaps.within(TUNE, 3, 3).allowed
    assert not into_bar_2[32, MAGENTA.hold] and into_bar_3[48, MAGENTA.hold]
    # and the tied note begins anew after a gap before it
    assert np.flatnonzero(into_bar_2[48]).tolist() == [68 - 3 + C_AT]


def test_notes_after_a_tune_begin_at_a_bar_line_or_with_an_upbeat(random):
    after = gaps.after(TUNE, 2)
    # the last note ends 8 steps before the bar line, the upbeat has 4: so the rest stays
    assert after.is_free.tolist() == [False] * 64 + [True] * 32
    long = TUNE.first(63)
    assert (
        gaps.after(dataclasses.replace(long, events=np.r_[EVENTS[:56], 67, [HOLD] * 5]), 1).is_free.sum()
        == 18
    )
    for _ in range(5):
        melody = after.filled(drawn(random, after.allowed), "")
        np.testing.assert_array_equal(melody.events[:64], TUNE.events)
        assert melody.notes[-1].pitch % 12 == 3 and melody.notes[: len(TUNE.notes)] == TUNE.notes


def test_silence_at_the_end_of_a_tune_may_stay():
    silent = Melody(np.r_[60, [HOLD] * 7, OFF, [HOLD] * 55], tonic=0, mode="major")
    assert gaps.after(silent, 2).is_free.argmax() == 16
    kept = gaps.after(silent, 2, silence=True)
    assert kept.is_free.argmax() == 64 and len(kept.is_free) == 96


def test_every_tune_comes_back_from_its_tokens():
    for tune in TUNES:
        given = gaps.of_bars(tune, [])
        np.testing.assert_array_equal(given.filled(given.tokens, tune.title).events, tune.events)
        assert not given.closes and (given.allowed.sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: gaps.within(TUNE, 3, 4), "the tune has bars 0 to 3, no bars 3 to 4"),
        (lambda: gaps.within(TUNE, 2, 1), "no bars 2 to 1"),
        (lambda: gaps.after(TUNE, 255), "4144 steps are more than 4096"),
        (lambda: gaps.after(Melody([OFF, HOLD]), 1), "the tune has no notes"),
        (lambda: gaps.after(Melody([40, 80], tonic=0), 1), "range too wide .*36 semitones at most"),
        (lambda: gaps.after(Melody([60]), 1), "tonic unknown"),
    ],
)
def test_what_has_no_gaps_to_fill_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
