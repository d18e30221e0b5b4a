import dataclasses

import numpy as np
import pytest

from mammadai_jax.music.notes import (
    ALPHABETS,
    HOLD,
    OFF,
    PIANO,
    PIANO_HOLD,
    RL_TUNER,
    Melody,
    Note,
    canonical,
    events_from_notes,
    notes_from_events,
)

ALPHABET = pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)


def random_events(rng, low=0, high=127):
    """Any events at all, of any length, often silly (HOLD first, OFF twice)."""
    return rng.choice([HOLD] * 60 + [OFF] * 30 + list(range(low, high + 1)), rng.integers(0, 40))


def sounding(events):
    """What sounds in each step, the slow way: a pitch, or OFF."""
    now, heard = OFF, []
    for event in events:
        now = now if event == HOLD else event
        heard.append(int(now))
    return heard


def test_canonical_changes_the_spelling_but_not_the_sound():
    rng = np.random.default_rng(0)
    for _ in range(300):
        events = random_events(rng)
        spelled = canonical(events)
        assert sounding(spelled) == sounding(events)
        np.testing.assert_array_equal(spelled >= 0, events >= 0)
        np.testing.assert_array_equal(canonical(spelled), spelled)
        assert spelled.dtype == np.int16 and (spelled[:1] != HOLD).all()


def test_one_sound_has_one_spelling():
    for events in ([OFF, OFF, 60, OFF, OFF], [HOLD, HOLD, 60, OFF, HOLD], [HOLD, OFF, 60, OFF, OFF]):
        assert canonical(np.array(events)).tolist() == [OFF, HOLD, 60, OFF, HOLD]
    assert canonical(np.array([60, 60, HOLD])).tolist() == [60, 60, HOLD]


def test_canonical_leaves_its_argument_alone():
    events = np.array([HOLD, OFF], dtype=np.int16)
    canonical(events)
    assert events.tolist() == [HOLD, OFF]


def test_events_to_notes_and_back():
    rng = np.random.default_rng(1)
    for _ in range(300):
        events = canonical(random_events(rng))
        notes = notes_from_events(events)
        np.testing.assert_array_equal(events_from_notes(notes, len(events)), events)
        assert all(
            sounding(events)[t] == n.pitch for n in notes for t in range(n.onset, n.onset + n.duration)
        )
        assert sum(n.duration for n in notes) == sum(pitch >= 0 for pitch in sounding(events))


def test_known_notes():
    events = events_from_notes([(2, 2, 60), (4, 1, 60), (6, 2, 64), (7, 1, 65)])
    assert events.tolist() == [OFF, HOLD, 60, HOLD, 60, OFF, 64, 65]
    assert notes_from_events(events) == [(2, 2, 60), (4, 1, 60), (6, 1, 64), (7, 1, 65)]


def test_the_highest_of_a_chord_stays_however_long_the_others():
    assert notes_from_events(events_from_notes([(0, 1, 72), (0, 4, 60), (0, 2, 64)])) == [Note(0, 1, 72)]


def test_a_given_length_cuts_and_fills():
    notes = [(0, 4, 60), (6, 4, 62)]
    assert events_from_notes(notes, 3).tolist() == [60, HOLD, HOLD]
    assert events_from_notes(notes, 12).tolist() == [
        60,
        HOLD,
        HOLD,
        HOLD,
        OFF,
        HOLD,
        62,
        *[HOLD] * 3,
        OFF,
        HOLD,
    ]
    assert events_from_notes([], 2).tolist() == [OFF, HOLD]
    assert events_from_notes([]).tolist() == [] == notes_from_events(np.array([], int))


@pytest.mark.parametrize("note", [(-1, 2, 60), (0, 0, 60), (3, -1, 60)])
def test_impossible_notes_are_refused(note):
    with pytest.raises(ValueError, match="step"):
        events_from_notes([(0, 1, 50), note])


@ALPHABET
def test_every_token_but_no_other_is_decoded(alphabet):
    for token in range(alphabet.size):
        events = alphabet.decode(np.array([alphabet.first, token]))
        assert alphabet.encode(events).tolist() == [alphabet.first, token]
    for tokens in ([-1], [alphabet.size]):
        with pytest.raises(ValueError, match=alphabet.name):
            alphabet.decode(np.array(tokens))
    with pytest.raises(ValueError, match="one row"):
        alphabet.decode(np.zeros((2, 2), int))


@ALPHABET
def test_tokens_of_random_events_say_the_same_sound(alphabet):
    rng = np.random.default_rng(2)
    for _ in range(300):
        events = random_events(rng, alphabet.lowest, alphabet.highest)
        tokens = alphabet.encode(events)
        assert tokens.dtype == np.int32
        assert sounding(alphabet.decode(tokens)) == sounding(events)
        if alphabet.hold is not None:
            np.testing.assert_array_equal(alphabet.decode(tokens), canonical(events))


@ALPHABET
def test_any_tokens_are_a_melody_and_spelling_it_again_changes_nothing(alphabet):
    rng = np.random.default_rng(3)
    for _ in range(300):
        events = alphabet.decode(rng.integers(alphabet.size, size=rng.integers(0, 40)))
        np.testing.assert_array_equal(events, canonical(events))
        np.testing.assert_array_equal(alphabet.decode(alphabet.encode(events)), events)


@ALPHABET
def test_pitches_out_of_range_are_named(alphabet):
    for pitch in (alphabet.lowest - 1, alphabet.highest + 1):
        assert not alphabet.covers(np.array([pitch]))
        with pytest.raises(ValueError, match=rf"{alphabet.name}.*{pitch}.*transpose"):
            alphabet.encode(np.array([pitch, HOLD]))
    assert alphabet.covers(np.array([alphabet.lowest, HOLD, alphabet.highest, OFF]))
    assert alphabet.covers(np.array([], int))


def test_known_tokens():
    events = np.array([OFF, 60, HOLD, OFF, 60, 60, HOLD])
    assert PIANO.encode(events).tolist() == [0, 40, 40, 0, 40, 40, 40]
    assert PIANO_HOLD.encode(events).tolist() == [0, 40, 89, 0, 40, 40, 89]
    assert RL_TUNER.encode(events).tolist() == [0, 14, 1, 0, 14, 14, 1]
    assert (PIANO.size, PIANO_HOLD.size, RL_TUNER.size) == (89, 90, 38)
    assert (PIANO.lowest, PIANO.highest, RL_TUNER.lowest, RL_TUNER.highest) == (21, 108, 48, 83)


def test_a_melody_knows_its_notes_and_pitches():
    melody = Melody([HOLD, 60, HOLD, OFF, OFF, 62])
    assert melody.events.tolist() == [OFF, 60, HOLD, OFF, HOLD, 62]
    assert melody.notes == [Note(1, 2, 60), Note(5, 1, 62)]
    assert melody.pitches.tolist() == [60, 62] and len(melody) == 6


@pytest.mark.parametrize("events", [[[60]], [128], [-3]])
def test_no_melody_of_other_numbers(events):
    with pytest.raises(ValueError, match="events"):
        Melody(events)


def test_transposing_moves_notes_and_tonic_and_nothing_else():
    melody = Melody([60, HOLD, OFF, 127], tonic=9, title="a", pickup=3)
    lower = melody.transpose(-5)
    assert lower.events.tolist() == [55, HOLD, OFF, 122] and lower.tonic == 4
    assert dataclasses.replace(lower, events=melody.events, tonic=9).title == "a" and lower.pickup == 3
    assert lower.transpose(5).events.tolist() == melody.events.tolist()
    assert Melody([60]).transpose(1).tonic == -1
    for semitones in (1, -61):
        with pytest.raises(ValueError):
            melody.transpose(semitones)
