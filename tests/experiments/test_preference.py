import dataclasses
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from experiments import preference, preference_settings, preference_study
from experiments import preference_pages as pages
from experiments.preference_settings import VARIANTS
from experiments.preference_world import aside, parted
from experiments.tables import read_csv, write_csv
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.music import captions
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.notes import Melody
from mammadai_jax.stages import divided
from mammadai_jax.stages.captioned import Captioned
from mammadai_jax.training.context import context_of


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
    learn = Captioned(np.zeros((len(kinds), 96), np.int32), np.arange(len(kinds)), texts, kinds, kinds == "")
    monkeypatch.setattr(captions.KindProbe, "fit", lambda tokens, kinds: told.append(kinds))
    monkeypatch.setattr(preference_study, "PROBED", 100)
    preference_study.probe_of(World(context(), learn))
    assert len(told[0]) == 100 and set(told[0]) == set(captions.KINDS)


def test_a_reward_model_is_tested_on_other_prompts_than_it_learns_from():
    tokens = (14,) * 32
    choice = {"a": tokens, "b": tokens, "choice": "a", "simulated": True}
    made = [Comparison(prompt=f"prompt {number // 4:03}", **choice) for number in range(400)]
    learn, test = parted(context(), made)
    assert len(learn) == 320 and len(test) == 80
    assert not {one.prompt for one in learn} & {one.prompt for one in test}
    first = {one.prompt for one in learn[:50]}  # of which few pairs are learned from: from all over
    assert min(first) < "prompt 020" and max(first) > "prompt 080" and len(first) > 30
    assert parted(context(), made) == (learn, test)


def corpus_of(families, each):
    """Melodies of so many families, `each` of every one, which begin with the same twelve intervals."""
    random = np.random.default_rng(0)
    melodies = []
    for family in range(families):
        head = random.integers(60, 72, size=13)
        for _ in range(each):
            pitches = np.concatenate([head, random.integers(60, 72, size=19)])
            events = np.full(128, -2)
            events[::4] = pitches
            melodies.append(Melody(events, title=str(family), tonic=0, mode="major"))
    return Corpus("test", tuple(melodies))


def test_the_second_jurys_families_and_peoples_melodies_are_in_no_learners_corpus():
    whole = corpus_of(40, 3)
    settings = preference_settings.settings_for("tiny", "traits", 3)
    given = context_of(*divided(settings, ()), Path())
    given = dataclasses.replace(given, corpus=lambda: whole, settings_of=lambda name: settings.embedding)
    judged = whole.melodies[7]
    aside_context, own = aside(given, [judged])
    rest = aside_context.corpus()
    titles = [{melody.title for melody in part} for part in (rest, own)]
    assert titles[0] and titles[1] and not titles[0] & titles[1]
    # its family begins with the same thirteen notes, which are more than COPIED
    assert judged.title not in titles[0] | titles[1]
    assert len(rest) + len(own) == 117
    assert aside(dataclasses.replace(given, seed=4))[1].melodies != own.melodies


def test_a_variant_without_traits_has_them_in_no_network():
    with_traits, without = (preference_settings.settings_for("full", name, 2) for name in VARIANTS)
    assert with_traits.embedding.learner.use_traits and not without.embedding.learner.use_traits
    assert with_traits.reward_model.learner.trait_units and not without.reward_model.learner.trait_units
    assert with_traits.preference.learner.critic_width and not without.preference.learner.critic_width
    assert with_traits.seed == without.seed == 2
    assert without.preference.learner.num_updates == with_traits.preference.learner.num_updates


def wins(path, rates):
    """A table of a finished seed, with these win rates of the juries in all comparisons."""
    path.mkdir()
    rows = [
        {"jury": jury, "noise": noise, "a": a, "b": b, "wins": 6, "ties": 2, "losses": 4}
        | {"win_rate": rate, "low": 0.3, "high": 0.9}
        for jury, rate in rates.items()
        for noise in preference_settings.NOISE
        for a, b in preference_settings.ROWS
    ]
    write_csv(path / pages.WINS, rows)


def test_finished_seeds_are_gathered_and_others_left_out(tmp_path):
    wins(tmp_path / "traits-0", {"first": 0.7, "second": 0.5})
    wins(tmp_path / "traits-11", {"first": 0.9, "second": 0.6})
    (tmp_path / "traits-2").mkdir()
    (tmp_path / "traits-old").mkdir()
    pages.write(tmp_path)
    table = read_csv(tmp_path / pages.WINS)
    assert len(table) == 2 * 3 * len(preference_settings.ROWS)
    assert {row["seeds"] for row in table} == {"2"}
    assert {row["win_rate"] for row in table if row["jury"] == "first"} == {"0.8"}
    report = (tmp_path / "report.md").read_text()
    assert "| traits | R vs base | 80 % (" in report and "best of 16" in report
    assert "noise 0.5 | noise 1.0 | noise 2.0" in report


def test_one_seed_has_no_test_but_its_own_interval(tmp_path):
    wins(tmp_path / "no-traits-0", {"first": 0.7, "second": 0.5})
    pages.write(tmp_path)
    assert "| no-traits | R vs base | 70 % (30–90) |  | 50 % (30–90) |  | *83 %* |" in (
        (tmp_path / "report.md").read_text()
    )


@pytest.mark.nightly
def test_a_tiny_experiment_writes_its_tables_and_goes_on(tmp_path, monkeypatch):
    argv = ["preference", "--out", str(tmp_path), "--preset", "tiny", "--seeds", "0", "--prompts", "8"]
    monkeypatch.setattr(sys, "argv", argv)
    preference.main()
    found = read_csv(tmp_path / pages.WINS)
    assert len(found) == 2 * 2 * 3 * len(preference_settings.ROWS)
    for name in ("systems.csv", "juries.csv", "report.md", "rewards.svg", "overoptimisation.svg"):
        assert (tmp_path / name).stat().st_size
    own = tmp_path / "traits-0"
    facts = json.loads((own / "facts.json").read_text())
    assert {"realised", "embedding", "deviations", "consistency"} == facts.keys()
    assert (own / "judges.csv").exists() and (own / "methods.csv").exists()
    assert not (tmp_path / "no-traits-0" / "facts.json").exists()
    log, before = (own / "log.jsonl").read_bytes(), (tmp_path / "report.md").read_bytes()
    (own / pages.WINS).unlink()  # as if it had been interrupted
    preference.main()
    assert (own / "log.jsonl").read_bytes() == log
    assert (tmp_path / "report.md").read_bytes() == before
