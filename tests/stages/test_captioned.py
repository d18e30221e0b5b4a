import dataclasses

import numpy as np
import pytest

from mammadai_jax.music import corpus
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.excerpts import usable
from mammadai_jax.music.notes import HOLD, MAGENTA
from mammadai_jax.stages import captioned as stage
from mammadai_jax.stages import divided
from mammadai_jax.stages.captioned import (
    Captioned,
    captioned,
    captioned_of,
    claims_that_hold,
    hear,
    held_out_of,
    listeners_of,
    sides,
)
from mammadai_jax.training.context import context_of
from tests.training.tiny import ROAD

EMBEDDED = corpus.embedded()


def excerpts(number=8, seed=0, tunes=EMBEDDED):
    captioned.cache_clear()
    return captioned(tunes, 96, number, 2, seed=seed)


def test_excerpts_and_captions_are_pure_in_the_seed():
    one, again, other = excerpts(), excerpts(), excerpts(seed=1)
    np.testing.assert_array_equal(again.tokens, one.tokens)
    assert again.texts == one.texts and again.group.tolist() == one.group.tolist()
    assert other.tokens.tolist() != one.tokens.tolist() and other.texts != one.texts
    assert one.tokens.shape == (8, 96) and len(one.texts) == len(one.group) == 8
    assert all(len(texts) == 2 for texts in one.texts)
    assert one.prompts == [texts[0] for texts in one.texts]


def test_there_are_no_more_excerpts_than_the_corpus_has():
    everything = excerpts(10_000)
    assert 8 < len(everything.tokens) < 10_000
    assert {row.tobytes() for row in excerpts().tokens} <= {row.tobytes() for row in everything.tokens}


def test_a_corpus_of_short_melodies_is_refused():
    short = Corpus("short", tuple(dataclasses.replace(m, events=m.events[:48]) for m in EMBEDDED))
    refused = pytest.raises(ValueError, match=r"'short' .*: left out are 10 shorter .*--embedding.length")
    with refused:
        sides(short, 96, 0)
    with refused:
        excerpts(tunes=short)


def test_what_is_tested_is_of_other_families_in_other_words(tmp_path):
    context = context_of(*divided(ROAD), tmp_path)
    learn, test = captioned_of(context), held_out_of(context)
    melodies = lambda side: {tuple(m.events.tolist()) for m in side}
    one, other = sides(EMBEDDED, 96, 0)
    assert not set(one.families) & set(other.families)
    assert melodies(one) | melodies(other) == {tuple(m.events.tolist()) for m in usable(EMBEDDED, 96)}
    assert len(learn.tokens) and len(test.tokens)
    rows = lambda given: {row.tobytes() for row in given.tokens}
    assert not rows(learn) & rows(test)
    assert 0 < learn.ends.sum() < len(learn.ends)
    assert not {text for texts in learn.texts for text in texts} & set(test.prompts)


def in_order(collections, each=40):
    """Excerpts in the order of their collections, of which each has a token and a prompt of its own."""
    collection = np.repeat(collections, each)
    tokens = np.repeat(np.arange(len(collections)), each)[:, None] + np.zeros((1, 96), int)
    texts, group = [[c] for c in collection], np.arange(len(tokens))
    return Captioned(tokens.astype(np.int32), group, texts, collection, group < 0)


def test_prompts_and_listeners_are_of_every_collection(tmp_path, monkeypatch):
    given, heard = in_order(["a", "b", "c", "d"]), []
    monkeypatch.setattr(stage, "captioned_of", lambda context: given)
    monkeypatch.setattr(stage, "HEARD", 20)
    monkeypatch.setattr(stage, "hear", lambda tokens: heard.append(tokens) or hear(tokens))
    context = context_of(*divided(ROAD), tmp_path)
    listeners_of(context)
    assert np.bincount(heard[0][:, 0]).tolist() == [5, 5, 5, 5]
    prompts = given.draw_prompts(context.random("comparisons"), 8)
    assert sorted(prompts) == ["a", "a", "b", "b", "c", "c", "d", "d"]


def test_claims_that_hold():
    def melody(pitches, every):
        events = np.full(96, HOLD)
        events[::every] = np.resize(pitches, 96 // every)
        return MAGENTA.encode(events)

    leaping, stepwise = melody([60, 67, 60, 72], 4), melody([72, 74, 76, 74], 2)
    tokens = np.stack([leaping, leaping, stepwise, stepwise])
    prompts = ["a tune full of leaps", "a busy tune full of leaps", "a busy tune", "something else"]
    np.testing.assert_allclose(claims_that_hold(prompts, tokens), [1.0, 0.5, 1.0, 1.0])


def test_listeners_who_compare_and_those_held_out_are_others(tmp_path):
    context = context_of(*divided(ROAD), tmp_path)
    asked, held_out = listeners_of(context)
    assert (asked.listeners, held_out.listeners) == (3, 1)
    tastes = {row.tobytes() for part in (asked, held_out) for row in np.asarray(part.ideal)}
    assert len(tastes) == 4
    again, _ = listeners_of(context)
    np.testing.assert_array_equal(again.ideal, asked.ideal)
