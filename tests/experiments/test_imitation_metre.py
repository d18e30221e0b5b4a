import csv
import sys

import numpy as np
import pytest

from experiments import imitation_metre
from mammadai_jax.music.sample import tunes


def test_the_tunes_keep_time_and_agree_with_their_chords():
    still, changing = (
        imitation_metre.measure([imitation_metre.tied(one) for one in tunes(progressions=progressions)])
        for progressions in (False, True)
    )
    assert still["onsets_on_beats"] == changing["onsets_on_beats"] > 0.8
    assert still["onsets_on_weak_sixteenths"] == 0 and still["overlap"] > 0.85
    assert still["consonance_on_beats"] == pytest.approx(0.782, abs=1e-3)
    assert changing["consonance_on_beats"] > 0.88


def test_a_tied_sample_repeats_no_note():
    for one in tunes():
        pitch, ends = np.array([[note.pitch, note.onset + note.duration] for note in one.melody.notes]).T
        onset = np.array([note.onset for note in one.melody.notes])
        repeated = (np.diff(pitch) == 0) & (onset[1:] == ends[:-1])
        assert len(imitation_metre.tied(one).melody.notes) == len(pitch) - repeated.sum()


def test_a_cell_has_the_lowest_and_the_highest_seed():
    rows = [dict.fromkeys(imitation_metre.MEASURES, value) for value in (0.25, 0.5)]
    cells = imitation_metre.line("a", rows)
    assert cells[1] == "37.5 % (25.0 %–50.0 %)" and cells[4] == "0.38 (0.25–0.50)"
    assert imitation_metre.line("a", rows[:1])[1] == "25.0 %"


@pytest.mark.nightly
def test_a_small_run_compares_both_tasks_and_goes_on_where_it_ended(tmp_path, monkeypatch, capsys):
    few = ["--updates", "2", "--warm", "20", "--seeds", "3", "4", "--melodies", "12"]
    monkeypatch.setattr(sys, "argv", ["imitation_metre", "--out", str(tmp_path), *few])
    imitation_metre.main()
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    models = ["the ten tunes", "cloning", "cloning", "GAIL", "GAIL"]
    assert [(row["task"], row["model"]) for row in rows] == [
        (task, model) for task in ("published", "metre") for model in models
    ]
    assert [row["seed"] for row in rows] == ["", "3", "4", "3", "4"] * 2
    assert (tmp_path / "table.md").read_text().count("\n") == 2 + 6
    assert "metre: " in capsys.readouterr().out
    imitation_metre.main()  # nothing is left to do
    assert "metre: " not in capsys.readouterr().out
