import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.traits import TYPICAL
from mammadai_jax.networks import towers
from mammadai_jax.networks.towers import MusicTower, SentenceTower, TextTower, l2_normalize, patches, sounding
from tests.agents.table import drawn

TEXT = TextTower(vocab_size=20, trigram_buckets=30, width=12, num_heads=2, dropout=0.3, embedding_dim=8)
MUSIC = MusicTower(width=4, dropout=0.3, embedding_dim=8, use_traits=False)
STEPS = 36  # the last convolution sees less than it might


def parameters(tower, rows):
    return drawn(tower, rows, scale=0.4, seed=1)


@functools.cache
def program(tower):
    """Parameters, rows -> vectors; with a key under dropout. Each compiled once for rows of one shape."""
    train = lambda params, rows, key: tower.apply(params, rows, False, rngs={"dropout": key})
    return jax.jit(tower.apply), jax.jit(train)


@pytest.fixture
def ids(random):
    """Three texts of 5, 2 and 1 words."""
    rows = random.integers(1, 20, (3, 5, 4), np.int32)
    rows[1, 2:] = rows[2, 1:] = 0
    return rows


@pytest.fixture
def tokens(random):
    return random.integers(0, MAGENTA.size, (3, STEPS), np.int32)


def test_unit():
    found, slope = jax.jit(lambda x: (l2_normalize(x), jax.grad(lambda x: l2_normalize(x).sum())(x)))(
        np.array([[3.0, -4.0], [0.0, 0.0]], np.float32)
    )
    np.testing.assert_allclose(found, [[0.6, -0.8], [0, 0]], atol=1e-6)
    assert np.isfinite(slope).all()


def test_sounding_by_hand():
    tokens = np.array([[1, 0, 9, 0, 0, 9, 1, 0], [7, 0, 0, 0, 8, 8, 0, 1]])
    expected = [[1, 1, 9, 9, 9, 9, 1, 1], [7, 7, 7, 7, 8, 8, 8, 1]]
    np.testing.assert_array_equal(jax.jit(sounding)(tokens, 0), expected)
    nothing = np.array([[0, 0, 5]])  # a hold of nothing stays one
    np.testing.assert_array_equal(jax.jit(sounding)(nothing, 0), nothing)


def test_patches_by_hand():
    rows = np.arange(1, 6)[None, :, None]
    found = jax.jit(patches, static_argnums=(1, 2))
    np.testing.assert_array_equal(found(rows, 4, 2), [[[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 0, 0]]])
    np.testing.assert_array_equal(found(rows, 2, 2), [[[1, 2], [3, 4], [5, 0]]])


def test_sentences_have_unit_length(random):
    tower = SentenceTower(width=4, dropout=0.3, embedding_dim=8)
    embed, train = program(tower)
    vectors = random.normal(size=(3, 12)).astype(np.float32)
    params = parameters(tower, vectors)
    found = np.asarray(embed(params, vectors))
    assert found.shape == (3, 8)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(embed(params, 100 * vectors), found, atol=1e-5)
    assert np.abs(train(params, vectors, jax.random.key(0)) - found).max() > 0.01


def test_text_has_unit_length_and_ignores_padding(ids):
    params, embed = parameters(TEXT, ids), program(TEXT)[0]
    found = np.asarray(embed(params, ids))
    assert found.shape == (3, 8)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    wider = np.pad(ids, ((0, 0), (0, 4), (0, 2)))
    np.testing.assert_allclose(embed(params, wider), found, atol=1e-5)
    np.testing.assert_allclose(embed(params, ids[1:2, :2]), found[1:2], atol=1e-5)


def test_every_part_of_a_word_counts(ids):
    params, embed = parameters(TEXT, ids), program(TEXT)[0]
    found = np.asarray(embed(params, ids))
    for place in [(0, 0, 0), (0, 4, 3), (1, 1, 2)]:
        changed = ids.copy()
        changed[place] = ids[place] % 19 + 1
        changed = np.abs(embed(params, changed) - found).max(axis=1) > 1e-4
        np.testing.assert_array_equal(changed, np.arange(3) == place[0])
    # words in another order are another text
    turned = np.concatenate([ids[:1, ::-1], ids[1:]])
    changed = np.abs(embed(params, turned) - found).max(axis=1) > 1e-4
    np.testing.assert_array_equal(changed, [True, False, False])


@pytest.mark.parametrize("steps", [12, 96])
def test_music_has_unit_length_at_any_number_of_bars(steps, random):
    tokens = random.integers(0, MAGENTA.size, (2, steps), np.int32)
    found = program(MUSIC)[0](parameters(MUSIC, tokens), tokens)
    assert found.shape == (2, 8)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_tower_that_is_told_the_traits_hears_them_and_asks_for_enough_music(tokens, monkeypatch):
    tower = MUSIC.clone(use_traits=True)
    for steps in (64, 256):
        rows = np.zeros((2, steps), np.int32)
        assert jax.eval_shape(tower.apply, parameters(tower, rows), rows).shape == (2, 8)
    params, plain = parameters(tower, tokens), parameters(MUSIC, tokens)["params"]
    told = params["params"]
    shapes = lambda layer: jax.tree.map(jnp.shape, layer)
    (name,) = {name for name in told if shapes(told[name]) != shapes(plain[name])}
    assert told[name]["kernel"].shape[0] == plain[name]["kernel"].shape[0] + len(TYPICAL)
    # of the traits themselves, see tests of music.traits: here the lowest token stands for all of them
    hear = lambda tokens: jnp.tile(tokens.min(axis=1, keepdims=True) / 9.0, (1, len(TYPICAL)))
    with monkeypatch.context() as patch:
        patch.setattr(towers, "standardized_traits", hear)
        found = jax.jit(tower.apply)(params, tokens)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    cut = told | {name: told[name] | {"kernel": told[name]["kernel"][: -len(TYPICAL)]}}
    cut[name]["bias"] = told[name]["bias"] + hear(tokens)[0] @ told[name]["kernel"][-len(TYPICAL) :]
    same = program(MUSIC)[0]({"params": cut}, tokens)[0]
    np.testing.assert_allclose(found[0], same, atol=1e-5)
    with pytest.raises(ValueError, match="32 steps or more"):
        jax.eval_shape(tower.apply, params, tokens[:, :16])


def test_every_step_of_the_music_counts(tokens):
    params, embed = parameters(MUSIC, tokens), program(MUSIC)[0]
    found = np.asarray(embed(params, tokens))
    for step in (0, 17, STEPS - 1):
        other = tokens.copy()
        other[0, step] = (tokens[0, step] + 12) % MAGENTA.size
        changed = np.abs(embed(params, other) - found).max(axis=1) > 1e-6
        np.testing.assert_array_equal(changed, [True, False, False])


@pytest.mark.parametrize("tower", [TEXT, MUSIC])
def test_dropout_is_for_training(tower, ids, tokens):
    rows = ids if tower is TEXT else tokens
    params, (embed, train) = parameters(tower, rows), program(tower)
    first, again, other = (np.asarray(train(params, rows, jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert np.abs(first - embed(params, rows)).max() > 1e-3
