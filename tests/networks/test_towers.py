import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.traits import TYPICAL
from mammadai_jax.networks.towers import MusicTower, SentenceTower, TextTower, patches, sounding, unit

TEXT = TextTower(words=20, trigrams=30, width=12, heads=2, dropout=0.3, dimensions=8)
MUSIC = MusicTower(width=8, dropout=0.3, dimensions=8)


@pytest.fixture
def ids(random):
    """Three texts of 5, 2 and 1 words."""
    rows = random.integers(1, 20, (3, 5, 4))
    rows[1, 2:] = rows[2, 1:] = 0
    return jnp.asarray(rows, jnp.int32)


@pytest.fixture
def tokens(random):
    return jnp.asarray(random.integers(0, MAGENTA.size, (3, 96)), jnp.int32)


def parameters(tower, rows):
    """Random ones, the biases too."""
    shapes = jax.eval_shape(tower.init, jax.random.key(0), rows)
    leaves, tree = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return tree.unflatten(
        [0.4 * jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
    )


def test_unit():
    np.testing.assert_allclose(unit(jnp.array([[3.0, -4.0], [0.0, 0.0]])), [[0.6, -0.8], [0, 0]], atol=1e-6)
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(jnp.zeros(3))).all()


def test_sounding_by_hand():
    tokens = jnp.array([[1, 0, 9, 0, 0, 9, 1, 0], [7, 0, 0, 0, 8, 8, 0, 1]])
    expected = [[1, 1, 9, 9, 9, 9, 1, 1], [7, 7, 7, 7, 8, 8, 8, 1]]
    np.testing.assert_array_equal(sounding(tokens, 0), expected)


def test_patches_by_hand():
    rows = jnp.arange(1, 6)[None, :, None]
    np.testing.assert_array_equal(patches(rows, 4, 2), [[[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 0, 0]]])


def test_sentences_have_unit_length(random):
    tower = SentenceTower(width=4, dropout=0.3, dimensions=8)
    vectors = jnp.asarray(random.normal(size=(3, 12)), jnp.float32)
    params = parameters(tower, vectors)
    found = jax.jit(tower.apply)(params, vectors)
    assert found.shape == (3, 8)
    np.testing.assert_allclose(jnp.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(tower.apply(params, 100 * vectors), found, atol=1e-5)
    dropped = tower.apply(params, vectors, False, rngs={"dropout": jax.random.key(0)})
    assert np.abs(dropped - found).max() > 0.01


def test_text_has_unit_length_and_ignores_padding(ids):
    params = parameters(TEXT, ids)
    found = jax.jit(TEXT.apply)(params, ids)
    assert found.shape == (3, 8)
    np.testing.assert_allclose(jnp.linalg.norm(found, axis=1), 1, atol=1e-5)
    wider = jnp.pad(ids, ((0, 0), (0, 4), (0, 2)))
    np.testing.assert_allclose(TEXT.apply(params, wider), found, atol=1e-5)
    np.testing.assert_allclose(TEXT.apply(params, ids[1:2, :2]), found[1:2], atol=1e-5)


def test_every_part_of_a_word_counts(ids):
    params = parameters(TEXT, ids)
    found = TEXT.apply(params, ids)
    for place in [(0, 0, 0), (0, 4, 3), (1, 1, 2)]:
        other = TEXT.apply(params, ids.at[place].set(ids[place] % 19 + 1))
        changed = np.abs(other - found).max(axis=1) > 1e-4
        np.testing.assert_array_equal(changed, np.arange(3) == place[0])
    # words in another order are another text
    assert np.abs(TEXT.apply(params, ids[:1, ::-1]) - found[:1]).max() > 1e-4


@pytest.mark.parametrize("steps", [16, 12, 64, 96, 36, 256])
def test_music_has_unit_length_at_any_number_of_bars(steps, random):
    tokens = jnp.asarray(random.integers(0, MAGENTA.size, (2, steps)), jnp.int32)
    tower = MUSIC.clone(traits=steps >= 32)  # shorter melodies have no traits
    found = tower.apply(parameters(tower, tokens), tokens)
    assert found.shape == (2, 8)
    np.testing.assert_allclose(jnp.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_tower_that_is_told_the_traits_hears_them_and_asks_for_enough_music(random):
    tokens = jnp.asarray(random.integers(0, MAGENTA.size, (2, 96)), jnp.int32)
    told, untold = (parameters(MUSIC.clone(traits=traits), tokens)["params"] for traits in (True, False))
    wider = {
        name for name in told if jax.tree.map(jnp.shape, told[name]) != jax.tree.map(jnp.shape, untold[name])
    }
    assert len(wider) == 1
    name = wider.pop()
    assert told[name]["kernel"].shape[0] == untold[name]["kernel"].shape[0] + len(TYPICAL)
    with pytest.raises(ValueError, match="32 steps or more"):
        MUSIC.apply({"params": told}, tokens[:, :16])


def test_every_step_of_the_music_counts(tokens):
    params = parameters(MUSIC, tokens)
    embed = jax.jit(MUSIC.apply)
    found = embed(params, tokens)
    for step in (0, 50, 95):
        other = embed(params, tokens.at[0, step].set((tokens[0, step] + 12) % MAGENTA.size))
        np.testing.assert_array_equal(np.abs(other - found).max(axis=1) > 1e-6, [True, False, False])


@pytest.mark.parametrize("tower", [TEXT, MUSIC])
def test_dropout_is_for_training(tower, ids, tokens):
    rows = ids if tower is TEXT else tokens
    params = parameters(tower, rows)
    train = lambda seed: tower.apply(params, rows, False, rngs={"dropout": jax.random.key(seed)})
    np.testing.assert_array_equal(train(0), train(0))
    assert np.abs(train(0) - train(1)).max() > 1e-3
    np.testing.assert_array_equal(tower.apply(params, rows), tower.apply(params, rows))
