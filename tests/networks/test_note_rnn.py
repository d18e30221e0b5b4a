import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.networks.note_rnn import NoteRNN
from tests.agents.table import drawn

T, B, SIZE, WIDTH = 9, 3, 12, 8
NETWORK = NoteRNN(SIZE, WIDTH)


@pytest.fixture(scope="module")
def melodies():
    """Parameters, tokens and times of melodies, of which the second begins anew after four notes."""
    tokens = np.random.default_rng(1).integers(0, SIZE, (T, B), np.int32)
    tokens[0] = tokens[4, 1] = SIZE
    times = np.broadcast_to(np.arange(T, dtype=np.int32)[:, None], (T, B))
    return drawn(NETWORK, tokens, times, scale=0.4), tokens, times


apply = jax.jit(NETWORK.apply)


def changed(tokens, place, token):
    tokens = tokens.copy()
    tokens[place] = token
    return tokens


def stepped(params, tokens, times):
    advance = lambda carry, now: NETWORK.apply(params, carry, *now, method="step")[::-1]
    return jax.lax.scan(advance, NETWORK.initial_carry(tokens.shape[1]), (tokens, times))[1]


def test_whole_melodies_and_steps_agree(transform, melodies):
    whole = transform(NETWORK.apply)(*melodies)
    assert whole.logits.shape == (T, B, SIZE)
    assert whole.value.shape == (T, B)
    for found, expected in zip(whole, transform(stepped)(*melodies), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gradients_of_both_ways_agree(melodies):
    params, *rows = melodies
    weigh = np.random.default_rng(4).normal(size=(T, B, SIZE + 1)).astype(np.float32)

    def loss(params, read):
        output = read(params, *rows)
        return (jnp.concatenate([output.logits, output.value[..., None]], axis=-1) * weigh).sum()

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    found, expected = gradient(params, NETWORK.apply), gradient(params, stepped)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
    assert min(np.abs(x).max() for x in jax.tree.leaves(expected)) > 1e-3


def test_it_follows_its_equation(melodies):
    params, tokens, times = jax.tree.map(np.asarray, melodies)
    weights = params["params"]
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    c, h, outputs = np.zeros(WIDTH), np.zeros(WIDTH), []
    for token in tokens[:, 0]:
        x = np.eye(SIZE)[token] if token < SIZE else np.zeros(SIZE)
        i, j, f, o = np.split(np.concatenate([x, h]) @ weights["kernel"] + weights["bias"], 4)
        c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    output = apply(params, tokens, times)
    for head, found in (("logits_head", output.logits), ("value_head", output.value[..., None])):
        expected = np.stack(outputs) @ weights[head]["kernel"] + weights[head]["bias"]
        np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)


def test_start_token_forgets(melodies):
    params, tokens, times = melodies
    alone = np.asarray(apply(params, tokens[4:, 1:2], times[:5, 1:2]).logits)
    inside = apply(params, tokens, times).logits
    np.testing.assert_allclose(inside[4:, 1:2], alone, atol=1e-6)
    played = apply(params, changed(tokens, (4, 1), 0), times).logits
    assert np.abs(played[4:, 1:2] - alone).max() > 1e-2


def test_the_future_is_not_seen_and_the_past_is(melodies):
    params, tokens, times = melodies
    other = np.asarray(apply(params, changed(tokens, 2, (tokens[2] + 3) % SIZE), times).logits)
    difference = np.abs(other - apply(params, tokens, times).logits).max(axis=(1, 2))
    np.testing.assert_array_equal(difference[:2], 0)
    assert (difference[2:] > 1e-4).all()


def test_times_go_unused(melodies):
    params, tokens, times = melodies
    here, there = (apply(params, tokens, times + shift).logits for shift in (0, 5))
    np.testing.assert_array_equal(here, there)


def test_it_starts_without_an_opinion_of_the_value(melodies):
    params = jax.jit(NETWORK.init)(jax.random.key(0), *melodies[1:])
    np.testing.assert_array_equal(apply(params, *melodies[1:]).value, 0)
    shapes = jax.tree.map(jnp.shape, params["params"])
    assert shapes["kernel"] == (SIZE + WIDTH, 4 * WIDTH)
    assert shapes["logits_head"] == {"kernel": (WIDTH, SIZE), "bias": (SIZE,)}
    spread = 3.0**0.5 * (2 / sum(shapes["kernel"])) ** 0.5  # Glorot's
    assert 0.9 * spread < np.abs(params["params"]["kernel"]).max() <= spread


def test_other_shapes_are_refused(melodies):
    params, tokens, times = melodies
    with pytest.raises(AssertionError):
        jax.eval_shape(NETWORK.apply, params, tokens[0], times[0])
    step = lambda *rows: NETWORK.apply(params, NETWORK.initial_carry(B), *rows, method="step")
    with pytest.raises(AssertionError):
        jax.eval_shape(step, tokens, times)
