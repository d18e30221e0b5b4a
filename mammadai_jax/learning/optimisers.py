"""Optimisers, learning-rate schedules and averages of parameters that several learners share."""

from __future__ import annotations

from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
import optax

Optimiser = Literal["adam", "muon"]


def adamw(
    config: Any, *, schedule: optax.Schedule | None = None, **adam: Any
) -> optax.GradientTransformation:
    """AdamW on a gradient clipped by its global norm; only matrices decay.

    Args:
        config: has `max_grad_norm` and `weight_decay`.
        schedule: the learning rate of each update; None leaves it to the caller, see `step`.
        adam: arguments of optax.scale_by_adam.

    """
    matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(**adam),
        optax.add_decayed_weights(config.weight_decay, mask=matrices),
        *(() if schedule is None else (optax.scale_by_learning_rate(schedule),)),
    )


def muon(config: Any, *, schedule: optax.Schedule, b2: float) -> optax.GradientTransformation:
    """Muon (Jordan 2024) on a gradient clipped by its global norm: hidden matrices take orthogonalised steps.

    The root mean square of a matrix's step is the learning rate. Tables of embeddings, heads and vectors are
    left to Adam, as Muon's author has it. Only hidden matrices decay.

    Args:
        config: has `max_grad_norm` and `weight_decay`.
        schedule: the learning rate of each update.
        b2: decay of Adam's second moment.

    """
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.contrib.muon(
            schedule,
            beta=0.95,
            adam_b2=b2,
            weight_decay=config.weight_decay,
            muon_weight_dimension_numbers=_hidden_matrices,
            consistent_rms=1.0,
        ),
    )


def _hidden_matrices(params: Any) -> Any:
    """Muon's dimensions of each matrix between two hidden layers, None of all other parameters."""

    def dimensions(path: Any, param: jax.Array) -> Any:
        name = jax.tree_util.keystr(path)
        is_hidden = param.ndim == 2 and "embedding" not in name and "head" not in name
        return optax.contrib.MuonDimensionNumbers() if is_hidden else None

    return jax.tree_util.tree_map_with_path(dimensions, params)


def step(
    optimiser: optax.GradientTransformation,
    params: Any,
    opt_state: Any,
    *,
    gradient: Any,
    learning_rate: jax.Array | float | None = None,
) -> tuple[Any, Any]:
    """A step of an optimiser -> params, opt_state.

    `learning_rate` is for an optimiser that has none of its own.
    """
    updates, opt_state = optimiser.update(gradient, opt_state, params)
    if learning_rate is not None:
        updates = jax.tree.map(lambda u: -learning_rate * u, updates)
    return optax.apply_updates(params, updates), opt_state


def warmup_cosine(config: Any) -> optax.Schedule:
    """A linear rise over `lr_warmup_steps` updates, times a cosine that is 0 after `num_updates` updates."""

    def rate(count):
        rise = jnp.minimum(1.0, (count + 1) / jnp.maximum(config.lr_warmup_steps, 1))
        done = jnp.clip(count / jnp.maximum(config.num_updates, 1), 0.0, 1.0)
        return config.learning_rate * rise * 0.5 * (1.0 + jnp.cos(jnp.pi * done))

    return rate


def linear_decay(update: jax.Array, num_updates: jax.Array | float) -> jax.Array:
    """Factor () of a learning rate, linearly from 1 to 0 in `num_updates`; 1 if `num_updates` is 0."""
    chex.assert_rank(update, 0)
    left = jnp.maximum(0.0, 1.0 - update / jnp.where(num_updates > 0, num_updates, 1))
    return jnp.where(num_updates > 0, left, 1.0)


def moving_average(average: Any, params: Any, decay: jax.Array | float, update: jax.Array) -> Any:
    """Exponential moving average of parameters after update number `update`, counted from 0.

    Early decays are (1 + n) / (10 + n), so that the initial parameters leave the average
    quickly. `update` is ().
    """
    chex.assert_rank(update, 0)
    decay = jnp.minimum(decay, (1.0 + update) / (10.0 + update))
    return optax.incremental_update(params, average, 1.0 - decay)
