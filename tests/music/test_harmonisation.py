import numpy as np
import pytest

from mammadai_jax.music.harmonisation import into_range, setting
from mammadai_jax.music.harmony.constraints import FREE
from mammadai_jax.music.notes import HOLD, OFF, VOICES, VOICES_HOLD, Melody, events_from_notes
from mammadai_jax.music.piece import SATB


def melody(*notes, length=None, **fields):
    return Melody(events_from_notes(notes, length), **{"tonic": 0, "mode": "major", **fields})


TUNE = melody((0, 4, 60), (4, 2, 62), (6, 2, 64), (8, 4, 64), (14, 2, 62), (16, 12, 60), length=32)


@pytest.mark.parametrize(
    ("pitches", "moved"),
    [
        ((60, 72), 0),
        ((48, 60), 12),
        ((36, 55), 24),
        ((84, 90), -12),
        ((55, 72), 5),
        ((72, 85), -12),
        ((64, 83), -2),
    ],
)
def test_a_melody_is_moved_by_octaves_and_only_then_by_semitones(pitches, moved):
    assert into_range(melody(*((4 * n, 4, p) for n, p in enumerate(pitches))), 60, 81) == moved


def test_of_a_melody_wider_than_the_range_few_notes_are_left_outside():
    wide = melody(*((4 * n, 4, p) for n, p in enumerate((58, 62, 64, 79, 81))))
    placed = setting(wide, 4, VOICES, 1)
    assert placed.moved == 0 and "1 of its notes outside that voice's range" in placed.in_words()


def test_frames_of_quarters_have_what_sounds_at_their_beginning_and_end_with_the_last_note():
    tokens = setting(TUNE, 4, VOICES_HOLD, 1).given.tokens
    pitch = VOICES_HOLD.encode(np.array([60, 62, 64], np.int16))
    # the rest is part of the note before; the last note begins with the fifth frame
    assert tokens[:, 0].tolist() == [pitch[0], pitch[1], pitch[2], VOICES_HOLD.hold, pitch[0]]
    assert (tokens[:, 1:] == FREE).all()


def test_a_network_of_sixteenths_reads_every_step():
    given = setting(TUNE, 4, VOICES, 4).given
    assert len(given.tokens) == 17 and np.flatnonzero(given.on_beat).tolist() == [0, 4, 8, 12, 16]


def test_tunes_are_read_on_c_and_ranges_move_with_them():
    in_a = setting(TUNE.transpose(9), 4, VOICES, 1)
    assert (in_a.moved, in_a.shift) == (0, 3)
    np.testing.assert_array_equal(in_a.given.ranges[0], [63, 84])
    assert in_a.given.tokens[0, 0] % 12 == setting(TUNE, 4, VOICES, 1).given.tokens[0, 0] % 12


def test_before_an_upbeat_all_are_silent_and_compound_beats_are_frames():
    jig = melody(
        (10, 2, 67),
        (12, 6, 72),
        (18, 4, 71),
        (22, 2, 69),
        (24, 12, 72),
        steps_per_bar=12,
        meter="6/8",
        pickup=2,
    )
    placed = setting(jig, 4, VOICES, 1)
    assert placed.frame == 6
    tokens = placed.given.tokens
    assert (tokens[:2] == VOICES.silence).all() and (tokens[2:, 1:] == FREE).all() and len(tokens) == 5


def test_the_tune_stays_and_the_other_voices_hold_to_its_end():
    placed = setting(TUNE.transpose(2), 4, VOICES_HOLD, 1)
    tokens = placed.given.tokens.copy()
    chords = VOICES_HOLD.encode(np.array([64, 55, 48], np.int16))
    tokens[:, 1:] = VOICES_HOLD.hold
    tokens[0, 1:] = tokens[4, 1:] = chords
    piece = placed.piece(tokens)
    np.testing.assert_array_equal(piece.voices[0], TUNE.transpose(2).events)
    assert piece.names == SATB and piece.heading == placed.melody.heading
    for row, pitch in zip(piece.voices[1:], (66, 57, 50), strict=True):
        assert [(n.onset, n.duration, n.pitch) for n in Melody(row).notes] == [
            (0, 16, pitch),
            (16, 12, pitch),
        ]
        assert row[28] == OFF and (row[29:] == HOLD).all()


def test_a_key_is_estimated_and_silence_refused():
    assert setting(melody(*TUNE.notes, tonic=-1, mode=""), 4, VOICES, 1).melody.tonic == 0
    with pytest.raises(ValueError, match="Rests has no notes to harmonise"):
        setting(Melody(np.full(16, OFF), title="Rests"), 4, VOICES, 1)
