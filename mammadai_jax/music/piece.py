"""Pieces of several voices: in which order the voices of a frame are decided."""

from __future__ import annotations


def decision_order(voices: int) -> tuple[int, ...]:
    """The voices (0 is the highest) as they are decided: the outer two first, then the inner from below.

    For soprano, alto, tenor and bass that is S B T A, (0, 3, 2, 1). ValueError for less than one voice.
    """
    if voices < 1:
        raise ValueError(f"a piece has one voice or more, got {voices}")
    return (0, *range(voices - 1, 0, -1))
