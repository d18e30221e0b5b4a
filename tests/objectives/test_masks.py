"""Actions that are masked, by minus infinity or by a large negative number, count for nothing anywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents.preference.losses import Batch, reinforce_loss
from mammadai_jax.objectives import actions, kl, policy_losses, soft_backups
from mammadai_jax.objectives.distributions import Categorical

FREE = jnp.array([[0.3, -0.2, 1.0], [2.0, 0.0, -1.0]])
OTHER = jnp.array([[-0.3, 0.4, 0.1], [0.5, 0.2, 0.3]])
ACTION = jnp.array([2, 0])
log_softmax = jax.nn.log_softmax


def divergence(estimator):
    return lambda x, y: kl.divergence(log_softmax(x), log_softmax(y), ACTION, estimator)


def value(algorithm):
    double = lambda x, y: soft_backups.state_value(x, log_softmax(y), algorithm, 0.7, chooser=x)
    return lambda x, y: double(x, y) + soft_backups.state_value(x, log_softmax(y), algorithm, 0.7)


def reinforce(x, y):
    blank = jnp.zeros((2,))
    batch = Batch(ACTION, ACTION, blank, blank, jnp.ones(2), blank, log_softmax(y))
    return reinforce_loss(Categorical(x), batch, None, jnp.float32(0.1))


# of logits x and y (2, A), which are masked alike
FUNCTIONS = {
    "entropy": lambda x, y: Categorical(x).entropy(),
    "log_prob": lambda x, y: Categorical(x).log_prob(ACTION),
    "kl_divergence": lambda x, y: Categorical(x).kl_divergence(Categorical(y)),
    "exact": divergence("exact"),
    "k1": divergence("k1"),
    "k3": divergence("k3"),
    "pick": lambda x, y: actions.pick(log_softmax(x), ACTION),
    "reinforce": reinforce,
    "surrogate": lambda x, y: policy_losses.clipped_surrogate(
        Categorical(x).log_prob(ACTION) - Categorical(y).log_prob(ACTION), jnp.ones(2), 0.2
    )[0],
    **{name: value(name) for name in ("psi", "g", "q", "pure_rl")},
}


@jax.jit
def evaluated(x, y):
    """Every function's sum, and its gradients by x and by y."""
    each = {name: lambda x, y, f=function: f(x, y).sum() for name, function in FUNCTIONS.items()}
    return {name: jax.value_and_grad(f, argnums=(0, 1))(x, y) for name, f in each.items()}


@pytest.mark.parametrize("mask", [-jnp.inf, -1e9, float(np.finfo(np.float32).min)])
def test_a_masked_action_is_as_if_it_were_not_there(mask):
    masked = lambda x: jnp.insert(x, 3, mask, axis=1)
    expected = evaluated(FREE, OTHER)
    for name, (found, gradients) in evaluated(masked(FREE), masked(OTHER)).items():
        np.testing.assert_allclose(found, expected[name][0], rtol=1e-5, err_msg=name)
        for gradient, without in zip(gradients, expected[name][1], strict=True):
            np.testing.assert_allclose(gradient[:, :3], without, rtol=1e-4, atol=1e-6, err_msg=name)
            np.testing.assert_allclose(gradient[:, 3], 0.0, atol=1e-6, err_msg=name)


def test_the_entropy_of_two_equal_actions_is_that_of_a_coin():
    np.testing.assert_allclose(Categorical(jnp.array([0.0, 0.0, -jnp.inf])).entropy(), np.log(2), rtol=1e-6)
