"""The reward of a note or a decision by rules that are pure functions: of melodies, and of several voices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Rules = Mapping[str, Callable[[Any, jax.Array, Any], jax.Array]]


def weighted(
    state: Any,
    action: jax.Array,
    config: Any,
    weights: Mapping[str, float | jax.Array] | None,
    rules: Rules,
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


def scored(score: Callable[..., dict[str, jax.Array]], tokens: jax.Array, *given: Any, rules: Rules) -> Any:
    """`score(tokens, *given, rules)` of a jitted function, which sorts the names, in the order of the rules.

    Tokens are of any shape, and int32 for the function; the rules are pairs of a name and a function.
    """
    each = score(jnp.asarray(tokens, jnp.int32), *given, tuple(rules.items()))
    return {name: each[name] for name in rules}


def refuse_other(tokens: Any, size: int, alphabet: str) -> None:
    """ValueError if known tokens are not 0 to size - 1."""
    if not isinstance(tokens, Tracer) and not np.isin(tokens, np.arange(size)).all():
        raise ValueError(f"tokens of the alphabet {alphabet!r} should be 0..{size - 1}")
