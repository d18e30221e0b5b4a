"""Spaces of actions and observations, as gymnax's of the same names.

gymnax is no dependency, but programs written for it ask `isinstance(space, gymnax...Discrete)`. So `discrete`
and `box` give gymnax's own classes once a program has imported gymnax, and these equivalents otherwise.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import chex
import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The integers 0..n-1."""

    n: int
    shape: tuple[int, ...] = ()
    dtype: Any = jnp.int32

    def sample(self, key: chex.PRNGKey) -> jax.Array:
        """One of them, uniformly."""
        return jax.random.randint(key, self.shape, 0, self.n, self.dtype)

    def contains(self, x: jax.Array) -> jax.Array:
        """Whether x is one of them."""
        return jnp.logical_and(x >= 0, x < self.n)


@dataclasses.dataclass(frozen=True)
class Box:
    """Arrays of one shape with entries in [low, high]."""

    low: float
    high: float
    shape: tuple[int, ...]
    dtype: Any = jnp.float32

    def sample(self, key: chex.PRNGKey) -> jax.Array:
        """One array, uniformly."""
        return jax.random.uniform(key, self.shape, self.dtype, self.low, self.high)

    def contains(self, x: jax.Array) -> jax.Array:
        """Whether every entry of x is within the bounds."""
        return jnp.logical_and(jnp.all(x >= self.low), jnp.all(x <= self.high))


def discrete(n: int) -> Any:
    """The space of n actions."""
    return _classes().Discrete(n)


def box(low: float, high: float, shape: tuple[int, ...]) -> Any:
    """The space of float32 arrays with entries in [low, high]."""
    return _classes().Box(low, high, shape)


def _classes() -> Any:
    return sys.modules.get("gymnax.environments.spaces", sys.modules[__name__])
