"""Gatherers: who is asked, what is heard first, that simulated choices say so, and ratings from a file."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.listening.gathering import FromFile, Request, SimulatedListeners
from mammadai_jax.listening.pairs import write


def traits(tokens):
    return {"density": jnp.asarray((tokens > 1).mean(axis=1)), "range": jnp.asarray(tokens.max(axis=1) * 1.0)}


def some_listeners(count=6, votes=4, **options):
    panel = panels.panel(jax.random.key(0), count, ["density", "range"], [0.5, 20], [0.2, 5])
    return SimulatedListeners(panel, jax.random.key(1), traits, votes=votes, **options)


def some_requests(random, count=40):
    return [
        Request(f"prompt {k % 7}", *random.integers(0, 38, (2, 16)), "base", "R", propensity=0.25)
        for k in range(count)
    ]


def test_every_record_says_it_is_simulated(random):
    listeners = some_listeners()
    assert "simulated" in repr(listeners)
    made = listeners.gather(some_requests(random))
    assert len(made) == 160
    assert all(one.simulated and one.listener.startswith("simulated-panel-") for one in made)
    assert {one.choice for one in made} == {"a", "b", "tie"}


def test_records_are_of_what_was_asked(random):
    requests = some_requests(random)
    made = some_listeners().gather(requests)
    for request, votes in zip(requests, zip(*[iter(made)] * 4, strict=True), strict=True):
        for one in votes:
            assert (one.prompt, one.system_a, one.system_b) == (request.prompt, "base", "R")
            assert one.a == tuple(request.a) and one.b == tuple(request.b) and one.propensity == 0.25


def test_positions_are_counterbalanced(random):
    for votes in (2, 4):
        made = some_listeners(votes=votes).gather(some_requests(random))
        for pair in zip(*[iter(made)] * votes, strict=True):
            assert sum(one.played_first == "a" for one in pair) == votes // 2
            assert len({one.listener for one in pair}) == votes
            assert all(one.shown_left == one.played_first for one in pair)
    for votes in (1, 3):
        made = some_listeners(votes=votes).gather(some_requests(random))
        assert sum(one.played_first == "a" for one in made) == len(made) // 2


def test_nobody_is_always_played_the_same_side(random):
    made = some_listeners(votes=1).gather(some_requests(random, 600))
    shares = collections.defaultdict(list)
    for one in made:
        shares[one.listener].append(one.played_first == "a")
    assert len(shares) == 6
    assert all(len(x) > 60 and 0.35 < np.mean(x) < 0.65 for x in shares.values())


def test_choices_follow_taste_and_prompt(random):
    """Of two equal melodies for prompts that hold for b alone, b is chosen."""
    melody = tuple(random.integers(0, 38, 16))
    requests = [Request("loud", melody, (*melody[:-1], 5)) for _ in range(200)]
    holds = lambda prompts, tokens: np.array([p == "loud" for p in prompts]) * (tokens[:, -1] == 5)
    signs = [one.sign for one in some_listeners(votes=2, adherence=holds).gather(requests)]
    assert np.mean(np.array(signs) == -1) > 0.8


def test_choices_are_a_function_of_key_and_turn(random):
    requests = some_requests(random)
    one, same = some_listeners(), some_listeners()
    first, second = one.gather(requests), one.gather(requests)
    assert first == same.gather(requests) and second == same.gather(requests)
    assert first != second
    assert one.gather([]) == []


def test_wrong_requests_are_refused():
    with pytest.raises(ValueError, match="votes should be 1 to 6"):
        some_listeners(votes=7)
    with pytest.raises(ValueError, match="one length, got 4 to 8 steps"):
        some_listeners().gather([Request("", (2,) * 4, (3,) * 4), Request("", (2,) * 8, (3,) * 8)])


def test_ratings_from_a_file_come_by_the_same_door(random, tmp_path):
    path = tmp_path / "ratings.jsonl"
    rated = [
        Comparison(prompt="calm", a=(2, 3), b=(4, 5), choice="a", simulated=False, listener="ann"),
        Comparison(prompt="calm", a=(4, 5), b=(2, 3), choice="a", simulated=False, system_a="U"),
        Comparison(prompt="wild", a=(2, 3), b=(4, 5), choice="a", simulated=False),
    ]
    write(path, rated)
    source = FromFile(path)
    assert "3 comparisons, 0 of them simulated" in repr(source)
    found = source.gather([Request("calm", np.array([2, 3]), (4, 5), "base", "R")])
    assert [(one.sign, one.system_a, one.system_b) for one in found] == [(1, "base", "R"), (-1, "base", "U")]
    assert source.comparisons == rated
    with pytest.raises(ValueError, match="none of the 1 requested pairs"):
        source.gather([Request("calm", (2, 3), (4, 6))])


def test_a_simulation_read_from_a_file_is_the_simulation(random, tmp_path):
    requests = some_requests(random)
    made = some_listeners().gather(requests)
    write(tmp_path / "p", made)
    assert FromFile(tmp_path / "p").gather(requests) == made


def test_mean_opinions_rise_with_what_the_listeners_like(random):
    dense = np.where(random.uniform(size=(300, 16)) < np.linspace(0, 1, 300)[:, None], 20, 0)
    listeners = some_listeners(count=12, votes=3)
    opinion = listeners.rate(dense)
    assert opinion.shape == (300,) and opinion.dtype == np.float32
    assert opinion.min() >= 1 and opinion.max() <= 5
    np.testing.assert_allclose(opinion * 3, np.round(opinion * 3), atol=1e-5)
    liked = np.asarray(panels.gold(listeners.panel, traits(dense), jnp.zeros(300)))
    assert np.corrcoef(opinion, liked)[0, 1] > 0.5
    assert (listeners.rate(dense) != opinion).any(), "asked again, they listen again"
    np.testing.assert_array_equal(some_listeners(count=12, votes=3).rate(dense), opinion)
