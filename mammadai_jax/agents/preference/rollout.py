# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""The prompts of an update, the melodies played to them, and their rewards."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mammadai_jax.agents.preference.config import Config
from mammadai_jax.learning import minibatches, rollout
from mammadai_jax.learning.rollout import Policy
from mammadai_jax.networks.composer import Composer
from mammadai_jax.objectives import distributions, returns

UNNAMED = "reward"  # the name of a reward that has no terms
# (reward_params, rows of the prompts (B, ...), tokens int32 (B, T)) -> float32 (B,), or several by name
Reward = Callable[[Any, Any, jax.Array], jax.Array | Mapping[str, jax.Array]]


class Played(NamedTuple):
    """Melodies that were played, time-major.

    Attributes:
        previous_token: the token before each note, int32 (T, B).
        action: the note, int32 (T, B).
        log_prob: its log-probability under the policy that played it, temperature included, float32 (T, B).
        log_policy: log-probabilities of all notes, float32 (T, B, A).
        value: of the policy's value head before the note, float32 (T, B).

    """

    previous_token: jax.Array
    action: jax.Array
    log_prob: jax.Array
    log_policy: jax.Array
    value: jax.Array


def play(params: Any, config: Config, composer: Composer, condition: Any, key: jax.Array) -> Played:
    """Play one melody of `config.num_steps` notes to each prompt.

    Args:
        params: of the composer, as in State.params["policy"].
        config: see Config.
        composer: the network.
        condition: the prompts, float32 (B, C); None for `config.num_envs` melodies without prompts.
        key: consumed.

    """
    batch = config.num_envs if condition is None else condition.shape[0]
    policy = functools.partial(recording_policy, temperature=config.temperature, condition=condition)
    trajectory = rollout.compose(composer, params, key, batch, config.num_steps, make_policy=policy)
    return Played(trajectory.observation.token, trajectory.action, *trajectory.log_prob)


def recording_policy(composer: Composer, temperature: float | jax.Array, condition: Any) -> Policy:
    """The composer as a policy that records Played's log_prob (B,), log_policy (B, A) and value (B,)."""

    def policy(params: Any, observation: Any, carry: Any, key: jax.Array) -> tuple[Any, Any, Any]:
        step = (carry, observation.token, observation.time, condition)
        output, carry = composer.apply(params, *step, method="step")
        distribution = distributions.Categorical(distributions.at_temperature(output.logits, temperature))
        action, log_prob = distribution.sample_and_log_prob(seed=key)
        return action, (log_prob, distribution.logits, output.value), carry

    return policy


def prompt_indices(order: jax.Array, position: jax.Array, count: int, batch: int) -> jax.Array:
    """Indices of the next prompts, int32 (batch,): each of `count` once an epoch, in a new order each epoch.

    Args:
        order: key of the orders; that of an epoch is a function of this key and the epoch's number.
        position: int32 (), number of prompts taken before.
        count: number of all prompts.
        batch: number of prompts to take.

    """
    chex.assert_rank(position, 0)
    places = position + jnp.arange(batch, dtype=jnp.int32)
    first = position // count
    epochs = first + jnp.arange((batch + count - 2) // count + 1, dtype=jnp.int32)
    permute = lambda epoch: jax.random.permutation(jax.random.fold_in(order, epoch), count)
    return jax.vmap(permute)(epochs)[places // count - first, places % count]


def score_melodies(
    config: Config, reward_fn: Reward, reward_params: Any, prompts: Any, tokens: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted sum of the rewards of melodies (B, T), float32 (B,), and each term by its name, (B,).

    Raises:
        ValueError: if a term is not one number a melody, or a weight belongs to no term.

    """
    chex.assert_rank(tokens, 2)
    terms = by_name(reward_fn(reward_params, prompts, tokens))
    for name, term in terms.items():
        if jnp.shape(term) != tokens.shape[:1]:
            raise ValueError(
                f"{name} has shape {jnp.shape(term)}: a reward is one number for each of {tokens.shape[0]} "
                f"melodies, shape {tokens.shape[:1]}"
            )
    if unknown := sorted(set(config.reward_weights) - set(terms)):
        raise ValueError(f"weights name {unknown}, but the reward's terms are {sorted(terms)}")
    score = sum(config.reward_weights.get(name, 1.0) * term for name, term in terms.items())
    return jnp.asarray(score, jnp.float32), terms


def by_name(terms: jax.Array | Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The terms (B,) of a reward by their names; a single one has a name too."""
    return dict(terms) if isinstance(terms, Mapping) else {UNNAMED: terms}


def means_of(terms: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The mean (), as a metric, of each named term (B,)."""
    return {f"reward/{name}": term.mean() for name, term in terms.items() if name != UNNAMED}


def group_scores(config: Config, score: jax.Array, terms: Mapping[str, jax.Array]) -> jax.Array:
    """What GRPO credits melodies with: their advantages in their groups, float32 (B,).

    Those of the score; or, decoupled, the weighted sum of those of each term, standardised over all melodies
    (GDPO, Liu et al. 2026): a sum that is standardised as a whole loses which of its terms differed.
    """
    chex.assert_rank(score, 1)
    if not config.decouple_rewards:
        return returns.group_advantages(score, config.group_size)
    own = {name: returns.group_advantages(term, config.group_size) for name, term in terms.items()}
    return minibatches.normalized(sum(config.reward_weights.get(name, 1.0) * own[name] for name in own))
