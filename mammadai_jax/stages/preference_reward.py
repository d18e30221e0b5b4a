"""The reward of the stage "preference", on the scale of the untuned composer's melodies."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import embedding, preference, reward_model
from mammadai_jax.music import captions
from mammadai_jax.music.variety import own_runs
from mammadai_jax.networks.composer import Composer
from mammadai_jax.objectives import spread
from mammadai_jax.stages.captioned import claims_of
from mammadai_jax.stages.joint_embedding import JointEmbedding
from mammadai_jax.stages.prompted import composer_of
from mammadai_jax.stages.reward_model import likeness
from mammadai_jax.training.stage import Context

SLACK = 0.04  # added to the variance of a kind of claim, so that one which always holds counts at most 5


class RewardParams(NamedTuple):
    """What the reward is computed with.

    Attributes:
        reward_model: its parameters.
        scale: makes its scores of the untuned composer's melodies 0 on average with a variance of 1.
        embedding: of music, for the likeness of text and music.
        likeness: mean and standard deviation of that on the same melodies.
        claim_rates: how often claims of each kind hold of the same melodies, float32 (kinds,).

    """

    reward_model: reward_model.Params
    scale: reward_model.Scale
    embedding: embedding.Embedding
    likeness: tuple[jax.Array, jax.Array]
    claim_rates: jax.Array


Rows = Mapping[str, jax.Array]  # of N prompts: "condition" (N, C), and "claims" int32 (N, kinds)


def rows_of(context: Context, texts: Sequence[str]) -> Rows:
    """What the composer and the reward are told of prompts: their embeddings and their claims."""
    condition = context.learned("embedding").condition(texts)
    return {"condition": condition, "claims": jnp.asarray(claims_of(texts))}


def reward_of(config: reward_model.Config, composer: Composer) -> preference.Reward:
    """Four terms: "preference" is the reward model's score, "adherence" the likeness of text and music.

    "claims" are those of the prompt that hold. These three are on the scale of the untuned composer's
    melodies, so that a value that begins at 0 is not far off. "variety" is the share of a melody's runs of
    six notes that no other melody of the batch has.
    """

    def reward(params: RewardParams, rows, tokens):
        condition = rows["condition"]
        near = embedding.adherence(condition, params.embedding.music(tokens))
        each = reward_model.rewards(params.reward_model, config, composer, condition, tokens, near)
        score, _ = reward_model.score(each, params.scale)
        mean, deviation = params.likeness
        return {
            "preference": score,
            "adherence": (near - mean) / deviation,
            "variety": own_runs(tokens),
            "claims": claims_kept(rows["claims"], tokens, params.claim_rates),
        }

    return reward


def claims_kept(codes: jax.Array, tokens: jax.Array, rates: jax.Array) -> jax.Array:
    """How well melodies (N, T) keep the claims (N, kinds) of their prompts: float32 (N,).

        sum_k (kept_k - rate_k) / sqrt(rate_k (1 - rate_k) + SLACK) / sqrt(number of claims)

    So each kind is on a scale of its own, as each reward is in GDPO (Liu et al. 2026): one that nearly always
    holds, or hardly ever, counts as much as the others. The kind of tune, which no rule can check, is left
    out.
    """
    chex.assert_rank([codes, tokens, rates], [2, 2, 1])
    claimed = _checked(codes)
    deviation = jnp.sqrt(rates * (1 - rates) + SLACK)
    surplus = jnp.where(claimed, (captions.holds(codes, tokens) - rates) / deviation, 0.0)
    return surplus.sum(axis=-1) / jnp.sqrt(jnp.maximum(claimed.sum(axis=-1), 1))


def claim_rates(codes: jax.Array, tokens: jax.Array) -> jax.Array:
    """How often the claims (N, kinds) of each kind hold of melodies (N, T), float32 (kinds,); 1/2 if none."""
    chex.assert_rank([codes, tokens], 2)
    claimed = _checked(codes)
    held = (captions.holds(codes, tokens) & claimed).sum(axis=0)
    return (held + 0.5) / (claimed.sum(axis=0) + 1.0)


_claim_rates = jax.jit(claim_rates)


def _checked(codes: jax.Array) -> jax.Array:
    """Which claims (N, kinds) are made and can be checked."""
    return (codes >= 0) & (jnp.arange(codes.shape[1]) != list(captions.ATTRIBUTES).index("kind"))


def scaled_reward(
    context: Context, params: reward_model.Params, rows: Rows, tokens: np.ndarray
) -> RewardParams:
    """A reward model with these parameters on the scale of melodies (N, T) for the prompts of `rows`."""
    joint: JointEmbedding = context.learned("embedding")
    melodies, condition = jnp.asarray(tokens), rows["condition"]
    near = likeness(condition, joint.embedding.music(melodies))
    config = context.settings_of("reward_model").learner
    scale, of_likeness = _scales(params, config, composer_of(context), condition, melodies, near)
    rates = _claim_rates(rows["claims"], melodies)
    return RewardParams(params, scale, joint.embedding, of_likeness, rates)


@functools.partial(jax.jit, static_argnums=2)
def _scales(
    params: reward_model.Params,
    config: reward_model.Config,
    composer: Composer,
    condition: jax.Array,
    tokens: jax.Array,
    near: jax.Array,
) -> tuple[reward_model.Scale, tuple[jax.Array, jax.Array]]:
    """The scale of the scores of melodies (N, T); the mean and deviation of their likeness (N,)."""
    each = reward_model.rewards(params, config, composer, condition, tokens, near)
    return reward_model.normalise(each), (near.mean(), spread.scale(near) + 1e-6)
