"""Pieces of several voices as tokens int32 (T, V): frames of the grid, voice 0 the highest."""

from __future__ import annotations


def decision_order(voices: int) -> tuple[int, ...]:
    """In which order the voices of a frame are decided: highest, lowest, then from low to high.

    ValueError if there is no voice.
    """
    if voices < 1:
        raise ValueError(f"a piece has one voice or more, not {voices}")
    return (0, *range(voices - 1, 0, -1))
