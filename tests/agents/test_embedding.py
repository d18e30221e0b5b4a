import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import embedding
from mammadai_jax.music.traits import TYPICAL
from mammadai_jax.text.vocabulary import Vocabulary

CONFIG = embedding.Config(
    vocab_size=32,
    trigram_buckets=64,
    text_width=12,
    text_heads=2,
    music_width=8,
    kernel_sizes=(4, 3),
    strides=(2, 2),
    use_traits=False,
    embedding_dim=16,
    dropout=0.1,
    batch_size=24,
    num_updates=150,
    learning_rate=6e-3,
    lr_warmup_steps=5,
    ema_decay=0.9,
)
PITCHES = ["low", "middle", "high", "highest"]
RHYTHMS = ["calm", "walking", "busy"]


def corpus():
    """Twelve kinds of melody with what is said of them: four registers by three densities, 16 steps."""
    random = np.random.default_rng(0)
    tokens, captions, group = [], [], []
    for pitch, register in enumerate(PITCHES):
        for density, rhythm in enumerate(RHYTHMS):
            row = np.zeros(16, np.int32)
            row[:: 2 ** (3 - density)] = 4 + 9 * pitch + random.integers(0, 3)
            tokens.append(row)
            captions.append([f"a {register} and {rhythm} tune", f"{rhythm} music, {register}"])
            group.append(len(group))
    return np.stack(tokens), captions, np.array(group)


TOKENS, CAPTIONS, GROUP = corpus()
VOCABULARY = Vocabulary.fit(
    [text for row in CAPTIONS for text in row], CONFIG.vocab_size, CONFIG.trigram_buckets
)
DATA = embedding.Data(TOKENS, np.stack([VOCABULARY.encode(row, 6) for row in CAPTIONS]), GROUP)
fresh = jax.jit(embedding.init)
update = jax.jit(embedding.step)


def train(key, updates, data=DATA, config=CONFIG):
    """A learner's state after some updates, and the metrics of each."""
    state, told = fresh(key, config, data), []
    for _ in range(updates):
        state, metrics = update(state, config, data)
        told.append(metrics)
    return state, jax.tree.map(lambda *rows: np.stack(rows), *told)


def test_the_loss_is_the_contrast_of_scaled_cosines():
    state = fresh(jax.random.key(0), CONFIG, DATA)
    group = np.arange(12) // 2

    @jax.jit
    def found(params, tokens, captions, key):
        batch = embedding.Data(tokens, captions, jnp.asarray(group))
        return embedding.contrast(params, CONFIG, batch, key), embedding.embed(params, CONFIG, batch, key)

    known = state.params | {"log_scale": np.float32(1.2)}, TOKENS, DATA.captions[:, 0], jax.random.key(2)
    (loss, metrics), (text, music) = found(*known)
    cosine = np.asarray(text) @ np.asarray(music).T
    other = (group[:, None] != group) | np.eye(12, dtype=bool)
    exp = np.where(other, np.exp(np.exp(1.2) * cosine), 0.0)
    expected = -0.5 * np.log(np.diag(exp) ** 2 / exp.sum(axis=0) / exp.sum(axis=1)).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["scale"], np.exp(1.2), rtol=1e-6)
    np.testing.assert_allclose(metrics["cosine"], np.diag(cosine).mean(), atol=1e-6)
    np.testing.assert_allclose(metrics["accuracy"], (cosine.argmax(axis=1) == np.arange(12)).mean())
    # texts and melodies are embedded under a dropout of their own
    (again, _), (other_text, other_music) = found(*known[:-1], jax.random.key(3))
    assert again != loss and (other_text != text).any() and (other_music != music).any()


def test_gradients_are_finite_and_reach_everything():
    state, metrics = train(jax.random.key(0), 1)
    momentum = jax.tree.leaves(state.opt_state[1].mu)
    assert len(momentum) == len(jax.tree.leaves(state.params))
    assert all(np.isfinite(x).all() and np.abs(x).max() > 0 for x in momentum)
    np.testing.assert_allclose(metrics["scale"], 1 / CONFIG.initial_temperature, rtol=1e-5)


def test_draws_pair_an_excerpt_with_each_of_its_captions():
    batch = jax.jit(embedding.draw, static_argnums=2)(jax.random.key(0), DATA, 500)
    assert batch.captions.shape == (500, 6, 9)
    np.testing.assert_array_equal(batch.tokens, DATA.tokens[batch.group])
    which = (np.asarray(batch.captions)[:, None] == DATA.captions[batch.group]).all(axis=(2, 3))
    np.testing.assert_array_equal(which.sum(axis=1), 1)
    seen = np.unique(np.stack([batch.group, which.argmax(axis=1)]), axis=1)
    assert seen.shape[1] == 24


@pytest.mark.parametrize(("start", "expected"), [(1e-9, 100.0), (50.0, 1.0)])
def test_the_temperature_is_clamped(start, expected):
    state, _ = train(jax.random.key(0), 1, config=CONFIG.replace(initial_temperature=start))
    np.testing.assert_allclose(np.exp(state.params["log_scale"]), expected, rtol=1e-5)


def test_the_average_follows_the_parameters():
    mix = lambda old, new, decay: jax.tree.map(lambda x, y: decay * x + (1 - decay) * y, old, new)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)
    before = fresh(jax.random.key(0), CONFIG, DATA)
    first, _ = update(before, CONFIG, DATA)  # early decays are (1 + n) / (10 + n)
    jax.tree.map(close, first.average, mix(before.average, first.params, 0.1))
    after, _ = update(first.replace(update=jnp.int32(1000)), CONFIG, DATA)
    jax.tree.map(close, after.average, mix(first.average, after.params, CONFIG.ema_decay))
    assert int(after.update) == 1001


@pytest.fixture(scope="module")
def learned():
    state, metrics = train(jax.random.key(0), 150)
    return state, metrics, embedding.finish(state.average, CONFIG, DATA)


def test_a_correspondence_is_learned(learned):
    _, metrics, found = learned
    music = found.music(DATA.tokens)
    texts = VOCABULARY.encode([f"{r}, and {p}" for p in PITCHES for r in RHYTHMS] * 2, 6)  # a new wording
    assert embedding.recall_at(found.text(texts)[:12], music, 1) > 0.9
    assert metrics["loss"][-1] < 0.5 * metrics["loss"][0]
    text = np.asarray(found.text(DATA.captions.reshape(24, 6, 9)))[::2]
    pairs, strangers = (text * music).sum(axis=1), (text * np.roll(music, 5, axis=0)).sum(axis=1)
    assert pairs.mean() > strangers.mean() + 0.5


def test_unknown_inflections_mean_something(learned):
    found = learned[-1]
    texts = VOCABULARY.encode(["calmly", "busily"] * 12, 6)
    text = np.asarray(found.text(texts))
    music = np.asarray(found.music(DATA.tokens)).reshape(4, 3, -1).mean(axis=0)
    assert "calmly" not in VOCABULARY.words
    assert text[0] @ music[0] > text[0] @ music[2]


def test_centring_takes_the_cones_away(learned):
    state, _, found = learned
    captions = DATA.captions.reshape(-1, *DATA.captions.shape[2:])
    jax.tree.map(np.testing.assert_array_equal, found.params, state.average)
    for raw, centre, vectors in [
        (embedding.embed_text(found.params, CONFIG, captions), found.text_centre, found.text(captions)),
        (
            embedding.embed_music(found.params, CONFIG, DATA.tokens),
            found.music_centre,
            found.music(DATA.tokens),
        ),
    ]:
        raw, centre = np.asarray(raw), np.asarray(centre)
        np.testing.assert_allclose(raw.mean(axis=0), centre, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        expected = (raw - centre) / np.linalg.norm(raw - centre, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors, expected, atol=1e-4)


def test_many_rows_are_embedded_as_few_are(learned, monkeypatch):
    params = learned[0].average
    expected = embedding.embed_music(params, CONFIG, DATA.tokens)
    for chunk in (5, 6):
        monkeypatch.setattr(embedding, "CHUNK", chunk)
        found = jax.jit(embedding.embed_music.__wrapped__)(params, CONFIG, DATA.tokens)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_recall_by_hand():
    recall_at = jax.jit(embedding.recall_at)
    music = np.eye(4, dtype=np.float32)
    # ranks 1, 1, 3 or so, 4
    text = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [3, 2, 1, 0.5]], np.float32)
    assert [recall_at(text, music, k) for k in (1, 3, 4)] == [0.5, 0.75, 1.0]
    same = np.ones((40, 4), np.float32)
    assert recall_at(same, same, 10) == 0.0


def test_adherence_by_hand(transform):
    text = np.array([[2.0, 0], [1, 1], [0, 3]], np.float32)
    music = np.array([[1.0, 0], [1, 0], [0, -1]], np.float32)
    found = transform(embedding.adherence)(text, music)
    np.testing.assert_allclose(found, [1, np.sqrt(0.5), -1], atol=1e-6)


def test_vectors_of_sentences_are_read_by_another_tower(random):
    vectors = random.normal(size=(12, 2, 20)).astype(np.float32)
    data = DATA.replace(captions=vectors)
    state, metrics = train(jax.random.key(0), 40, data, CONFIG.replace(num_updates=40))
    assert metrics["loss"][-5:].mean() < 0.5 * metrics["loss"][:5].mean()
    found = embedding.finish(state.average, CONFIG, data).text(vectors.reshape(24, 20))
    assert found.shape == (24, CONFIG.embedding_dim) and found.dtype == jnp.float32


def test_the_towers_are_those_of_the_config():
    long, key = DATA.replace(tokens=np.tile(TOKENS, (1, 2))), jax.random.key(0)
    shapes = lambda config: jax.tree.map(jnp.shape, jax.eval_shape(embedding.init, key, config, long).params)
    plain, told = (
        shapes(CONFIG)["music"]["params"],
        shapes(CONFIG.replace(use_traits=True))["music"]["params"],
    )
    wider = [name for name in plain if plain[name] != told[name]]
    assert len(wider) == 1
    assert told[wider[0]]["kernel"][0] == plain[wider[0]]["kernel"][0] + len(TYPICAL)
    text = shapes(CONFIG)["text"]["params"]
    assert text["word_table"]["embedding"] == (32, 12)
    assert text["trigram_table"]["embedding"] == (64, 4)
    assert (4 * 8, 8) in [plain[name]["kernel"] for name in plain if "kernel" in plain[name]]


def test_another_loss_of_the_cosines_may_be_given():
    """SigLIP's (Zhai et al. 2023): each pair of a text and a melody is a decision of its own."""

    def siglip(logits, group):
        sign = jnp.where(group[:, None] == group[None, :], 1.0, -1.0)
        return -jax.nn.log_sigmoid(sign * logits).sum(axis=1).mean()

    state = fresh(jax.random.key(0), CONFIG, DATA)
    _, metrics = jax.jit(functools.partial(embedding.step, loss=siglip))(state, CONFIG, DATA)
    _, usual = update(state, CONFIG, DATA)
    np.testing.assert_allclose(metrics["cosine"], usual["cosine"], atol=1e-6)
    assert metrics["loss"] > 2 * usual["loss"]
