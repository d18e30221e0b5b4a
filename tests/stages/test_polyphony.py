import jax
import numpy as np
import pytest

from mammadai_jax.music import harmony
from mammadai_jax.music.harmony import bach
from mammadai_jax.music.notes import VOICES_HOLD
from mammadai_jax.music.piece import Piece
from mammadai_jax.stages import divided, polyphony, preset
from mammadai_jax.stages.evaluate_harmony import evaluate_harmony
from mammadai_jax.training.context import context_of, restore
from mammadai_jax.training.report.words import words
from mammadai_jax.training.settings import SettingsError, overlay
from mammadai_jax.training.stage import ComposeRequest, Part
from tests.training.tiny import ROAD


def test_polyphony_begins_as_the_prior_and_keeps_it(taught):
    context = context_of(*divided(ROAD), taught)
    params = context.learned("chorales")
    learner = polyphony.make_learner(ROAD.polyphony, context, ())
    trained = restore(Part(polyphony.STAGE, ROAD.polyphony), context)
    begun = jax.jit(lambda: learner.init().params)()
    for same in (begun, trained.prior):
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, same, params)))
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, trained.params, params)))
    metrics = jax.eval_shape(learner.step, jax.eval_shape(learner.init), ())[1]
    assert {"theory", "log_prior", "entropy", "loss", *harmony.RULES} == set(metrics)


def test_composed_pieces_have_four_voices_in_quarters(taught):
    context = context_of(*divided(ROAD), taught)
    learned = context.learned("polyphony")
    (sample,) = polyphony.compose(ROAD.polyphony, context, learned, jax.random.key(0), ComposeRequest(1))
    piece = sample.music
    assert isinstance(piece, Piece) and piece.voices.shape == (4, 4 * ROAD.polyphony.bars)
    assert piece.steps_per_quarter == 1 and piece.names == ("Soprano", "Alto", "Tenor", "Bass")
    assert sample.title == piece.title == "Polyphony 1"


def test_the_report_shows_the_rules_before_and_after_beside_bach(taught):
    page = (taught / "report.html").read_text()
    assert "Harmony, rule by rule" in page and "Parallel fifths" in page


def test_the_goal_is_bach_s_rate():
    columns = {"A": {"crossing": -3.0, "distinct": 1.0}, "B": {"crossing": 0.0, "distinct": 0.5}}
    table = evaluate_harmony(columns, 64)
    assert table.goals["crossing"] == table.beside["Bach"]["crossing"] == 64 * bach.RATES["crossing"]
    assert set(harmony.RULES) < set(table.goals)
    assert all(words(name)[1] for name in table.goals)


def test_every_rule_has_a_weight():
    assert list(polyphony.LEARNER.rule_weights) == list(harmony.RULES)


def test_a_piece_on_sixteenths_has_as_many_bars():
    settings = overlay(preset("full"), {"chorales": {"learner": {"steps_per_quarter": 4}}}, "here")
    piece = polyphony.piece(settings.polyphony, settings.chorales)
    assert (piece.frames, piece.steps_per_bar) == (16 * settings.polyphony.bars, 16)
    assert piece.alphabet is VOICES_HOLD and piece.minor and piece.tonic == 0


def test_a_rule_that_there_is_not_is_named():
    wrong = overlay(preset("smoke"), {"polyphony": {"learner": {"rule_weights": {"jazz": 1.0}}}}, "here")
    with pytest.raises(SettingsError, match=r"polyphony\.learner\.rule_weights has no rule called 'jazz'"):
        polyphony.check(wrong.polyphony, "polyphony")
