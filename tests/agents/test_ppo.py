import jax
import numpy as np
import pytest
from scipy import special, stats

from mammadai_jax.agents import ppo
from mammadai_jax.environments import Accompanied
from mammadai_jax.learning import minibatches
from mammadai_jax.networks.mlp import Output
from mammadai_jax.objectives import returns
from tests.agents import probes
from tests.agents.probes import Probe, compiled

T, B = 7, 3
REWARD, VALUE = np.random.default_rng(0).normal(size=(2, T, B)).astype(np.float32)


def estimate(reward, value, discount, trace):
    return compiled(lambda r, v: returns.advantages(r, v, discount, trace))(reward, value)


def test_advantages_by_hand():
    reward = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, -1.0]], np.float32)
    value = np.array([[0.5, 1.0], [1.0, 0.0], [2.0, 0.5]], np.float32)
    # one-step errors: 1, 2, 1 and -1, 1.25, -1.5; a quarter of each advantage goes back
    expected = [[1.5625, -0.78125], [2.25, 0.875], [1.0, -1.5]]
    np.testing.assert_allclose(estimate(reward, value, 0.5, 0.5), expected, atol=1e-6)


def test_advantages_against_the_defining_sum():
    discount, trace = 0.9, 0.7
    values = np.concatenate([VALUE, np.zeros((1, B))])
    delta = REWARD + discount * values[1:] - values[:-1]
    expected = [sum((discount * trace) ** (k - t) * delta[k] for k in range(t, T)) for t in range(T)]
    np.testing.assert_allclose(estimate(REWARD, VALUE, discount, trace), expected, atol=1e-5)


def test_advantages_between_return_and_one_step_error():
    values = np.concatenate([VALUE, np.zeros((1, B))])
    returns = [sum(0.9 ** (k - t) * REWARD[k] for k in range(t, T)) for t in range(T)]
    np.testing.assert_allclose(estimate(REWARD, VALUE, 0.9, 1.0), returns - VALUE, atol=1e-5)
    one_step = REWARD + 0.9 * values[1:] - VALUE
    np.testing.assert_allclose(estimate(REWARD, VALUE, 0.9, 0.0), one_step, atol=1e-6)


def test_advantages_take_no_other_shapes():
    with pytest.raises(AssertionError):
        returns.advantages(np.ones((3, 2)), np.ones((4, 2)), 0.9, 0.9)
    with pytest.raises(AssertionError):
        returns.advantages(np.ones(3), np.ones(3), 0.9, 0.9)


class Given:
    """A network whose parameters are its outputs."""

    @staticmethod
    def apply(params, observation):
        return Output(params["logits"], params["value"])


RATIOS = np.array([1.5, 1.5, 0.5, 0.5])
GIVEN = {"logits": np.zeros((4, 2), "f"), "value": np.array([0.5, 0.1, 0.5, -0.5], "f")}
GOLDEN = ppo.Batch(
    observation=np.zeros((4, 1), "f"),
    action=np.array([0, 1, 0, 1]),
    log_prob=np.log(0.5 / RATIOS).astype("f"),
    value=np.zeros(4, "f"),
    advantage=np.array([1.0, -1.0, 1.0, -1.0], "f"),  # of mean 0 and deviation 1 already
    target=np.array([1.0, 1.0, 0.3, 0.0], "f"),
)
CONFIG = ppo.Config(clip_eps=0.2, vf_clip_eps=0.2, vf_coef=0.5, ent_coef=0.1)


def test_loss_by_hand():
    loss, metrics = compiled(lambda p, b: ppo.loss(p, Given, b, CONFIG))(GIVEN, GOLDEN)
    policy_loss = -np.mean([1.2, -1.5, 0.5, -0.8])  # clipped above, not, not, clipped below
    value_loss = 0.5 * np.mean([0.8**2, 0.9**2, 0.2**2, 0.5**2])  # clipped, inside, not, not
    expected = {
        "loss/policy_avg": policy_loss,
        "loss/value_avg": value_loss,
        "policy/entropy_avg": np.log(2),
        "policy/approxkl_avg": np.mean(RATIOS - 1 - np.log(RATIOS)),
        "policy/clipfrac_avg": 1.0,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(loss, policy_loss + 0.5 * value_loss - 0.1 * np.log(2), atol=1e-6)


def test_a_ratio_on_the_edge_is_not_clipped():
    same = GOLDEN._replace(log_prob=jax.nn.log_softmax(GIVEN["logits"])[:, 0])
    metrics = jax.jit(lambda batch: ppo.loss(GIVEN, Given, batch, CONFIG.replace(clip_eps=0.0))[1])(same)
    assert metrics["policy/clipfrac_avg"] == 0


def test_gradient_stops_at_the_clip():
    config = CONFIG.replace(ent_coef=0.0)
    gradient = compiled(jax.grad(lambda p, b: ppo.loss(p, Given, b, config)[0]))(GIVEN, GOLDEN)
    # d/dlogit of -r A / 4 is -r A (1 - pi) / 4 at the action and the opposite at the other
    slope = np.array([0.0, 1.5, -0.5, 0.0]) / 8
    sign = np.where(np.asarray(GOLDEN.action)[:, None] == np.arange(2), 1, -1)
    np.testing.assert_allclose(gradient["logits"], slope[:, None] * sign, atol=1e-6)
    np.testing.assert_allclose(gradient["value"], np.array([0.0, -0.9, 0.2, -0.5]) / 8, atol=1e-6)


def test_advantages_are_standardised():
    moved = jax.jit(minibatches.normalized)(7.0 + 3.0 * GOLDEN.advantage)
    np.testing.assert_allclose(moved, GOLDEN.advantage, atol=1e-6)


def test_advantages_may_stay_as_they_are_and_the_value_be_free():
    moved, config = GOLDEN._replace(advantage=3.0 * GOLDEN.advantage), CONFIG.replace(vf_clip_eps=None)
    metrics = jax.jit(lambda batch: ppo.loss(GIVEN, Given, batch, config)[1])(moved)
    np.testing.assert_allclose(metrics["loss/policy_avg"], 3 * 0.15, atol=1e-6)
    free = 0.5 * np.mean([0.5**2, 0.9**2, 0.2**2, 0.5**2])
    np.testing.assert_allclose(metrics["loss/value_avg"], free, atol=1e-6)


def test_the_value_is_clipped_in_both_directions():
    given = {"logits": np.zeros((2, 2), "f"), "value": np.array([0.5, -0.5], "f")}
    batch = jax.tree.map(lambda x: x[:2], GOLDEN)._replace(target=np.array([1.0, -1.0], "f"))
    metrics = jax.jit(lambda batch: ppo.loss(given, Given, batch, CONFIG)[1])(batch)
    np.testing.assert_allclose(metrics["loss/value_avg"], 0.5 * 0.8**2, atol=1e-6)


def test_at_ratio_one_the_gradient_is_that_of_the_policy_gradient(random):
    """Of a table of logits, by hand: -(one-hot - pi) A / N, with standardised advantages."""
    logits = random.normal(size=(16, 3)).astype("f")
    action, advantage = random.integers(0, 3, 16), random.normal(size=16).astype("f")
    log_policy = special.log_softmax(logits, axis=-1)
    nothing = np.zeros(16, "f")
    batch = ppo.Batch(logits, action, log_policy[np.arange(16), action], nothing, advantage, nothing)

    def loss(logits, batch):
        batch = batch._replace(advantage=minibatches.normalized(batch.advantage))
        given = {"logits": logits, "value": nothing}
        return ppo.loss(given, Given, batch, ppo.Config(vf_coef=0.0))[0]

    found = compiled(jax.grad(loss))(logits, batch)
    standard = (advantage - advantage.mean()) / advantage.std()
    slope = np.eye(3)[action] - np.exp(log_policy)
    np.testing.assert_allclose(found, -standard[:, None] * slope / 16, atol=1e-6)


def test_one_epoch_of_one_minibatch_is_one_step_of_the_optimiser():
    env = Probe(probes.matched)
    config = ppo.Config(
        hidden=(8,), num_envs=16, num_steps=1, num_epochs=1, num_minibatches=1, learning_rate=0.1
    )
    actor = ppo.network(config, env)

    @jax.jit
    def learn():
        """The parameters before and after, and the gradient between them."""
        state = ppo.init(jax.random.key(0), config, env)
        trajectory = ppo.play(state.params, config, env, env.default_params, jax.random.key(1))
        key = jax.random.key(2)
        improved, _, _ = ppo.update_policy(state.params, state.opt_state, config, actor, trajectory, key)
        observation, action, log_prob, reward = jax.tree.map(lambda x: x[0], trajectory)
        value = actor.apply(state.params, observation).value
        batch = ppo.Batch(
            observation, action, log_prob, value, minibatches.normalized(reward - value), reward
        )
        return state.params, improved, jax.grad(lambda p: ppo.loss(p, actor, batch, config)[0])(state.params)

    params, improved, gradient = jax.tree.map(np.asarray, learn())
    norm = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(gradient)))
    assert norm > 0.5
    gradient = jax.tree.map(lambda g: g * 0.5 / norm, gradient)
    # Adam's first step is the gradient's sign, nearly
    expected = jax.tree.map(lambda p, g: p - 0.1 * g / (np.abs(g) + 1e-5), params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), improved, expected)


def test_notes_must_be_shared_evenly():
    env = Probe(probes.constant)
    config = ppo.Config(hidden=(4,), num_envs=3, num_steps=1, num_minibatches=2)
    learn = lambda key: ppo.step(ppo.init(key, config, env), config, env, env.default_params)
    with pytest.raises(ValueError, match="3 notes cannot be shared by 2 minibatches"):
        jax.eval_shape(learn, jax.random.key(0))


# Learning, of probes


HALF = 0.5  # the discount
REWARDS = (probes.constant, probes.observed, probes.delayed, probes.choice, probes.matched)
CONSTANT, OBSERVED, DELAYED, CHOICE, MATCHED = range(5)
SEEN = np.array([[signal, time] for signal in (-1.0, 1.0) for time in range(3)], "f")


@pytest.fixture(scope="module")
def learned():
    """What is learned of each probe by one program: opinions of all that can be seen, and metrics."""
    config = ppo.Config((8,), num_envs=64, num_steps=3, num_minibatches=2, learning_rate=0.02, gamma=HALF)

    def learn(which, key):
        env = Probe(probes.one_of(REWARDS, which), length=3, sees=("signal", "time"))
        update = lambda state, _: ppo.step(state, config, env, env.default_params)
        state, metrics = jax.lax.scan(update, ppo.init(key, config, env), length=100)
        opinion = ppo.network(config, env).apply(state.params, SEEN)
        return opinion, state.update, jax.tree.map(lambda x: x[-1], metrics)

    keys = jax.random.split(jax.random.key(0), len(REWARDS))
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(learn))(np.arange(len(REWARDS)), keys))


@pytest.mark.parametrize(
    ("probe", "values"),
    [
        (CONSTANT, [1.75, 1.5, 1.0] * 2),
        (OBSERVED, [-1.75, -1.5, -1.0, 1.75, 1.5, 1.0]),
        (DELAYED, [HALF**2, HALF, 1.0] * 2),
    ],
)
def test_values_of_probes(learned, probe, values):
    opinion, update, metrics = learned
    np.testing.assert_allclose(opinion.value[probe], values, atol=0.02)
    assert metrics["explained_variance"][probe] > 0.95
    assert update[probe] == 100


@pytest.mark.parametrize(("probe", "best"), [(CHOICE, [1] * 6), (MATCHED, [0] * 3 + [1] * 3)])
def test_policies_of_probes(learned, probe, best):
    opinion, _, metrics = learned
    probabilities = special.softmax(opinion.logits[probe], axis=-1)
    assert probabilities[np.arange(6), best].min() > 0.95
    assert metrics["return"][probe] > 2.7


def widen(params, scale):
    """Heads begin near zero: move them so that a difference would be seen."""
    return jax.tree.map(lambda x: x + scale * jax.random.normal(jax.random.key(1), x.shape), params)


def accompanied():
    frames = np.random.default_rng(0).random((2, 12, 128)) < 0.05
    env = Accompanied("decayed", "both", accompaniments=frames)
    config = ppo.Config(hidden=(16,), num_envs=5, num_steps=12)
    init = lambda key: widen(ppo.init(key, config, env).params, 0.3)
    return env, config, jax.jit(init)(jax.random.key(0))


def test_recorded_log_probabilities_are_those_of_the_policy():
    env, config, params = accompanied()

    @jax.jit
    def play(temperature):
        trajectory = ppo.play(
            params, config, env, env.default_params, jax.random.key(3), temperature=temperature
        )
        return trajectory, ppo.network(config, env).apply(params, trajectory.observation).logits

    for temperature in (0.7, 1.0, 1.3):
        trajectory, logits = jax.tree.map(np.asarray, play(temperature))
        assert np.ptp(logits / temperature, axis=-1).min() > 1.0
        log_policy = special.log_softmax(logits / temperature, axis=-1)
        expected = np.take_along_axis(log_policy, trajectory.action[..., None], axis=-1)[..., 0]
        np.testing.assert_allclose(trajectory.log_prob, expected, atol=1e-5)
        assert trajectory.action.shape == (12, 5)
        assert trajectory.action.dtype == np.int32


def test_play_sees_what_the_environment_shows():
    env, config, params = accompanied()
    pieces = np.array([1, 0, 1, 1, 0], np.int32)
    env.reward = lambda state, action, after: 1.0 * action + after.time

    @jax.jit
    def play():
        states = jax.vmap(env.begin)(pieces)
        return ppo.play(params, config, env, env.default_params, jax.random.key(3), states)

    trajectory = jax.tree.map(np.asarray, play())
    observe = jax.jit(lambda state: env.observe(state, env.default_params))
    advance = jax.jit(lambda state, action: env.advance(state, action, env.default_params))
    for column in (0, 1):
        state = env.begin(pieces[column])
        for t in range(12):
            np.testing.assert_array_equal(trajectory.observation[t, column], observe(state))
            state = advance(state, trajectory.action[t, column])
            assert trajectory.reward[t, column] == trajectory.action[t, column] + t + 1


def test_played_notes_follow_the_policy():
    env = Probe(probes.choice)
    config = ppo.Config(hidden=(4,), num_envs=4000, num_steps=1)

    @jax.jit
    def play(temperature):
        params = widen(ppo.init(jax.random.key(0), config, env).params, 0.5)
        key = jax.random.key(2)
        played = ppo.play(params, config, env, env.default_params, key, temperature=temperature)
        return played.action[0], ppo.network(config, env).apply(params, played.observation[0]).logits

    def fit(played, temperature):
        action, logits = jax.tree.map(np.asarray, played)
        expected = special.softmax(logits.astype(float) / temperature, axis=-1).sum(axis=0)
        return stats.chisquare(np.bincount(action, minlength=2), expected * 4000 / expected.sum()).pvalue

    assert fit(play(1.0), 1.0) > 1e-2
    assert fit(play(0.4), 0.4) > 1e-2
    assert fit(play(0.4), 1.0) < 1e-6
