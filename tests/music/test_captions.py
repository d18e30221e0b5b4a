import dataclasses

import jax
import numpy as np
import pytest

from mammadai_jax.music import captions, corpus
from mammadai_jax.music.captions import ATTRIBUTES, KINDS, KindProbe, caption, describe, encode, parse
from mammadai_jax.music.captions.phrases import HELD_OUT, TRAIN, expressions
from mammadai_jax.music.captions.wording import FEWEST, MOST
from mammadai_jax.music.excerpts import excerpts
from mammadai_jax.music.notes import HOLD, MAGENTA, Melody

measured = jax.jit(captions.attributes)
adherence = jax.jit(captions.adherence)


def tokens_of(pitches, every=4, steps=96):
    events = np.full(steps, HOLD)
    events[::every] = np.resize(pitches, -(-steps // every))
    return MAGENTA.encode(events)


def claims_of(tokens):
    return {name: ATTRIBUTES[name][int(value[0])] for name, value in measured(tokens[None]).items()}


def random_claims(rng):
    names = rng.permutation(list(ATTRIBUTES))[: rng.integers(1, 8)].tolist()
    return {name: str(rng.choice(ATTRIBUTES[name])) for name in names}


@pytest.mark.parametrize("wording", ["train", "held_out"])
def test_a_caption_is_read_as_the_claims_it_makes(wording):
    rng = np.random.default_rng(0)
    for _ in range(1500):
        claims = random_claims(rng)
        colour = {
            "origin": "Luxembourg",
            "title": "The High Road in Minor",
            "tempo": "93",
            "signature": "6/8",
        }
        colour = {name: text for name, text in colour.items() if rng.random() < 0.5}
        text = caption(claims, rng, wording, colour)
        assert parse(text) == claims, text


def test_what_is_claimed_has_words_and_each_expression_one_meaning():
    assert {name: tuple(sorted(values)) for name, values in TRAIN.items()} == {
        name: tuple(sorted(values)) for name, values in ATTRIBUTES.items()
    }
    meanings = {}
    for text, name, value in expressions():
        assert meanings.setdefault(text, (name, value)) == (name, value), text
    assert all(value in TRAIN[name] for name, values in HELD_OUT.items() for value in values)


def test_free_prompts():
    assert parse("a calm slow tune in minor that falls at the end") == {
        "density": "calm", "mode": "minor", "contour": "falling"
    }  # fmt: skip
    assert parse("A lively jig in 6/8, high and cheerful, full of leaps") == {
        "density": "busy", "kind": "jig", "meter": "triple", "register": "high", "mode": "major",
        "motion": "leaping",
    }  # fmt: skip
    assert parse('something called "Low Minor Reel"') == {}
    assert parse("highland slowcoach") == {}


def test_captions_for_testing_are_new():
    claims = {"mode": "minor", "density": "calm", "contour": "falling", "range": "narrow"}
    rng = np.random.default_rng(1)
    train, test = ({caption(claims, rng, wording) for _ in range(300)} for wording in ("train", "held_out"))
    assert len(train) > 100
    assert not train & test
    assert caption(claims, np.random.default_rng(2)) == caption(claims, np.random.default_rng(2))


def test_attributes():
    low = claims_of(tokens_of([57, 60, 59, 57, 56, 57, 59, 60, 62, 60, 59, 57], every=8))
    assert low == {
        "mode": "minor", "register": "low", "range": "narrow", "density": "calm", "contour": "level",
        "repetition": "varied", "motion": "stepwise", "articulation": "flowing", "meter": "duple",
        "ending": "tonic",
    }  # fmt: skip
    scale = np.linspace(60, 83, 48).round().astype(int)
    rising = claims_of(tokens_of(scale, every=2))
    assert (rising["register"], rising["range"], rising["density"]) == ("high", "wide", "busy")
    assert (rising["contour"], claims_of(tokens_of(scale[::-1], every=2))["contour"]) == ("rising", "falling")
    there, back = np.append(scale[::2], scale[::-2]), np.append(scale[::-2], scale[::2])
    assert claims_of(tokens_of(there, every=2))["contour"] == "arch"
    assert claims_of(tokens_of(back, every=2))["contour"] == "dip"
    assert claims_of(tokens_of([60, 67, 60, 72]))["motion"] == "leaping"
    assert claims_of(tokens_of([60, 67, 60, 72]))["repetition"] == "repetitive"


def test_descriptions_are_true():
    tunes = [m for m in corpus.embedded().in_key(0, MAGENTA, relative=True) if len(m) >= 96]
    rng = np.random.default_rng(3)
    for melody in tunes:
        tokens = MAGENTA.encode(melody.events[:96])
        for wording in ("train", "held_out"):
            said = describe(tokens, melody, rng, wording)
            assert FEWEST <= len(said.claims) <= MOST
            assert parse(said.text) == said.claims
            true = claims_of(tokens) | {"kind": captions.kind(melody)}
            assert said.claims.items() <= true.items()


def test_claims_as_inputs_are_one_for_each_value():
    tokens = np.stack([tokens_of([60, 67, 60, 72]), tokens_of([72, 60, 67, 60])])
    codes = np.asarray(jax.jit(captions.measured)(tokens))
    assert (codes[:, list(ATTRIBUTES).index("kind")] == -1).all()
    assert np.asarray(captions.holds(codes, tokens)).sum(axis=1).tolist() == [len(ATTRIBUTES) - 1] * 2
    inputs = np.asarray(jax.jit(captions.inputs_of)(codes))
    assert inputs.shape == (2, captions.INPUTS) and inputs.sum(axis=1).tolist() == [len(ATTRIBUTES) - 1] * 2
    few = np.asarray(captions.inputs_of(encode([{"mode": "minor", "ending": "open", "kind": "jig"}, {}])))
    values = [(name, value) for name in ATTRIBUTES if name != "kind" for value in ATTRIBUTES[name]]
    assert {values[i] for i in np.flatnonzero(few[0])} == {("mode", "minor"), ("ending", "open")}
    assert not few[1].any()


def test_adherence_counts_the_claims_that_hold():
    tokens = np.stack([tokens_of([60, 67, 60, 72])] * 4)
    codes = encode(
        [
            {"motion": "leaping"},
            {"motion": "leaping", "contour": "falling"},
            {"density": "busy", "kind": "jig"},
            {},
        ]
    )
    np.testing.assert_allclose(jax.jit(captions.adherence)(codes, tokens), [1, 0.5, 0, 1])
    held = np.asarray(jax.jit(captions.holds)(codes, tokens))
    assert held.shape == (4, len(ATTRIBUTES))
    assert held.sum(1).tolist() == [1, 1, 0, 0]
    with pytest.raises(ValueError, match="no claim 'mode': 'lydian'; there are major, minor"):
        encode([{"mode": "lydian"}])
    with pytest.raises(ValueError, match="no claim 'mood'"):
        encode([{"mood": "sad"}])


def test_kinds_by_source():
    def is_kind(**known):
        return captions.kind(Melody(np.array([60]), **known))

    assert is_kind(collection="bach") == "chorale"
    assert is_kind(collection="essenFolksong", origin="China, Shanxi") == "Chinese song"
    assert is_kind(collection="essenFolksong", rhythm="Liebes - Lied", meter="6/8") == "song"
    assert is_kind(collection="oneills1850", rhythm="double jig") == "jig"
    assert is_kind(collection="airdsAirs", meter="6/8") == "jig"
    assert is_kind(collection="airdsAirs", meter="3/4") == "air"
    assert is_kind(collection="ryansMammoth", rhythm="Hornpipe", meter="2/4") == "reel"
    assert is_kind() == "song"


def test_the_probe_learns_kinds_that_differ():
    rng = np.random.default_rng(4)
    calm = [tokens_of(rng.choice([60, 62, 64, 65, 67], 12), every=8) for _ in range(60)]
    busy = [tokens_of(rng.choice([60, 64, 67, 72, 76], 48), every=2) for _ in range(60)]
    tokens, kinds = np.stack(calm + busy), ["chorale"] * 60 + ["reel"] * 60
    probe = KindProbe.fit(tokens[::2], kinds[::2])
    predicted = [KINDS[i] for i in np.asarray(jax.jit(probe.predict)(tokens[1::2]))]
    assert np.mean(np.array(predicted) == np.array(kinds[1::2])) > 0.95
    codes = encode([{"kind": "reel"}] * 120)
    assert np.asarray(adherence(codes, tokens, probe)).sum() == pytest.approx(60, abs=3)
    with pytest.raises(ValueError, match="unknown kinds of tune waltz"):
        KindProbe.fit(tokens[:1], ["waltz"])


def test_excerpts():
    steps = np.arange(160)
    events = np.where(steps % 4 == 0, 60 + steps // 4 % 12, HOLD)
    melody = Melody(events, tonic=0, mode="major", source="a")
    picked = dataclasses.replace(melody, pickup=4, source="b")
    short = dataclasses.replace(melody, events=events[:80], source="c")
    found = excerpts(corpus.Corpus("three", (melody, picked, short)), shifts=(0, 12))
    assert found.tokens.shape == (len(found), 96)
    assert [m.source for m in found.melodies] == ["a", "b"]
    rows = list(zip(found.melody.tolist(), found.start.tolist(), found.shift.tolist(), strict=True))
    assert rows == [
        (0, 0, 0),
        (0, 0, 12),
        (0, 64, 0),
        (0, 64, 12),
        (1, 16, 0),
        (1, 16, 12),
        (1, 64, 0),
        (1, 64, 12),
    ]
    for row, (index, start, shift) in zip(found.tokens, rows, strict=True):
        assert MAGENTA.covers(MAGENTA.decode(row))
        expected = found.melodies[index].transpose(shift).events[start : start + 96]
        np.testing.assert_array_equal(MAGENTA.decode(row), expected)


def test_a_note_that_sounds_on_begins_the_excerpt():
    events = np.full(160, HOLD)
    events[[0, 60, 68]] = 60, 67, 64
    melody = Melody(events, tonic=0, mode="major")
    found = excerpts(corpus.Corpus("one", (melody,)), shifts=(0,))
    assert found.start.tolist() == [0, 64]
    np.testing.assert_array_equal(np.flatnonzero(MAGENTA.decode(found.tokens[1]) >= 0), [0, 4])
    assert len(excerpts(corpus.Corpus("one", (melody,)), length=100)) == 0
