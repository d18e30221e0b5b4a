"""Training on a fixed set of examples in epochs, with a learning rate that falls linearly to zero.

The reward model, the quality model and direct preference optimisation share it. Their configs have the fields
`batch_size`, `num_epochs`, `learning_rate`, `weight_decay` and `max_grad_norm`. Their states have `params`,
`opt_state`, `update` and a `key` that never changes: everything random in an update is a function of
(key, update).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import optax

from mammadai_jax.learning import collectives, optimisers


def updates_in(config: Any, examples: int) -> int:
    """Number of updates in the config's epochs; examples that fill no batch are left for the next epoch."""
    return round(config.num_epochs * updates_in_epoch(config, examples))


def updates_in_epoch(config: Any, examples: int) -> int:
    """Number of updates in a pass over the examples; ValueError without examples."""
    if not examples:
        raise ValueError("there are no examples to learn from")
    return max(1, examples // (config.batch_size * collectives.count()))


def minibatch(key: jax.Array, update: jax.Array, config: Any, examples: int) -> jax.Array:
    """Indices of an update's examples, int32 (min(batch_size, examples),), in an order of its own each epoch.

    With several shards these are the shard's own examples of the shared batch.
    """
    chex.assert_rank(update, 0)
    per_epoch = updates_in_epoch(config, examples)
    batch = min(config.batch_size * collectives.count(), examples)
    order = jax.random.permutation(jax.random.fold_in(key, update // per_epoch), examples)
    return collectives.share(jax.lax.dynamic_slice(order, (update % per_epoch * batch,), (batch,)))


def optimiser(config: Any) -> optax.GradientTransformation:
    """AdamW without a learning rate, which `minibatch_step` applies."""
    return optimisers.adamw(config, eps=1e-5)


def minibatch_step(
    state: Any,
    config: Any,
    loss: Callable[[Any], tuple[jax.Array, dict[str, jax.Array]]],
    *,
    examples: int,
    optimiser: optax.GradientTransformation,
    weight: jax.Array | float = 1.0,
) -> tuple[Any, dict[str, jax.Array]]:
    """One update by a learning rate that is 0 at the end of the epochs.

    Args:
        state: of the learner.
        config: of the learner.
        loss: parameters -> loss, metrics.
        examples: number of all examples, which decides where the epochs end.
        optimiser: `optimiser(config)` or a chain with it; state.opt_state is its state.
        weight: total weight of this shard's examples, where the loss is a weighted mean.

    Returns:
        State, and the metrics of the loss, each (), with "loss", "lr" and "grad_norm".

    """
    (value, metrics), gradient = collectives.value_and_grad(loss, weight=weight)(state.params)
    end = config.num_epochs * updates_in_epoch(config, examples)
    rate = config.learning_rate * optimisers.linear_decay(state.update, end)
    params, opt_state = optimisers.step(
        optimiser, state.params, state.opt_state, gradient=gradient, learning_rate=rate
    )
    metrics = {**metrics, "loss": value, "lr": rate, "grad_norm": optax.tree.norm(gradient)}
    return state.replace(params=params, opt_state=opt_state, update=state.update + 1), metrics
