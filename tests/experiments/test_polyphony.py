import argparse
import math

import numpy as np
import pytest

from experiments import polyphony
from experiments import polyphony_likelihood as likelihood
from experiments import polyphony_tuning as tuning
from mammadai_jax.music.notes import HOLD, OFF, VOICES, VOICES_HOLD
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.sample import duets
from mammadai_jax.networks.biaxial import ONSET, SILENT, SUSTAIN

C, E = 60 - VOICES.lowest + 1, 64 - VOICES.lowest + 1


def test_a_pitch_begins_where_it_did_not_sound():
    rows = likelihood.states(np.array([[C, 0], [C, E], [E, C], [0, E]]))
    assert rows.shape == (4, VOICES.pitches)
    np.testing.assert_array_equal(rows[:, C - 1], [ONSET, SUSTAIN, SUSTAIN, SILENT])
    np.testing.assert_array_equal(rows[:, E - 1], [SILENT, ONSET, SUSTAIN, SUSTAIN])
    assert rows.sum() == 1 * 4 + 2 * 2 and rows.dtype == np.int32


def test_a_frame_as_a_set_has_no_voices():
    frames = np.array([[3, 5, 5, 0], [9, 2, 4, 6], [0, 0, 0, 0]])
    found = likelihood.by_height(frames)
    np.testing.assert_array_equal(found, [[5, 3, 0, 0], [9, 6, 4, 2], [0, 0, 0, 0]])
    assert found.dtype == np.int32


def test_a_piece_is_spelled_as_a_task_has_it():
    """In D, an eighth before the bar; the bass repeats its note, and two voices meet."""
    events = np.full((2, 12), HOLD)
    events[0, [0, 2, 4, 8]] = OFF, 62, 66, 69
    events[1, [0, 2, 4, 8]] = OFF, 50, 50, 69
    piece = Piece(events, tonic=2, pickup=2, steps_per_bar=4)
    number = lambda pitch: pitch - VOICES.lowest + 1
    np.testing.assert_array_equal(
        likelihood.spelled(piece, "B"), [[number(66), number(50)], [number(69), number(69)]]
    )
    np.testing.assert_array_equal(likelihood.spelled(piece, "A"), [[number(76), number(60)], [number(79), 0]])
    sounding, held = likelihood.spelled(piece, "C"), likelihood.spelled(piece, "C-holds")
    np.testing.assert_array_equal(sounding[:, 1], number(np.array([*[50] * 6, *[69] * 4])))
    np.testing.assert_array_equal(held[:4, 1], [number(50), VOICES_HOLD.hold, number(50), VOICES_HOLD.hold])


def test_figures_are_means_over_frames_and_over_pieces():
    scores = -np.array([[1, 2], [3, 4], [5, 6.0]])
    found = likelihood.figures(scores, [1, 2])
    assert found == {"frame": 7.0, "piece": (3 + 9) / 2, "decisions": [3.0, 4.0]}


def test_models_are_averaged_as_distributions(random):
    shares = random.dirichlet(np.ones(4), (3, 5, 2))  # of three models
    chosen = np.log(shares[..., 1])
    np.testing.assert_allclose(likelihood.together(list(chosen)), np.log(shares.mean(axis=0)[..., 1]))


def test_pieces_are_read_as_they_were_written(tmp_path, random):
    sides = {name: [random.integers(0, 9, (n, 4)) for n in (3, 5)] for name in likelihood.SPLITS}
    rows = {name: np.concatenate(own) for name, own in sides.items()}
    lengths = {f"{name}_lengths": np.array([3, 5]) for name in sides}
    np.savez(tmp_path / "B.npz", **rows, **lengths)
    found = likelihood.pieces("B", tmp_path)
    assert likelihood.digest(found) == likelihood.digest(sides)
    assert likelihood.digest(found | {"test": found["valid"]}) != likelihood.digest(found)
    assert found["train"][1].dtype == np.int32
    np.savez(tmp_path / "C.npz", train=rows["train"])
    with pytest.raises(ValueError, match="no pieces for train, valid, test"):
        likelihood.pieces("C", tmp_path)


def test_the_table_has_published_rows_seeds_and_their_mean(tmp_path):
    scores = {"A": {seed: np.full((4, 4), -1.0 - seed) for seed in (0, 1)}}
    for seed in (0, 1):
        out = tmp_path / "likelihood" / "A" / f"seed-{seed}"
        out.mkdir(parents=True)
        (out / "timing.jsonl").write_text('{"seconds": 2.0}\n{"seconds": 3.5}\n')
    page = likelihood.table(scores, {"A": [1, 3]}, tmp_path)
    half = 2 * math.sqrt(2) * 12.706 / math.sqrt(2)
    assert f"| A | factored LSTM | 6.000 ± {half:.3f} |" in page and "| 1.50 1.50 1.50 1.50 | 2 | 6 |" in page
    mean = -math.log((math.exp(-1) + math.exp(-2)) / 2)
    assert f"mean of 2 seeds' predictions | {4 * mean:.3f} |" in page
    assert "| A | RNN-NADE (the same) | 5.56 |" in page


@pytest.mark.nightly
def test_a_small_run_goes_on_where_it_ended(tmp_path, capsys):
    random = np.random.default_rng(0)
    rows = {name: random.integers(20, 40, (70, 4)) for name in likelihood.SPLITS}
    lengths = {f"{name}_lengths": np.array([30, 40]) for name in rows}
    np.savez(tmp_path / "A.npz", **rows, **lengths)
    args = argparse.Namespace(
        out=tmp_path / "out", pieces=tmp_path, models=["A", "A-biaxial"], seeds=[0], updates=2
    )
    likelihood.run(args)
    table = (tmp_path / "out" / "table.md").read_text()
    assert "bi-axial LSTM" in table
    first = capsys.readouterr().out
    likelihood.run(args)
    assert capsys.readouterr().out == first
    assert (tmp_path / "out" / "table.md").read_text() == table


def figures(**changes):
    """What a model within all bounds has."""
    own = tuning.bach.events(64)
    rest = {
        "final_tonic": 0.97,
        "log_prior": -4.5,
        "distinct": 1.0,
        "chord_entropy": 4.0,
        "copied_most": 20.0,
    }
    return {**own, **rest, **changes}


OWN = {**tuning.bach.events(64), "chord_entropy": tuning.bach.CHORD_ENTROPY, "copied_most": 22.0}


def test_bounds_that_a_tuned_model_misses_are_named():
    least = tuning.bounds(OWN, {"log_prior": -4.5})
    assert tuning.missed(figures(), least) == []
    assert tuning.missed(figures(log_prior=-4.94, crossing=OWN["crossing"] + 0.1), least) == []
    assert tuning.missed(figures(log_prior=-4.96), least) == ["log_prior"]
    assert tuning.missed(figures(copied_most=23.0), least) == ["copied_most"]
    worse = figures(crossing=OWN["crossing"] - 0.1, final_tonic=0.94, distinct=0.98, chord_entropy=3.7)
    assert tuning.missed(worse, least) == ["crossing", "final_tonic", "distinct", "chord_entropy"]


def test_the_tuning_s_table_has_bach_the_models_and_the_bounds_they_miss():
    seeds = {0: figures(curve=[]), 1: figures(crossing=-2.0, curve=[])}
    page = tuning.table({"prior": {0: figures(curve=[])}, "Psi": seeds}, OWN)
    assert page.startswith("|  | Bach | prior | Psi |") and "curve" not in page
    assert f"| crossing | {OWN['crossing']:.3f} | {OWN['crossing']:.3f} | -1.427 ± " in page
    assert "* Psi: 1 of 2 seeds within all bounds; missed: ['crossing']" in page


def test_models_that_a_part_lacks_are_named():
    args = argparse.Namespace(parts=["tuning"], models=["Q", "Psi, no KL"])
    polyphony.check(args)
    args.models = ["C"]
    with pytest.raises(ValueError, match="--parts tuning has no model 'C'; there are prior, Q, Psi"):
        polyphony.check(args)


@pytest.mark.nightly
def test_a_small_tuning_goes_on_where_it_ended(tmp_path, capsys, monkeypatch):
    rows = tuning.chorales.tokens(tuning.chorales.Settings(), duets())
    by_part = lambda prior: {
        part: [row[:, : prior.learner.voices] for row in rows] for part in ("train", "valid")
    }
    monkeypatch.setattr(tuning, "rows_of", by_part)
    monkeypatch.setattr(tuning, "BATCH", 4)
    models = ["prior", "Psi", "projection, Bach's rates", "one note a step, no KL"]
    args = argparse.Namespace(
        out=tmp_path, models=models, seeds=[0], preset="smoke", compositions=4, updates=2
    )
    tuning.run(args)
    table = (tmp_path / "tuning" / "table.md").read_text()
    assert all(model in table for model in models) and (tmp_path / "tuning" / "curves.svg").exists()
    first = capsys.readouterr().out
    tuning.run(args)
    assert capsys.readouterr().out == first
    assert (tmp_path / "tuning" / "table.md").read_text() == table
