import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from mammadai_jax.agents import gail, ppo
from mammadai_jax.agents.cloning import Demonstrations
from mammadai_jax.music.notes import PIANO
from mammadai_jax.objectives.discriminator import REWARDS, gail_loss
from tests.agents.probes import Probe, compiled

# What the discriminator and the policy end as


class Linear:
    """A discriminator whose parameters are the logits of its actions."""

    @staticmethod
    def apply(params, observation, action):
        return action @ params + 0.0 * observation[..., 0]


EXPERT, POLICY = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.3, 0.2, 0.4])
RATIO = np.log(EXPERT / POLICY).astype("f")


def shares(probabilities):
    """One-hot actions, each as often as it is probable."""
    action = np.repeat(np.eye(4, dtype="f"), (100 * probabilities).round().astype(int), axis=0)
    return gail.Transitions(np.ones((100, 1), "f"), action)


def descend(config, params, demo, played):
    """What a linear discriminator becomes, and the metrics."""

    @jax.jit
    def learn(params, demo, played):
        opt_state, key = gail.optimiser(config).init(params), jax.random.key(0)
        return gail.update_discriminator(
            params, opt_state, config, demo, played, key, network=Linear, loss=gail.make_loss(config)
        )

    params, _, metrics = learn(params, demo, played)
    return np.asarray(params), metrics


def test_the_discriminator_draws_from_either_side():
    config = gail.Config(learning_rate=0.0, batch_size=8000, disc_updates=1)
    params, metrics = descend(config, RATIO, shares(EXPERT), shares(POLICY))
    np.testing.assert_array_equal(params, RATIO)
    expected = EXPERT @ np.logaddexp(0, -RATIO) + POLICY @ np.logaddexp(0, RATIO)
    assert metrics["disc_loss"] == pytest.approx(expected, abs=0.02)
    assert metrics["disc_acc_expert"] == pytest.approx(0.5, abs=0.03)
    assert metrics["disc_acc_gen"] == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("penalty", [None, 2.0])
def test_the_discriminator_descends_by_adam(penalty):
    """One action against another, whatever is drawn: three updates of Adam, by hand."""
    config = gail.Config(
        learning_rate=0.1, batch_size=5, disc_updates=3, disc_ent_coef=0.3, gradient_penalty_coef=penalty
    )
    one_hot = np.eye(4, dtype="f")
    demo, played = (gail.Transitions(np.ones((n, 1), "f"), one_hot[[i] * n]) for n, i in ((4, 0), (6, 1)))
    params = np.array([0.5, 0.2, 0.1, -0.3])
    found, metrics = descend(config, params.astype("f"), demo, played)
    mean, square, losses, penalties = 0.0, 0.0, [], []
    for update in range(1, 4):
        h, d, norm = params[:2], special.expit(params[:2]), np.linalg.norm(params)
        losses.append(np.logaddexp(0, -h[0]) + np.logaddexp(0, h[1]))
        penalties.append((norm - 1.0) ** 2)
        gradient = np.zeros(4)
        gradient[:2] = d - [1.0, 0.0] + 0.3 * h * d * (1 - d) / 2  # the entropy's slope is -h D (1 - D)
        gradient += (penalty or 0.0) * 2 * (norm - 1.0) * params / norm
        mean, square = 0.5 * mean + 0.5 * gradient, 0.999 * square + 0.001 * gradient**2
        unbiased = mean / (1 - 0.5**update), square / (1 - 0.999**update)
        params = params - 0.1 * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    np.testing.assert_allclose(found, params, atol=1e-4)
    assert metrics["disc_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    if penalty is None:
        assert "gradient_penalty" not in metrics
    else:
        assert metrics["gradient_penalty"] == pytest.approx(np.mean(penalties), rel=1e-4)


ONE = Probe(None, actions=4)


def test_a_leash_ends_where_the_reward_is_the_same_for_all():
    """At first(a) exp(h(a) / leash), over its sum, no action earns more than another; elsewhere one does."""
    config = gail.Config(ppo.Config((4,)), hidden=(4,), reward_form="logit", kl_coef=2.0)
    state = jax.jit(lambda key: gail.init(key, config, ONE))(jax.random.key(0))
    spread = lambda tree: jax.tree.map(lambda x: x + 0.5, tree)
    first, judge = spread(state.reference), spread(state.discriminator)
    learner = dataclasses.replace(state, reference=first, discriminator=judge)
    # two melodies of all four actions, in time, and what was played melody by melody
    action, seen = np.array([[0, 3], [1, 2], [2, 1], [3, 0]]), np.array([[-1.0, 1.0]] * 4, "f")[..., None]
    played = gail.Transitions(seen.swapaxes(0, 1).reshape(-1, 1), np.eye(4, dtype="f")[action.T.ravel()])

    @jax.jit
    def earn(log_prob):
        trajectory = ppo.Trajectory(seen, action, log_prob, None)
        opinion = gail.make_discriminator(config).apply(judge, seen, np.eye(4, dtype="f")[action])
        before = ppo.log_prob(first, ppo.make_network(config.ppo, ONE), trajectory)
        rewarded = gail.rewarded(learner, config, ONE, trajectory, played, REWARDS["logit"])
        return opinion, before, *rewarded

    opinion, before, *_ = jax.tree.map(np.asarray, earn(np.zeros((4, 2), "f")))
    assert np.ptp(opinion, axis=0).min() > 0.1
    best = special.log_softmax(before + opinion / 2.0, axis=0)
    _, _, trajectory, metrics = earn(best)
    reward = np.asarray(trajectory.reward)
    np.testing.assert_allclose(reward, np.broadcast_to(reward[:1], (4, 2)), atol=1e-5)
    np.testing.assert_allclose(reward, opinion - 2.0 * (best - before), atol=1e-5)
    assert metrics["reward"] == pytest.approx(reward.mean(), abs=1e-5)
    assert metrics["kl"] == pytest.approx((best - before).mean(), abs=1e-5)
    assert metrics["rest_rate"] == 0.25
    assert np.ptp(earn(before)[2].reward, axis=0).min() > 0.1


def test_the_policy_comes_near_the_expert_unless_a_leash_holds_it():
    """Two situations, three notes, an expert who plays by chance."""
    env, seen = Probe(None, actions=3), np.array([[-1.0], [1.0]], "f")
    expert = np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    action = np.concatenate([np.repeat(np.arange(3), (100 * p).round().astype(int)) for p in expert])
    demos = Demonstrations(jnp.asarray(np.repeat(seen, 100, axis=0)), jnp.asarray(action))
    # standardised advantages would blow up what little is left to learn near the end
    policy = ppo.Config(
        (8,), 256, 1, num_epochs=2, num_minibatches=2, learning_rate=0.01, normalize_advantages=False
    )
    config = gail.Config(policy, hidden=(16,), learning_rate=0.02, disc_ent_coef=0.0)

    @jax.jit
    def train(leash):
        def update_policy(state, _):
            state, metrics = gail.step(state, config.replace(kl_coef=leash), env, env.default_params, demos)
            return state, (ppo.make_network(policy, env).apply(state.policy.params, seen).logits, metrics)

        state, course = jax.lax.scan(update_policy, gail.init(jax.random.key(0), config, env), length=60)
        return (state.update, state.policy.update), course

    apart = lambda logits: 0.5 * np.abs(special.softmax(logits, axis=-1) - expert).sum(axis=-1).max(axis=-1)
    counts, (logits, metrics) = jax.tree.map(np.asarray, train(0.0))
    assert apart(logits[0]) > 0.25
    assert apart(logits[-20:]).mean() < 0.15
    assert metrics["kl"][-20:].mean() > 0.2
    assert counts == (60, 60)
    _, (logits, metrics) = jax.tree.map(np.asarray, train(50.0))
    assert apart(logits[-20:]).mean() > 0.25
    assert metrics["kl"][-20:].mean() < 0.05


def test_a_warm_start_is_kept():
    config = gail.Config(ppo.Config(hidden=(4,)), hidden=(4,))

    @jax.jit
    def begin():
        warm = ppo.init(jax.random.key(7), config.ppo, ONE).params
        return (
            warm,
            gail.init(jax.random.key(0), config, ONE),
            gail.init(jax.random.key(0), config, ONE, warm),
        )

    warm, cold, state = begin()
    for params in (state.policy.params, state.reference):
        jax.tree.map(np.testing.assert_array_equal, params, warm)
    jax.tree.map(np.testing.assert_array_equal, cold.policy.params, cold.reference)
    kernels = (x.policy.params["params"]["policy"]["kernel_0"] for x in (cold, state))
    assert (np.diff(list(kernels), axis=0) != 0).any()


def test_motion_tells_intervals_and_silences():
    """Two melodies of five notes, one after another, against a plain loop."""
    tokens = np.array([5, 5, 0, 30, 7, 40, 40, 0, 0, 12])
    places = np.tile(np.arange(5), 2)
    rows = compiled(lambda a, s: gail.motion(a, s, 3, PIANO))(tokens, places)
    widest = gail.WIDEST
    for place, row in enumerate(rows):
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
    actions = np.array([3, 0, 88])
    np.testing.assert_array_equal(gail.motion(actions, actions * 0, 1, PIANO), np.eye(PIANO.size)[actions])


def test_loss_and_reward_may_be_others():
    """A loss without gradient and a constant reward: the discriminator stays as it was."""
    config = gail.Config(ppo.Config((4,), num_envs=8, num_steps=1, num_minibatches=1), hidden=(4,))
    demos = Demonstrations(jnp.ones((4, 1)), jnp.zeros(4, jnp.int32))

    def still(logits, demo, played, key):
        return gail_loss()(logits, demo, played, key)[0] * 0.0, {"other": jnp.float32(3.0)}

    @jax.jit
    def learn(state):
        others = {"loss": still, "reward_fn": lambda logit: 0.0 * logit + 2.0}
        return gail.step(state, config, ONE, ONE.default_params, demos, **others)

    state = jax.jit(lambda key: gail.init(key, config, ONE))(jax.random.key(0))
    after, metrics = learn(state)
    jax.tree.map(np.testing.assert_array_equal, after.discriminator, state.discriminator)
    assert (metrics["reward"], metrics["other"]) == (2.0, 3.0)
