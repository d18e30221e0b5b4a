import dataclasses
import json

import jax
import numpy as np
import pytest

from mammadai_jax.agents import embedding
from mammadai_jax.listening import pairs
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.music import corpus
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.notes import HOLD, MAGENTA
from mammadai_jax.networks import quantiser
from mammadai_jax.networks.towers import l2_normalize
from mammadai_jax.text import sentences
from mammadai_jax.text.vocabulary import Vocabulary
from mammadai_jax.training import preference
from mammadai_jax.training.joint_embedding import (
    SPACE,
    load_joint_embedding,
    load_reader,
    save_joint_embedding,
)
from mammadai_jax.training.settings import overlay
from tests.text import tiny_bert
from tests.training import tiny

TINY = tiny.ROAD
EMBEDDED = corpus.embedded()


def changed(**changes):
    return overlay(TINY, {"preference": changes}, "here")


def choice(prompt="a calm tune", preferred="a", tokens=(2, 0, 4, 0)):
    return Comparison(prompt=prompt, a=tokens, b=tokens[::-1], choice=preferred, simulated=False)


@pytest.fixture(scope="module")
def given():
    return preference.material(TINY, EMBEDDED)


def prompted_template(settings, given):
    """A space that has learned nothing, with centres that are not zero."""
    reader, data = preference.embedding_data(settings, given)
    state = jax.jit(lambda: embedding.init(jax.random.key(0), settings.preference.embedding, data))()
    return preference.fit_joint_embedding(settings, reader, state, data)


@pytest.fixture(scope="module")
def joint(given):
    return prompted_template(TINY, given)


@pytest.fixture(scope="module")
def coded(given):
    """Of two levels of codes."""
    return prompted_template(changed(rvq_levels=2), given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a sentence encoder."""
    return tiny_bert.write(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def read(folder, given):
    """A space whose texts a sentence encoder reads."""
    return prompted_template(changed(sentence_encoder=str(folder)), given)


def test_material_is_pure_in_the_seed(given):
    again, other = (
        preference.material(dataclasses.replace(TINY, seed=seed), EMBEDDED) for seed in (TINY.seed, 1)
    )
    np.testing.assert_array_equal(again.tokens, given.tokens)
    assert again.texts == given.texts and again.group.tolist() == given.group.tolist()
    assert other.tokens.tolist() != given.tokens.tolist() and other.texts != given.texts
    assert given.tokens.shape == (8, 96) and len(given.texts) == len(given.group) == 8
    assert all(len(texts) == 2 for texts in given.texts)
    assert given.prompts == [texts[0] for texts in given.texts]


def test_material_has_no_more_excerpts_than_there_are(given):
    everything = preference.material(changed(num_excerpts=10_000), EMBEDDED)
    assert 8 < len(everything.tokens) < 10_000
    assert {row.tobytes() for row in given.tokens} <= {row.tobytes() for row in everything.tokens}


def test_a_corpus_of_short_melodies_is_refused():
    short = Corpus("short", tuple(dataclasses.replace(m, events=m.events[:48]) for m in EMBEDDED))
    with pytest.raises(ValueError, match=r"'short' has 96 steps in whole bars: .*--preference.length"):
        preference.material(TINY, short)


def test_a_table_with_fewer_rows_than_words_is_refused(given, monkeypatch):
    many = Vocabulary(tuple(map(str, range(500))), 32)
    monkeypatch.setattr(Vocabulary, "fit", lambda *_: many)
    with pytest.raises(ValueError, match="vocab_size is 256, less than the vocabulary's 502"):
        preference.embedding_data(TINY, given)


def test_a_space_comes_back_as_it_was(given, joint, tmp_path):
    save_joint_embedding(tmp_path, joint)
    loaded = load_joint_embedding(tmp_path, joint.embedding.config, joint.embedding.params)
    assert loaded.reader == joint.reader
    np.testing.assert_array_equal(loaded.text(given.prompts), joint.text(given.prompts))
    np.testing.assert_array_equal(loaded.music(given.tokens), joint.music(given.tokens))
    assert [path.name for path in tmp_path.iterdir()] == [SPACE]


CENTRE = [0.0] * TINY.preference.embedding.embedding_dim
SOUND = {"words": ["calm"], "buckets": 32, "text_centre": CENTRE, "music_centre": CENTRE}


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "3",
        "\ud800",
        "[" * 100_000,
        *(
            json.dumps({**SOUND, **changes})
            for changes in (
                {"words": 3},
                {"words": [3]},
                {"words": ["word"] * 1000},
                {"buckets": "32"},
                {"buckets": 64},
                {"text_centre": None},
                {"text_centre": [0.0]},
                {"text_centre": "calm"},
                {"music_centre": [[0.0], []]},
                {"music_centre": [CENTRE]},
                {"music_centre": [float("nan")] * len(CENTRE)},
                {"music_centre": [10**400] * len(CENTRE)},
            )
        ),
    ],
)
def test_a_hostile_space_is_one_error_that_names_the_file(joint, tmp_path, text):
    path = tmp_path / SPACE
    if text is not None:
        path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ValueError) as caught:
        load_joint_embedding(tmp_path, joint.embedding.config, joint.embedding.params)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_space_of_codes_says_only_what_they_say(given, joint, coded):
    assert coded.codebooks.shape == (2, 64, 8) and joint.codebooks is None
    plain = {"music": joint.music(given.tokens), "text": joint.text(given.prompts)}
    for name, rows in (("music", given.tokens), ("text", given.prompts)):
        found = getattr(coded, name)(rows)
        sums = quantiser.dequantise(coded.codebooks, quantiser.quantise(coded.codebooks, plain[name]))
        np.testing.assert_allclose(found, l2_normalize(sums), atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.sum(coded.music(given.tokens) * plain["music"], axis=1).min() > 0.9


def test_a_space_of_codes_comes_back_as_it_was(given, coded, tmp_path):
    save_joint_embedding(tmp_path, coded)
    loaded = load_joint_embedding(tmp_path, coded.embedding.config, coded.embedding.params, levels=2)
    np.testing.assert_array_equal(loaded.codebooks, coded.codebooks)
    np.testing.assert_array_equal(loaded.text(given.prompts), coded.text(given.prompts))


@pytest.mark.parametrize(
    "codebooks",
    [None, 3, [], [[[0.0]]], "codes", [[1.0], []], [[[0.0] * 8] * 64], [[[float("nan")] * 8] * 64] * 2],
)
def test_codebooks_that_are_unsound_are_one_error(coded, tmp_path, codebooks):
    (tmp_path / SPACE).write_text(json.dumps({**SOUND, "codebooks": codebooks}))
    with pytest.raises(ValueError, match=rf"^{tmp_path / SPACE} is not what a run writes there"):
        load_joint_embedding(tmp_path, coded.embedding.config, coded.embedding.params, levels=2)


def test_a_run_without_codebooks_has_no_levels(joint, tmp_path):
    save_joint_embedding(tmp_path, joint)
    with pytest.raises(ValueError, match="'codebooks'"):
        load_joint_embedding(tmp_path, joint.embedding.config, joint.embedding.params, levels=1)


def test_a_space_of_sentences_comes_back_as_it_was(given, read, folder, tmp_path):
    save_joint_embedding(tmp_path, read)
    told = json.loads((tmp_path / SPACE).read_text())
    assert told["weights"] == sentences.load(str(folder)).digest and "words" not in told
    config, params = read.embedding.config, read.embedding.params
    loaded = load_joint_embedding(tmp_path, config, params, load_reader(tmp_path, config, str(folder)))
    np.testing.assert_array_equal(loaded.text(given.prompts), read.text(given.prompts))
    assert loaded.text(["a calm tune"]).shape == (1, config.embedding_dim)


def test_a_sentence_encoder_that_is_gone_or_another_one(read, tmp_path):
    save_joint_embedding(tmp_path, read)
    config = read.embedding.config
    other = tiny_bert.write(tmp_path / "other", seed=1)
    for place, said in ((tmp_path, f"no sentence encoder in {tmp_path}"), (other, f"than that of {other}")):
        with pytest.raises(ValueError) as caught:
            load_reader(tmp_path, config, str(place))
        assert said in str(caught.value) and "--sentences FOLDER" in str(caught.value)


@pytest.mark.parametrize("weights", [None, 3, []])
def test_a_run_that_names_no_sentence_encoder(folder, tmp_path, weights):
    (tmp_path / SPACE).write_text(json.dumps({**SOUND, "weights": weights}))
    with pytest.raises(ValueError, match=r"names no sentence encoder$"):
        load_reader(tmp_path, TINY.preference.embedding, str(folder))


def test_sentences_and_codes_are_dry_run(given, folder, monkeypatch):
    spaces, make = [], preference.prompted_stage

    def remember(settings, tokens, joint):
        spaces.append(joint)
        return make(settings, tokens, joint)

    monkeypatch.setattr(preference, "prompted_stage", remember)
    preference.dry_run(changed(sentence_encoder=str(folder), rvq_levels=2), given)
    (joint,) = spaces
    assert joint.reader.digest == sentences.load(str(folder)).digest and joint.codebooks.shape == (2, 64, 8)


def test_comparisons_become_what_a_judge_learns_from(joint):
    chosen = [choice(), choice("a busy tune", "b"), choice(preferred="tie")]
    data = preference.compared(TINY, chosen, joint)
    assert data.choice.tolist() == [1, -1, 0] and data.a.shape == data.b.shape == (3, 96)
    assert data.a[0, :4].tolist() == [2, 0, 4, 0] and data.b[0, :4].tolist() == [0, 4, 0, 2]
    np.testing.assert_array_equal(data.condition, joint.text([one.prompt for one in chosen]))


@pytest.mark.parametrize("chosen", [[], [choice(preferred="tie"), choice(preferred="both_bad")]])
def test_comparisons_without_a_preference_are_refused(joint, chosen):
    with pytest.raises(ValueError, match=f"none of {len(chosen)} comparisons prefers a melody"):
        preference.compared(TINY, chosen, joint)


def test_ratings_take_the_listeners_place(given, joint, tmp_path):
    chosen = [choice(), choice("a busy tune", "b")]
    pairs.write(tmp_path / "ratings.jsonl", chosen)
    settings = changed(ratings=str(tmp_path / "ratings.jsonl"))
    assert preference.collect_comparisons(settings, given, joint, params=None) == chosen
    preference.dry_run(settings, given)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [([choice(preferred="tie")], "none of 1 comparisons prefers"), ([choice("")], "there are no words in")],
)
def test_ratings_that_teach_nothing_are_refused_before_anything_is_learned(given, tmp_path, chosen, said):
    pairs.write(tmp_path / "ratings.jsonl", chosen)
    with pytest.raises(ValueError, match=said):
        preference.dry_run(changed(ratings=str(tmp_path / "ratings.jsonl")), given)


def test_a_file_of_ratings_that_is_missing_or_has_a_bad_line_is_one_error(given, tmp_path):
    settings = changed(ratings=str(tmp_path / "ratings.jsonl"))
    with pytest.raises(FileNotFoundError, match=r"no file of comparisons .*ratings.jsonl"):
        preference.dry_run(settings, given)
    pairs.write(tmp_path / "ratings.jsonl", [choice()])
    with (tmp_path / "ratings.jsonl").open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(ValueError, match=r"ratings.jsonl, line 2: the line is not JSON"):
        preference.dry_run(settings, given)


def test_claims_that_hold():
    def melody(pitches, every):
        events = np.full(96, HOLD)
        events[::every] = np.resize(pitches, 96 // every)
        return MAGENTA.encode(events)

    leaping, stepwise = melody([60, 67, 60, 72], 4), melody([72, 74, 76, 74], 2)
    tokens = np.stack([leaping, leaping, stepwise, stepwise])
    prompts = ["a tune full of leaps", "a busy tune full of leaps", "a busy tune", "something else"]
    np.testing.assert_allclose(preference.claims_that_hold(prompts, tokens), [1.0, 0.5, 1.0, 1.0])


def test_those_who_are_asked_and_those_held_out_are_others(given):
    asked, held_out = preference.listeners(TINY, given)
    assert (asked.listeners, held_out.listeners) == (3, 1)
    tastes = {row.tobytes() for part in (asked, held_out) for row in np.asarray(part.ideal)}
    assert len(tastes) == 4
    again, _ = preference.listeners(TINY, given)
    np.testing.assert_array_equal(again.ideal, asked.ideal)
