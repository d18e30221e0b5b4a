import jax
import numpy as np
import pytest

from mammadai_jax.agents import embedding
from mammadai_jax.listening import gathering
from mammadai_jax.training import preference
from mammadai_jax.training.audition import audition
from mammadai_jax.training.report.table import words
from mammadai_jax.training.space import Space
from tests.training.test_preference import GIVEN, TINY


@pytest.fixture(scope="module")
def learned():
    """Two composers that have learned nothing, each in its own way."""
    config = TINY.preference.embedding
    vocabulary, data = preference.embedding_data(TINY, GIVEN)
    state = jax.jit(lambda: embedding.init(jax.random.key(0), config, data))()
    space = Space(vocabulary, embedding.finish(state, config, data))
    return {
        name: preference.Prompted(preference.untaught(TINY, jax.random.key(seed)).average, space)
        for seed, name in enumerate(("prompted", "preference"))
    }


def test_both_composers_are_judged_by_listeners_who_were_not_asked(learned, monkeypatch):
    heard, gather = [], gathering.SimulatedListeners.gather

    def remember(self, requests):
        heard.append((self, requests, gather(self, requests)))
        return heard[-1][-1]

    monkeypatch.setattr(gathering.SimulatedListeners, "gather", remember)
    table = audition(TINY, GIVEN, learned)
    assert list(table.columns) == ["Prompted", "Preference"]
    rows = {"preferred", "gold", "claims", "likeness", "distinct"}
    assert all(set(column) == rows for column in table.columns.values()) and set(table.goals) == rows
    assert sum(column["preferred"] for column in table.columns.values()) == pytest.approx(1.0)
    for column in table.columns.values():
        assert 0 <= column["claims"] <= 1 and -1 <= column["likeness"] <= 1 and 0 < column["distinct"] <= 1
    ((gatherer, requests, chosen),) = heard
    held_out = preference.listeners(TINY, GIVEN)[1]
    np.testing.assert_array_equal(gatherer.panel.ideal, held_out.ideal)
    assert len(chosen) == len(requests) == TINY.judged
    assert all(one.simulated and one.listener.startswith("simulated-held-out-") for one in chosen)
    assert [one.prompt for one in chosen] == [GIVEN.prompts[i % 12] for i in range(TINY.judged)]
    assert "The listeners are simulated, and none of them taught the judge" in table.summary
    wins = sum(one.sign > 0 for one in chosen)
    assert f"{wins} wins, " in table.summary and "95 % interval" in table.summary


def test_the_table_is_pure_in_the_settings(learned):
    once, twice = (audition(TINY, GIVEN, learned) for _ in range(2))
    assert once.columns == twice.columns and once.summary == twice.summary


def test_every_number_of_the_table_is_explained():
    for name in ("preferred", "gold", "claims", "likeness", "distinct"):
        title, explanation = words(name)
        assert title and explanation, name
