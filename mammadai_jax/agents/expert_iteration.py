# pyright: reportAttributeAccessIssue=false
# (flax adds `replace` to its dataclasses)
"""Expert iteration (Anthony et al. 2017) of a composer, as RAFT has it (Dong et al. 2023).

The expert is the policy with a choice: of n melodies for a prompt it keeps the one with the highest reward.
The policy learns that one by likelihood, and is a better expert then:

    y_i ~ pi(. | x), i = 1..n        L = -log pi(argmax_i r(x, y_i) | x)

There is no KL penalty: a policy that has become the expert of n has gone log n - (n - 1) / n nats, an update
at a time, and the number of updates bounds how far it goes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.agents import dpo, prompted
from mammadai_jax.agents.preference import prompt_indices
from mammadai_jax.fields import static, traced
from mammadai_jax.learning import collectives, optimisers
from mammadai_jax.learning.best_of_n import best_of_n
from mammadai_jax.networks.composer import Composer

# (reward params, rows of prompts, tokens (B, T)) -> rewards (B,)
RewardFn = Callable[[Any, Any, jax.Array], jax.Array]


@struct.dataclass
class Config:
    """Settings of expert iteration.

    Attributes:
        num_envs: melodies played in an update; here those that are kept, one for each prompt.
        candidates: melodies for each prompt, of which one is kept.
        num_steps: steps of a melody.
        temperature: divisor of the logits.
        num_updates: updates until the learning rate has fallen to zero; 0 keeps it.
        learning_rate: step size of the optimiser; its value at the start.
        weight_decay: coefficient of AdamW's weight decay; of matrices only.
        max_grad_norm: largest global norm of the gradient.

    """

    num_envs: int = static(64, low=1)
    candidates: int = static(8, low=2)
    num_steps: int = static(128, low=1, unit="steps")
    temperature: float = traced(1.0, low=0)
    num_updates: int = traced(0, low=0, unit="updates")
    learning_rate: float = traced(1e-3, low=0)
    weight_decay: float = traced(0.0, low=0)
    max_grad_norm: float = traced(1.0, low=0)


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the composer.
        opt_state: of the optimiser.
        update: int32, number of updates made.
        order: key of the orders in which prompts are taken.
        key: of the next update.

    """

    params: Any
    opt_state: Any
    update: jax.Array
    order: jax.Array
    key: jax.Array = collectives.own()


def init(key: jax.Array, config: Config, params: Any) -> State:
    """A learner that starts from a composer's parameters."""
    key, order = jax.random.split(key)
    copied = jax.tree.map(jnp.copy, params)
    return State(copied, optimisers.adamw(config).init(params), jnp.int32(0), order, key)


def step(
    state: State, config: Config, composer: Composer, prompts: Any, reward_fn: RewardFn, reward_params: Any
) -> tuple[State, dict[str, jax.Array]]:
    """One update.

    Args:
        state: of the learner.
        config: see Config.
        composer: the network.
        prompts: a mapping of arrays with a row for each prompt; `condition` (P, C) is the composer's.
        reward_fn: see RewardFn.
        reward_params: its parameters.

    Returns:
        State, and metrics: "reward/best" and "reward/mean" of the candidates, "bits" a step of what is
        learned, and "grad_norm" before the clip.

    """
    chex.assert_rank(prompts["condition"], 2)
    key, key_write = jax.random.split(state.key)
    asked, known = collectives.count() * config.num_envs, len(prompts["condition"])
    chosen = prompt_indices(state.order, state.update * asked, known, asked)
    rows = jax.tree.map(lambda x: x[collectives.share(chosen)], prompts)
    score = functools.partial(reward_fn, reward_params, rows)
    inputs = state.params, config, composer, rows["condition"], key_write, score
    best, metrics = collectives.each(_best, *inputs)

    def loss(params):
        return -dpo.log_prob(params, composer, rows["condition"], best).mean() / config.num_steps, {}

    (nats, _), gradient = collectives.value_and_grad(loss)(state.params)
    rate = config.learning_rate * optimisers.linear_decay(state.update, config.num_updates)
    params, opt_state = optimisers.step(
        optimisers.adamw(config), state.params, state.opt_state, gradient=gradient, learning_rate=rate
    )
    state = state.replace(params=params, opt_state=opt_state, update=state.update + 1, key=key)
    learned = {"bits": nats / math.log(2), "grad_norm": optax.tree.norm(gradient)}
    return state, collectives.mean(metrics) | learned


def _best(
    params: Any,
    config: Config,
    composer: Composer,
    condition: jax.Array,
    key: jax.Array,
    score: Callable[[jax.Array], jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The best of the candidates (B, T) for each condition (B, C), and metrics of their scores."""
    chex.assert_rank(condition, 2)

    def sample(key):
        steps, temperature = config.num_steps, config.temperature
        return prompted.compose(composer, params, key, condition, steps, temperature=temperature)

    tokens, highest, mean = best_of_n(key, config.candidates, sample, score)
    return tokens, {"reward/best": highest.mean(), "reward/mean": mean.mean()}
