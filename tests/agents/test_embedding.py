import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import embedding
from mammadai_jax.agents.vocabulary import Vocabulary

CONFIG = embedding.Config(
    words=32,
    trigrams=64,
    text_width=24,
    text_heads=2,
    music_width=16,
    dropout=0.1,
    batch=24,
    updates=120,
    warmup=5,
)
PITCHES = ["low", "middle", "high", "highest"]
RHYTHMS = ["calm", "walking", "busy"]


def corpus():
    """Twelve kinds of melody with what is said of them: four registers by three densities, 48 steps."""
    random = np.random.default_rng(0)
    tokens, captions, group = [], [], []
    for pitch, register in enumerate(PITCHES):
        for density, rhythm in enumerate(RHYTHMS):
            row = np.zeros(48, np.int32)
            row[:: 2 ** (3 - density)] = 4 + 9 * pitch + random.integers(0, 3)
            tokens.append(row)
            captions.append([f"a {register} and {rhythm} tune", f"{rhythm} music, {register}"])
            group.append(len(group))
    return np.stack(tokens), captions, np.array(group)


TOKENS, CAPTIONS, GROUP = corpus()
VOCABULARY = Vocabulary.fit([text for row in CAPTIONS for text in row], CONFIG.words, CONFIG.trigrams)
DATA = embedding.Data(
    jnp.asarray(TOKENS),
    jnp.asarray(np.stack([VOCABULARY.encode(row, 6) for row in CAPTIONS])),
    jnp.asarray(GROUP),
)


def train(key, updates, data=DATA, config=CONFIG):
    """A learner's state and metrics after each of `updates`."""
    learn = lambda state, _: embedding.step(state, config, data)
    return jax.lax.scan(learn, embedding.init(key, config, data), length=updates)


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_contrast_of_equal_logits_is_the_log_of_their_number(transform):
    loss = transform(embedding.contrast)(jnp.full((7, 7), 3.0), jnp.arange(7))
    np.testing.assert_allclose(loss, np.log(7), rtol=1e-6)


def test_contrast_by_hand(transform):
    logits = jnp.array([[2.0, 0.0, 1.0], [1.0, 3.0, -1.0], [0.0, 0.0, 0.0]])
    exp = np.exp(logits)
    rows, columns = np.diag(exp) / exp.sum(axis=1), np.diag(exp) / exp.sum(axis=0)
    expected = -0.5 * np.log(rows * columns).mean()
    np.testing.assert_allclose(transform(embedding.contrast)(logits, jnp.arange(3)), expected, rtol=1e-6)


def test_one_group_is_no_mismatch(random):
    logits = jnp.asarray(random.normal(size=(4, 4)), jnp.float32)
    np.testing.assert_allclose(embedding.contrast(logits, jnp.zeros(4, int)), 0, atol=1e-6)
    # two of one tune: each is held against the other two only
    group = jnp.array([5, 5, 6, 7])
    np.testing.assert_allclose(
        embedding.contrast(jnp.zeros((4, 4)), group), np.log([3, 3, 4, 4]).mean(), rtol=1e-6
    )
    gradient = jax.grad(embedding.contrast)(logits, group)
    assert gradient[0, 1] == gradient[1, 0] == 0 and np.abs(gradient[0, 2]) > 0


def test_gradients_are_finite_and_reach_everything():
    state = embedding.init(jax.random.key(0), CONFIG, DATA)
    batch = embedding.draw(jax.random.key(1), DATA, 24)
    gradient, metrics = jax.jit(jax.grad(embedding.loss, has_aux=True))(
        state.params, CONFIG, batch, jax.random.key(2)
    )
    assert all(np.isfinite(x).all() and np.abs(x).max() > 0 for x in jax.tree.leaves(gradient))
    np.testing.assert_allclose(metrics["scale"], 1 / CONFIG.temperature, rtol=1e-5)


def test_draws_pair_an_excerpt_with_each_of_its_captions():
    batch = embedding.draw(jax.random.key(0), DATA, 500)
    assert batch.captions.shape == (500, 6, 9)
    np.testing.assert_array_equal(batch.tokens, DATA.tokens[batch.group])
    which = (batch.captions[:, None] == DATA.captions[batch.group]).all(axis=(2, 3))
    np.testing.assert_array_equal(which.sum(axis=1), 1)
    seen = np.unique(np.stack([batch.group, which.argmax(axis=1)]), axis=1)
    assert seen.shape[1] == 24


@pytest.mark.parametrize(("start", "expected"), [(1e-9, 100.0), (50.0, 1.0)])
def test_the_temperature_is_clamped(start, expected):
    config = CONFIG.replace(temperature=start)
    state, _ = jax.jit(embedding.step)(embedding.init(jax.random.key(0), config, DATA), config, DATA)
    np.testing.assert_allclose(jnp.exp(state.params["log_scale"]), expected, rtol=1e-5)


@pytest.fixture(scope="module")
def learned():
    return jax.jit(train, static_argnums=1)(jax.random.key(0), 120)


def test_a_correspondence_is_learned(learned):
    state, metrics = learned
    found = embedding.finish(state, CONFIG, DATA)
    music = found.music(DATA.tokens)
    texts = VOCABULARY.encode([f"{r}, and {p}" for p in PITCHES for r in RHYTHMS], 8)  # a new wording
    assert embedding.recall_at(found.text(jnp.asarray(texts)), music, 1) > 0.9
    assert metrics["loss"][-1] < 0.5 * metrics["loss"][0]
    pairs = embedding.adherence(found.text(DATA.captions[:, 0]), music)
    strangers = embedding.adherence(found.text(DATA.captions[:, 0]), jnp.roll(music, 5, axis=0))
    assert pairs.mean() > strangers.mean() + 0.5


def test_unknown_inflections_mean_something(learned):
    found = embedding.finish(learned[0], CONFIG, DATA)
    texts = VOCABULARY.encode(["calmly", "busily"], 6)
    text = found.text(jnp.asarray(texts))
    music = found.music(DATA.tokens).reshape(4, 3, -1).mean(axis=0)
    assert "calmly" not in VOCABULARY.known
    assert text[0] @ music[0] > text[0] @ music[2]


def test_centring_takes_the_cones_away(learned):
    found = embedding.finish(learned[0], CONFIG, DATA)
    captions = DATA.captions.reshape(-1, *DATA.captions.shape[2:])
    for raw, centre, vectors in [
        (embedding.embed_text(found.params, CONFIG, captions), found.text_centre, found.text(captions)),
        (
            embedding.embed_music(found.params, CONFIG, DATA.tokens),
            found.music_centre,
            found.music(DATA.tokens),
        ),
    ]:
        np.testing.assert_allclose(raw.mean(axis=0), centre, atol=1e-5)
        np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        expected = (raw - centre) / jnp.linalg.norm(raw - centre, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors, expected, atol=1e-4)


def test_many_rows_are_embedded_as_few_are(learned, monkeypatch):
    params = learned[0].average
    expected = embedding.embed_music(params, CONFIG, DATA.tokens)
    for chunk in (5, 6):
        monkeypatch.setattr(embedding, "CHUNK", chunk)
        found = jax.jit(embedding.embed_music.__wrapped__)(params, CONFIG, DATA.tokens)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_seeds_under_vmap_are_single_runs():
    keys = jax.random.split(jax.random.key(3), 2)
    run = jax.jit(train, static_argnums=1)
    together = jax.jit(lambda keys: jax.vmap(lambda key: train(key, 3)[1])(keys))(keys)
    alone = jax.tree.map(lambda *rows: jnp.stack(rows), *(run(key, 3)[1] for key in keys))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    jax.tree.map(close, together, alone)


def test_resume_is_exact():
    learn = jax.jit(embedding.step)
    state = embedding.init(jax.random.key(4), CONFIG, DATA)
    for _ in range(2):
        state, _ = learn(state, CONFIG, DATA)
    numbers = jax.tree.map(np.asarray, state.replace(key=jax.random.key_data(state.key)))
    restored = jax.tree.map(jnp.asarray, numbers)
    restored = restored.replace(key=jax.random.wrap_key_data(restored.key))
    for _ in range(2):
        state, metrics = learn(state, CONFIG, DATA)
        restored, again = learn(restored, CONFIG, DATA)
    assert_equal(again, metrics)
    assert_equal(restored.params, state.params)
    assert_equal(restored.average, state.average)


def test_recall_by_hand():
    music = jnp.eye(4)
    text = jnp.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [3, 2, 1, 0.5]])  # ranks 1, 1, 3 or so, 4
    assert embedding.recall_at(text, music, 1) == 0.5
    assert embedding.recall_at(text, music, 3) == 0.75
    assert embedding.recall_at(text, music, 4) == 1.0
    assert embedding.recall_at(jnp.ones((40, 4)), jnp.ones((40, 4)), 10) == 0.0


def test_adherence_by_hand(transform):
    text, music = jnp.array([[2.0, 0], [1, 1], [0, 3]]), jnp.array([[1.0, 0], [1, 0], [0, -1]])
    found = transform(embedding.adherence)(text, music)
    np.testing.assert_allclose(found, [1, np.sqrt(0.5), -1], atol=1e-6)


def test_vectors_of_sentences_are_read_by_another_tower(random):
    vectors = random.normal(size=(12, 2, 20)).astype(np.float32)
    data = DATA.replace(captions=jnp.asarray(vectors))
    state, metrics = jax.jit(lambda key: train(key, 40, data))(jax.random.key(0))
    assert metrics["loss"][-5:].mean() < 0.5 * metrics["loss"][:5].mean()
    found = embedding.finish(state, CONFIG, data).text(vectors[:, 0])
    assert found.shape == (12, CONFIG.dimensions) and found.dtype == jnp.float32
