"""Discriminator losses, the gradient penalty and rewards, by hand and in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from mammadai_jax.objectives import discriminator
from mammadai_jax.objectives.discriminator import REWARDS, Transitions
from tests.agents.probes import compiled

LOGITS = np.array([-3.0, -0.5, 0.0, 0.2, 4.0], np.float32)
D = special.expit(LOGITS.astype(float))


def test_rewards_in_terms_of_d():
    reward = compiled(lambda logit: {form: reward(logit) for form, reward in REWARDS.items()})(LOGITS)
    np.testing.assert_allclose(reward["softplus"], -np.log(1 - D), rtol=1e-5)
    np.testing.assert_allclose(reward["log_d"], np.log(D), rtol=1e-5)
    np.testing.assert_allclose(reward["logit"], np.log(D / (1 - D)), atol=1e-6)
    np.testing.assert_allclose(reward["fairl"], -np.log(D / (1 - D)) * D / (1 - D), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(reward["softplus"] + reward["log_d"], reward["logit"], atol=1e-6)


def test_rewards_and_their_slopes_are_finite():
    slopes = [jax.vmap(jax.value_and_grad(reward)) for reward in REWARDS.values()]
    logits = np.array([-1e4, -90.0, 0.0, 90.0, 1e4], np.float32)
    found = jax.jit(lambda logit: [slope(logit) for slope in slopes])(logits)
    assert np.isfinite(np.array(found)).all()


def sides(demo, played):
    """Transitions whose observation is a logit."""
    make = lambda h: Transitions(np.asarray(h, "f")[:, None], np.zeros((len(h), 1), "f"))
    return make(demo), make(played)


def read(observation, action):
    return observation[..., 0] + 0.0 * action[..., 0]


def test_loss_by_hand():
    demo, played = sides(LOGITS, LOGITS[::-1] - 1.0)
    value, metrics = compiled(lambda a, b: discriminator.gail_loss(0.3)(read, a, b, None))(demo, played)
    d_played = 1 / (1 + np.exp(1.0 - LOGITS[::-1]))
    cross_entropy = -np.log(D).mean() - np.log(1 - d_played).mean()
    d = np.concatenate([D, d_played])
    entropy = -(d * np.log(d) + (1 - d) * np.log(1 - d)).mean()
    np.testing.assert_allclose(value, cross_entropy - 0.3 * entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["disc_loss"], cross_entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["disc_entropy"], entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["disc_acc_expert"], 2 / 5)
    np.testing.assert_allclose(metrics["disc_acc_gen"], 4 / 5)
    np.testing.assert_allclose(metrics["disc_acc"], 6 / 10)


def test_sides_of_unequal_length_weigh_the_same():
    demo, played = sides(LOGITS, np.array([1.0]))
    value, _ = jax.jit(lambda a, b: discriminator.gail_loss()(read, a, b, None))(demo, played)
    np.testing.assert_allclose(value, -np.log(D).mean() + np.log1p(np.e), rtol=1e-5)


def nothing(logits, demo, played, key):
    return jnp.float32(2.0), {"other": jnp.float32(1.0)}


def test_penalty_of_a_straight_line(random):
    w, v = np.array([1.0, -2.0]), np.array([0.5, 3.0, 1.0])
    demo, played = (
        Transitions(random.random((6, 2)).astype("f"), random.random((6, 3)).astype("f")) for _ in "ab"
    )
    penalised = discriminator.with_gradient_penalty(nothing, 10.0, target=0.5)
    value, metrics = compiled(lambda a, b: penalised(lambda o, a: o @ w + a @ v, a, b, jax.random.key(0)))(
        demo, played
    )
    expected = (np.sqrt((w**2).sum() + (v**2).sum()) - 0.5) ** 2
    np.testing.assert_allclose(metrics["gradient_penalty"], expected, rtol=1e-5)
    np.testing.assert_allclose(value, 2.0 + 10.0 * expected, rtol=1e-5)
    assert metrics["other"] == 1.0


def test_penalty_of_a_parabola(random):
    parabola = lambda o, a: 0.75 * (o**2).sum(axis=-1) + 0.0 * a.sum(axis=-1)
    penalised = discriminator.with_gradient_penalty(nothing, 1.0)
    penalty = jax.jit(lambda *sides: penalised(parabola, *sides, jax.random.key(0))[1])
    place = random.normal(size=(50, 3)).astype("f")
    same = Transitions(place, np.zeros((50, 1), "f"))
    expected = ((1.5 * np.linalg.norm(place, axis=1) - 1.0) ** 2).mean()
    np.testing.assert_allclose(penalty(same, same)["gradient_penalty"], expected, rtol=1e-5)
    # between 1 and 3 the slope is uniform on (1.5, 4.5): E(slope - 1)^2 = 4.75
    ones, threes = (Transitions(np.full((20_000, 1), x, "f"), np.zeros((20_000, 1), "f")) for x in (1.0, 3.0))
    np.testing.assert_allclose(penalty(ones, threes)["gradient_penalty"], 4.75, atol=0.1)


def test_penalty_of_a_plain_has_a_gradient():
    demo, played = sides(LOGITS, LOGITS)
    objective = lambda w: discriminator.with_gradient_penalty(nothing, 1.0)(
        lambda o, a: w * o[..., 0] + 0.0 * a[..., 0], demo, played, jax.random.key(0)
    )[0]
    assert np.isfinite(jax.jit(jax.grad(objective))(0.0))


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
    return Transitions(np.ones((100, 1), "f"), action)


def test_the_discriminator_ends_at_the_log_ratio_of_densities():
    objective = lambda params: discriminator.gail_loss()(
        functools.partial(Linear.apply, params), shares(EXPERT), shares(POLICY), None
    )[0]
    slope = jax.jit(jax.value_and_grad(objective))
    loss, gradient = slope(RATIO)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-7)
    middle = (EXPERT + POLICY) / 2
    divergence = 0.5 * (EXPERT * np.log(EXPERT / middle) + POLICY * np.log(POLICY / middle)).sum()
    assert loss == pytest.approx(2 * np.log(2) - 2 * divergence, rel=1e-5)
    other, gradient = slope(0.9 * RATIO)
    assert other > loss
    assert np.abs(np.asarray(gradient)[RATIO != 0]).min() > 1e-3
