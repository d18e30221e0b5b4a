# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Direct preference optimisation (Rafailov et al. 2023): a composer learns from pairs, with no reward model.

    L = -log sigmoid(beta (log pi(w)/pi_ref(w) - log pi(l)/pi_ref(l)))

for a preferred melody w and a rejected one l, whole, at temperature 1. The composer is its own reward
model: r = beta log pi/pi_ref. Tied pairs say nothing here and are left out.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.agents.reward_model import Pairs
from mammadai_jax.fields import static, traced
from mammadai_jax.learning import epochs
from mammadai_jax.networks.composer import Composer


@struct.dataclass
class Config:
    """Settings of DPO. The learning rate falls linearly to zero over all epochs.

    Attributes:
        batch_size: examples in a minibatch; here pairs of melodies.
        num_epochs: passes over the data.
        learning_rate: step size of the optimiser; its value at the start.
        weight_decay: coefficient of AdamW's weight decay; of matrices only.
        max_grad_norm: largest global norm of the gradient.
        kl_coef: reward that a nat of divergence from the reference costs; the paper's beta.

    """

    batch_size: int = static(32, low=1)
    num_epochs: float = traced(1.0, low=0)
    learning_rate: float = traced(1e-4, low=0)
    weight_decay: float = traced(0.0, low=0)
    max_grad_norm: float = traced(1.0, low=0)
    kl_coef: float = traced(0.1, low=0, unit="reward / nat")


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the composer.
        reference: of the composer that it is kept near; they stay the same.
        opt_state: of the optimiser.
        update: int32, how many updates were made.
        key: of the order of the pairs; it stays the same.

    """

    params: Any
    reference: Any
    opt_state: Any
    update: jax.Array
    key: jax.Array


def init(key: jax.Array, config: Config, params: Any) -> State:
    """A fresh learner that begins at a composer's parameters, which are its reference too."""
    copy = lambda: jax.tree.map(jnp.copy, params)
    return State(copy(), copy(), epochs.optimiser(config).init(params), jnp.int32(0), key)


def log_prob(params: Any, composer: Composer, condition: Any, tokens: jax.Array) -> jax.Array:
    """Log pi of whole melodies (B, T) for prompts (B, C) or None, at temperature 1: float32 (B,)."""
    chex.assert_rank(tokens, 2)
    played = tokens.T
    previous_token = jnp.concatenate([jnp.full_like(played[:1], composer.start), played[:-1]])
    times = jnp.broadcast_to(jnp.arange(played.shape[0])[:, None], played.shape)
    logits = composer.apply(params, previous_token, times, condition).logits
    return -optax.losses.softmax_cross_entropy_with_integer_labels(logits, played).sum(axis=0)


def weights(rows: Pairs) -> jax.Array:
    """Of pairs (B,); tied ones weigh nothing."""
    return (rows.choice != 0) * (1.0 if rows.weight is None else rows.weight)


def loss(
    params: Any, reference: Any, config: Config, composer: Composer, rows: Pairs
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Of some pairs (B,) -> loss, metrics with TRL's names, all of the pairs that are not tied."""
    chex.assert_equal_shape([rows.a, rows.b])
    first = (rows.choice > 0)[:, None]
    both = jnp.concatenate([jnp.where(first, rows.a, rows.b), jnp.where(first, rows.b, rows.a)])
    condition = None if rows.condition is None else jnp.concatenate([rows.condition, rows.condition])
    log_probs = log_prob(params, composer, condition, both)
    reward = config.kl_coef * (log_probs - log_prob(reference, composer, condition, both))
    chosen, rejected = jnp.split(reward, 2)
    decided = weights(rows)
    mean = lambda values: (values * decided).sum() / jnp.maximum(decided.sum(), 1e-8)
    metrics = {
        "rewards/chosen": mean(chosen),
        "rewards/rejected": mean(rejected),
        "rewards/margins": mean(chosen - rejected),
        "rewards/accuracies": mean(chosen > rejected),
        "logps/chosen": mean(jnp.split(log_probs, 2)[0]),
        "logps/rejected": mean(jnp.split(log_probs, 2)[1]),
    }
    return mean(-jax.nn.log_sigmoid(chosen - rejected)), metrics


def step(state: State, config: Config, composer: Composer, data: Pairs) -> tuple[State, dict[str, jax.Array]]:
    """One update on the pairs. Metrics: those of `loss` and of `epochs.descend`."""
    examples = data.choice.shape[0]
    rows = jax.tree.map(lambda x: x[epochs.minibatch(state.key, state.update, config, examples)], data)
    objective = lambda params: loss(params, state.reference, config, composer, rows)
    learner = epochs.optimiser(config)
    return epochs.minibatch_step(state, config, examples, objective, learner, weights(rows).sum())
