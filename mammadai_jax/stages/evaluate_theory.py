"""What the rules of music theory and the prior say of pieces: two tables of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mammadai_jax.agents import prior
from mammadai_jax.music import statistics, theory
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.sample import STEPS_PER_BAR
from mammadai_jax.networks.composer import Composer
from mammadai_jax.training.report.table import Comparison

RULES = {**theory.RULES, **theory.FURTHER}  # that a prior is tuned by, and pieces are scored by
# RL Tuner's Table 1 (Jaques et al. 2017), with the values that the rules aim at.
TABLE = {
    "num_repeated_notes": 0.0,
    "autocorrelation1": 0.0,
    "autocorrelation2": 0.0,
    "autocorrelation3": 0.0,
    "notes_not_in_key": 0.0,
    "num_starting_tonic": 1.0,
    "leaps_resolved": 1.0,
    "num_high_unique": 1.0,
    "num_low_unique": 1.0,
    "notes_in_motif": 1.0,
    "notes_in_repeated_motif": 1.0,
}


class Rules(NamedTuple):
    """What pieces are measured by.

    Attributes:
        piece: what the rules expect.
        weights: of the rules by name; a rule without one weighs 1.
        composer: the prior's network.
        params: the prior's parameters.

    """

    piece: theory.Config
    weights: Mapping[str, Any]
    composer: Composer
    params: Any


def evaluate_theory(
    composed: Mapping[str, np.ndarray], beside: Mapping[str, np.ndarray], rules: Rules
) -> list[Comparison]:
    """Tables of each rule's reward and of RL Tuner's measures.

    Args:
        composed: tokens int (N, length) of pieces, by the title of their column.
        beside: likewise; further columns, in which nothing is marked.
        rules: what pieces are measured by.

    """
    rewards = lambda group: {title: _rewards(rules, rows) for title, rows in group.items()}
    measures = lambda group: {title: _measures(rules, rows) for title, rows in group.items()}
    pieces, bars = max(map(len, composed.values())), rules.piece.length // STEPS_PER_BAR
    of = f"of up to {pieces} pieces of {bars} {'bar' if bars == 1 else 'bars'} in each column"
    return [
        Comparison(
            title="Music theory, rule by rule",
            summary=f"Mean reward of a step by each rule, {of}. Marked: the stage with the highest.",
            columns=rewards(composed),
            beside=rewards(beside),
            goals=dict.fromkeys(("theory", *RULES), math.inf),
        ),
        Comparison(
            title="The measures of RL Tuner",
            summary=f"Table 1 of Jaques et al. 2017, {of}. Marked: the stage nearest to the rules' aim.",
            columns=measures(composed),
            beside=measures(beside),
            goals=TABLE,
        ),
    ]


def corpus_tokens(corpus: Corpus, pieces: int, length: int) -> np.ndarray:
    """The beginnings of up to so many melodies from all over a corpus, on C: int32 (N, length).

    Melodies that are shorter are left out.
    """
    long_enough = [m for m in corpus.in_key(0, MAGENTA, relative=True) if len(m.events) >= length]
    chosen = np.linspace(0, len(long_enough) - 1, min(pieces, len(long_enough))).astype(int)
    rows = [MAGENTA.encode(long_enough[index].events)[:length] for index in chosen]
    return np.array(rows, np.int32).reshape(-1, length)


def _rewards(rules: Rules, tokens: np.ndarray) -> dict[str, float]:
    """Mean reward of a step by rule, their weighted sum, and log-probability under the prior, in nats."""
    each = {name: float(x.mean()) for name, x in theory.score(tokens, rules.piece, RULES).items()}
    bits = prior.evaluate(rules.composer, rules.params, list(tokens))
    total = sum(rules.weights.get(name, 1.0) * value for name, value in each.items())
    return {"theory": total, **each, "log_prior": -bits * math.log(2)}


def _measures(rules: Rules, tokens: np.ndarray) -> dict[str, float]:
    """RL Tuner's measures by name."""
    found = statistics.rl_tuner_table(tokens, rules.piece.labels)
    return {name: found[name] for name in TABLE}
