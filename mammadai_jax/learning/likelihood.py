"""One update of a composer by maximum likelihood, which the prior and the prompted composer share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import optax

from mammadai_jax.learning import collectives, microbatches, optimisers


def optimiser(config: Any) -> optax.GradientTransformation:
    """AdamW or Muon with a linear warm-up and a cosine to zero, see `optimisers.warmup_cosine`."""
    kind = {"adam": optimisers.adamw, "muon": optimisers.muon}[config.optimiser]
    return kind(config, schedule=optimisers.warmup_cosine(config), b2=0.99)


def value_and_grad(config: Any, loss: Callable, *, num_steps: int, axis: int) -> Callable:
    """Value and gradient of loss(params, rows, key), rows having melodies of `num_steps` on `axis`.

    Those of a Transformer are accumulated over microbatches, see there. An LSTM reads all melodies at once:
    its products are small, and fewer melodies at a time would make it slower.
    """
    accumulated = functools.partial(microbatches.value_and_grad, num_steps=num_steps, axes=axis)
    taken = accumulated if config.body == "transformer" else jax.value_and_grad
    return collectives.value_and_grad(loss, has_aux=False, taken=taken)


def minibatch_step(
    state: Any,
    config: Any,
    loss: Callable[[Any, Any, jax.Array], jax.Array],
    *,
    rows: Any,
    axis: int,
    key_dropout: jax.Array,
    key: jax.Array,
) -> tuple[Any, dict[str, jax.Array]]:
    """One update of the parameters and of their moving average.

    Args:
        state: of the learner; it has `params`, `average`, `opt_state`, `update` and `key`.
        config: of the learner, see `optimiser`; it has `body` and `ema_decay` too.
        loss: parameters, rows, a key for dropout -> mean nats a step, float32 ().
        rows: arrays with the melodies on `axis`; the first is of tokens, (B, T) or (T, B).
        axis: 0 or 1.
        key_dropout: consumed.
        key: of the next state.

    Returns:
        State, and metrics: "bits" a step, and "grad_norm" before the clip.

    """
    num_steps = jax.tree.leaves(rows)[0].shape[1 - axis]
    gradient_of = value_and_grad(config, loss, num_steps=num_steps, axis=axis)
    nats, gradient = gradient_of(state.params, rows, key_dropout)
    params, opt_state = optimisers.step(optimiser(config), state.params, state.opt_state, gradient=gradient)
    average = optimisers.moving_average(state.average, params, config.ema_decay, state.update)
    state = state.replace(
        params=params, average=average, opt_state=opt_state, update=state.update + 1, key=key
    )
    return state, {"bits": nats / math.log(2), "grad_norm": optax.tree.norm(gradient)}
