import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from mammadai_jax.agents import expert_iteration
from tests.agents.table import table, table_of

SIZE, PROMPTS = 5, {"condition": jnp.zeros((3, 2))}
COMPOSER = table_of(SIZE)
LOGITS = np.random.default_rng(0).normal(size=(SIZE + 1, SIZE))
PARAMS = table(LOGITS, np.zeros(SIZE + 1))
PARAMS["params"]["condition_layer"] = {"kernel": np.zeros((2, SIZE + 1), np.float32)}
update = jax.jit(expert_iteration.step, static_argnums=(2, 4))


def highest(params, rows, tokens):
    """A higher token is better."""
    return tokens.sum(axis=1).astype(jnp.float32)


def learner(**changes):
    config = expert_iteration.Config(num_steps=1, **changes)
    return config, expert_iteration.init(jax.random.key(0), config, PARAMS)


@pytest.mark.parametrize("candidates", [2, 6])
def test_what_is_learned_is_distributed_as_the_best_of_n(candidates):
    """P(the best is k) = F(k)^n - F(k - 1)^n, and the loss is its cross entropy under the policy."""
    config, state = learner(num_envs=20_000, candidates=candidates, learning_rate=0.0)
    _, metrics = update(state, config, COMPOSER, PROMPTS, highest, ())
    log_policy = log_softmax(LOGITS[SIZE])
    below = np.concatenate([[0.0], np.cumsum(np.exp(log_policy))])
    best = np.diff(below**candidates)
    assert float(metrics["bits"]) == pytest.approx(-(best * log_policy).sum() / np.log(2), abs=0.03)
    assert float(metrics["reward/best"]) == pytest.approx((best * np.arange(SIZE)).sum(), abs=0.03)
    assert float(metrics["reward/mean"]) == pytest.approx(
        (np.exp(log_policy) * np.arange(SIZE)).sum(), abs=0.03
    )


def test_a_step_is_one_of_likelihood_on_the_best():
    """The gradient of the logits is policy - best, and Adam's first step is its sign."""
    config, state = learner(num_envs=20_000, candidates=3, learning_rate=0.01)
    after, _ = update(state, config, COMPOSER, PROMPTS, highest, ())
    policy = np.exp(log_softmax(LOGITS[SIZE]))
    best = np.diff(np.concatenate([[0.0], np.cumsum(policy)]) ** 3)
    moved = after.params["params"]["logits_head"]["kernel"] - PARAMS["params"]["logits_head"]["kernel"]
    np.testing.assert_allclose(np.asarray(moved)[SIZE], 0.01 * np.sign(best - policy), rtol=1e-3)
    assert after.update == 1 and not (after.params["params"]["logits_head"]["kernel"] == 0).all()


def test_the_policy_becomes_its_expert():
    config, state = learner(num_envs=64, candidates=4, learning_rate=0.05, num_updates=150)
    run = jax.jit(
        lambda state: jax.lax.scan(
            lambda state, _: expert_iteration.step(state, config, COMPOSER, PROMPTS, highest, ()),
            state,
            length=150,
        )
    )
    state, metrics = run(state)
    assert metrics["reward/mean"][-1] > SIZE - 1.05 > metrics["reward/mean"][0]
    assert int(state.update) == 150


def test_equal_rewards_teach_nothing():
    """The expert is the policy then, and the mean gradient is zero."""
    config, state = learner(num_envs=20_000, candidates=3)
    equal = functools.partial(lambda *given: jnp.zeros(len(given[-1])))
    _, metrics = update(state, config, COMPOSER, PROMPTS, equal, ())
    assert float(metrics["grad_norm"]) < 0.02
