import json

import numpy as np
import pytest

from mammadai_jax.agents import embedding
from mammadai_jax.music import captions
from mammadai_jax.networks import quantiser
from mammadai_jax.networks.towers import l2_normalize
from mammadai_jax.stages import joint_embedding
from mammadai_jax.stages.joint_embedding import (
    FILE,
    condition_size,
    load_joint_embedding,
    load_reader,
    save_joint_embedding,
)
from mammadai_jax.text import sentences
from mammadai_jax.training import sealed
from mammadai_jax.training.run import FORMAT, identity
from tests.stages.conftest import EXCERPTS, OWN
from tests.text import tiny_bert


@pytest.fixture
def run(tmp_path):
    """A run directory."""
    sealed.write(tmp_path / "run.json", FORMAT, {})
    return tmp_path


def test_a_space_comes_back_as_it_was(joint, run):
    save_joint_embedding(run, joint)
    loaded = load_joint_embedding(run, joint.embedding.config, joint.embedding.params)
    assert loaded.reader == joint.reader
    np.testing.assert_array_equal(loaded.text(EXCERPTS.prompts), joint.text(EXCERPTS.prompts))
    np.testing.assert_array_equal(loaded.music(EXCERPTS.tokens), joint.music(EXCERPTS.tokens))
    assert {path.name for path in run.iterdir()} == {FILE, "run.json"}


def test_a_condition_has_the_claims_of_a_text_or_all_that_a_melody_has(joint):
    texts = ["a calm tune in minor", "a tune"]
    plain, telling = (joint._replace(tells_claims=tells) for tells in (False, True))
    np.testing.assert_array_equal(plain.condition(texts), joint.text(texts))
    np.testing.assert_array_equal(plain.condition_of(EXCERPTS.tokens), joint.music(EXCERPTS.tokens))
    width = OWN.learner.embedding_dim
    of_text, of_music = (
        np.asarray(x) for x in (telling.condition(texts), telling.condition_of(EXCERPTS.tokens))
    )
    assert of_text.shape[1] == of_music.shape[1] == condition_size(OWN.learner, True)
    assert condition_size(OWN.learner, False) == width
    np.testing.assert_array_equal(of_text[:, :width], joint.text(texts))
    np.testing.assert_array_equal(of_music[:, :width], joint.music(EXCERPTS.tokens))
    assert of_text[:, width:].sum(axis=1).tolist() == [2, 0]
    assert (of_music[:, width:].sum(axis=1) == len(captions.ATTRIBUTES) - 1).all()
    near = [
        embedding.adherence(one.condition(texts), joint.music(EXCERPTS.tokens[:2]))
        for one in (plain, telling)
    ]
    np.testing.assert_array_equal(*near)


CENTRE = [0.0] * OWN.learner.embedding_dim
SOUND: dict = {"words": ["calm"], "buckets": 32, "text_centre": CENTRE, "music_centre": CENTRE}


def write(at, **changes):
    """Write the file of a run's embedding with some of its contents changed."""
    sealed.write(at / FILE, joint_embedding.FORMAT, {"run": identity(at), **SOUND, **changes})


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
        {"run": "another"},
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
    ],
)
def test_a_hostile_space_is_one_error_that_names_the_file(joint, run, text):
    path = run / FILE
    if isinstance(text, dict):
        write(run, **text)
    elif text is not None:
        path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ValueError) as caught:
        load_joint_embedding(run, joint.embedding.config, joint.embedding.params)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_space_of_codes_says_only_what_they_say(joint, coded):
    assert coded.codebooks.shape == (2, 64, 8) and joint.codebooks is None
    plain = {"music": joint.music(EXCERPTS.tokens), "text": joint.text(EXCERPTS.prompts)}
    for name, rows in (("music", EXCERPTS.tokens), ("text", EXCERPTS.prompts)):
        found = getattr(coded, name)(rows)
        sums = quantiser.dequantise(coded.codebooks, quantiser.quantise(coded.codebooks, plain[name]))
        np.testing.assert_allclose(found, l2_normalize(sums), atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.sum(coded.music(EXCERPTS.tokens) * plain["music"], axis=1).min() > 0.9


def test_a_space_of_codes_comes_back_as_it_was(coded, run):
    save_joint_embedding(run, coded)
    loaded = load_joint_embedding(run, coded.embedding.config, coded.embedding.params, levels=2)
    np.testing.assert_array_equal(loaded.codebooks, coded.codebooks)
    np.testing.assert_array_equal(loaded.text(EXCERPTS.prompts), coded.text(EXCERPTS.prompts))


@pytest.mark.parametrize(
    "codebooks",
    [None, 3, [], [[[0.0]]], "codes", [[1.0], []], [[[0.0] * 8] * 64], [[[float("nan")] * 8] * 64] * 2],
)
def test_codebooks_that_are_unsound_are_one_error(coded, run, codebooks):
    write(run, codebooks=codebooks)
    with pytest.raises(ValueError, match=rf"^{run / FILE} is not what a run writes there"):
        load_joint_embedding(run, coded.embedding.config, coded.embedding.params, levels=2)


def test_a_run_without_codebooks_has_no_levels(joint, run):
    save_joint_embedding(run, joint)
    with pytest.raises(ValueError, match="'codebooks'"):
        load_joint_embedding(run, joint.embedding.config, joint.embedding.params, levels=1)


def test_a_space_of_sentences_comes_back_as_it_was(read, folder, run):
    save_joint_embedding(run, read)
    told = json.loads((run / FILE).read_text())
    assert told["encoder"] == sentences.load(str(folder)).digest and "words" not in told
    config, params = read.embedding.config, read.embedding.params
    loaded = load_joint_embedding(run, config, params, load_reader(run, config, str(folder)))
    np.testing.assert_array_equal(loaded.text(EXCERPTS.prompts), read.text(EXCERPTS.prompts))
    assert loaded.text(["a calm tune"]).shape == (1, config.embedding_dim)


def test_a_sentence_encoder_that_is_gone_or_another_one(read, run):
    save_joint_embedding(run, read)
    config = read.embedding.config
    other = tiny_bert.write(run / "other", seed=1)
    for place, said in ((run, f"no sentence encoder in {run}"), (other, f"than that of {other}")):
        with pytest.raises(ValueError) as caught:
            load_reader(run, config, str(place))
        assert said in str(caught.value) and "--sentences FOLDER" in str(caught.value)


def test_a_lost_file_says_what_to_do(run):
    with pytest.raises(
        ValueError, match=r"embedding\.json is missing: go on with .* --resume`, which writes it"
    ):
        load_reader(run, OWN.learner)


@pytest.mark.parametrize("digest", [None, 3, []])
def test_a_run_that_names_no_sentence_encoder(folder, run, digest):
    write(run, encoder=digest)
    with pytest.raises(ValueError, match=r"names no sentence encoder$"):
        load_reader(run, OWN.learner, str(folder))
