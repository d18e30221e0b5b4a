import csv
import sys

import numpy as np
import pytest

from experiments import imitation
from mammadai_jax.music.arrangements import KEYS, arrange
from mammadai_jax.music.tunes import TUNES
from mammadai_jax.stages.accompanied import imitation_data


def test_every_tune_is_left_out_by_as_many_seeds_and_its_accompaniment_is_not():
    pairs = [imitation.left_out(seed) for seed in range(10)]
    assert sorted(sum(pairs, ())) == sorted([*range(len(TUNES)), *range(len(TUNES))])
    arranged = arrange(keys=KEYS[:1])
    for pair in pairs:
        kept = {a.piece for i, a in enumerate(arranged) if i not in pair}
        assert kept == {a.piece for a in arranged}


def test_a_seed_learns_from_the_other_eight_tunes_in_every_key():
    task = imitation_data("snapshot", "melody")
    every = np.asarray(task.demonstrations.action).reshape(len(task.arrangements), -1)
    found = np.asarray(imitation.demonstrations(task, 1).action).reshape(24, -1)
    expected = [row for i, row in enumerate(every) if i % len(TUNES) not in (2, 3)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("progressions", "pieces"), [(False, 15), (True, 24)])
def test_a_seed_plays_over_the_accompaniments_that_it_learns_from(progressions, pieces):
    task = imitation_data("snapshot", "melody", progressions=progressions)
    backing = np.asarray(imitation.over(task, 1).backing)
    assert len(backing) == pieces
    expected = {task.arrangements[i].piece for i in range(30) if i % 10 not in (2, 3)}
    np.testing.assert_array_equal(backing, np.asarray(task.params.backing)[sorted(expected)])


@pytest.mark.nightly
def test_a_small_run_compares_every_model_and_goes_on_where_it_ended(tmp_path, monkeypatch, capsys):
    few = ["--updates", "4", "--warm", "20", "--seeds", "2", "--melodies", "6"]
    few += ["--representations", "snapshot", "--sources", "melody"]
    monkeypatch.setattr(sys, "argv", ["imitation", "--out", str(tmp_path), *few])
    monkeypatch.setattr(imitation, "TEMPERATURES", (1.0, 0.5))
    imitation.main()
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    models = ["cloning", *imitation.variants("published")]
    both = [name for model in models for name in (model, f"{model}, best temperature")]
    expected = ["the eight tunes", "noise"] * 2 + [name for name in both for _ in range(2)]
    assert [row["model"] for row in rows] == expected
    assert float(rows[1]["overlap"]) < float(rows[0]["overlap"])
    assert rows[4]["overlap"] != rows[5]["overlap"]  # seeds differ
    assert (tmp_path / "table.md").read_text().count("\n") == 2 + 2 + len(both)
    assert "melody snapshot" in capsys.readouterr().out
    imitation.main()  # nothing is left to do
    assert "melody snapshot: " not in capsys.readouterr().out
