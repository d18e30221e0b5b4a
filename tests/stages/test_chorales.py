import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mammadai_jax.music import corpus, jsb
from mammadai_jax.music.corpus import CorpusMissing
from mammadai_jax.music.notes import HOLD, VOICES, VOICES_HOLD
from mammadai_jax.music.piece import Piece
from mammadai_jax.stages import chorales, divided, preset
from mammadai_jax.training.context import context_of
from mammadai_jax.training.settings import SettingsError, overlay

SETTINGS = preset("smoke")
IN_G = Piece(np.repeat([[79], [74], [71], [55]], 32, axis=1), title="Choral", tonic=7, mode="major")


def context(name):
    """Of a run whose corpus has this name."""
    named = dataclasses.replace(corpus.embedded(), name=name)
    return dataclasses.replace(context_of(*divided(SETTINGS), Path("nowhere")), corpus=lambda: named)


def test_chorales_end_on_c_and_are_split_as_published(monkeypatch):
    split = jsb.Split(train=(IN_G, IN_G), valid=(IN_G,), test=())
    monkeypatch.setattr(jsb, "load", lambda: split)
    stream, held_out = chorales.data(SETTINGS.chorales, context("folk"))
    # 8 quarters of four voices: S, B, T, A; G major is C major a fifth lower
    hold, (s, a, t, b) = VOICES_HOLD.hold, (VOICES_HOLD.encode(np.array([p]))[0] for p in (84, 79, 76, 60))
    assert len(stream.tokens) == 2 * 32 and len(held_out) == 1
    assert stream.tokens[:4].tolist() == [s, b, t, a]
    assert held_out[0].tolist()[4:] == [s, b, t, a] * 7 and hold not in held_out[0]
    assert "Bach" in chorales.describe(SETTINGS.chorales, context("folk"), [])


@pytest.mark.parametrize("name", ["embedded", "folder"])
def test_without_music21_the_tunes_are_learned_and_that_is_said(name, monkeypatch, capsys):
    def missing():
        raise CorpusMissing("music21 is not installed")

    monkeypatch.setattr(jsb, "load", missing)
    train, held_out = chorales.read(context(name))
    assert len(train) == 8 and len(held_out) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == ("music21 is not installed; the stage chorales learns" in said)
    assert bool(said) == (name == "folder")
    assert "tunes" in chorales.describe(SETTINGS.chorales, context("embedded"), [])


def test_pieces_are_read_to_their_last_note():
    voices = np.concatenate([IN_G.voices, np.full((4, 8), HOLD)], axis=1)
    silent = Piece(np.where(np.arange(40) == 36, -1, voices))
    (tokens,) = chorales.tokens(SETTINGS.chorales, chorales.on_c([silent]))
    assert tokens.shape == (9, 4) and (tokens[-1] != VOICES_HOLD.silence).all()


def test_an_alphabet_without_holds_is_a_setting():
    settings = overlay(SETTINGS, {"chorales": {"learner": {"hold": False}}}, "here").chorales
    assert chorales.alphabet_of(settings) is VOICES and chorales.composer_of(settings).size == VOICES.size
    (tokens,) = chorales.tokens(settings, [IN_G])
    assert tokens.max() < VOICES.size


def test_there_are_four_voices():
    wrong = overlay(SETTINGS, {"chorales": {"learner": {"voices": 3}}}, "here").chorales
    with pytest.raises(SettingsError, match=r"chorales\.learner\.voices is 4, as chorales have, not 3"):
        chorales.check(wrong, "chorales")
