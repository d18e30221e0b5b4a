"""How much of a melody is copied: longest copied runs, shared n-grams, repeats within a set.

Melodies are compared as rows of *moves*, one from each note to the next: the interval in semitones and the
steps between the two onsets. A transposed copy therefore counts as a copy, one with another rhythm does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mammadai_jax.music.notes import Melody
from mammadai_jax.music.statistics.features import mean


class Novelty(NamedTuple):
    """The longest copied run of each melody.

    Attributes:
        notes: its length in notes, int (N,); 1 if not even one move is copied, 0 without notes.
        share: that length divided by the melody's notes, float (N,); NaN without notes.
        source: index of a corpus melody that has the run, int (N,); -1 where no move is copied.

    """

    notes: np.ndarray
    share: np.ndarray
    source: np.ndarray


def novelty(generated: Sequence[Melody], corpus: Sequence[Melody]) -> Novelty:
    """The longest run of notes that each generated melody shares with any one corpus melody.

    Transposition is ignored; intervals and inter-onset times must both agree (the last note's length may
    differ). Exact, by a suffix array over all melodies; time O(n log n log T) for n notes in all.
    """
    longest, source = longest_runs(*_moves([*generated, *corpus]), len(generated))
    counts = np.array([len(melody.pitches) for melody in generated], int)
    notes = np.where(counts > 0, longest + 1, 0)
    share = np.divide(notes, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return Novelty(notes, share, source)


def longest_runs(symbols: np.ndarray, owner: np.ndarray, generated: int) -> tuple[np.ndarray, np.ndarray]:
    """The longest run of symbols that each of the first rows shares with one of the others, and which.

    Args:
        symbols: all rows one after another, int64 (n,); after each row a number < 0 that occurs nowhere else.
        owner: the row that each belongs to, int (n,).
        generated: how many rows come first (N).

    Returns:
        Lengths int (N,), and the number of the other row, counted from the first of the others; -1 where no
        symbol is shared.

    """
    ours = owner < generated
    length, partner = _longest_matches(_doubled_ranks(symbols), ours)
    longest = np.zeros(generated, int)
    np.maximum.at(longest, owner[ours], length)
    source = np.full(generated, -1)
    longest_here = (length == longest[owner[ours]]) & (length > 0)
    source[owner[ours][longest_here]] = owner[partner[longest_here]] - generated
    return longest, source


def ngram_overlap(generated: Sequence[Melody], corpus: Sequence[Melody], n: int = 3) -> float:
    """Share of the generated runs of n notes that occur in the corpus; NaN if no melody has n notes."""
    grams, owner = _grams([*generated, *corpus], n)
    ours = owner < len(generated)
    return mean(np.isin(grams[ours], grams[~ours]).astype(float))


def self_overlap(melodies: Sequence[Melody], n: int = 3) -> float:
    """Share of the runs of n notes that also occur in another melody of the set, mean over the melodies.

    Melodies with fewer than n notes are left out; NaN if none remains.
    """
    grams, owner = _grams(melodies, n)
    if not grams.size:
        return np.nan
    pairs = np.unique(np.stack([grams, owner]), axis=1)
    elsewhere = np.bincount(pairs[0])[grams] > 1
    runs = np.bincount(owner, minlength=len(melodies))
    shared = np.bincount(owner, elsewhere, minlength=len(melodies))
    return mean(shared[runs > 0] / runs[runs > 0])


def distinct_runs(melodies: Sequence[Melody], n: int = 8) -> float:
    """Number of different runs of n notes divided by all of them; NaN if no melody has n notes."""
    grams, _ = _grams(melodies, n)
    return len(np.unique(grams)) / len(grams) if grams.size else np.nan


def vendi_score(melodies: Sequence[Melody], n: int = 3) -> float:
    """How many entirely different melodies would be as diverse as these, from 1 to N (Friedman & Dieng 2023).

    It is exp(- sum_i l_i log l_i) of the eigenvalues l_i of K / N. The likeness K_ij of two melodies is the
    cosine of their counts of runs of n notes: 0 if they share none, 1 if they have the same equally often. A
    melody of fewer notes is like no other. ValueError for an empty set.
    """
    if not melodies:
        raise ValueError("there is no melody to score")
    grams, owner = _grams(melodies, n)
    counts = np.zeros((len(melodies), grams.max(initial=-1) + 1))
    np.add.at(counts, (owner, grams), 1.0)
    norms = np.linalg.norm(counts, axis=1, keepdims=True)
    likeness = np.divide(counts, norms, out=np.zeros_like(counts), where=norms > 0)
    kernel = likeness @ likeness.T
    np.fill_diagonal(kernel, 1.0)
    shares = np.clip(np.linalg.eigvalsh(kernel) / len(melodies), 1e-12, None)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def distinct(melodies: Sequence[Melody]) -> float:
    """Number of different melodies divided by all, compared event by event; NaN for an empty set."""
    return len({melody.events.tobytes() for melody in melodies}) / len(melodies) if melodies else np.nan


def _moves(melodies: Sequence[Melody]) -> tuple[np.ndarray, np.ndarray]:
    """The moves of all melodies in one row, and to which melody each belongs.

    A move is one integer >= 0. After each melody there is a separator < 0, which is unique.
    """
    rows, lengths = [], []
    for index, melody in enumerate(melodies):
        onsets = np.flatnonzero(melody.events >= 0)
        intervals = np.diff(melody.events[onsets].astype(np.int64))
        rows += [np.diff(onsets) * 256 + intervals + 128, [-1 - index]]
        lengths.append(len(intervals) + 1)
    return np.concatenate([*rows, []]).astype(np.int64), np.repeat(np.arange(len(melodies)), lengths)


def _doubled_ranks(symbols: np.ndarray) -> list[np.ndarray]:
    """For each k, the ranks (n,) of the runs of 2^k symbols that begin at each index; equal runs are equal.

    Ends when all runs differ, so that the last ranks sort the suffixes (Manber & Myers 1993).
    """
    ranks = [np.unique(symbols, return_inverse=True)[1]]
    while ranks[-1].size and ranks[-1].max() + 1 < len(symbols):
        rank, width = ranks[-1], 2 ** (len(ranks) - 1)
        following = np.append(rank[width:] + 1, np.zeros(min(width, len(rank)), int))
        ranks.append(np.unique(rank * (len(rank) + 1) + following, return_inverse=True)[1])
    return ranks


def _longest_matches(ranks: list[np.ndarray], ours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each index of ours, the longest equal run at an index not ours, and that index, each (ours,).

    In the order of the suffixes it is the nearest one before or after.
    """
    order = np.argsort(ranks[-1])
    theirs = ~ours[order]
    index = np.arange(len(order))
    before = np.maximum.accumulate(np.where(theirs, index, -1))
    after = np.minimum.accumulate(np.where(theirs, index, len(order))[::-1])[::-1]
    here = ranks[-1][ours]
    best, partner = np.zeros(len(here), int), np.zeros(len(here), int)
    for neighbour in (before[here], after[here]):
        exists = (neighbour >= 0) & (neighbour < len(order))
        other = order[np.clip(neighbour, 0, len(order) - 1)]
        length = np.where(exists, _common(ranks, np.flatnonzero(ours), other), 0)
        partner = np.where(length > best, other, partner)
        best = np.maximum(best, length)
    return best, partner


def _common(ranks: list[np.ndarray], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number of equal symbols from the indices `first` and `second` on, pair by pair: int (n,)."""
    length = np.zeros(len(first), int)
    end = len(ranks[0])
    for k in reversed(range(len(ranks))):
        # Unique separators end every match before the end of the symbols, so an index beyond it has no match.
        a, b = first + length, second + length
        inside = (a < end) & (b < end)
        equal = inside & (ranks[k][np.minimum(a, end - 1)] == ranks[k][np.minimum(b, end - 1)])
        length += equal * 2**k
    return length


def _grams(melodies: Sequence[Melody], n: int) -> tuple[np.ndarray, np.ndarray]:
    """All runs of n notes, as numbers that are equal for equal runs, and the melody of each, both (runs,)."""
    if n < 2:
        raise ValueError(f"runs of notes should have at least 2, got n = {n}")
    moves, owner = _moves(melodies)
    kinds = np.unique(moves, return_inverse=True)[1]
    grams, within = kinds, moves >= 0
    for offset in range(1, n - 1):
        grams = np.unique(grams[:-1] * len(kinds) + kinds[offset:], return_inverse=True)[1]
        within = within[:-1] & (moves[offset:] >= 0)
    return np.unique(grams[within], return_inverse=True)[1], owner[: len(within)][within]
