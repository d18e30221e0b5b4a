"""What simulated listeners say of the prompted composer before and after preference."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.win_rates import win_rates
from mammadai_jax.training import preference, stages
from mammadai_jax.training.joint_embedding import JointEmbedding
from mammadai_jax.training.preference import Material
from mammadai_jax.training.report import Comparison
from mammadai_jax.training.settings import Settings


def evaluate_preference(settings: Settings, given: Material, learned: Mapping[str, Any]) -> Comparison:
    """A table of both composers' melodies for prompts of the corpus, judged by listeners held out.

    Args:
        settings: of the run; `judged` melodies are taken of each composer.
        given: the captioned excerpts.
        learned: what composes, by stage, of "prompted" and "preference".

    """
    prompts = list(itertools.islice(itertools.cycle(given.prompts), settings.num_samples))
    panel = preference.listeners(settings, given)[1]
    joint = learned["prompted"].joint
    condition = joint.text(prompts)
    made = {
        name: preference.write_melodies(
            settings, learned[name].params, stages.key_of(settings, f"{name} audition"), condition
        )
        for name in ("prompted", "preference")
    }
    key = stages.key_of(settings, "audition")
    choices = preference.simulated(panel, key, name="held-out").gather(
        preference.requests(prompts, made["preference"], made["prompted"], ("preference", "prompted"))
    )
    won = win_rates(choices, [("preference", "prompted")])[0]
    columns = {
        title: _heard(panel, joint, prompts, condition, made[name])
        for name, title in (("prompted", "Prompted"), ("preference", "Preference"))
    }
    columns["Prompted"]["preferred"] = 1.0 - won.win_rate
    columns["Preference"]["preferred"] = won.win_rate
    interval = f"{100 * won.low:.0f} to {100 * won.high:.0f} %"
    counts = f"{won.wins} wins, {won.ties} ties, {won.losses} losses"
    return Comparison(
        title="Before and after preference",
        summary=f"Melodies of both for the same {len(prompts)} prompts. The listeners are simulated, and "
        f"none of them taught the judge: {counts}; 95 % interval of the share preferred {interval}.",
        columns=columns,
        goals=dict.fromkeys(("preferred", "gold", "claims", "likeness", "distinct"), math.inf),
    )


_gold = jax.jit(panels.gold)


def _heard(
    panel: panels.Panel, joint: JointEmbedding, prompts: list[str], condition: jax.Array, tokens: np.ndarray
) -> dict[str, float]:
    """What a panel hears in melodies (N, T) for N prompts."""
    claims = jnp.asarray(preference.claims_that_hold(prompts, tokens))
    near = preference.likeness(condition, joint.embedding.music(jnp.asarray(tokens)))
    return {
        "preferred": math.nan,
        "gold": float(_gold(panel, preference.hear(tokens), claims).mean()),
        "claims": float(claims.mean()),
        "likeness": float(near.mean()),
        "distinct": len(np.unique(tokens, axis=0)) / len(tokens),
    }
