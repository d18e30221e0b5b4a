"""The reward of a note or a decision by rules that are pure functions: of melodies, and of several voices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp


def weighted(
    state: Any,
    action: jax.Array,
    config: Any,
    weights: Mapping[str, float | jax.Array] | None,
    rules: Mapping[str, Callable[[Any, jax.Array, Any], jax.Array]],
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted sum () of the rules' rewards of an action int (), and each rule's own () by name.

    `weights` by name may be traced; the default weight is 1. ValueError for a weight without a rule.
    """
    weights = weights or {}
    if unknown := sorted(set(weights) - set(rules)):
        raise ValueError(f"weights {unknown} belong to no rule; the rules are {sorted(rules)}")
    each = {name: jnp.asarray(rule(state, action, config), jnp.float32) for name, rule in rules.items()}
    total = sum((weights.get(name, 1.0) * value for name, value in each.items()), jnp.float32(0))
    return total, each
