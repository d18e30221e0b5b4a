import dataclasses

import numpy as np
import pytest

from mammadai_jax.music.arrangements import KEYS, arrange, fill, in_key
from mammadai_jax.music.notes import HOLD, OFF, PIANO, Melody
from mammadai_jax.music.progressions import clashes, moved
from mammadai_jax.music.tunes import ACCOMPANIMENTS, TUNES

ARRANGED = arrange()
MAJOR = {0, 2, 4, 5, 7, 9, 11}


def test_ten_tunes_in_three_keys():
    assert KEYS == (0, 7, 2)
    assert len(ARRANGED) == 30
    for index, arranged in enumerate(ARRANGED):
        key_index, tune = divmod(index, 10)
        assert arranged.melody.title == TUNES[tune].title
        assert arranged.accompaniment == ACCOMPANIMENTS[tune % 5].name
        assert arranged.drums == dict(ACCOMPANIMENTS[tune % 5].drums)
        assert arranged.piece == 5 * key_index + tune % 5
        assert len(arranged.melody) == len(arranged.line) == 256
        assert PIANO.covers(arranged.melody.events)
        assert PIANO.covers(arranged.line)
    assert {a.piece for a in ARRANGED} == set(range(15))


def test_keys_of_melodies():
    modes = set()
    for index, arranged in enumerate(ARRANGED):
        key, melody = KEYS[index // 10], arranged.melody
        modes.add(melody.mode)
        assert melody.mode in ("major", "minor")
        # a minor tune in the relative minor, a minor third below: A, E and B minor
        assert melody.tonic == (key if melody.mode == "major" else (key - 3) % 12)
        original = TUNES[index % 10]
        shift = int(melody.pitches[0]) - int(original.pitches[0])
        assert abs(shift) <= 6
        expected = original.transpose(shift).events
        np.testing.assert_array_equal(melody.events[: len(expected)], expected[:256])
    assert modes == {"major", "minor"}


def test_melodies_and_lines_share_a_scale():
    for index, arranged in enumerate(ARRANGED):
        scale = {(step + KEYS[index // 10]) % 12 for step in MAJOR}
        line = arranged.line[arranged.line >= 0]
        assert set((line % 12).tolist()) <= scale
        inside = np.mean([int(pitch) % 12 in scale for pitch in arranged.melody.pitches])
        assert inside > 0.8  # but for leading notes and the minor's raised ones


def test_lines_are_the_accompaniments_moved():
    for index, arranged in enumerate(ARRANGED):
        bar = ACCOMPANIMENTS[index % 5].events
        move = {0: 0, 7: -5, 2: 2}[KEYS[index // 10]]
        expected = np.tile([event + move if event >= 0 else event for event in bar], 16)
        np.testing.assert_array_equal(arranged.line, expected)
        assert arranged.line.dtype == np.int16


def test_with_progressions_each_tune_has_an_accompaniment_of_its_own_on_chords_that_suit_it():
    changing = arrange(progressions=True)
    assert [a.piece for a in changing] == list(range(30))
    for index, (one, still) in enumerate(zip(changing, ARRANGED, strict=True)):
        np.testing.assert_array_equal(one.melody.events, still.melody.events)
        assert (one.accompaniment, one.drums) == (still.accompaniment, still.drums) and not still.chords
        bar, chords = ACCOMPANIMENTS[index % 5].events, dict(one.chords)
        for step in range(0, 256, 16):
            chord = chords[max(start for start in chords if start <= step)]
            np.testing.assert_array_equal(one.line[step : step + 16], moved(bar, chord))
        assert len(chords) > 4 and PIANO.covers(one.line) and one.line.dtype == np.int16
        roots = [(chord.root - KEYS[index // 10]) % 12 for chord in chords.values()]
        assert roots == [chord.root for _, chord in changing[index % 10].chords]  # alike in every key
        assert one.backing == f"{still.backing}, chords of {one.melody.title}"
    total = lambda arranged: sum(clashes(a.melody.events, a.line) for a in arranged)
    assert total(changing) < total(ARRANGED) / 2


def test_a_tune_goes_the_nearer_way():
    tune = Melody(np.array([60, HOLD, OFF, 64]), tonic=0, mode="major")
    moves = [int(in_key(tune, key).events[0]) - 60 for key in range(12)]
    assert moves == [0, 1, 2, 3, 4, 5, -6, -5, -4, -3, -2, -1]
    minor = dataclasses.replace(tune, mode="minor")
    assert in_key(minor, 0).tonic == 9
    assert in_key(minor, 0).events[0] == 57
    np.testing.assert_array_equal(in_key(tune, 7).events, [55, HOLD, OFF, 59])


def test_a_tune_without_a_tonic_has_no_key():
    with pytest.raises(ValueError, match="Nameless has no known tonic"):
        in_key(Melody(np.array([60]), title="Nameless"), 0)


def test_fill_by_hand():
    events = np.array([60, HOLD, 62], np.int16)
    np.testing.assert_array_equal(fill(events, 7), [60, HOLD, 62, 60, HOLD, 62, 60])
    np.testing.assert_array_equal(fill(events, 2), [60, HOLD])
    np.testing.assert_array_equal(fill(np.array([], np.int16), 2), [HOLD, HOLD])


def test_other_bars_and_keys():
    arranged = arrange(TUNES[:1], ACCOMPANIMENTS[:2], keys=(5,), bars=2)
    assert len(arranged) == 1
    assert len(arranged[0].melody) == len(arranged[0].line) == 32
    assert arranged[0].melody.tonic in (5, 2)
