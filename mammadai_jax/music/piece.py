"""Pieces of several voices: in which order the voices of a frame are decided."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_VOICES = 8


def decision_order(voices: int) -> tuple[int, ...]:
    """The order in which the voices of a frame are decided: S, B, T, A of four.

    The outer voices first, the highest and then the lowest; then the inner ones from low to high.
    """
    if not 1 <= voices <= MAX_VOICES:
        raise ValueError(f"a piece should have 1 to {MAX_VOICES} voices, got {voices}")
    return (0, *range(voices - 1, 0, -1))


def decisions(tokens: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Tokens (T, V) as decisions (T * V,), frame after frame, the voices of each in an order."""
    return np.asarray(tokens)[:, list(order)].reshape(-1)
