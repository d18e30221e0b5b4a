import sys
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import ngram, prior
from mammadai_jax.music import corpus
from mammadai_jax.training.run import Run


def test_validation_chooses_the_order_of_the_n_gram():
    """Bars of noise that return are best foretold by their last two tokens; of the test nothing is known."""
    rng = np.random.default_rng(0)
    rows = lambda count: [np.tile(rng.integers(0, 9, 8), 6) for _ in range(count)]
    sides = prior.Families(rows(20), rows(5), [np.zeros(9, int)])
    fitted = {n: ngram.fit([*sides.learn, *sides.validation], n, 38, "witten_bell") for n in range(1, 12)}
    cost = lambda n: ngram.bits(ngram.fit(sides.learn, n, 38, "witten_bell"), sides.validation)
    chosen = min(fitted, key=cost)
    assert chosen != min(fitted, key=lambda n: ngram.bits(fitted[n], sides.held_out))
    assert prior.ngram_bits(sides, "witten_bell") == ngram.bits(fitted[chosen], sides.held_out)


def test_the_average_of_fewest_bits_is_kept(tmp_path):
    state = lambda update: SimpleNamespace(update=update, average={"w": np.full(2, float(update))})
    bits = iter([3.0, 2.0, 2.5])
    with Run(tmp_path, {}) as run:
        measure = prior.keeping_best(run, lambda average: next(bits))
        for update in (5, 10, 15):
            run.log("prior", update, measure(state(update)), {})
        kept = run.checkpoints("best").restore(state(0).average)
    assert kept[0] == 10 and (kept[1]["w"] == 10).all()


def test_the_table_has_the_mean_gain_over_the_splits():
    counts = {prior.MIXTURE: 1.0}
    page = prior.table({0: {**counts, "LSTM": 0.9}, 7: {**counts, "LSTM": 0.94}, 3: counts})
    assert "| mixture of counts | 1.0000 | 1.0000 | 1.0000 | 0.0 ± 0.0 % |" in page
    assert "| LSTM | 0.9000 | 0.9400 |  | 8.0 ± 25.4 % |" in page


def test_families_are_on_one_side_only():
    sides = prior.families(corpus.load("embedded"), 0)
    assert all(sides)
    rows = [row.tobytes() for side in sides for row in side]
    assert len(set(rows)) == len(rows) == len(corpus.load("embedded"))


@pytest.mark.nightly
def test_a_small_run_goes_on_where_it_ended(tmp_path, monkeypatch):
    few = ["--corpus", "embedded", "--updates", "2", "--bodies", "LSTM", "--splits", "0"]
    monkeypatch.setattr(sys, "argv", ["prior", "--out", str(tmp_path), *few])
    prior.main()
    table = (tmp_path / "table.md").read_text()
    log = (tmp_path / "split-0" / "lstm" / "log.jsonl").read_bytes()
    assert all(name in table for name in ("Kneser-Ney", "| mixture of counts |", "| LSTM, with the counts |"))
    (tmp_path / "split-0.json").unlink()
    prior.main()
    assert (tmp_path / "table.md").read_text() == table
    assert (tmp_path / "split-0" / "lstm" / "log.jsonl").read_bytes() == log
