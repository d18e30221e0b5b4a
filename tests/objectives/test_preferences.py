import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_expit

from mammadai_jax.objectives import preferences

nats_of = jax.jit(preferences.davidson_loss)


def test_bradley_terry_by_hand(transform):
    difference, choice = np.array([2.0, 2.0, -0.5, 0.0, 0.0], "f"), np.array([1, -1, -1, 1, -1])
    nats = transform(lambda d, c, m: preferences.davidson_loss(d, c, margin=m))
    expected = np.log1p(np.exp(-(np.array([2.0, -2.0, 0.5, 0.0, 0.0]) - 0.3)))
    np.testing.assert_allclose(nats(difference, choice, 0.3), expected, rtol=1e-5)
    np.testing.assert_allclose(nats(difference, choice, 0.0)[3:], np.log(2), rtol=1e-6)  # equal: a coin


def davidson(difference, nu):
    """P(a preferred, tie, b preferred) of differences r_a - r_b."""
    parts = np.stack([np.exp(difference / 2), nu + 0 * difference, np.exp(-difference / 2)], axis=-1)
    return parts / parts.sum(axis=-1, keepdims=True)


def test_davidson_by_hand(transform):
    a, b = np.array([1.0, -2.0], "f"), np.array([0.2, 3.0], "f")
    parts = np.stack([np.exp(a), 0.7 * np.exp((a + b) / 2), np.exp(b)], axis=-1)
    expected = parts / parts.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(expected, davidson(a - b, 0.7), rtol=1e-5)
    found = np.exp(transform(preferences.davidson_log_probs)(a - b, np.log(0.7)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for index, choice in enumerate((1, 0, -1)):
        nats = nats_of(a - b, np.int32(choice), log_nu=np.log(0.7))
        np.testing.assert_allclose(nats, -np.log(expected[:, index]), rtol=1e-4)


def test_few_ties_are_nearly_bradley_terry():
    difference = np.linspace(-4, 4, 9, dtype=np.float32)
    log_probabilities = jax.jit(preferences.davidson_log_probs)
    few, none = (log_probabilities(difference, nu) for nu in (np.log(1e-7), preferences.NO_TIES))
    np.testing.assert_allclose(few[:, 0], log_expit(difference), atol=1e-5)
    np.testing.assert_allclose(none[:, 2], log_expit(-difference), atol=1e-6)


def test_sides_do_not_matter():
    difference, choice = np.array([1.2, 1.2, 1.2], "f"), np.array([1, 0, -1])
    nats = functools.partial(nats_of, log_nu=0.4, margin=0.1)
    np.testing.assert_allclose(nats(difference, choice), nats(-difference, -choice), rtol=1e-6)


@pytest.mark.parametrize("nu", [0.0, 0.8])
def test_no_taste_explains_choices_better_than_the_one_they_were_drawn_by(nu, random):
    """The loss in expectation over all three choices: without slope there, downhill to it from elsewhere."""
    difference = random.normal(size=(60, 4)).astype(np.float32)
    truth = {"taste": np.array([1.0, -2.0, 0.5, 0.0], "f"), "log_nu": np.log(nu or 1.0).astype("f")}
    share = davidson(difference @ truth["taste"], nu)

    @jax.jit
    @jax.grad
    def slope(params):
        log_nu = params["log_nu"] if nu else preferences.NO_TIES
        each = [
            preferences.davidson_loss(difference @ params["taste"], jnp.full(60, choice), log_nu=log_nu)
            for choice in (1, 0, -1)
        ]
        return sum((share[:, index] * nats).sum() for index, nats in enumerate(each) if nu or index != 1)

    assert max(np.abs(x).max() for x in jax.tree.leaves(slope(truth))) < 1e-4
    for _ in range(5):
        away = jax.tree.map(lambda x: random.normal(size=x.shape).astype("f"), truth)
        found = slope(jax.tree.map(np.add, truth, away))
        assert (found["taste"] * away["taste"]).sum() + found["log_nu"] * away["log_nu"] > 0.5


def test_dpo_is_bradley_terry_of_implicit_rewards(random, transform):
    chosen, rejected = random.normal(size=(2, 6)).astype("f")
    found = transform(functools.partial(preferences.dpo_loss, beta=0.3))(chosen, rejected)
    np.testing.assert_allclose(found, np.log1p(np.exp(-0.3 * (chosen - rejected))), rtol=1e-5)
    expected = preferences.davidson_loss(0.3 * (chosen - rejected), np.ones(6, int))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(preferences.dpo_loss(chosen, chosen, beta=0.3), np.log(2), rtol=1e-6)


def test_dpo_s_gradient_is_beta_times_the_probability_of_the_other_choice(random):
    chosen, rejected = random.normal(size=(2, 6)).astype("f")
    loss = lambda c, r: preferences.dpo_loss(c, r, beta=0.3).sum()
    up, down = jax.grad(loss, argnums=(0, 1))(chosen, rejected)
    other = 1 / (1 + np.exp(0.3 * (chosen - rejected)))
    np.testing.assert_allclose(up, -0.3 * other, rtol=1e-5)
    np.testing.assert_allclose(down, 0.3 * other, rtol=1e-5)


def test_only_shapes_that_fit_are_taken():
    with pytest.raises(AssertionError):
        preferences.dpo_loss(np.ones(3), np.ones(4), beta=1.0)
    with pytest.raises(AssertionError):
        preferences.davidson_loss(np.ones(3), np.ones(3))  # choices are whole numbers
