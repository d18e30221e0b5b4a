# pyright: reportArgumentType=false, reportReturnType=false
"""Learning from a fixed set of examples: their order, and one update of a rate that falls to zero.

What a reward model, a quality model and direct preference optimisation share. A learner's config has the
fields `batch`, `epochs`, `learning_rate`, `weight_decay` and `max_gradient`; its state has `params`,
`opt_state`, the `update` count and a `key` that stays the same: everything random in an update is a pure
function of (key, update).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mammadai_jax.learning import collectives


def updates_in(config: Any, examples: int) -> int:
    """How many updates the config's epochs make; what fills no batch waits for the next epoch."""
    return round(config.num_epochs * updates_in_epoch(config, examples))


def updates_in_epoch(config: Any, examples: int) -> int:
    """How many updates a pass over the examples makes; ValueError without examples."""
    if not examples:
        raise ValueError("there are no examples to learn from")
    return max(1, examples // (config.batch_size * collectives.count()))


def minibatch(key: jax.Array, update: jax.Array, config: Any, examples: int) -> jax.Array:
    """Indices int32 (min(batch, examples),) of an update's examples: each epoch has an order of its own.

    Of several shards each has its share of them.
    """
    per_epoch = updates_in_epoch(config, examples)
    batch = min(config.batch_size * collectives.count(), examples)
    order = jax.random.permutation(jax.random.fold_in(key, update // per_epoch), examples)
    return collectives.share(jax.lax.dynamic_slice(order, (update % per_epoch * batch,), (batch,)))


def optimiser(config: Any) -> optax.GradientTransformation:
    """AdamW behind a global-norm clip, with epsilon 1e-5 and matrices decayed; `descend` has the rate."""
    matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(eps=1e-5),
        optax.add_decayed_weights(config.weight_decay, mask=matrices),
    )


def minibatch_step(
    state: Any,
    config: Any,
    examples: int,
    loss: Callable[[Any], tuple[jax.Array, dict[str, jax.Array]]],
    learner: optax.GradientTransformation,
    weight: jax.Array | float = 1.0,
) -> tuple[Any, dict[str, jax.Array]]:
    """One update by a learning rate that falls linearly to 0 at the end of the epochs.

    Args:
        state: of the learner.
        config: of the learner.
        examples: how many there are in all, which says where the end is.
        loss: parameters -> loss, metrics.
        learner: `optimiser(config)`, or a chain with it; state.opt_state is its state.
        weight: of this shard's examples, where the loss is a weighted mean.

    Returns:
        State, and the metrics with "loss", "lr" and "grad_norm".

    """
    (value, metrics), gradient = collectives.value_and_grad(loss, weight=weight)(state.params)
    updates, opt_state = learner.update(gradient, state.opt_state, state.params)
    end = config.num_epochs * updates_in_epoch(config, examples)
    rate = config.learning_rate * jnp.maximum(0.0, 1.0 - state.update / end)
    params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
    metrics = {
        **metrics,
        "loss": value,
        "lr": rate,
        "grad_norm": optax.tree.norm(gradient),
    }
    return state.replace(params=params, opt_state=opt_state, update=state.update + 1), metrics
