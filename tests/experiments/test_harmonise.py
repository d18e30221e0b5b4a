import numpy as np
import pytest

from experiments import harmonise
from mammadai_jax.music.harmonisation import setting
from mammadai_jax.music.notes import HOLD, VOICES_HOLD
from mammadai_jax.music.piece import Piece


def piece(*rows):
    """A piece of quarter notes in C, of chords from the highest voice down."""
    voices = np.full((len(rows[0]), 4 * len(rows)), HOLD, np.int16)
    voices[:, ::4] = np.array(rows).T
    return Piece(voices, tonic=0, mode="major")


BACH = piece([72, 67, 64, 48], [71, 67, 62, 43], [72, 67, 64, 48])
FIFTHS = piece([72, 67, 60, 48], [74, 69, 60, 50], [72, 67, 64, 36])
GROUP = harmonise.Group("test", [setting(BACH.melody(0), 4, VOICES_HOLD, 1)], [BACH])


def test_faults_are_those_from_beat_to_beat():
    counts = harmonise.faults([BACH, FIFTHS], GROUP.settings * 2)
    assert counts["parallel_fifths"].tolist() == [0, 2]  # alto and bass, up and down
    assert counts["parallel_octaves"].tolist() == [0, 2]  # soprano and bass
    assert counts["cadence"].tolist() == [1, 0] and counts["final_tonic"].tolist() == [1, 1]


def test_pieces_are_compared_on_beats():
    assert harmonise.alike(BACH, BACH) == (1, 1)
    bass, chord = harmonise.alike(FIFTHS, BACH)
    assert (
        bass == pytest.approx(2 / 3) and chord == 1 / 2
    )  # an open fifth is no triad; the middle has no chord


def test_a_piece_is_read_as_its_tune_is():
    tune = GROUP.settings[0]
    tokens = harmonise.as_decided(BACH, tune)
    np.testing.assert_array_equal(tokens[:, 0], tune.given.tokens[:, 0])
    np.testing.assert_array_equal(tune.piece(tokens).voices, BACH.voices)


def test_the_table_has_a_column_for_each_way():
    figures = harmonise.measured(GROUP, GROUP.pieces)
    table = harmonise.table({"Bach": figures, "other": {"cadence": (0.5, 0.25)}})
    assert "|  | Bach | other |" in table and "| cadence | 1.00 | 0.50 ± 0.25 |" in table
    assert "| soprano unchanged, % | 100.00 | - |" in table and "| bass as Bach's, % | 100.00 | - |" in table


def test_several_runs_have_intervals_over_the_runs():
    runs = [{"a": {"cadence": (mean, 9.0)}, "b": {"cadence": (mean, 9.0)}} for mean in (0.8, 0.9, 1.0)]
    mean, half = harmonise.over_runs(runs)["b"]["cadence"]
    assert mean == pytest.approx(0.9) and half == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert harmonise.over_runs(runs[:1]) == runs[0]
