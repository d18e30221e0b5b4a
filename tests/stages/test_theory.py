import dataclasses

import jax
import numpy as np
import pytest

from mammadai_jax.agents import prior
from mammadai_jax.music import theory as rules
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.stages import STAGES, preset, theory
from mammadai_jax.stages.prior import composer_of
from mammadai_jax.training.context import context_of, restore
from mammadai_jax.training.settings import overlay
from mammadai_jax.training.stage import ComposeRequest
from tests.training.tiny import ROAD


def test_theory_begins_as_the_prior_and_keeps_it(taught):
    context = context_of(ROAD, STAGES, taught)
    params = context.learned("prior")
    learner = theory.make_learner(ROAD.theory, context, ())
    trained = restore(theory.STAGE, ROAD.theory, context)
    begun = jax.jit(lambda: [getattr(learner.init(), name) for name in ("params", "target", "prior")])()
    for same in (*begun, trained.prior):
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, same, params)))
    for other in (trained.params, trained.target):
        assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, other, params)))
    metrics = jax.eval_shape(learner.step, jax.eval_shape(learner.init), ())[1]
    assert {"theory", "log_prior", "entropy", "loss", *rules.RULES} == set(metrics)


def test_pieces_are_as_long_as_those_that_were_trained_on(taught):
    context = context_of(ROAD, STAGES, taught)
    learned, request = context.learned("theory"), ComposeRequest(2)
    samples = theory.compose(ROAD.theory, context, learned, jax.random.key(0), request)
    assert [len(sample.melody.events) for sample in samples] == [ROAD.theory.length] * 2


# A network whose logits are the same before every note: what is played must follow them as documented.
NARROW = dataclasses.replace(preset("smoke").prior.learner, width=4)
COMPOSER = composer_of(dataclasses.replace(preset("smoke").prior, learner=NARROW))


def flat(logits):
    """Parameters of which only the bias of the logits counts."""
    params = jax.eval_shape(lambda: prior.init(jax.random.key(0), NARROW, MAGENTA.size).average)
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), params)
    blank["params"]["logits_head"]["bias"] = np.asarray(logits, np.float32)
    return blank


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"value_head": True, "algorithm": "psi"}, lambda own, old: own),
        ({"value_head": True, "algorithm": "g"}, lambda own, old: own),
        ({"value_head": False, "algorithm": "q"}, lambda own, old: 2 * own),
        ({"value_head": False, "algorithm": "g"}, lambda own, old: 2 * (own + old)),
    ],
)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_policy_is_the_logits_or_of_the_action_values(changes, expected, temperature):
    learner = {
        **changes,
        "learns_from": "melodies",
        "temperature": 0.5,
        "exploration": "epsilon",
        "epsilon": 1.0,
        "copy_lag": 8,
        "copy_prob": 1.0,
    }
    settings = overlay(preset("smoke").theory, {"learner": learner}, "here")
    own, old = np.random.default_rng(0).normal(size=(2, MAGENTA.size)) * 0.4
    params, key = (flat(own), flat(old)), jax.random.key(0)
    rows = theory.theory_tokens(settings, COMPOSER, params, key, (200, 64), temperature)
    shares = np.bincount(rows.ravel(), minlength=MAGENTA.size) / rows.size
    weights = np.exp(expected(own, old) / temperature)
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.012)
