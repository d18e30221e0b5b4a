import numpy as np
import pytest

from mammadai_jax.music.notes import HOLD, OFF, PIANO, VOICES, VOICES_HOLD, Note
from mammadai_jax.music.piece import (
    SATB,
    Piece,
    decision_order,
    decisions,
    frames,
    on_tonic,
)

ALPHABET = [HOLD] * 30 + [OFF] * 4 + list(range(33, 98))


def random_piece(rng, voices, length, **fields):
    return Piece(rng.choice(ALPHABET, (voices, length)), **fields)


def assert_same_music(one, other):
    """Equal voices and names, and equal metadata but for the source and what is said of the reading."""
    np.testing.assert_array_equal(one.voices, other.voices)
    assert one.steps_per_quarter == other.steps_per_quarter
    fields = {"source": "", "collection": "", "origin": "", "rhythm": "", "left_out": {}, "remarks": ()}
    headings = [piece.heading | fields for piece in (one, other)]
    assert headings[0] == headings[1] and one.names == other.names


def test_tokens_come_back(random):
    for voices in range(1, 9):
        for length in (1, 2, 37):
            piece = random_piece(random, voices, length)
            tokens = piece.tokens(VOICES_HOLD)
            assert tokens.shape == (length, voices) and tokens.dtype == np.int32
            again = Piece.from_tokens(tokens, VOICES_HOLD, title="A")
            np.testing.assert_array_equal(again.voices, piece.voices)
            assert again.title == "A"


def test_without_hold_tokens_say_what_sounds():
    piece = Piece([[OFF, 60, HOLD, 60], [55, HOLD, OFF, HOLD]])
    assert piece.tokens(VOICES).tolist() == [[0, 23], [28, 23], [28, 0], [28, 0]]
    assert Piece.from_tokens(piece.tokens(VOICES), VOICES).melody(0).notes == [Note(1, 3, 60)]


def test_outer_voices_are_decided_first():
    assert decision_order(4) == (0, 3, 2, 1)
    assert [decision_order(n) for n in (1, 2, 3)] == [(0,), (0, 1), (0, 2, 1)]
    assert all(sorted(decision_order(n)) == list(range(n)) for n in range(1, 9))
    for voices in (0, 9):
        with pytest.raises(ValueError, match="1 to 8 voices"):
            decision_order(voices)


def test_decisions_are_frames_in_an_order(random):
    tokens = random_piece(random, 4, 5).tokens(VOICES)
    decided = decisions(tokens, decision_order(4))
    assert [decided[n] for n in range(20)] == [tokens[n // 4, (0, 3, 2, 1)[n % 4]] for n in range(20)]
    np.testing.assert_array_equal(frames(decided, decision_order(4)), tokens)


def test_a_voice_is_a_melody_with_the_heading_of_the_piece():
    piece = Piece([[OFF] * 12 + [60] * 4, [OFF] * 16], title="Air", tonic=2, mode="minor", pickup=4)
    melody = piece.melody(0)
    assert melody.heading == piece.heading and melody.notes == [Note(n, 1, 60) for n in range(12, 16)]
    assert piece.fill == 12 and Piece(np.zeros((2, 32)), pickup=4).fill == 0
    assert piece.span == slice(12, 16) and Piece([[OFF] * 4]).span == slice(0, 0)
    assert piece.first(13).notes == melody.first(13).notes == [Note(12, 1, 60)]
    assert piece.notes == melody.notes and piece.pitches.tolist() == [60] * 4 and len(piece) == 16


def test_names_are_those_of_a_choir_or_numbers():
    assert Piece(np.zeros((4, 1))).names == SATB
    assert Piece(np.zeros((2, 1))).names == ("Voice 1", "Voice 2")
    with pytest.raises(ValueError, match="2 voices should have as many names, got 1"):
        Piece(np.zeros((2, 1)), ("A",))


def test_transposition_moves_tonic_and_pitches(random):
    piece = random_piece(random, 3, 20, tonic=11)
    higher = piece.transpose(2)
    assert higher.tonic == 1 and (higher.pitches - piece.pitches == 2).all()
    np.testing.assert_array_equal(higher.transpose(-2).voices, piece.voices)
    for semitones in (100, -100):
        with pytest.raises(ValueError, match="leaves MIDI's pitches"):
            piece.transpose(semitones)


def test_a_finer_grid_is_exact_and_a_coarser_one_is_sampled(random):
    piece = random_piece(random, 4, 61, pickup=4)
    finer = piece.on_grid(12)
    assert (finer.steps_per_bar, finer.pickup, finer.steps_per_quarter) == (48, 12, 12)
    assert_same_music(finer.on_grid(4), piece)
    quarters = piece.on_grid(1)
    assert (quarters.steps_per_bar, quarters.pickup, len(quarters)) == (4, 1, 16)
    np.testing.assert_array_equal(quarters.tokens(VOICES), piece.tokens(VOICES)[::4])
    # a note that lasts is held, one that began since the last sample begins
    events = Piece([[60] + [HOLD] * 7 + [60, 62] + [HOLD] * 6]).on_grid(1).voices[0]
    assert events.tolist() == [60, HOLD, 60, 62]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Piece([60, 62]), r"1 to 8 voices of one length, got shape \(2,\)"),
        (lambda: Piece(np.zeros((9, 4))), "1 to 8 voices"),
        (lambda: Piece(np.zeros((0, 4))), "1 to 8 voices"),
        (lambda: Piece([[128]]), "MIDI pitches"),
        (lambda: Piece([[60]]).tokens(PIANO).item() and Piece([[20]]).tokens(VOICES), "transpose it first"),
        (lambda: Piece.from_tokens(np.zeros(3), VOICES), r"shape \(steps, voices\), got \(3,\)"),
        (lambda: Piece.from_tokens(np.full((2, 2), 99), VOICES), "should be 0..65"),
        (lambda: Piece([[60]]).on_grid(3), "cannot become 3 a quarter"),
        (lambda: Piece([[60]]).on_grid(0), "cannot become 0 a quarter"),
        (lambda: Piece([[60]], steps_per_bar=6).on_grid(1), "6 a bar, cannot become 1 a quarter"),
    ],
)
def test_a_fault_is_one_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_pieces_are_moved_to_a_tonic_by_the_nearer_way_that_fits():
    for bass, moved in ((62, 60), (53, 48), (54, 60), (40, 36), (33, 36)):
        found = on_tonic(Piece([[72, 72], [bass - 1, bass]]), 0, VOICES)
        assert found.voices[1, 1] == moved and found.voices[0, 0] - 72 == moved - bass
    low = on_tonic(Piece([[72, 72], [33, 41]]), 0, VOICES)  # a fourth lower it would leave the alphabet
    assert low.voices[1, 1] == 48
    with pytest.raises(ValueError, match="lowest voice has no note"):
        on_tonic(Piece([[72, 72], [OFF, OFF]]), 0, VOICES)
