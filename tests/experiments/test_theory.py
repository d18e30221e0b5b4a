import csv
import dataclasses
import json
import sys

import jax
import numpy as np
import pytest

from experiments import theory, theory_pages
from mammadai_jax.agents import projection, tuner
from mammadai_jax.cli import answered
from mammadai_jax.networks.note_rnn import NoteRNN


def weights(width=8):
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(0, 0.3, shape).astype(np.float32)
    return {
        "kernel": draw(38 + width, 4 * width),
        "bias": draw(4 * width),
        "out_kernel": draw(width, 38),
        "out_bias": draw(38),
    }


def test_a_note_rnn_is_read_and_follows_its_equation(tmp_path):
    arrays = weights()
    np.savez(tmp_path / "rnn.npz", **arrays)
    network, params = theory.load_note_rnn(tmp_path / "rnn.npz")
    assert network == NoteRNN(38, 8)
    carry = network.initial_carry(1)
    output, _ = network.apply(params, carry, np.array([5]), np.array([0]), method="step")
    i, j, _, o = np.split(arrays["kernel"][5] + arrays["bias"], 4)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    hidden = sigmoid(o) * np.tanh(sigmoid(i) * np.tanh(j))
    expected = hidden @ arrays["out_kernel"] + arrays["out_bias"]
    np.testing.assert_allclose(output.logits[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", [{"kernel": np.zeros((3, 4))}, {"bias": None}])
def test_what_is_no_note_rnn_is_refused(tmp_path, change):
    arrays = {k: v for k, v in {**weights(), **change}.items() if v is not None}
    np.savez(tmp_path / "rnn.npz", **arrays)
    with pytest.raises(ValueError, match="no Note RNN"):
        theory.load_note_rnn(tmp_path / "rnn.npz")
    for text in ("no", "", "PK\x03\x04"):
        (tmp_path / "text.npz").write_text(text)
        with pytest.raises(ValueError, match="no Note RNN"):
            theory.load_note_rnn(tmp_path / "text.npz")


def test_a_mistake_is_one_line(tmp_path, capsys, monkeypatch):
    given = ["theory", "--out", str(tmp_path), "--note-rnn", str(tmp_path / "none.npz")]
    monkeypatch.setattr(sys, "argv", given)
    assert answered(theory.main, "theory") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("theory: ") and "none.npz is no Note RNN" in said[0]


def test_untrained_models_compose_as_the_prior(tmp_path):
    np.savez(tmp_path / "rnn.npz", **weights())
    network, params = theory.load_note_rnn(tmp_path / "rnn.npz")
    embedding_template = theory.published(network, params, 0)[0]
    tokens, heard = theory.measure(embedding_template, None, 50, seed=0)
    assert tokens.shape == (50, 32)
    np.testing.assert_allclose(heard["log_prior"], -heard["entropy"], rtol=1e-5)


def test_seeds_that_miss_a_goal_are_counted_and_named(tmp_path):
    good = {name: least / theory_pages.MEASURES[name][1] for name, (least, _) in theory_pages.GOALS.items()}
    good |= dict.fromkeys(set(theory_pages.MEASURES) - set(good), 0.0)
    run = {"model": "Modern, 32 steps", "notes": 1, "curve": []}
    bad = {"num_starting_tonic": 0.2, "self_overlap": 0.71}
    assert theory_pages.missed(good) == []
    found = [{**run, **good, "seed": 0}, {**run, **good, **bad, "seed": 7}]
    theory_pages.write(tmp_path, {"modern": found})
    page = (tmp_path / "table.md").read_text()
    assert "**Modern, 32 steps**: 1 of 2 seeds reach every goal." in page
    missed = "starting with tonic, %; runs of 6 notes that another composition has too, %"
    assert f"* seed 7 misses: {missed}\n" in page and "seed 0" not in page


@pytest.mark.nightly
def test_a_small_run_writes_its_table_and_reads_what_is_on_file(tmp_path, monkeypatch):
    np.savez(tmp_path / "rnn.npz", **weights())
    small = theory.OWN.learner.replace(width=8, num_updates=2, batch_size=2, sequence_length=32)
    monkeypatch.setattr(theory, "OWN", dataclasses.replace(theory.OWN, learner=small))
    shrink = {"num_envs": 2, "num_minibatches": 2, "batch_size": 4, "buffer_size": 2000}
    monkeypatch.setattr(tuner, "PAPER", tuner.PAPER.replace(**shrink))
    short = projection.SHORT.replace(num_envs=16, num_minibatches=4, batch_size=4)
    monkeypatch.setattr(projection, "SHORT", short)
    monkeypatch.setattr(theory, "GROUP", 10)
    few = ["--notes", "64", "--updates", "5", "--melodies", "10", "--seeds", "2", "--corpus", "embedded"]
    parts = ["--parts", "frontier", "corrected", "published"]
    given = ["--out", str(tmp_path / "out"), "--note-rnn", str(tmp_path / "rnn.npz"), *few, *parts]
    monkeypatch.setattr(sys, "argv", ["theory", *given])
    theory.main()
    out = tmp_path / "out"
    rows = list(csv.reader((out / "table.csv").read_text().splitlines()))
    assert len(rows) == 1 + len(theory_pages.MEASURES)
    assert "published: G, drifting prior" in rows[0] and "corrected: Psi, corrected" in rows[0]
    assert len(json.loads((out / "frontier.json").read_text())) == 16
    for name in ("curves-published.svg", "frontier.svg"):
        assert (out / name).read_text().startswith("<svg")
    table = (out / "table.md").read_text()
    monkeypatch.setattr(theory, "train", lambda *_: pytest.fail("what is on file was trained again"))
    jax.clear_caches()
    monkeypatch.setattr(sys, "argv", ["theory", *given[:-1]])  # one part less, whose columns stay
    theory.main()
    assert (out / "table.md").read_text() == table
