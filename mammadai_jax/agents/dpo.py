"""Direct preference optimisation (Rafailov et al. 2023): a composer trained on pairs, without a reward model.

    L = -log sigmoid(beta (log pi(w)/pi_ref(w) - log pi(l)/pi_ref(l)))

for a preferred melody w and a rejected one l, whole, at temperature 1. The policy's implicit reward is
r = beta log pi/pi_ref. Tied pairs have no weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from mammadai_jax.agents.reward_model import Pairs
from mammadai_jax.fields import static, traced
from mammadai_jax.learning import epochs, sequences
from mammadai_jax.networks.composer import Composer
from mammadai_jax.objectives import preferences

# (log pi/pi_ref of the chosen (B,), of the rejected (B,), *, beta) -> (B,), as preferences.dpo_loss
PairLoss = Callable[..., jax.Array]


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
        reference: the composer's parameters before training, which stay fixed.
        opt_state: of the optimiser.
        update: int32, number of updates made.
        key: of the order of the pairs; it never changes.

    """

    params: Any
    reference: Any
    opt_state: Any
    update: jax.Array
    key: jax.Array


def init(key: jax.Array, config: Config, params: Any) -> State:
    """A learner that starts from a composer's parameters, which are its reference too."""
    copy = lambda: jax.tree.map(jnp.copy, params)
    return State(copy(), copy(), epochs.optimiser(config).init(params), jnp.int32(0), key)


def log_prob(params: Any, composer: Composer, condition: Any, tokens: jax.Array) -> jax.Array:
    """Log pi of whole melodies (B, T) for prompts (B, C) or None, at temperature 1, float32 (B,)."""
    chex.assert_rank(tokens, 2)
    nats = sequences.negative_log_likelihood(
        composer, params, tokens.T, condition=condition, begin=composer.start_of(tokens.shape[1])
    )
    return -nats.sum(axis=0)


def pair_weights(rows: Pairs) -> jax.Array:
    """Weights of pairs (B,); 0 for ties."""
    return (rows.choice != 0) * (1.0 if rows.weight is None else rows.weight)


def weighted_loss(
    params: Any,
    reference: Any,
    config: Config,
    composer: Composer,
    rows: Pairs,
    *,
    loss: PairLoss = preferences.dpo_loss,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Weighted mean of the loss of pairs (B,) -> loss, metrics.

    Metrics have TRL's names, and are weighted means too: "rewards/chosen", "rewards/rejected",
    "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected".
    """
    chex.assert_equal_shape([rows.a, rows.b])
    first = (rows.choice > 0)[:, None]
    both = jnp.concatenate([jnp.where(first, rows.a, rows.b), jnp.where(first, rows.b, rows.a)])
    condition = None if rows.condition is None else jnp.concatenate([rows.condition, rows.condition])
    log_probs = log_prob(params, composer, condition, both)
    log_ratios = jnp.split(log_probs - log_prob(reference, composer, condition, both), 2)
    chosen, rejected = (config.kl_coef * log_ratio for log_ratio in log_ratios)
    weight = pair_weights(rows)
    mean = lambda values: (values * weight).sum() / jnp.maximum(weight.sum(), 1e-8)
    metrics = {
        "rewards/chosen": mean(chosen),
        "rewards/rejected": mean(rejected),
        "rewards/margins": mean(chosen - rejected),
        "rewards/accuracies": mean(chosen > rejected),
        "logps/chosen": mean(jnp.split(log_probs, 2)[0]),
        "logps/rejected": mean(jnp.split(log_probs, 2)[1]),
    }
    return mean(loss(*log_ratios, beta=config.kl_coef)), metrics


def step(
    state: State,
    config: Config,
    composer: Composer,
    data: Pairs,
    *,
    loss: PairLoss = preferences.dpo_loss,
) -> tuple[State, dict[str, jax.Array]]:
    """One update on the pairs.

    Args:
        state: of the learner.
        config: see Config.
        composer: the network.
        data: all pairs.
        loss: of each pair, see PairLoss.

    Returns:
        State, and the metrics of `weighted_loss` and of `epochs.minibatch_step`.

    """
    examples = data.choice.shape[0]
    chosen = epochs.minibatch(state.key, state.update, config, examples)
    rows = jax.tree.map(lambda x: x[chosen], data)
    objective = lambda params: weighted_loss(params, state.reference, config, composer, rows, loss=loss)
    return epochs.minibatch_step(
        state,
        config,
        objective,
        examples=examples,
        optimiser=epochs.optimiser(config),
        weight=pair_weights(rows).sum(),
    )
