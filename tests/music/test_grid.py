import numpy as np
import pytest

from mammadai_jax.music.grid import CHORD, CLOSE, INSTANT, layers, quantised
from mammadai_jax.music.smf import InvalidMidi, TickNote

STEP = 120


def kept(*notes):
    """What stays of notes (start, end, pitch) in ticks, 480 a quarter."""
    melody, left_out = quantised([TickNote(*note) for note in notes], 480, 4)
    return [tuple(note) for note in melody], dict(left_out)


def test_times_are_rounded_to_steps_and_every_note_has_one():
    assert kept((0, 100, 60), (130, 230, 62), (355, 361, 64)) == ([(0, 1, 60), (1, 1, 62), (3, 1, 64)], {})


@pytest.mark.parametrize(
    ("grace", "note"),
    [
        ((920, 960, 74), (960, 1440, 72)),  # before the beat
        ((960, 1000, 74), (1000, 1440, 72)),  # on the beat
        ((960, 961, 74), (960, 1440, 72)),  # at once
        ((960, 960, 74), (960, 1440, 72)),  # without length
        ((910, 1005, 74), (1000, 1440, 72)),  # nearly a step long, and released late
        ((1000, 1010, 74), (960, 1440, 72)),  # after it
    ],
)
def test_a_grace_note_does_not_take_the_place_of_a_note(grace, note):
    for pitch in (grace[2], 70):
        melody, left_out = kept((*grace[:2], pitch), note)
        assert melody == [(8, 4, 72)] and sum(left_out.values()) == 1


def test_a_chord_of_grace_notes_gives_way_too():
    assert kept((920, 950, 76), (920, 950, 79), (960, 1440, 72))[0] == [(8, 4, 72)]


@pytest.mark.parametrize("late", [0, 10, 40])
def test_the_highest_of_a_chord_stays_whatever_its_length(late):
    assert kept((0, 1920, 48), (late, 120, 72), (late, 480, 64)) == ([(0, 1, 72)], {CHORD: 2})
    assert kept((0, 480, 72), (late, 1920, 48)) == ([(0, 4, 72)], {CHORD: 1})


def test_of_triplets_that_share_a_step_one_stays_and_the_others_are_counted():
    triplets = [(at, at + 80, 60 + at // 80) for at in range(0, 480, 80)]
    melody, left_out = kept(*triplets)
    assert [onset for onset, *_ in melody] == [0, 1, 2, 3]
    assert left_out == {CLOSE: 2}


def test_a_note_without_length_counts_only_in_silence():
    assert kept((0, 480, 60), (240, 240, 72)) == ([(0, 4, 60)], {INSTANT: 1})
    assert kept((0, 480, 60), (480, 480, 72)) == ([(0, 4, 60), (4, 1, 72)], {})
    assert kept((0, 0, 60)) == ([(0, 1, 60)], {})


def test_no_note_is_lost_without_being_counted():
    rng = np.random.default_rng(0)
    for _ in range(100):
        starts = rng.integers(0, 2000, 50)
        notes = [TickNote(int(s), int(s + rng.integers(0, 700)), int(rng.integers(40, 90))) for s in starts]
        melody, left_out = quantised(notes, 480, 4)
        assert len(melody) + sum(left_out.values()) == 50
        onsets = [note.onset for note in melody]
        assert onsets == sorted(set(onsets)) and min(note.duration for note in melody) >= 1


def test_many_notes_at_once_take_no_time():
    melody, left_out = quantised([TickNote(0, n, n % 128) for n in range(100_000)], 480, 4)
    assert len(melody) + sum(left_out.values()) == 100_000


def test_a_melody_that_never_ends_is_refused():
    with pytest.raises(InvalidMidi, match=r"longer than 65536 steps \(16384 quarter"):
        quantised([TickNote(0, 1 << 40, 60)], 480, 4)
    assert quantised([], 480, 4)[0] == []


def divided(*notes, most=8):
    """The pitches of the voices that chords (start, end, pitch) are divided into."""
    voices = layers([TickNote(*note) for note in notes], most)
    return voices and [[note.pitch for note in voice] for voice in voices]


def test_chords_become_voices_that_do_not_cross():
    chords = [(0, 4, 60), (0, 4, 64), (0, 4, 67), (4, 8, 52), (4, 8, 55), (4, 8, 60)]
    assert divided(*chords) == [[67, 60], [64, 55], [60, 52]]
    assert divided(*chords, most=2) is None
    assert divided() == [[]]


def test_a_lone_note_goes_to_the_nearest_voice_that_is_free():
    assert divided((0, 4, 72), (0, 4, 48), (4, 8, 50), (8, 12, 70)) == [[72, 70], [48, 50]]
    # the lower voice still sounds
    assert divided((0, 4, 72), (0, 8, 48), (4, 8, 50)) == [[72, 50], [48]]


def test_notes_that_overlap_by_less_than_half_are_one_voice():
    assert divided((0, 5, 60), (4, 9, 62), (8, 12, 64)) == [[60, 62, 64]]
