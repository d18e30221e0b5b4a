import json
import sys

import pytest

from experiments import musicality
from mammadai_jax.music.statistics.musicality import MEASURES
from mammadai_jax.music.statistics.musicality.distance import of_tunes
from mammadai_jax.music.tunes import TUNES
from tests.training.test_musicality import AFTER, BEFORE


def test_runs_are_averaged_with_their_interval():
    both = musicality.together([BEFORE, AFTER])
    assert both.distance.value == pytest.approx(0.85)
    assert both.distance.low < 0 < 1.7 < both.distance.high  # two runs: 12.7 standard errors
    assert both.means["leaps"] == pytest.approx((0.55 + 0.75) / 2)
    assert both.deviations["leaps"].value == pytest.approx(1.5)
    assert musicality.together([BEFORE]) is BEFORE


def test_the_page_has_tunes_first_and_a_sentence_for_each_stage_but_the_first():
    run = {musicality.TUNES: of_tunes(TUNES), musicality.EXCERPTS: AFTER, "noise": BEFORE, "prior": AFTER}
    lines = musicality.page([run], 10).splitlines()
    assert lines[0] == "1 run, 10 melodies of each stage."
    assert lines.count("| Measure | Real tunes | Real excerpts | Noise | Prior |") == 2
    assert "**Repetition, kind by kind**" in lines
    (distance,) = (line for line in lines if line.startswith("| Distance"))
    assert "**0.70** (0.60 to 0.80)" in distance and "| 1.00 (0.90 to 1.10) |" in distance
    assert [line for line in lines if line.startswith("* ")] == [
        line for line in lines if "Against Noise" in line
    ]


def test_a_run_is_measured_in_every_stage_that_composes(taught, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["musicality", str(taught), "--out", str(tmp_path), "--melodies", "8"])
    musicality.main()
    (stages,) = json.loads((tmp_path / "musicality.json").read_text()).values()
    assert list(stages)[:3] == [musicality.TUNES, musicality.EXCERPTS, "noise"] and "preference" in stages
    assert set(stages["noise"]["means"]) == set(MEASURES)
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["musicality", str(taught), "--out", str(tmp_path), "--melodies", "1"])
    with pytest.raises(ValueError, match="2 or more"):
        musicality.main()
