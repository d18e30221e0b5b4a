import json

import pytest

from mammadai_jax import cli
from mammadai_jax.commands import evaluate
from mammadai_jax.music import corpus
from mammadai_jax.music.statistics.musicality import MEASURES


def test_musicality_is_shown_beside_that_of_the_reference(capsys, tmp_path):
    target = tmp_path / "numbers.json"
    assert cli.main(["corpus", "embedded", "--midi", str(tmp_path / "midi")]) == 0
    assert cli.main(["evaluate", str(tmp_path / "midi"), "embedded", "--json", str(target)]) == 0
    assert "onsets_on_beats" in capsys.readouterr().out
    numbers = json.loads(target.read_text())
    ours, theirs = (each["musicality"] for each in numbers.values())
    assert set(MEASURES) < set(ours) == set(theirs)
    assert ours["musicality_distance_low"] <= ours["musicality_distance"] < 0.3 and ours["leaps"] < 0.1
    assert ours["consonance_on_beats"] is None


def test_alone_it_is_compared_with_real_tunes(capsys, monkeypatch):
    monkeypatch.setattr(corpus, "folk", corpus.embedded)
    assert cli.main(["evaluate", "embedded"]) == 0
    assert "embedded (reference)" in capsys.readouterr().out

    def missing():
        raise corpus.CorpusMissing("no music21")

    monkeypatch.setattr(corpus, "folk", missing)
    assert evaluate.real_tunes().name == "embedded"


def test_of_many_tunes_some_from_all_over_are_taken(monkeypatch):
    monkeypatch.setattr(evaluate, "MOST_TUNES", 4)
    tunes = corpus.embedded().melodies
    columns = evaluate.musicality_columns("a", tunes[:3], "b", tunes)
    chosen = evaluate.of_tunes((tunes[0], tunes[3], tunes[6], tunes[9]))
    assert columns["b"]["leaps"] == pytest.approx(chosen.means["leaps"])
    assert columns["a"]["musicality_distance_low"] <= columns["a"]["musicality_distance"]
