"""Random rows in place of the first ones: data are kept in the order of their collections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def draw(random: np.random.Generator, count: int, strata: Sequence | np.ndarray) -> np.ndarray:
    """Row numbers, int (count,), drawn at random without replacement from every stratum by its share of all.

    Each stratum has at least one among as many rows as there are strata. Any number of the first rows is such
    a draw too. When all rows are drawn they are drawn anew, in another order.

    Args:
        random: the source of randomness.
        count: number of rows.
        strata: what each of the N rows belongs to, such as its collection or its label.

    Raises:
        ValueError: if there are no rows.

    """
    if not len(strata):
        raise ValueError("there are no rows to draw from")
    _, stratum = np.unique(np.asarray(strata), return_inverse=True)
    rounds = [_order(random, stratum) for _ in range(-(-count // len(stratum)))]
    return np.concatenate([*rounds, np.zeros(0, int)])[:count].astype(int)


def _order(random: np.random.Generator, stratum: np.ndarray) -> np.ndarray:
    """All rows in a random order in which the strata are mixed evenly, int (N,)."""
    order = random.permutation(len(stratum))
    by_stratum = order[np.argsort(stratum[order], kind="stable")]
    sizes = np.bincount(stratum)
    place = np.concatenate([np.arange(size) / size for size in sizes])
    mixed = random.permutation(len(stratum))  # strata that are equally far come in a random order
    return by_stratum[mixed][np.argsort(place[mixed], kind="stable")]
