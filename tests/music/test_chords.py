import math

import numpy as np

from mammadai_jax.music.notes import HOLD, OFF, VOICES, VOICES_HOLD
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.statistics import chord_entropy, copied_frames
from mammadai_jax.music.statistics.chords import chords, sounding


def piece(*voices, alphabet=VOICES_HOLD):
    return Piece(np.array(voices)).tokens(alphabet)


def test_what_sounds_is_the_same_with_and_without_holds():
    voices = [72, HOLD, HOLD, OFF, 60], [48, 50, HOLD, HOLD, 48]
    expected = [[72, 48], [72, 50], [72, 50], [-1, 50], [60, 48]]
    for alphabet in (VOICES, VOICES_HOLD):
        assert sounding(piece(*voices, alphabet=alphabet)).tolist() == expected


def test_a_chord_is_its_pitch_classes_and_the_lowest():
    one, octave_higher, inverted, silent, other = chords(
        piece([76, 88, 72, 72, 75], [60, 72, 76, 64, 60], [48, 48, 64, OFF, 48])[[0, 1, 2, 4, 4]]
    )
    assert one == octave_higher and len({one, inverted, other}) == 3 and silent == other
    assert len(chords(piece([72, 72], [OFF, 48]))) == 1  # without a bass there is none


def test_entropy_of_chords_by_hand():
    once = piece([60] * 4, [48, 49, 50, 51])
    assert chord_entropy([once]) == np.float64(math.log(4))
    assert math.isclose(chord_entropy([once, once[:1], once[:1]]), 0.5 * math.log(2) + 0.5 * math.log(6))
    assert chord_entropy([piece([60, 60], [OFF, OFF])]) == 0


def test_the_longest_run_of_frames_in_any_key(random):
    corpus = [random.integers(20, 40, (12, 3)) for _ in range(4)]
    new = random.integers(41, 60, (10, 3))
    copied = new.copy()
    copied[2:7] = corpus[2][5:10] + 3
    changed = copied.copy()
    changed[4, 1] += 1
    found = copied_frames([new, copied, changed, corpus[0]], corpus)
    assert found.tolist() == [0, 5, 2, 12]


def test_silence_at_the_beginning_is_not_copied():
    silent = np.zeros((6, 2), int)
    assert copied_frames([np.concatenate([silent, [[30, 20]]])], [np.concatenate([silent, [[33, 21]]])]) == [
        0
    ]
