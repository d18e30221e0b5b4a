"""Feed-forward networks: policy, value and discriminator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp


class Output(NamedTuple):
    """What a policy network returns: `logits` (..., A) of the actions and `value` (...) of the state."""

    logits: jax.Array
    value: jax.Array


class MLP(nn.Module):
    """Layers of `hidden` units with an activation between them, and a linear layer of `outputs`.

    Attributes:
        hidden: units of each hidden layer.
        outputs: units of the last layer.
        activation: after each hidden layer.
        scale: gain of the orthogonal initialisation of the last layer.
        lipschitz: bound on the network's Lipschitz constant by spectral normalisation, or None. Each of L
            layers is divided by max(1, sigma / lipschitz^(1/L)), sigma its largest singular value
            (Miyato et al. 2018; as in Orsini et al. 2021).

    """

    hidden: Sequence[int]
    outputs: int
    activation: Callable[[jax.Array], jax.Array] = nn.tanh
    scale: float = 1.0
    lipschitz: float | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., inputs) -> (..., outputs)."""
        layers = [*self.hidden, self.outputs]
        for index, units in enumerate(layers):
            last = index == len(layers) - 1
            gain = self.scale if last else 2.0**0.5
            kernel = self.param(f"kernel_{index}", nn.initializers.orthogonal(gain), (x.shape[-1], units))
            bias = self.param(f"bias_{index}", nn.initializers.zeros, (units,))
            if self.lipschitz is not None:
                kernel = spectral_normalization(kernel, self.lipschitz ** (1 / len(layers)))
            x = x @ kernel + bias
            x = x if last else self.activation(x)
        return x


def spectral_normalization(kernel: jax.Array, bound: float, iterations: int = 30) -> jax.Array:
    """A matrix (n, m) scaled down until its largest singular value is at most `bound`; by power iteration."""
    chex.assert_rank(kernel, 2)

    def iterate(right, _):
        left = kernel @ right
        left = left / (jnp.linalg.norm(left) + 1e-12)
        right = kernel.T @ left
        return right / (jnp.linalg.norm(right) + 1e-12), left

    # random, because a regular vector such as all ones may be orthogonal to the singular vector
    initial = jax.random.normal(jax.random.key(0), kernel.shape[1:])
    right, lefts = jax.lax.scan(iterate, initial, length=iterations)
    right, left = jax.lax.stop_gradient((right, lefts[-1]))
    sigma = left @ kernel @ right
    return kernel / jnp.maximum(1.0, sigma / bound)


class ActorCritic(nn.Module):
    """Separate networks for the policy and its value, as in Lowe (2020): two layers of 64.

    Attributes:
        num_actions: how many logits.
        hidden: units of each hidden layer.

    """

    num_actions: int
    hidden: Sequence[int] = (64, 64)

    @nn.compact
    def __call__(self, observation: jax.Array) -> Output:
        """Observations (..., D) -> Output of (..., A) and (...)."""
        logits = MLP(self.hidden, self.num_actions, scale=0.01, name="policy")(observation)
        value = MLP(self.hidden, 1, name="value")(observation)
        return Output(logits, value[..., 0])


class Discriminator(nn.Module):
    """The logit that a transition is the expert's: h(s, a) = log D - log(1 - D), D = P(expert).

    Attributes:
        hidden: units of each hidden layer.
        lipschitz: as of `MLP`.

    """

    hidden: Sequence[int] = (100,)
    lipschitz: float | None = None

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """Observations (..., D) and actions as one-hot rows (..., A) -> logits (...)."""
        inputs = jnp.concatenate([observation, action], axis=-1)
        return MLP(self.hidden, 1, scale=0.1, lipschitz=self.lipschitz)(inputs)[..., 0]
