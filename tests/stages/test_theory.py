import jax
import numpy as np

from mammadai_jax.music import theory as rules
from mammadai_jax.stages import STAGES, theory
from mammadai_jax.training.context import context_of, restore
from mammadai_jax.training.stage import ComposeRequest
from tests.training.tiny import ROAD


def test_theory_begins_as_the_prior_and_keeps_it(taught):
    context = context_of(ROAD, STAGES, taught)
    params = context.learned("prior")
    learner = theory.make_learner(ROAD.theory, context, ())
    trained = restore(theory.STAGE, ROAD.theory, context)
    begun = jax.jit(lambda: [getattr(learner.init(), name) for name in ("params", "average", "prior")])()
    for same in (*begun, trained.prior):
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, same, params)))
    for other in (trained.params, trained.average):
        assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, other, params)))
    metrics = jax.eval_shape(learner.step, jax.eval_shape(learner.init), ())[1]
    assert {"theory", "log_prior", "entropy", "loss", *rules.RULES} == set(metrics)


def test_pieces_are_as_long_as_those_that_were_trained_on(taught):
    context = context_of(ROAD, STAGES, taught)
    learned, request = context.learned("theory"), ComposeRequest(2)
    samples = theory.compose(ROAD.theory, context, learned, jax.random.key(0), request)
    assert [len(sample.melody.events) for sample in samples] == [ROAD.theory.length] * 2
