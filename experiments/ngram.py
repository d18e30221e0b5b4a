"""N-gram models of token sequences: the baseline any learned composer has to beat.

Every order k up to n is one interpolation step, from the uniform distribution upwards:

    p_k(w | h) = alpha_k(w, h) + gamma_k(h) p_{k-1}(w | h without its oldest token),   p_0 = 1 / size

and a smoothing method is a choice of alpha and gamma. In a context never seen alpha is 0 and gamma is 1.

witten_bell: with c(h, w) the counts, C(h) their sum and T(h) how many different tokens followed h,
    alpha = c(h, w) / (C(h) + T(h)),  gamma = T(h) / (C(h) + T(h))  (Witten & Bell 1991).
kneser_ney: interpolated, modified (Chen & Goodman 1998):
    alpha = (c(h, w) - D(c)) / C(h),  gamma = sum_w D(c(h, w)) / C(h),
    where, below the highest order, c(h, w) is the number of different tokens seen before (h, w); not so for
    contexts that reach back to the start of a sequence, which have nothing before them and keep their counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

Smoothing = Literal["witten_bell", "kneser_ney"]
SMOOTHINGS: tuple[Smoothing, ...] = ("witten_bell", "kneser_ney")


@dataclasses.dataclass(frozen=True)
class Level:
    """One order's alpha and gamma; grams and contexts are packed integers in ascending order."""

    grams: np.ndarray
    alpha: np.ndarray
    contexts: np.ndarray
    gamma: np.ndarray


@dataclasses.dataclass(frozen=True)
class Model:
    """A fitted n-gram model over tokens 0..size-1; `levels[k - 1]` belongs to order k."""

    size: int
    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        """Length of its n-grams: the predicted token and order - 1 before it."""
        return len(self.levels)


def fit(sequences: Sequence[np.ndarray], order: int, size: int, smoothing: Smoothing = "kneser_ney") -> Model:
    """A model of `order` from sequences of tokens 0..size-1, each an integer array (T,) of its own length.

    Raises ValueError for an unknown smoothing, tokens out of range, no tokens at all, or an order whose
    n-grams do not fit into 63 bits.
    """
    if smoothing not in SMOOTHINGS:
        raise ValueError(f"smoothing is one of {', '.join(SMOOTHINGS)}, got {smoothing!r}")
    return fit_windows(_windows(sequences, order, size), order, size, smoothing)


def fit_windows(windows: np.ndarray, order: int, size: int, smoothing: Smoothing = "kneser_ney") -> Model:
    """A model from windows int64 (N,): digits of base size + 1, the token last, before it order - 1 facts.

    The facts of an n-gram are the tokens before; any others do, the least telling one first. ValueError for
    an unknown smoothing.
    """
    if smoothing not in SMOOTHINGS:
        raise ValueError(f"smoothing is one of {', '.join(SMOOTHINGS)}, got {smoothing!r}")
    counted = [np.unique(windows % (size + 1) ** k, return_counts=True) for k in range(1, order + 1)]
    if smoothing == "witten_bell":
        return Model(size, tuple(_witten_bell(grams, counts, size) for grams, counts in counted))
    for k in range(1, order):
        counted[k - 1] = _continuations(*counted[k - 1], longer=counted[k][0], order=k, size=size)
    return Model(size, tuple(_kneser_ney(grams, counts, size) for grams, counts in counted))


def probabilities(model: Model, sequences: Sequence[np.ndarray]) -> np.ndarray:
    """The probability of every token of every sequence given those before it, float64 (all tokens,)."""
    base = model.size + 1
    windows = _windows(sequences, model.order, model.size)
    probability = np.full(len(windows), 1 / model.size)
    for k, level in enumerate(model.levels, start=1):
        grams = windows % base**k
        alpha = _lookup(level.grams, level.alpha, grams, missing=0.0)
        gamma = _lookup(level.contexts, level.gamma, grams // base, missing=1.0)
        probability = alpha + gamma * probability
    return probability


def distributions(model: Model, windows: np.ndarray) -> Iterator[np.ndarray]:
    """The probabilities of all tokens after the facts of windows (N,): float32 (N, size) of each order."""
    base = model.size + 1
    probability = np.full((len(windows), model.size), 1 / model.size)
    for k, level in enumerate(model.levels, start=1):
        contexts = windows % base**k // base
        probability *= _lookup(level.contexts, level.gamma, contexts, missing=1.0)[:, None]
        first, after = np.searchsorted(level.grams, [contexts * base, (contexts + 1) * base])
        rows = np.repeat(np.arange(len(windows)), after - first)
        places = np.arange(len(rows)) - np.repeat(np.cumsum(after - first) - after, after - first)
        probability[rows, level.grams[places] % base] += level.alpha[places]
        yield probability.astype(np.float32)


def bits(model: Model, sequences: Sequence[np.ndarray]) -> float:
    """Mean bits per token over all tokens of all sequences: the model's cross-entropy on them."""
    return float(-np.log2(probabilities(model, sequences)).mean())


def _windows(sequences: Sequence[np.ndarray], order: int, size: int) -> np.ndarray:
    """Every token with the order - 1 symbols before it as digits of one integer (all tokens,).

    Each sequence is preceded by order - 1 start symbols, the digit `size`.
    """
    base = size + 1
    if order < 1 or base**order >= 2**63:
        raise ValueError(f"order {order} over {size} tokens: needs 1 <= order and {base}**order < 2**63")
    tokens = np.concatenate([*sequences, np.zeros(0, np.int64)])
    if not tokens.size or tokens.min() < 0 or tokens.max() >= size:
        held = f"{tokens.min()}..{tokens.max()}" if tokens.size else "none"
        raise ValueError(f"an n-gram model needs tokens 0..{size - 1}, got {held}")
    start = np.full(order - 1, size)
    padded = np.concatenate([part for row in sequences for part in (start, row)]).astype(np.int64)
    codes = np.zeros(len(padded) - order + 1, np.int64)
    for offset in range(order):
        codes = codes * base + padded[offset : offset + len(codes)]
    # Padding is never predicted.
    return codes[codes % base != size]


def _witten_bell(grams: np.ndarray, counts: np.ndarray, size: int) -> Level:
    contexts, context = np.unique(grams // (size + 1), return_inverse=True)
    kinds = np.bincount(context)
    total = np.bincount(context, counts) + kinds
    return Level(grams, counts / total[context], contexts, kinds / total)


def _kneser_ney(grams: np.ndarray, counts: np.ndarray, size: int) -> Level:
    contexts, context = np.unique(grams // (size + 1), return_inverse=True)
    discount = _discounts(counts)[np.minimum(counts, 3)]
    total = np.bincount(context, counts)
    return Level(
        grams, (counts - discount) / total[context], contexts, np.bincount(context, discount) / total
    )


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken from counts of 0, 1, 2 and 3 or more, float64 (4,).

    Chen & Goodman's three discounts where the counts of counts allow them, else Ney's single one, else 1/2.
    """
    n1, n2, n3, n4 = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    single = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
    if n1 and n2 and n3:
        three = np.array([0, 1 - 2 * single * n2 / n1, 2 - 3 * single * n3 / n2, 3 - 4 * single * n4 / n3])
        if (three[1:] > 0).all():
            return three
    return np.array([0, single, single, single])


def _continuations(
    grams: np.ndarray, counts: np.ndarray, longer: np.ndarray, order: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The grams with the number of different symbols before each, which `longer` lists."""
    base = size + 1
    continuations = np.unique(longer % base**order, return_counts=True)[1]
    at_start = grams // base ** (order - 1) == size
    return grams, np.where(at_start, counts, continuations)


def _lookup(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, missing: float) -> np.ndarray:
    """The value of each wanted key, or `missing`; `keys` ascend."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], missing)
