import csv
import json
import math
import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from experiments import preference
from experiments import preference_pages as pages
from experiments.preference_world import parted
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.music import captions
from mammadai_jax.stages.captioned import Captioned


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


class World(NamedTuple):
    """What draws read of a world."""

    context: Any
    learn: Any


def context():
    return SimpleNamespace(random=lambda purpose: np.random.default_rng([0, *purpose.encode()]))


def test_the_probe_learns_every_kind_from_excerpts_in_their_order(monkeypatch):
    """As a corpus has them: first all of one collection, whose kinds are few."""
    kinds, told = np.repeat(captions.KINDS, [600, 40, 30, 20, 10, 5]), []
    texts = [[captions.caption({"kind": kind}, np.random.default_rng(row))] for row, kind in enumerate(kinds)]
    learn = Captioned(np.zeros((len(kinds), 96), np.int32), np.arange(len(kinds)), texts, kinds)
    monkeypatch.setattr(captions.KindProbe, "fit", lambda tokens, kinds: told.append(kinds))
    monkeypatch.setattr(preference, "PROBED", 100)
    preference.probe_of(World(context(), learn))
    assert len(told[0]) == 100 and set(told[0]) == set(captions.KINDS)


def test_comparisons_that_tell_what_was_learned_are_of_other_prompts():
    tokens = (14,) * 32
    choice = {"a": tokens, "b": tokens, "choice": "a", "simulated": True}
    made = [Comparison(prompt=f"prompt {number // 4:03}", **choice) for number in range(400)]
    learn, told = parted(context(), made)
    assert len(learn) == 320 and len(told) == 80
    assert not {one.prompt for one in learn} & {one.prompt for one in told}
    first = {one.prompt for one in learn[:50]}  # of which few pairs are learned from: from all over
    assert min(first) < "prompt 020" and max(first) > "prompt 080" and len(first) > 30
    assert parted(context(), made) == (learn, told)


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
