import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mammadai_jax.agents import ppo
from mammadai_jax.environments import Accompanied
from mammadai_jax.learning import minibatches
from mammadai_jax.networks.mlp import Output
from tests.agents import probes
from tests.agents.probes import Probe, Walk, compiled


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
    loss, metrics = compiled(lambda p, b: ppo.clipped_loss(p, Given, b, CONFIG))(GIVEN, GOLDEN)
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
    metrics = jax.jit(lambda batch: ppo.clipped_loss(GIVEN, Given, batch, CONFIG.replace(clip_eps=0.0))[1])(
        same
    )
    assert metrics["policy/clipfrac_avg"] == 0


def test_gradient_stops_at_the_clip():
    config = CONFIG.replace(ent_coef=0.0)
    gradient = compiled(jax.grad(lambda p, b: ppo.clipped_loss(p, Given, b, config)[0]))(GIVEN, GOLDEN)
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
    metrics = jax.jit(lambda batch: ppo.clipped_loss(GIVEN, Given, batch, config)[1])(moved)
    np.testing.assert_allclose(metrics["loss/policy_avg"], 3 * 0.15, atol=1e-6)
    free = 0.5 * np.mean([0.5**2, 0.9**2, 0.2**2, 0.5**2])
    np.testing.assert_allclose(metrics["loss/value_avg"], free, atol=1e-6)


def test_the_value_is_clipped_in_both_directions():
    given = {"logits": np.zeros((2, 2), "f"), "value": np.array([0.5, -0.5], "f")}
    batch = jax.tree.map(lambda x: x[:2], GOLDEN)._replace(target=np.array([1.0, -1.0], "f"))
    metrics = jax.jit(lambda batch: ppo.clipped_loss(given, Given, batch, CONFIG)[1])(batch)
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
        return ppo.clipped_loss(given, Given, batch, ppo.Config(vf_coef=0.0))[0]

    found = compiled(jax.grad(loss))(logits, batch)
    standard = (advantage - advantage.mean()) / advantage.std()
    slope = np.eye(3)[action] - np.exp(log_policy)
    np.testing.assert_allclose(found, -standard[:, None] * slope / 16, atol=1e-6)


def test_one_epoch_of_one_minibatch_is_one_step_of_the_optimiser():
    env = Probe(probes.matched)
    config = ppo.Config(
        hidden=(8,), num_envs=16, num_steps=1, num_epochs=1, num_minibatches=1, learning_rate=0.1
    )
    actor = ppo.make_network(config, env)

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
        return (
            state.params,
            improved,
            jax.grad(lambda p: ppo.clipped_loss(p, actor, batch, config)[0])(state.params),
        )

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
    with pytest.raises(ValueError, match="num_steps x num_envs = 3 cannot be divided into 2 minibatches"):
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
        opinion = ppo.make_network(config, env).apply(state.params, SEEN)
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


# Episodes of variable length


def learn_walk(exit, gamma, reward_fn=None):
    """What is learned of Walk: logits (3, 2), values (3,), last metrics."""
    env, keywords = Walk(exit), {} if reward_fn is None else {"reward_fn": reward_fn}
    config = ppo.Config(
        (8,), num_envs=32, num_steps=8, num_minibatches=2, learning_rate=0.02, gamma=gamma, ent_coef=0.01
    )

    @jax.jit
    def learn(key):
        update = lambda state, _: ppo.step(state, config, env, **keywords)
        state, metrics = jax.lax.scan(update, ppo.init(key, config, env), length=150)
        opinion = ppo.make_network(config, env).apply(state.params, np.eye(3, dtype="f"))
        return opinion, jax.tree.map(lambda x: x[-1], metrics)

    return jax.tree.map(np.asarray, learn(jax.random.key(0)))


def test_truncated_episodes_are_bootstrapped():
    """Going on earns 1 a step for ever; that a time limit cuts every episode short makes no difference."""
    opinion, metrics = learn_walk(exit=0.0, gamma=0.5)
    assert special.softmax(opinion.logits, axis=-1)[:, 1].min() > 0.95
    np.testing.assert_allclose(opinion.value, 2.0, atol=0.1)
    assert metrics["return"] == pytest.approx(3.0, abs=0.3)


def test_terminated_episodes_are_worth_nothing_afterwards():
    opinion, metrics = learn_walk(exit=3.0, gamma=0.5)
    assert special.softmax(opinion.logits, axis=-1)[:, 0].min() > 0.9
    np.testing.assert_allclose(opinion.value, 3.0, atol=0.2)
    assert metrics["return"] == pytest.approx(3.0, abs=0.3)


def test_any_reward_is_learned():
    """Ends earn 1 and all else nothing, though the environment says otherwise."""
    ends = lambda trajectory: 1.0 * trajectory.reward.terminated
    opinion, metrics = learn_walk(exit=-1.0, gamma=0.5, reward_fn=ends)
    assert special.softmax(opinion.logits, axis=-1)[:, 0].min() > 0.9
    np.testing.assert_allclose(opinion.value, 1.0, atol=0.15)
    assert metrics["return"] < -0.7  # which is the environment's own


def test_episodes_go_on_from_trajectory_to_trajectory():
    """Against the environment stepped one by one: places, end flags, final observations and returns."""
    env, config = Walk(exit=0.5), ppo.Config((4,), num_envs=6, num_steps=5, num_minibatches=1)
    network = ppo.make_network(config, env)

    @jax.jit
    def play(key):
        state = ppo.init(key, config, env)
        parts = []
        for key in jax.random.split(jax.random.key(1)):
            part, now = ppo.continue_episodes(state, config, env, env.default_params, network, key)
            parts.append(part)
            state = state.replace(episodes=now)
        return jax.tree.map(lambda *x: jnp.concatenate(x), *parts), now.total, now.last_return

    played, totals, last_returns = jax.tree.map(np.asarray, play(jax.random.key(0)))
    outcome, place = played.reward, played.observation.argmax(axis=-1)
    for column in range(6):
        time, total, last = 0, 0.0, 0.0
        for t in range(10):
            stopped = played.action[t, column] == 0
            cut = time == 2 and not stopped
            assert (outcome.terminated[t, column], outcome.truncated[t, column]) == (stopped, cut)
            assert outcome.reward[t, column] == (0.5 if stopped else 1.0)
            after = (place[t, column] + 1) % 3
            assert outcome.final_observation[t, column].argmax() == after
            total, time = total + outcome.reward[t, column], time + 1
            if stopped or cut:
                last, total, time = total, 0.0, 0
            elif t < 9:
                assert place[t + 1, column] == after
        assert (totals[column], last_returns[column]) == (total, last)
    assert outcome.truncated.any() and outcome.terminated.any()


def test_any_network_with_a_policy_head_and_any_loss():
    class Linear(nn.Module):
        @nn.compact
        def __call__(self, observation):
            return nn.Dense(2, name="policy")(observation), nn.Dense(1, name="value")(observation)[..., 0]

    def regression(params, network, batch, config):
        value = network.apply(params, batch.observation)[1]
        return jnp.square(value - batch.target).mean(), {"error": jnp.float32(1.0)}

    env, network = Walk(), Linear()
    config = ppo.Config(num_envs=4, num_steps=4, num_minibatches=1)

    @jax.jit
    def learn(key):
        state = ppo.init(key, config, env, network=network)
        return state.params, ppo.step(state, config, env, network=network, loss=regression)

    before, (state, metrics) = learn(jax.random.key(0))
    params, after = before["params"], state.params["params"]
    np.testing.assert_array_equal(after["policy"]["kernel"], params["policy"]["kernel"])
    assert (after["value"]["kernel"] != params["value"]["kernel"]).any()
    assert metrics.keys() == {"error", "explained_variance", "return"}


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
        return trajectory, ppo.make_network(config, env).apply(params, trajectory.observation).logits

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
        return played.action[0], ppo.make_network(config, env).apply(params, played.observation[0]).logits

    def fit(played, temperature):
        action, logits = jax.tree.map(np.asarray, played)
        expected = special.softmax(logits.astype(float) / temperature, axis=-1).sum(axis=0)
        return stats.chisquare(np.bincount(action, minlength=2), expected * 4000 / expected.sum()).pvalue

    assert fit(play(1.0), 1.0) > 1e-2
    assert fit(play(0.4), 0.4) > 1e-2
    assert fit(play(0.4), 1.0) < 1e-6
