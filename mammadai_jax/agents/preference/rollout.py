# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Which prompts come next, what the composer plays to them, and how it is rewarded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mammadai_jax.agents.preference.config import Config
from mammadai_jax.learning import rollout
from mammadai_jax.networks.composer import Composer
from mammadai_jax.objectives import distributions

# (reward_params, rows of the prompts, tokens int32 (B, T)) -> float32 (B,), or several by name
Reward = Callable[[Any, Any, jax.Array], jax.Array | Mapping[str, jax.Array]]


class Played(NamedTuple):
    """Melodies that were played, time-major (T, B).

    Attributes:
        fed: the token before each note, int32.
        action: the note, int32.
        log_prob: of the note under the policy that played it, temperature included.
        log_policy: of every note that it might have played (T, B, A).
        value: the policy's value head before the note.

    """

    previous_token: jax.Array
    action: jax.Array
    log_prob: jax.Array
    log_policy: jax.Array
    value: jax.Array


def play(params: Any, config: Config, composer: Composer, condition: Any, key: jax.Array) -> Played:
    """Play one melody of `config.steps` notes to each prompt.

    Args:
        params: of the composer, as in State.params["policy"].
        config: see Config.
        composer: the network.
        condition: the prompts, float32 (B, C); or None: `config.melodies` without one.
        key: consumed.

    """
    batch = config.num_envs if condition is None else condition.shape[0]

    def note(composer, loop, now):
        carry, token = loop
        time, key = now
        output, carry = composer.apply(params, carry, token, jnp.full(batch, time), condition, method="step")
        distribution = distributions.Categorical(output.logits / config.temperature)
        action, log_prob = distribution.sample_and_log_prob(seed=key)
        return (carry, action), Played(token, action, log_prob, distribution.logits, output.value)

    first = jnp.full(batch, composer.start, jnp.int32)
    times = jnp.arange(config.num_steps, dtype=jnp.int32)
    return rollout.write(composer, batch, note, first, (times, jax.random.split(key, config.num_steps)))


def prompt_indices(order: jax.Array, position: jax.Array, count: int, batch: int) -> jax.Array:
    """The next prompts: int32 (batch,), each of `count` visited once an epoch, every epoch in a new order.

    Args:
        order: the key of the orders; an epoch's depends on it and on the epoch's number alone.
        position: int32 (), how many prompts were visited before.
        count: how many there are.
        batch: how many are wanted.

    """
    places = position + jnp.arange(batch, dtype=jnp.int32)
    first = position // count
    touched = first + jnp.arange((batch + count - 2) // count + 1, dtype=jnp.int32)
    permute = lambda epoch: jax.random.permutation(jax.random.fold_in(order, epoch), count)
    return jax.vmap(permute)(touched)[places // count - first, places % count]


def score_melodies(
    config: Config, reward: Reward, reward_params: Any, prompts: Any, tokens: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted reward of melodies (B, T), float32 (B,), and the mean of each of its named terms.

    Raises:
        ValueError: if a term is not one number a melody, or a weight belongs to no term.

    """
    terms = reward(reward_params, prompts, tokens)
    named = isinstance(terms, Mapping)
    terms = dict(terms) if named else {"reward": terms}
    for name, term in terms.items():
        if jnp.shape(term) != tokens.shape[:1]:
            raise ValueError(
                f"{name} has shape {jnp.shape(term)}: a reward is one number for each of {tokens.shape[0]} "
                f"melodies, shape {tokens.shape[:1]}"
            )
    if unknown := sorted(set(config.reward_weights) - set(terms)):
        raise ValueError(f"weights name {unknown}, but the reward's terms are {sorted(terms)}")
    score = sum(config.reward_weights.get(name, 1.0) * term for name, term in terms.items())
    means = {f"reward/{name}": term.mean() for name, term in terms.items()} if named else {}
    return jnp.asarray(score, jnp.float32), means
