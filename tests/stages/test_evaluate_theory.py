import dataclasses
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from mammadai_jax.agents import prior
from mammadai_jax.music import corpus
from mammadai_jax.music.notes import HOLD, MAGENTA, Melody
from mammadai_jax.stages import divided, preset, theory
from mammadai_jax.stages.evaluate_theory import RULES, TABLE, corpus_tokens
from mammadai_jax.training.context import context_of
from mammadai_jax.training.report.words import words
from mammadai_jax.training.settings import overlay

SETTINGS = overlay(
    preset("smoke"),
    {"num_samples": 8, "prior": {"learner": {"width": 8}}, "theory": {"length": 32}},
    "here",
)
EMBEDDED = corpus.embedded()
SCALE = Melody(np.array([60, HOLD, 62, HOLD, 64, HOLD, 65, HOLD] * 4), tonic=0, mode="major")


@pytest.fixture(scope="module")
def learned():
    params = jax.jit(lambda: prior.init(jax.random.key(0), SETTINGS.prior.learner, MAGENTA.size).average)()
    return {"prior": params, "theory": params}


def tables(settings, melodies, learned):
    """Both tables of 8 pieces in each column, for a corpus of these melodies."""
    context = context_of(*divided(settings), Path("nowhere"))
    context = dataclasses.replace(context, corpus=lambda: melodies, learned=learned.get)
    return theory.tables(settings.theory, context, 8)


def of(melodies):
    return dataclasses.replace(EMBEDDED, melodies=tuple(melodies))


def test_all_columns_of_both_tables(learned):
    rewards, measures = tables(SETTINGS, EMBEDDED, learned)
    assert list(rewards.columns) == list(measures.columns) == ["Noise", "Prior", "Theory"]
    assert list(rewards.beside) == list(measures.beside) == ["Corpus (embedded)"]
    for table, names in ((rewards, {"theory", *RULES, "log_prior"}), (measures, set(TABLE))):
        for column in (*table.columns.values(), *table.beside.values()):
            assert set(column) == names
        assert not [name for name in names if not words(name)[1]]
    for column in rewards.columns.values():
        weighed = sum(SETTINGS.theory.learner.rule_weights[name] * column[name] for name in RULES)
        assert column["theory"] == pytest.approx(weighed, abs=1e-4)
    # an untrained network says every note with nearly the same probability
    assert rewards.columns["Noise"]["log_prior"] == pytest.approx(-math.log(38), abs=0.1)


def test_a_corpus_of_one_tune_by_hand(learned):
    rewards, measures = tables(SETTINGS, of([SCALE]), learned)
    (found,), (measured,) = rewards.beside.values(), measures.beside.values()
    assert found["key"] == found["penalize_repeating"] == 0
    # middle C at the beginning, and half a bar before the end; of the seven steps then four are held
    assert found["tonic"] == pytest.approx(18 / 32)
    assert found["weak_sixteenth"] == found["off_beat"] == found["phrase_end"] == found["cadence"] == 0
    assert found["motif"] == pytest.approx(3.3 * 25 / 32)  # four pitches in each half bar from the first on
    assert measured["num_starting_tonic"] == 1 and measured["notes_not_in_key"] == 0
    assert measured["notes_in_motif"] == 25 / 32


def test_melodies_that_are_too_short_have_no_column(learned):
    short = dataclasses.replace(SCALE, events=SCALE.events[:31])
    assert corpus_tokens(of([short]), 8, 32).shape == (0, 32)
    assert corpus_tokens(of([short, SCALE]), 8, 32).shape == (1, 32)
    assert all(not table.beside for table in tables(SETTINGS, of([short]), learned))


def test_notes_are_weighed_as_the_stage_weighs_them(learned):
    weights = {**dict.fromkeys(RULES, 0.0), "key": 2.0}
    settings = overlay(SETTINGS, {"theory": {"learner": {"rule_weights": weights}}}, "here")
    for column in tables(settings, EMBEDDED, learned)[0].columns.values():
        assert column["theory"] == pytest.approx(2 * column["key"])


def test_the_released_reading_is_scored_as_released(learned):
    settings = overlay(SETTINGS, {"theory": {"labels": "released"}}, "here")
    held = Melody(np.array([60] + [HOLD] * 31), tonic=0, mode="major")
    right, wrong = (tables(s, of([held]), learned)[1] for s in (SETTINGS, settings))
    repeated = [next(iter(table.beside.values()))["num_repeated_notes"] for table in (right, wrong)]
    assert repeated[0] == 0 < repeated[1]
    assert theory.piece(settings.theory).labels == "released"
