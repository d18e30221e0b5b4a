import csv
import json
import math
import sys

import numpy as np
import pytest

from experiments import preference
from experiments import preference_pages as pages


def rows(gold, proxy, kl, **others):
    names = {"gold": gold, "preference": proxy, "claims": gold, "ears": gold, "quality": gold, **others}
    return [
        {
            "update": 5 * (i + 1),
            "objective/kl": kl[i],
            **{f"reward/{name}": float(values[i]) for name, values in names.items()},
        }
        for i in range(len(kl))
    ]


def test_gaos_law_is_fitted():
    d = np.linspace(0.05, 4, 60)
    gold = 3.0 + d * (2.0 - 0.9 * np.log(d))
    start = 3.0
    found = pages.gao(rows([start, *gold], [start, *gold], [1e-9, *(d**2)]))
    assert found["alpha"] == pytest.approx(2.0, abs=0.02)
    assert found["beta"] == pytest.approx(0.9, abs=0.02)
    assert found["peak_distance"] == pytest.approx(math.exp(2.0 / 0.9 - 1), rel=0.02)


def test_the_alarm_fires_when_the_proxy_rises_alone_and_not_before():
    time = np.arange(40)
    gold = np.where(time < 20, time, 40 - time).astype(float)
    units = dict.fromkeys(pages.WATCHED, 10.0)
    found = pages.overoptimisation(rows(gold, time.astype(float), time / 4), units)
    assert 20 * 5 <= found["peak_update"] <= 25 * 5
    assert found["alarm_update"] > found["peak_update"]
    assert 0 < found["lost_at_alarm"] < 0.3
    silent = pages.overoptimisation(rows(time.astype(float), time.astype(float), time / 4), units)
    assert silent["alarm_update"] == -1


def test_tables_are_read_as_they_were_written(tmp_path):
    pages.write_csv(tmp_path / "a.csv", [{"a": 1, "b": "x"}, {"a": 2.5, "c": 3}])
    found = pages.read_csv(tmp_path / "a.csv")
    assert found == [{"a": "1", "b": "x", "c": ""}, {"a": "2.5", "b": "", "c": "3"}]


@pytest.mark.nightly
def test_a_tiny_experiment_writes_its_tables_and_goes_on(tmp_path, monkeypatch):
    argv = ["preference", "--out", str(tmp_path), "--preset", "tiny", "--seeds", "1", "--prompts", "8"]
    monkeypatch.setattr(sys, "argv", argv)
    preference.main()
    with (tmp_path / "win_matrix.csv").open() as file:
        wins = list(csv.DictReader(file))
    assert list(wins[0]) == ["a", "b", "wins", "ties", "losses", "win_rate", "low", "high"]
    assert {(row["a"], row["b"]) for row in wins} == {*pages.PAPER, ("tunes", "base"), ("RU", "tunes")}
    for name in (
        "systems.csv",
        "judges.csv",
        "methods.csv",
        "report.md",
        "rewards.svg",
        "overoptimisation.svg",
    ):
        assert (tmp_path / name).stat().st_size
    assert {"gao", "overoptimisation", "embedding"} <= json.loads(
        (tmp_path / "facts.json").read_text()
    ).keys()
    log = (tmp_path / "log.jsonl").read_bytes()
    before = (tmp_path / "report.md").read_bytes()
    preference.main()
    assert (tmp_path / "log.jsonl").read_bytes() == log
    assert (tmp_path / "report.md").read_bytes() == before
