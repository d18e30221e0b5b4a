"""What simulated listeners say of the prompted composer before and after the stage "preference"."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.win_rates import win_rates
from mammadai_jax.stages.captioned import (
    claims_that_hold,
    hear,
    held_out_of,
    listeners_of,
    requests,
    simulated,
)
from mammadai_jax.stages.joint_embedding import JointEmbedding
from mammadai_jax.stages.prompted import composer_of, write_melodies
from mammadai_jax.stages.reward_model import likeness
from mammadai_jax.training.report.table import Comparison
from mammadai_jax.training.stage import Context


def evaluate_preference(context: Context, temperatures: Mapping[str, float], melodies: int) -> Comparison:
    """A table of both composers' melodies for held-out prompts, compared by listeners held out.

    Args:
        context: of a run with the stages "prompted" and "preference".
        temperatures: at which each of the two composes, by the stage's name.
        melodies: how many of each.

    """
    prompts = held_out_of(context).draw_prompts(context.random("test prompts"), melodies)
    panel, joint = listeners_of(context)[1], context.learned("embedding")
    condition = joint.condition(prompts)
    written = {
        name: write_melodies(
            composer_of(context),
            context.learned(name),
            context.key(f"{name} audition"),
            condition,
            steps=context.settings_of("embedding").length,
            temperature=temperature,
        )
        for name, temperature in temperatures.items()
    }
    choices = simulated(panel, context.key("audition"), name="held-out").gather(
        requests(prompts, written["preference"], written["prompted"], ("preference", "prompted"))
    )
    won = win_rates(choices, [("preference", "prompted")])[0]
    columns = {
        name.capitalize(): _measures(panel, joint, prompts, condition, tokens)
        for name, tokens in written.items()
    }
    columns["Prompted"]["preferred"] = 1.0 - won.win_rate
    columns["Preference"]["preferred"] = won.win_rate
    interval = f"{100 * won.low:.0f} to {100 * won.high:.0f} %"
    counts = f"{won.wins} wins, {won.ties} ties, {won.losses} losses"
    return Comparison(
        title="Before and after preference",
        summary=f"Melodies of both for the same {len(prompts)} prompts. The listeners are simulated, and the "
        f"reward model was not trained on their choices: {counts}; 95 % interval of the share preferred "
        f"{interval}.",
        columns=columns,
        goals=dict.fromkeys(("preferred", "gold", "claims", "likeness", "distinct"), math.inf),
    )


_gold = jax.jit(panels.gold)


def _measures(
    panel: panels.Panel, joint: JointEmbedding, prompts: list[str], condition: jax.Array, tokens: np.ndarray
) -> dict[str, float]:
    """What a panel hears in melodies (N, T) for N prompts; "preferred" is left open."""
    claims = jnp.asarray(claims_that_hold(prompts, tokens))
    near = likeness(condition, joint.embedding.music(jnp.asarray(tokens)))
    return {
        "preferred": math.nan,
        "gold": float(_gold(panel, hear(tokens), claims).mean()),
        "claims": float(claims.mean()),
        "likeness": float(near.mean()),
        "distinct": len(np.unique(tokens, axis=0)) / len(tokens),
    }
