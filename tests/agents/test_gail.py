import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import gail, ppo
from mammadai_jax.agents.cloning import Demonstrations
from mammadai_jax.music.notes import PIANO
from tests.agents.probes import Probe

LOGITS = np.array([-3.0, -0.5, 0.0, 0.2, 4.0])
D = 1 / (1 + np.exp(-LOGITS))


def test_rewards_in_terms_of_d(transform):
    reward = lambda form: transform(functools.partial(gail.reward_of, form=form))(jnp.asarray(LOGITS))
    np.testing.assert_allclose(reward("softplus"), -np.log(1 - D), rtol=1e-5)
    np.testing.assert_allclose(reward("log_d"), np.log(D), rtol=1e-5)
    np.testing.assert_allclose(reward("logit"), np.log(D / (1 - D)), atol=1e-6)
    np.testing.assert_allclose(reward("fairl"), -np.log(D / (1 - D)) * D / (1 - D), rtol=1e-5)
    np.testing.assert_allclose(reward("softplus") + reward("log_d"), reward("logit"), atol=1e-6)


@pytest.mark.parametrize("form", ["softplus", "log_d", "logit", "fairl"])
def test_rewards_and_their_slopes_are_finite(form):
    for logit in (-1e4, -90.0, 0.0, 90.0, 1e4):
        value, slope = jax.value_and_grad(gail.reward_of)(logit, form)
        assert np.isfinite(value)
        assert np.isfinite(slope)


def test_rewards_have_four_forms():
    with pytest.raises(ValueError, match=r"one of .*'softplus'.*, not 'log'"):
        gail.reward_of(jnp.zeros(2), "log")  # pyright: ignore


def sides(demo, played):
    """Transitions whose observation is a logit."""
    make = lambda h: gail.Transitions(jnp.asarray(h)[:, None], jnp.zeros((len(h), 1)))
    return make(demo), make(played)


def read(observation, action):
    return observation[..., 0] + 0.0 * action[..., 0]


def test_loss_by_hand(transform):
    demo, played = sides(LOGITS, LOGITS[::-1] - 1.0)
    value, metrics = transform(lambda a, b: gail.gail_loss(0.3)(read, a, b, None))(demo, played)
    d_played = 1 / (1 + np.exp(1.0 - LOGITS[::-1]))
    cross_entropy = -np.log(D).mean() - np.log(1 - d_played).mean()
    d = np.concatenate([D, d_played])
    entropy = -(d * np.log(d) + (1 - d) * np.log(1 - d)).mean()
    np.testing.assert_allclose(value, cross_entropy - 0.3 * entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["discriminator_loss"], cross_entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["discriminator_entropy"], entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy_expert"], 2 / 5)
    np.testing.assert_allclose(metrics["accuracy_policy"], 4 / 5)


def test_sides_of_unequal_length_weigh_the_same():
    demo, played = sides(LOGITS, np.array([1.0]))
    value, _ = gail.gail_loss()(read, demo, played, None)
    np.testing.assert_allclose(value, -np.log(D).mean() + np.log1p(np.e), rtol=1e-5)


def nothing(logits, demo, played, key):
    return jnp.float32(2.0), {"other": jnp.float32(1.0)}


def test_penalty_of_a_straight_line(transform, random):
    w, v = np.array([1.0, -2.0]), np.array([0.5, 3.0, 1.0])
    observation, action = jnp.asarray(random.random((2, 6, 2))), jnp.asarray(random.random((2, 6, 3)))
    demo, played = (gail.Transitions(o, a) for o, a in zip(observation, action, strict=True))
    penalised = gail.with_gradient_penalty(nothing, 10.0, target=0.5)
    value, metrics = transform(lambda a, b: penalised(lambda o, a: o @ w + a @ v, a, b, jax.random.key(0)))(
        demo, played
    )
    expected = (np.sqrt((w**2).sum() + (v**2).sum()) - 0.5) ** 2
    np.testing.assert_allclose(metrics["gradient_penalty"], expected, rtol=1e-5)
    np.testing.assert_allclose(value, 2.0 + 10.0 * expected, rtol=1e-5)
    assert metrics["other"] == 1.0


def test_penalty_of_a_parabola(random):
    penalised = gail.with_gradient_penalty(nothing, 1.0)
    parabola = lambda o, a: 0.75 * (o**2).sum(axis=-1) + 0.0 * a.sum(axis=-1)
    place = random.normal(size=(50, 3))
    same = gail.Transitions(jnp.asarray(place), jnp.zeros((50, 1)))
    _, metrics = penalised(parabola, same, same, jax.random.key(0))
    expected = ((1.5 * np.linalg.norm(place, axis=1) - 1.0) ** 2).mean()
    np.testing.assert_allclose(metrics["gradient_penalty"], expected, rtol=1e-5)
    # between 1 and 3 the slope is uniform on (1.5, 4.5): E(slope - 1)^2 = 4.75
    ones, threes = (gail.Transitions(jnp.full((20_000, 1), x), jnp.zeros((20_000, 1))) for x in (1.0, 3.0))
    _, metrics = penalised(parabola, ones, threes, jax.random.key(0))
    np.testing.assert_allclose(metrics["gradient_penalty"], 4.75, atol=0.1)


def test_penalty_of_a_plain_has_a_gradient():
    demo, played = sides(LOGITS, LOGITS)
    objective = lambda w: gail.with_gradient_penalty(nothing, 1.0)(
        lambda o, a: w * o[..., 0] + 0.0 * a[..., 0], demo, played, jax.random.key(0)
    )[0]
    assert np.isfinite(jax.grad(objective)(0.0))


ONE = Probe(None, actions=4)


def test_the_discriminator_finds_the_log_ratio_of_densities():
    expert, policy = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.3, 0.2, 0.4])
    rows = lambda p: np.repeat(np.eye(4), (1000 * p).round().astype(int), axis=0)
    demo, played = (
        gail.Transitions(jnp.ones((1000, 1)), jnp.asarray(rows(p), jnp.float32)) for p in (expert, policy)
    )
    config = gail.Config(hidden=(16,), entropy_weight=0.0, penalty_weight=None, updates=300, batch=1000)
    state = gail.init(jax.random.key(0), config, ONE)
    network = gail.discriminator(config)
    judge = state.discriminator, state.opt_state
    learn = jax.jit(
        lambda judge, rate, key: gail.discriminate(
            *judge, config.replace(learning_rate=rate), network, demo, played, key
        )
    )
    for round_, rate in enumerate((2e-2, 2e-3, 2e-4)):
        *judge, metrics = learn(judge, rate, jax.random.key(round_))
    found = network.apply(judge[0], jnp.ones((4, 1)), jnp.eye(4))
    np.testing.assert_allclose(found, np.log(expert / policy), atol=0.08)
    middle = (expert + policy) / 2
    divergence = 0.5 * (expert * np.log(expert / middle) + policy * np.log(policy / middle)).sum()
    assert metrics["discriminator_loss"] == pytest.approx(2 * np.log(2) - 2 * divergence, abs=0.02)


def test_the_penalty_keeps_opinions_mild():
    demo, played = (gail.Transitions(jnp.ones((8, 1)), jnp.eye(4)[jnp.full(8, i)]) for i in (0, 1))

    def gap(penalty):
        config = gail.Config(hidden=(8,), penalty_weight=penalty, updates=150, batch=16, learning_rate=0.03)
        state, network = gail.init(jax.random.key(0), config, ONE), gail.discriminator(config)
        learn = lambda params, opt: gail.discriminate(
            params, opt, config, network, demo, played, jax.random.key(1)
        )
        params, _, _ = jax.jit(learn)(state.discriminator, state.opt_state)
        return float(network.apply(params, *demo)[0] - network.apply(params, *played)[0])

    assert gap(None) > 4.0
    assert 0.5 < gap(10.0) < 2.0  # a slope of one over a distance of the square root of two


@pytest.mark.parametrize("reward", ["logit", "softplus"])
def test_the_policy_becomes_the_expert(reward):
    """Two situations, three notes, an expert who plays by chance."""
    env = Probe(None, actions=3)
    expert = np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    action = np.concatenate([np.repeat(np.arange(3), (100 * p).round().astype(int)) for p in expert])
    signal = np.repeat([-1.0, 1.0], 100)[:, None]
    demos = Demonstrations(jnp.asarray(signal, jnp.float32), jnp.asarray(action, jnp.int32))
    # standardised advantages would blow up what little is left to learn near the end
    policy = ppo.Config((8,), 256, 1, epochs=2, minibatches=2, learning_rate=0.003, whiten=False)
    config = gail.Config(
        policy, reward, hidden=(16,), batch=256, learning_rate=0.01, entropy_weight=0.0, penalty_weight=None
    )
    learn = lambda state, _: gail.step(state, config, env, env.default_params, demos)

    def distribution(state):
        logits = ppo.network(policy, env).apply(state.policy.params, jnp.array([[-1.0], [1.0]])).logits
        return jax.nn.softmax(logits)

    def improve(state, _):
        state, _ = jax.lax.scan(learn, state, length=10)
        return state, distribution(state)

    train = jax.jit(lambda state: jax.lax.scan(improve, state, length=20))
    before = gail.init(jax.random.key(0), config, env)
    after, course = train(before)
    apart = lambda p: 0.5 * np.abs(p - expert).sum(axis=-1).max()
    assert apart(distribution(before)) > 0.25
    assert apart(course[-5:].mean(axis=0)) < 0.05
    assert apart(course[-1]) < 0.2
    assert int(after.update) == int(after.policy.update) == 200


def test_a_warm_start_is_kept():
    config = gail.Config(ppo.Config(hidden=(4,)), hidden=(4,))
    warm = ppo.init(jax.random.key(7), config.policy, ONE).params
    state = gail.init(jax.random.key(0), config, ONE, warm)
    jax.tree.map(np.testing.assert_array_equal, state.policy.params, warm)


def test_motion_tells_intervals_and_silences(transform):
    """Two melodies of five notes, one after another, against a plain loop."""
    tokens = np.array([5, 5, 0, 30, 7, 40, 40, 0, 0, 12])
    places = np.tile(np.arange(5), 2)
    rows = transform(lambda a, s: gail.motion(a, s, 3, PIANO))(jnp.array(tokens), jnp.array(places))
    widest = gail.WIDEST
    for place, row in enumerate(np.asarray(rows)):
        expected = [np.eye(PIANO.size)[tokens[place]]]
        for back in (1, 2):
            now, before = tokens[place], tokens[place - back] if places[place] >= back else PIANO.silence
            if PIANO.silence in (now, before):
                which = 2 * widest + (now == PIANO.silence) + 2 * (before == PIANO.silence)
            else:
                which = np.clip(before - now, -widest, widest) + widest
            expected.append(np.eye(2 * widest + 4)[which])
        np.testing.assert_array_equal(row, np.concatenate(expected))


def test_one_judged_note_is_the_action_alone():
    actions = jnp.array([3, 0, 88])
    np.testing.assert_array_equal(gail.motion(actions, actions * 0, 1, PIANO), np.eye(PIANO.size)[actions])


def test_a_leash_holds_the_policy_where_it_began():
    env = Probe(None, actions=3)
    demos = Demonstrations(jnp.ones((100, 1)), jnp.zeros(100, jnp.int32))  # an expert who plays one note only
    policy = ppo.Config((8,), 256, 1, epochs=2, minibatches=2, learning_rate=0.01, whiten=False)

    def divergence(leash):
        config = gail.Config(policy, hidden=(16,), batch=64, learning_rate=0.01, leash=leash)
        learn = lambda state, _: gail.step(state, config, env, env.default_params, demos)
        train = jax.jit(lambda state: jax.lax.scan(learn, state, length=60))
        return train(gail.init(jax.random.key(0), config, env))[1]["divergence"][-1]

    assert divergence(0.0) > 0.3
    assert divergence(50.0) < 0.05
