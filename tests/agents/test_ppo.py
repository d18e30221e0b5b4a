import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mammadai_jax.agents import ppo
from mammadai_jax.environments import Accompanied
from mammadai_jax.networks.mlp import ActorCritic, Opinion
from tests.agents import probes

T, B = 7, 3
REWARD, VALUE = np.random.default_rng(0).normal(size=(2, T, B)).astype(np.float32)


def estimate(transform, reward, value, discount, trace):
    function = transform(lambda r, v: ppo.advantages(r, v, discount, trace))
    return function(jnp.asarray(reward), jnp.asarray(value))


def test_advantages_by_hand(transform):
    reward = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, -1.0]], np.float32)
    value = np.array([[0.5, 1.0], [1.0, 0.0], [2.0, 0.5]], np.float32)
    # one-step errors: 1, 2, 1 and -1, 1.25, -1.5; a quarter of each advantage goes back
    expected = [[1.5625, -0.78125], [2.25, 0.875], [1.0, -1.5]]
    np.testing.assert_allclose(estimate(transform, reward, value, 0.5, 0.5), expected, atol=1e-6)


def test_advantages_against_the_defining_sum(transform):
    discount, trace = 0.9, 0.7
    values = np.concatenate([VALUE, np.zeros((1, B))])
    delta = REWARD + discount * values[1:] - values[:-1]
    expected = [sum((discount * trace) ** (k - t) * delta[k] for k in range(t, T)) for t in range(T)]
    np.testing.assert_allclose(estimate(transform, REWARD, VALUE, discount, trace), expected, atol=1e-5)


def test_advantages_between_return_and_one_step_error(transform):
    values = np.concatenate([VALUE, np.zeros((1, B))])
    returns = [sum(0.9 ** (k - t) * REWARD[k] for k in range(t, T)) for t in range(T)]
    np.testing.assert_allclose(estimate(transform, REWARD, VALUE, 0.9, 1.0), returns - VALUE, atol=1e-5)
    one_step = REWARD + 0.9 * values[1:] - VALUE
    np.testing.assert_allclose(estimate(transform, REWARD, VALUE, 0.9, 0.0), one_step, atol=1e-6)


def test_advantages_take_no_other_shapes():
    with pytest.raises(AssertionError):
        ppo.advantages(jnp.ones((3, 2)), jnp.ones((4, 2)), 0.9, 0.9)
    with pytest.raises(AssertionError):
        ppo.advantages(jnp.ones(3), jnp.ones(3), 0.9, 0.9)


class Given:
    """A network whose parameters are its outputs."""

    @staticmethod
    def apply(params, observation):
        return Opinion(params["logits"], params["value"])


RATIOS = np.array([1.5, 1.5, 0.5, 0.5])
GIVEN = {"logits": jnp.zeros((4, 2)), "value": jnp.array([0.5, 0.1, 0.5, -0.5])}
GOLDEN = ppo.Batch(
    observation=jnp.zeros((4, 1)),
    action=jnp.array([0, 1, 0, 1]),
    log_prob=jnp.asarray(np.log(0.5 / RATIOS), jnp.float32),
    value=jnp.zeros(4),
    advantage=jnp.array([1.0, -1.0, 1.0, -1.0]),  # of mean 0 and deviation 1 already
    target=jnp.array([1.0, 1.0, 0.3, 0.0]),
)
CONFIG = ppo.Config(clip=0.2, value_clip=0.2, value_weight=0.5, entropy_weight=0.1)


def test_loss_by_hand(transform):
    loss, metrics = transform(lambda p, b: ppo.loss(p, Given, b, CONFIG))(GIVEN, GOLDEN)
    policy_loss = -np.mean([1.2, -1.5, 0.5, -0.8])  # clipped above, not, not, clipped below
    value_loss = 0.5 * np.mean([0.8**2, 0.9**2, 0.2**2, 0.5**2])  # clipped, inside, not, not
    expected = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": np.log(2),
        "approximate_kl": np.mean(RATIOS - 1 - np.log(RATIOS)),
        "clip_fraction": 1.0,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(loss, policy_loss + 0.5 * value_loss - 0.1 * np.log(2), atol=1e-6)


def test_gradient_stops_at_the_clip(transform):
    config = CONFIG.replace(entropy_weight=0.0)
    gradient = transform(jax.grad(lambda p, b: ppo.loss(p, Given, b, config)[0]))(GIVEN, GOLDEN)
    # d/dlogit of -r A / 4 is -r A (1 - pi) / 4 at the action and the opposite at the other
    slope = np.array([0.0, 1.5, -0.5, 0.0]) / 8
    sign = np.where(np.asarray(GOLDEN.action)[:, None] == np.arange(2), 1, -1)
    np.testing.assert_allclose(gradient["logits"], slope[:, None] * sign, atol=1e-6)
    np.testing.assert_allclose(gradient["value"], np.array([0.0, -0.9, 0.2, -0.5]) / 8, atol=1e-6)


def test_advantages_are_standardised():
    moved = ppo.whitened(7.0 + 3.0 * GOLDEN.advantage)
    np.testing.assert_allclose(moved, GOLDEN.advantage, atol=1e-6)


def test_advantages_may_stay_as_they_are():
    moved = GOLDEN._replace(advantage=3.0 * GOLDEN.advantage)
    _, metrics = ppo.loss(GIVEN, Given, moved, CONFIG)
    np.testing.assert_allclose(metrics["policy_loss"], 3 * 0.15, atol=1e-6)


def small_batch(actor):
    """Parameters, and 16 notes as they themselves would have played them."""
    random = np.random.default_rng(0)
    observation = jnp.asarray(random.normal(size=(16, 4)), jnp.float32)
    action = jnp.asarray(random.integers(0, 3, 16))
    params = actor.init(jax.random.key(0), observation)
    logits, value = actor.apply(params, observation)
    log_prob = jax.nn.log_softmax(logits)[jnp.arange(16), action]
    advantage = jnp.asarray(random.normal(size=16), jnp.float32)
    return params, ppo.Batch(observation, action, log_prob, value, advantage, value + advantage)


def test_at_ratio_one_the_gradient_is_that_of_the_policy_gradient(transform):
    actor = ActorCritic(3, (8,))
    params, batch = small_batch(actor)
    standard = (batch.advantage - batch.advantage.mean()) / batch.advantage.std()

    def vanilla(params):
        logits = jax.nn.log_softmax(actor.apply(params, batch.observation).logits)
        return -(standard * logits[jnp.arange(16), batch.action]).mean()

    config = ppo.Config(value_weight=0.0)
    batch = batch._replace(advantage=ppo.whitened(batch.advantage))
    found = transform(jax.grad(lambda p: ppo.loss(p, actor, batch, config)[0]))(params)
    expected = jax.grad(vanilla)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
    assert max(np.abs(x).max() for x in jax.tree.leaves(expected)) > 1e-3


def play_probe(config, env, updates, key):
    """Train on a probe -> learner's state, the last metrics."""
    learn = lambda state, _: ppo.step(state, config, env, env.default_params)
    state, metrics = jax.lax.scan(learn, ppo.init(key, config, env), length=updates)
    return state, jax.tree.map(lambda x: x[-1], metrics)


def test_one_epoch_of_one_minibatch_is_one_step_of_the_optimiser():
    env = probes.matched()
    config = ppo.Config(hidden=(8,), melodies=16, steps=1, epochs=1, minibatches=1, learning_rate=0.1)
    actor, state = ppo.network(config, env), ppo.init(jax.random.key(0), config, env)
    trajectory = ppo.play(state.params, config, env, env.default_params, jax.random.key(1))
    improved, _, _ = ppo.improve(state.params, state.opt_state, config, actor, trajectory, jax.random.key(2))
    observation, action, log_prob, reward = jax.tree.map(lambda x: x[0], trajectory)
    value = actor.apply(state.params, observation).value
    batch = ppo.Batch(observation, action, log_prob, value, reward - value, reward)
    gradient = jax.grad(lambda p: ppo.loss(p, actor, batch, config)[0])(state.params)
    norm = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(gradient)))
    gradient = jax.tree.map(lambda g: g * min(1.0, 0.5 / norm), gradient)
    # Adam's first step is the gradient's sign, nearly
    expected = jax.tree.map(lambda p, g: p - 0.1 * g / (jnp.abs(g) + 1e-5), state.params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), improved, expected)


def test_notes_must_be_shared_evenly():
    env = probes.constant()
    config = ppo.Config(hidden=(4,), melodies=3, steps=1, minibatches=2)
    with pytest.raises(ValueError, match="3 notes cannot be shared by 2 minibatches"):
        ppo.step(ppo.init(jax.random.key(0), config, env), config, env, env.default_params)


PROBE = ppo.Config(
    hidden=(8,), melodies=64, steps=1, minibatches=2, learning_rate=0.02, discount=probes.DISCOUNT
)


def opinion(state, env, observations):
    return ppo.network(PROBE, env).apply(state.params, jnp.asarray(observations, jnp.float32)[:, None])


@pytest.mark.parametrize(
    ("probe", "seen", "values"),
    [
        (probes.constant, [-1, 1], [1.0, 1.0]),
        (probes.observed, [-1, 1], [-1.0, 1.0]),
        (probes.discounted, [0, 1, 2], [probes.DISCOUNT**2, probes.DISCOUNT, 1.0]),
    ],
)
def test_values_of_probes(probe, seen, values):
    env = probe()
    config = PROBE.replace(steps=env.length)
    state, metrics = jax.jit(functools.partial(play_probe, config, env, 150))(jax.random.key(0))
    np.testing.assert_allclose(opinion(state, env, seen).value, values, atol=0.05)
    assert int(state.update) == 150
    if env.length > 1:
        assert metrics["explained_variance"] > 0.95


@pytest.mark.parametrize(
    ("probe", "seen", "best"), [(probes.choice, [-1, 1], [1, 1]), (probes.matched, [-1, 1], [0, 1])]
)
def test_policies_of_probes(probe, seen, best):
    env = probe()
    train = jax.jit(jax.vmap(functools.partial(play_probe, PROBE, env, 40)))
    states, metrics = train(jax.random.split(jax.random.key(0), 2))
    for seed in range(2):
        state = jax.tree.map(lambda x: x[seed], states)  # noqa: B023
        probabilities = jax.nn.softmax(opinion(state, env, seen).logits)
        assert probabilities[jnp.arange(2), jnp.array(best)].min() > 0.95
    assert metrics["return"].min() > 0.9
    assert any(np.abs(leaf[0] - leaf[1]).max() > 1e-3 for leaf in jax.tree.leaves(states.params))


def widen(params, scale):
    """Heads begin near zero: move them so that a difference would be seen."""
    return jax.tree.map(lambda x: x + scale * jax.random.normal(jax.random.key(1), x.shape), params)


def accompanied():
    frames = np.random.default_rng(0).random((2, 12, 128)) < 0.05
    env = Accompanied("decayed", "both", accompaniments=frames)
    config = ppo.Config(hidden=(16,), melodies=5, steps=12)
    params = ppo.init(jax.random.key(0), config, env).params
    return env, config, widen(params, 0.3)


def test_recorded_log_probabilities_are_those_of_the_policy():
    env, config, params = accompanied()
    arguments = params, config, env, env.default_params, jax.random.key(3)
    play = jax.jit(lambda t: ppo.play(*arguments, temperature=t))
    for temperature in (0.7, 1.0, 1.3):
        trajectory = play(temperature)
        logits = ppo.network(config, env).apply(params, trajectory.observation).logits / temperature
        assert np.ptp(np.asarray(logits), axis=-1).min() > 1.0
        expected = jnp.take_along_axis(jax.nn.log_softmax(logits), trajectory.action[..., None], axis=-1)
        np.testing.assert_allclose(trajectory.log_prob, expected[..., 0], atol=1e-5)
        assert trajectory.action.shape == (12, 5)
        assert trajectory.action.dtype == jnp.int32


def test_play_sees_what_the_environment_shows():
    env, config, params = accompanied()
    states = jax.vmap(env.begin)(jnp.array([1, 0, 1, 1, 0]))
    env.reward = lambda state, action, after: 1.0 * action + after.time
    trajectory = ppo.play(params, config, env, env.default_params, jax.random.key(3), states)
    for column in (0, 1):
        state = env.begin(jnp.int32([1, 0][column]))
        for t in range(12):
            np.testing.assert_array_equal(
                trajectory.observation[t, column], env.observe(state, env.default_params)
            )
            action = trajectory.action[t, column]
            state = env.advance(state, action, env.default_params)
            assert trajectory.reward[t, column] == action + t + 1


def test_played_notes_follow_the_policy():
    env = probes.choice()
    config = ppo.Config(hidden=(4,), melodies=4000, steps=1)
    params = ppo.init(jax.random.key(0), config, env).params
    params = widen(params, 0.5)
    arguments = params, config, env, env.default_params, jax.random.key(2)
    play = jax.jit(lambda t: ppo.play(*arguments, temperature=t))

    def fit(trajectory, temperature):
        logits = ppo.network(config, env).apply(params, trajectory.observation[0]).logits / temperature
        expected = np.asarray(jax.nn.softmax(logits), np.float64).sum(axis=0)
        counts = np.bincount(trajectory.action[0], minlength=2)
        return stats.chisquare(counts, expected * 4000 / expected.sum()).pvalue

    assert fit(play(1.0), 1.0) > 1e-2
    assert fit(play(0.4), 0.4) > 1e-2
    assert fit(play(0.4), 1.0) < 1e-6


def test_the_value_is_free_unless_its_change_is_clipped():
    free = ppo.loss(GIVEN, Given, GOLDEN, CONFIG.replace(value_clip=None))[1]["value_loss"]
    assert free == pytest.approx(0.5 * np.mean([0.5**2, 0.9**2, 0.2**2, 0.5**2]))
