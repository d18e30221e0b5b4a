import numpy as np
import pytest

from mammadai_jax.listening import gathering
from mammadai_jax.music import corpus
from mammadai_jax.training import preference, teach
from mammadai_jax.training.evaluate_preference import evaluate_preference
from mammadai_jax.training.report.table import words
from mammadai_jax.training.settings import overlay
from tests.training import tiny

# more melodies than there are prompts
SETTINGS = overlay(tiny.ROAD, {"num_samples": 12}, "here")


@pytest.fixture(scope="module")
def given():
    return preference.material(SETTINGS, corpus.embedded())


@pytest.fixture(scope="module")
def learned(taught):
    return {name: teach.params_of(SETTINGS, taught, name) for name in ("prompted", "preference")}


def test_both_composers_are_judged_by_listeners_who_were_not_asked(given, learned, monkeypatch):
    heard, gather = [], gathering.SimulatedListeners.gather

    def remember(self, requests):
        heard.append((self, requests, gather(self, requests)))
        return heard[-1][-1]

    monkeypatch.setattr(gathering.SimulatedListeners, "gather", remember)
    table = evaluate_preference(SETTINGS, given, learned)
    assert list(table.columns) == ["Prompted", "Preference"]
    rows = {"preferred", "gold", "claims", "likeness", "distinct"}
    assert all(set(column) == rows for column in table.columns.values()) and set(table.goals) == rows
    assert sum(column["preferred"] for column in table.columns.values()) == pytest.approx(1.0)
    for column in table.columns.values():
        assert 0 <= column["claims"] <= 1 and -1 <= column["likeness"] <= 1 and 0 < column["distinct"] <= 1
    ((gatherer, requests, chosen),) = heard
    held_out = preference.listeners(SETTINGS, given)[1]
    np.testing.assert_array_equal(gatherer.panel.ideal, held_out.ideal)
    assert len(chosen) == len(requests) == SETTINGS.num_samples
    assert all(one.simulated and one.listener.startswith("simulated-held-out-") for one in chosen)
    assert [one.prompt for one in chosen] == [given.prompts[i % 8] for i in range(SETTINGS.num_samples)]
    assert "The listeners are simulated, and none of them taught the judge" in table.summary
    wins = sum(one.sign > 0 for one in chosen)
    assert f"{wins} wins, " in table.summary and "95 % interval" in table.summary


def test_the_table_is_pure_in_the_settings(given, learned):
    once, twice = (evaluate_preference(SETTINGS, given, learned) for _ in range(2))
    assert once.columns == twice.columns and once.summary == twice.summary


def test_every_number_of_the_table_is_explained():
    for name in ("preferred", "gold", "claims", "likeness", "distinct"):
        title, explanation = words(name)
        assert title and explanation, name
