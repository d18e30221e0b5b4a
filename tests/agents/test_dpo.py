import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import best_of_n, dpo
from mammadai_jax.agents.reward_model import Pairs
from mammadai_jax.networks.composer import Composer

SIZE, C, T, N = 7, 3, 6, 24
COMPOSER = Composer(SIZE, body="lstm", width=8, lookback=())
CONFIG = dpo.Config(batch=8, learning_rate=1e-2, beta=0.5)
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, SIZE, (2, N, T))
DATA = Pairs(
    jnp.asarray(RANDOM.normal(size=(N, C)), jnp.float32),
    *jnp.asarray(TOKENS),
    jnp.asarray(np.tile([1, -1, 0, 1], N // 4)),
)
update = jax.jit(dpo.step, static_argnums=2)


@pytest.fixture(scope="module")
def params():
    @jax.jit
    def fresh(key):
        fed = jnp.zeros((1, 1), jnp.int32)
        params = COMPOSER.init(key, fed, fed, jnp.zeros((1, C)))
        return jax.tree.map(lambda x: x + 0.3 * jax.random.normal(key, x.shape), params)

    return fresh(jax.random.key(0))


def train(key, params, config, updates):
    state = dpo.init(key, config, params)
    return jax.lax.scan(lambda s, _: dpo.step(s, config, COMPOSER, DATA), state, length=updates)


def test_log_probabilities_are_those_of_writing_note_by_note(params):
    found = dpo.log_prob(params, COMPOSER, DATA.condition, DATA.a)

    def write(carry, played):
        fed, token, time = played
        carry, total = carry
        output, carry = COMPOSER.apply(params, carry, fed, time, DATA.condition, method="step")
        total += jax.nn.log_softmax(output.logits)[jnp.arange(N), token]
        return (carry, total), None

    tokens = DATA.a.T
    fed = jnp.concatenate([jnp.full((1, N), SIZE), tokens[:-1]])
    times = jnp.broadcast_to(jnp.arange(T)[:, None], tokens.shape)
    begin = COMPOSER.initial_carry(N), jnp.zeros(N)
    (_, expected), _ = jax.lax.scan(write, begin, (fed, tokens, times))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_at_the_reference_the_loss_is_a_coin_and_pushes_the_chosen_up(params):
    objective = jax.jit(lambda p: dpo.loss(p, params, CONFIG, COMPOSER, DATA))
    loss, metrics = objective(params)
    assert float(loss) == pytest.approx(math.log(2), abs=1e-6)
    assert metrics.keys() >= {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"}
    assert float(metrics["rewards/margins"]) == pytest.approx(0.0, abs=1e-5)

    # there, the gradient is -beta / 2 times that of log pi(w) - log pi(l), of the pairs that are not tied
    def margin(p):
        first = dpo.log_prob(p, COMPOSER, DATA.condition, DATA.a)
        second = dpo.log_prob(p, COMPOSER, DATA.condition, DATA.b)
        return (DATA.choice * (first - second)).sum() / (DATA.choice != 0).sum()

    found = jax.jit(jax.grad(lambda p: dpo.loss(p, params, CONFIG, COMPOSER, DATA)[0]))(params)
    expected = jax.tree.map(lambda g: -0.25 * g, jax.jit(jax.grad(margin))(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)
    assert max(np.abs(x).max() for x in jax.tree.leaves(expected)) > 1e-2
    moved = objective(jax.tree.map(lambda p, g: p - 1e-2 * g, params, found))[1]
    assert moved["rewards/margins"] > 0 > moved["rewards/rejected"]
    assert moved["logps/chosen"] > metrics["logps/chosen"]


def test_tied_pairs_say_nothing(params):
    objective = jax.jit(lambda p, d: dpo.loss(p, params, CONFIG, COMPOSER, d)[0])
    moved = jax.tree.map(lambda x: 1.1 * x, params)
    tied = (DATA.choice == 0)[:, None]
    other = DATA.replace(a=jnp.where(tied, 0, DATA.a))
    np.testing.assert_allclose(objective(moved, DATA), objective(moved, other), rtol=1e-6)
    weighted = DATA.replace(weight=(DATA.choice > 0) * 2.0)
    without = DATA.replace(choice=jnp.maximum(DATA.choice, 0))
    np.testing.assert_allclose(objective(moved, weighted), objective(moved, without), rtol=1e-5)


def test_pairs_are_learned_and_the_reference_stays(params):
    config = CONFIG.replace(epochs=20.0)
    state, metrics = jax.jit(lambda p: train(jax.random.key(0), p, config, 60))(params)
    assert metrics["rewards/accuracies"][-3:].min() == 1.0
    assert metrics["loss"][-1] < 0.35 < metrics["loss"][0]
    jax.tree.map(np.testing.assert_array_equal, state.reference, params)
    assert int(state.update) == 60


def test_seeds_together_equal_seeds_alone(params):
    keys = jax.random.split(jax.random.key(0), 2)
    together = jax.jit(jax.vmap(lambda key: train(key, params, CONFIG, 3)[0].params))(keys)
    alone = jax.jit(lambda key: train(key, params, CONFIG, 3)[0].params)
    for seed in range(2):
        pairs = jax.tree.map(lambda x, y: float(np.abs(x[seed] - y).max()), together, alone(keys[seed]))  # noqa: B023
        assert max(jax.tree.leaves(pairs)) < 1e-4


def test_resumed_is_the_same_to_the_bit(params):
    state = middle = dpo.init(jax.random.key(0), CONFIG, params)
    for count in range(4):
        state, _ = update(state, CONFIG, COMPOSER, DATA)
        middle = state if count == 1 else middle
    key = np.asarray(jax.random.key_data(middle.key))
    saved = jax.tree.map(np.asarray, middle.replace(key=key))
    again = jax.tree.map(jnp.asarray, saved)
    again = again.replace(key=jax.random.wrap_key_data(again.key))
    for _ in range(2):
        again, _ = update(again, CONFIG, COMPOSER, DATA)
    again, state = (s.replace(key=jax.random.key_data(s.key)) for s in (again, state))
    jax.tree.map(np.testing.assert_array_equal, again, state)


# --- best of n


@pytest.mark.parametrize("n", [1, 4, 16])
def test_divergence_of_the_best_against_simulation(n):
    values, prompts = 10_000, 20_000
    sample = lambda key: jax.random.randint(key, (prompts, 1), 0, values)
    best, scores = best_of_n.best_of_n(jax.random.key(0), n, sample, lambda tokens: 3.0 * tokens[:, 0])
    np.testing.assert_array_equal(scores, 3.0 * best[:, 0])
    # P(best = k) = (F_k)^n - (F_{k-1})^n, against 1 / values
    k = np.asarray(best[:, 0], np.float64)
    ratio = values * (((k + 1) / values) ** n - (k / values) ** n)
    assert best_of_n.divergence(n) == pytest.approx(np.log(ratio).mean(), abs=0.04)


def test_the_best_of_each_prompt_is_kept():
    sample = lambda key: jax.random.randint(key, (5, 3), 0, 50)
    score = lambda tokens: tokens.sum(axis=1)
    best, scores = jax.jit(lambda key: best_of_n.best_of_n(key, 6, sample, score))(jax.random.key(1))
    every = np.stack([sample(key) for key in jax.random.split(jax.random.key(1), 6)])
    np.testing.assert_array_equal(scores, every.sum(axis=2).max(axis=0))
    np.testing.assert_array_equal(best, every[every.sum(axis=2).argmax(axis=0), np.arange(5)])
    with pytest.raises(ValueError, match="n is 1 or more"):
        best_of_n.best_of_n(jax.random.key(0), 0, sample, score)
