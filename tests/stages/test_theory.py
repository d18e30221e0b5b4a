import dataclasses

import jax
import numpy as np
import pytest
from scipy import special

from mammadai_jax.agents import prior
from mammadai_jax.music import theory as rules
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.stages import divided, preset, theory
from mammadai_jax.training.context import context_of, restore
from mammadai_jax.training.stage import ComposeRequest, Part
from tests.training.tiny import ROAD


def test_theory_begins_as_the_prior_and_keeps_it(taught):
    context = context_of(*divided(ROAD), taught)
    params = context.learned("prior")
    learner = theory.make_learner(ROAD.theory, context, ())
    trained = restore(Part(theory.STAGE, ROAD.theory), context)
    begun = jax.jit(lambda: [getattr(learner.init(), name) for name in ("params", "average", "prior")])()
    for same in (*begun, trained.prior):
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, same, params)))
    for other in (trained.params, trained.average):
        assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, other, params)))
    metrics = jax.eval_shape(learner.step, jax.eval_shape(learner.init), ())[1]
    assert {"theory", "log_prior", "entropy", "loss", *rules.RULES, *rules.FURTHER} == set(metrics)


def test_melodies_are_as_long_as_the_priors(taught):
    context = context_of(*divided(ROAD), taught)
    learned, request = context.learned("theory"), ComposeRequest(2)
    samples = theory.compose(ROAD.theory, context, learned, jax.random.key(0), request)
    assert [len(sample.melody.events) for sample in samples] == [128] * 2


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_tuned_prior_composes_by_its_logits(temperature):
    """Of a network whose logits are the same before every note."""
    logits = np.random.default_rng(0).normal(size=MAGENTA.size) * 0.4
    config = dataclasses.replace(preset("smoke").prior.learner, width=4)
    composer = prior.make_composer(config, MAGENTA.size)
    params = jax.eval_shape(lambda: prior.init(jax.random.key(0), config, MAGENTA.size).average)
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), params)
    params["params"]["logits_head"]["bias"] = np.asarray(logits, np.float32)
    rows = theory.theory_tokens(composer, params, jax.random.key(0), 200, 64, temperature)
    shares = np.bincount(rows.ravel(), minlength=MAGENTA.size) / rows.size
    np.testing.assert_allclose(shares, special.softmax(logits / temperature), atol=0.012)
