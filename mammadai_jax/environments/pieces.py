"""Which environment composes a piece: of one voice or of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mammadai_jax.environments.polyphonic import Polyphonic
from mammadai_jax.environments.theory import Theory
from mammadai_jax.music import harmony, theory

Piece = theory.Config | harmony.Config


def by_rules(
    piece: Piece, weights: Mapping[str, Any] | None = None, rules: Mapping[str, Any] | None = None
) -> Theory | Polyphonic:
    """The environment in which a piece is rewarded by rules: `theory`, or `polyphonic` for several voices.

    Args:
        piece: what is composed, which is the config of its rules.
        weights: of rules by name; a rule without one weighs 1.
        rules: by name; by default those of music/theory or music/harmony.

    Raises:
        ValueError: for the weight of no rule.

    """
    if isinstance(piece, harmony.Config):
        return Polyphonic(piece, weights, harmony.RULES if rules is None else rules)
    return Theory(piece, weights, theory.RULES if rules is None else rules)
