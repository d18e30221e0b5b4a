import functools

import jax
import numpy as np
import pytest
import rlax
from scipy.special import log_softmax

from mammadai_jax.objectives import policy_losses

RATIO = np.array([1.5, 1.5, 0.5, 0.5], "f")
ADVANTAGE = np.array([1.0, -1.0, 1.0, -1.0], "f")


def surrogate(log_ratio, advantage, clip_eps=0.2):
    return policy_losses.clipped_surrogate(log_ratio, advantage, clip_eps)


def test_the_clipped_surrogate_by_hand(transform):
    loss, metrics = transform(surrogate)(np.log(RATIO), ADVANTAGE)
    # clipped above, not, not, clipped below
    np.testing.assert_allclose(loss, -np.mean([1.2, -1.5, 0.5, -0.8]), rtol=1e-6)
    np.testing.assert_allclose(metrics["policy/approxkl_avg"], (RATIO - 1 - np.log(RATIO)).mean(), rtol=1e-6)
    assert metrics["policy/clipfrac_avg"] == 1.0


def test_at_ratio_one_the_surrogate_has_the_policy_gradient(random):
    advantage = random.normal(size=8).astype("f")
    gradient = jax.grad(lambda x: surrogate(x, advantage)[0])(np.zeros(8, "f"))
    np.testing.assert_allclose(gradient, -advantage / 8, rtol=1e-6)


def test_the_gradient_stops_at_the_clip():
    gradient = jax.grad(lambda x: surrogate(x, ADVANTAGE)[0])(np.log(RATIO))
    np.testing.assert_allclose(gradient, [0.0, 1.5 / 4, -0.5 / 4, 0.0], rtol=1e-6)


def test_the_surrogate_takes_vectors_only():
    with pytest.raises(AssertionError):
        surrogate(np.ones((2, 2)), np.ones((2, 2)))


def reinforce(logits, action, advantage, log_reference, kl_coef):
    """Of a table of logits (N, A)."""
    log_policy = jax.nn.log_softmax(logits)
    log_prob = jax.numpy.take_along_axis(log_policy, action[:, None], axis=1)[:, 0]
    kl = (jax.numpy.exp(log_policy) * (log_policy - log_reference)).sum(axis=1)
    return policy_losses.reinforce_with_kl(log_prob, advantage, kl, kl_coef=kl_coef)


@pytest.fixture
def played(random):
    logits, reference = random.normal(size=(2, 6, 4)).astype("f")
    action, advantage = random.integers(0, 4, 6), random.normal(size=6).astype("f")
    return logits, action, advantage, log_softmax(reference, axis=1).astype("f")


def test_reinforce_by_hand(played, transform):
    logits, action, advantage, log_reference = played
    found = transform(functools.partial(reinforce, kl_coef=0.25))(*played)
    log_policy = log_softmax(logits, axis=1)
    kl = (np.exp(log_policy) * (log_policy - log_reference)).sum(axis=1).mean()
    gain = (log_policy[np.arange(6), action] * advantage).mean()
    np.testing.assert_allclose(found, 0.2 * kl - 0.8 * gain, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Rlax softmax:PendingDeprecationWarning")
def test_without_a_penalty_it_is_rlax_s_policy_gradient(played):
    logits, action, advantage, log_reference = played
    ours, theirs = (
        jax.value_and_grad(loss)(logits)
        for loss in (
            lambda x: reinforce(x, action, advantage, log_reference, 0.0),
            lambda x: rlax.policy_gradient_loss(x, action, advantage, np.ones(6, "f")),
        )
    )
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_the_penalty_is_least_at_the_reference(played):
    _, action, advantage, log_reference = played
    slope = jax.grad(lambda x: reinforce(x, action, 0.0 * advantage, log_reference, 1.0))(log_reference)
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)


def test_no_gradient_flows_through_the_advantage(played):
    logits, action, advantage, log_reference = played
    slope = jax.grad(lambda x: reinforce(logits, action, x, log_reference, 1.0))(advantage)
    np.testing.assert_array_equal(slope, 0.0)
