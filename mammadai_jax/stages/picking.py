"""Composing picks: of several candidates for a prompt, the one of which most claims hold."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mammadai_jax.agents import embedding, prompted, reward_model
from mammadai_jax.learning.best_of_n import best_of_n
from mammadai_jax.music import captions
from mammadai_jax.music.forms import Form
from mammadai_jax.networks.composer import Composer
from mammadai_jax.stages.captioned import claims_of, in_groups
from mammadai_jax.training.run import RunError
from mammadai_jax.training.stage import Context

TIE = 0.04  # the reward model's score counts between -TIE and TIE; a claim counts 1/11 or more


class Scorer(NamedTuple):
    """What a run's reward model needs to score melodies.

    Attributes:
        config: of the reward model.
        params: its parameters.
        embedding: of music, for the likeness of text and music.

    """

    config: reward_model.Config
    params: reward_model.Params
    embedding: embedding.Embedding


def scorer_of(context: Context) -> Scorer | None:
    """The reward model of a run; None if it was left out or is not trained yet."""
    try:
        params = context.learned("reward_model")
    except RunError:
        params = None
    if params is None:
        return None
    joint = context.learned("embedding")
    return Scorer(context.settings_of("reward_model").learner, params, joint.embedding)


def pick(
    composer: Composer,
    params: Any,
    key: jax.Array,
    prompts: Sequence[str],
    condition: jax.Array,
    *,
    candidates: int,
    steps: int,
    scorer: Scorer | None = None,
    temperature: float = 1.0,
    guidance: float | None = None,
    allowed: jax.Array | None = None,
    form: Form | None = None,
) -> np.ndarray:
    """For each prompt the best of so many melodies: the one with most claims, then with the highest score.

    Args:
        composer: the network.
        params: its parameters.
        key: consumed.
        prompts: N texts.
        condition: what they are to the composer, (N, C).
        candidates: melodies for each prompt.
        steps: of each melody (T).
        scorer: the reward model that decides between melodies with equally many claims; None for chance.
        temperature: divides the logits.
        guidance: see agents.prompted.compose.
        allowed: likewise.
        form: likewise, of each prompt's melodies.

    Returns:
        Tokens int32 (N, T).

    """
    codes = claims_of(prompts)
    named = {"temperature": temperature, "guidance": guidance, "allowed": allowed}
    options = named | {"steps": steps, "candidates": candidates}

    def write(key: jax.Array, rows: slice) -> jax.Array:
        own = {"scorer": scorer, "form": form and form.of(rows)}
        return _best(composer, params, key, condition[rows], codes[rows], **own, **options)

    return in_groups(len(prompts), key, write)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("candidates", "steps"))
def _best(
    composer: Composer,
    params: Any,
    key: jax.Array,
    condition: jax.Array,
    codes: jax.Array,
    *,
    scorer: Scorer | None,
    candidates: int,
    steps: int,
    temperature: jax.Array | float,
    guidance: jax.Array | float | None,
    allowed: jax.Array | None,
    form: Form | None,
) -> jax.Array:
    def score(tokens: jax.Array) -> jax.Array:
        claims = captions.adherence(codes, tokens)
        if scorer is None:
            return claims
        near = embedding.adherence(condition, scorer.embedding.music(tokens))
        each = reward_model.rewards(scorer.params, scorer.config, composer, condition, tokens, near)
        return claims + TIE * jax.nn.soft_sign(reward_model.score(each)[0])

    named = {"temperature": temperature, "guidance": guidance, "allowed": allowed, "form": form}
    sample = lambda key: prompted.compose(composer, params, key, condition, steps, **named)
    return best_of_n(key, candidates, sample, score)[0]
