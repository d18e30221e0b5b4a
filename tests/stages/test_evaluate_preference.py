import numpy as np
import pytest

from mammadai_jax.listening import gathering
from mammadai_jax.stages import divided, preference
from mammadai_jax.stages.captioned import held_out_of, listeners_of
from mammadai_jax.training.context import context_of
from mammadai_jax.training.report.words import words
from tests.training.tiny import ROAD

PIECES = 12  # more melodies than there are prompts


@pytest.fixture(scope="module")
def context(taught):
    return context_of(*divided(ROAD), taught)


def table_of(context):
    (table,) = preference.tables(ROAD.preference, context, PIECES)
    return table


def test_both_composers_are_judged_by_listeners_who_were_not_asked(context, monkeypatch):
    heard, gather = [], gathering.SimulatedListeners.gather

    def remember(self, requests):
        heard.append((self, requests, gather(self, requests)))
        return heard[-1][-1]

    monkeypatch.setattr(gathering.SimulatedListeners, "gather", remember)
    table = table_of(context)
    assert list(table.columns) == ["Prompted", "Preference"]
    rows = {"preferred", "gold", "claims", "likeness", "distinct"}
    assert all(set(column) == rows for column in table.columns.values()) and set(table.goals) == rows
    assert sum(column["preferred"] for column in table.columns.values()) == pytest.approx(1.0)
    for column in table.columns.values():
        assert 0 <= column["claims"] <= 1 and -1 <= column["likeness"] <= 1 and 0 < column["distinct"] <= 1
    ((gatherer, requests, chosen),) = heard
    held_out = listeners_of(context)[1]
    np.testing.assert_array_equal(gatherer.panel.ideal, held_out.ideal)
    assert len(chosen) == len(requests) == PIECES
    assert all(one.simulated and one.listener.startswith("simulated-held-out-") for one in chosen)
    asked = [one.prompt for one in chosen]
    assert set(asked) <= set(held_out_of(context).prompts) and len(set(asked)) > 1
    assert (
        "The listeners are simulated, and the reward model was not trained on their choices" in table.summary
    )
    wins = sum(one.sign > 0 for one in chosen)
    assert f"{wins} wins, " in table.summary and "95 % interval" in table.summary


def test_the_table_is_pure_in_the_settings(context):
    once, twice = (table_of(context) for _ in range(2))
    assert once.columns == twice.columns and once.summary == twice.summary


def test_every_number_of_the_table_is_explained():
    for name in ("preferred", "gold", "claims", "likeness", "distinct"):
        title, explanation = words(name)
        assert title and explanation, name
