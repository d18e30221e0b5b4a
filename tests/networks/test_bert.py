import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.networks import bert
from tests.text import tiny_bert

TENSORS = tiny_bert.tensors()
PARAMS = bert.params_of(TENSORS, tiny_bert.SIZES)
TEXTS = [[2, 5, 6, 9, 3], [2, 7, 3], [2, *range(4, 15), 3]]


def padded(texts, length):
    ids, mask = np.full((len(texts), length), 7, np.int32), np.zeros((len(texts), length), bool)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, True
    return jnp.asarray(ids), jnp.asarray(mask)


def test_it_says_what_plain_numpy_says():
    found = bert.embed(PARAMS, tiny_bert.SIZES, *padded(TEXTS, 16))
    expected = np.stack([tiny_bert.sentence(TENSORS, text) for text in TEXTS])
    assert found.shape == (3, 12) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_padding_changes_nothing():
    found = bert.embed(PARAMS, tiny_bert.SIZES, *padded(TEXTS, 16))
    np.testing.assert_allclose(bert.embed(PARAMS, tiny_bert.SIZES, *padded(TEXTS, 24)), found, atol=1e-6)
    np.testing.assert_allclose(
        bert.embed(PARAMS, tiny_bert.SIZES, *padded(TEXTS[:1], 5)), found[:1], atol=1e-6
    )


def test_of_nothing_it_says_something_finite():
    assert np.isfinite(bert.embed(PARAMS, tiny_bert.SIZES, *padded([[]], 8))).all()


def test_the_shapes_are_those_of_the_published_file():
    sizes = bert.Config(30522, 512, 2, 384, 6, 12, 1536, 1e-12)
    assert len(sizes.shapes) == 5 + 6 * 16
    assert sizes.shapes["encoder.layer.5.intermediate.dense.weight"] == (1536, 384)
    assert (
        sum(np.prod(shape) for shape in sizes.shapes.values()) == 22_565_376
    )  # 22.7 million with the pooler
    leaves = jax.tree.leaves(PARAMS)
    assert sum(leaf.size for leaf in leaves) == sum(np.prod(s) for s in tiny_bert.SIZES.shapes.values())
