"""What the rules of harmony and the prior say of pieces of several voices: a table of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mammadai_jax.agents import polyphonic_prior, prior
from mammadai_jax.music import harmony, statistics
from mammadai_jax.music.harmony import bach
from mammadai_jax.networks.polyphonic import PolyphonicComposer
from mammadai_jax.training.report.table import Comparison

LARGER_IS_BETTER = {"log_prior": math.inf, "distinct": math.inf}


def measure(
    pieces: np.ndarray, config: harmony.Config, composer: PolyphonicComposer, params: Any
) -> dict[str, float]:
    """Each rule's reward of a piece, and the prior's log-probability of a decision.

    Also the entropy of the chords and the share of different pieces.

    Args:
        pieces: tokens int (N, T, V).
        config: of the rules.
        composer: the prior's network.
        params: the prior's parameters.

    """
    rewards = {name: float(x.mean()) for name, x in harmony.score(pieces, config).items()}
    bits = prior.evaluate(composer, params, [polyphonic_prior.decided(piece) for piece in pieces])
    return {
        **rewards,
        "log_prior": -bits * math.log(2),
        "chord_entropy": statistics.chord_entropy(list(pieces)),
        "distinct": len(np.unique(pieces, axis=0)) / len(pieces),
    }


def evaluate_harmony(columns: Mapping[str, Mapping[str, float]], quarters: float) -> Comparison:
    """The table of what `measure` gave for pieces of so many quarter notes, beside Bach's own rates."""
    own = {**bach.events(quarters), "chord_entropy": bach.CHORD_ENTROPY}
    return Comparison(
        title="Harmony, rule by rule",
        summary=(
            f"Rewards of a piece of {quarters:g} quarter notes by each rule, mostly minus the times "
            "that it is broken, beside those of Bach's chorales. Marked: the stage nearest to Bach."
        ),
        columns=columns,
        beside={"Bach": own},
        goals={**own, **LARGER_IS_BETTER},
    )
