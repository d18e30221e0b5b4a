"""What the written theory and the prior say of noise, the corpus, the prior and the tuned prior."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mammadai_jax.agents import prior
from mammadai_jax.music import statistics, theory
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.training import stages
from mammadai_jax.training.report import Comparison
from mammadai_jax.training.settings import STEPS_PER_BAR, Settings

# RL Tuner's Table 1 (Jaques et al. 2017), with what the rules aim at.
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


def evaluate_theory(settings: Settings, corpus: Corpus, learned: Mapping[str, Any]) -> list[Comparison]:
    """Tables of each rule's reward and of RL Tuner's measures, all on pieces of settings.theory.length.

    Args:
        settings: of the run; `judged` pieces are taken for each column.
        corpus: what the prior read; those of its melodies that are long enough are cut to length.
        learned: parameters by stage, of "prior" and "theory".

    """
    made = {
        "Noise": _noise(settings),
        "Prior": _composed(settings, learned, "prior"),
        "Theory": _composed(settings, learned, "theory"),
    }
    read = corpus_tokens(settings, corpus)
    kept = {f"Corpus ({corpus.name})": read} if len(read) else {}
    rewards = lambda group: {t: _rewards(settings, learned["prior"], rows) for t, rows in group.items()}
    measures = lambda group: {t: _measures(settings, rows) for t, rows in group.items()}
    bars = settings.theory.length // STEPS_PER_BAR
    of = f"of up to {settings.num_samples} pieces of {bars} {'bar' if bars == 1 else 'bars'} in each column"
    return [
        Comparison(
            title="Music theory, rule by rule",
            summary=f"What each rule gave for a step: means {of}. Marked: the stage that it likes best.",
            columns=rewards(made),
            beside=rewards(kept),
            goals=dict.fromkeys(("theory", *theory.RULES), math.inf),
        ),
        Comparison(
            title="The measures of RL Tuner",
            summary=f"Table 1 of Jaques et al. 2017, {of}. Marked: the stage nearest to what the rules want.",
            columns=measures(made),
            beside=measures(kept),
            goals=TABLE,
        ),
    ]


def corpus_tokens(settings: Settings, corpus: Corpus) -> np.ndarray:
    """The beginnings of melodies from all over a corpus, as the prior reads them: int32 (N, length)."""
    length = settings.theory.length
    moved = [melody for melody in corpus.in_key(0, MAGENTA, relative=True) if len(melody.events) >= length]
    chosen = np.linspace(0, len(moved) - 1, min(settings.num_samples, len(moved))).astype(int)
    rows = [MAGENTA.encode(moved[index].events)[:length] for index in chosen]
    return np.array(rows, np.int32).reshape(-1, length)


def _noise(settings: Settings) -> np.ndarray:
    shape = settings.num_samples, settings.theory.length
    return np.asarray(jax.random.randint(stages.key_of(settings, "noise examined"), shape, 0, MAGENTA.size))


def _composed(settings: Settings, learned: Mapping[str, Any], stage: str) -> np.ndarray:
    write = {"prior": stages.prior_tokens, "theory": stages.theory_tokens}[stage]
    key = stages.key_of(settings, f"{stage} examined")
    return write(settings, learned[stage], key, settings.num_samples, settings.theory.length)


def _rewards(settings: Settings, params: Any, tokens: np.ndarray) -> dict[str, float]:
    """Mean reward of a note by rule, their weighted sum, and log-probability under the prior's params."""
    each = {name: float(x.mean()) for name, x in theory.score(tokens, stages.piece(settings)).items()}
    weights = settings.theory.learner.rule_weights
    composer = prior.make_composer(settings.prior.learner, MAGENTA.size)
    bits = prior.evaluate(composer, params, list(tokens))
    total = sum(weights.get(name, 1.0) * value for name, value in each.items())
    return {"theory": total, **each, "log_prior": -bits * math.log(2)}


def _measures(settings: Settings, tokens: np.ndarray) -> dict[str, float]:
    found = statistics.rl_tuner_table(tokens, settings.theory.labels)
    return {name: found[name] for name in TABLE}
