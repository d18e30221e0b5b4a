import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.networks.biaxial import (
    ABSOLUTE,
    ONSET,
    SILENT,
    SUSTAIN,
    BiaxialLSTM,
    kernel_features,
)
from tests.agents.table import drawn

P, FRAMES, B = 64, 4, 3
NETWORK = BiaxialLSTM(P, lowest=30, steps_per_quarter=2, time_width=6, note_width=5)
TIMES = np.broadcast_to(np.arange(FRAMES * P, dtype=np.int32)[:, None], (FRAMES * P, B))


@pytest.fixture(scope="module")
def made():
    """Parameters and tokens; one piece begins within its row, and one row within a piece."""
    tokens = np.random.default_rng(1).integers(0, 3, (FRAMES * P, B), np.int32)
    tokens[0, :2] = tokens[3 * P, 1] = NETWORK.start
    return drawn(NETWORK, tokens[:1], TIMES[:1], scale=0.3), tokens


apply = jax.jit(NETWORK.apply)


@jax.jit
def stepped(params, tokens, times):
    advance = lambda carry, now: NETWORK.apply(params, carry, *now, method="step")[::-1]
    return jax.lax.scan(advance, NETWORK.initial_carry(tokens.shape[1]), (tokens, times))[1]


def test_kernel_by_hand(transform):
    """A C major triad of which E begins, over C4 to B5, on the eleventh sixteenth of a bar."""
    states = np.full(24, SILENT)
    states[[0, 7]], states[4] = SUSTAIN, ONSET
    call = transform(lambda states, time: kernel_features(states, time, 60))
    features = np.asarray(call(jnp.asarray(states), jnp.int32(16 + 10)))
    assert features.shape == (24, 80)
    number, own_class, around, classes, beat, zero = np.split(features[4], [1, 13, 63, 75, 79])
    assert number == pytest.approx(64 / 128)
    np.testing.assert_array_equal(np.flatnonzero(own_class), [4])
    sounds, begins = around.reshape(25, 2).T
    np.testing.assert_array_equal(np.flatnonzero(sounds), [12 - 4, 12, 12 + 3])
    np.testing.assert_array_equal(np.flatnonzero(begins), [12])
    np.testing.assert_array_equal(np.flatnonzero(classes), [0, 3, 8])  # C is a minor sixth above E
    np.testing.assert_array_equal(beat, [0, 1, 0, 1])  # 10 = 2 + 8
    np.testing.assert_array_equal(zero, [0])
    octave = features[16]  # E5
    np.testing.assert_array_equal(np.flatnonzero(octave[13:63].reshape(25, 2)[:, 0]), [0, 3])
    np.testing.assert_array_equal(octave[63:75], features[4, 63:75])


def test_two_notes_of_a_pitch_class_count_twice():
    states = np.zeros((2, 24), int)
    states[1, [1, 13]] = ONSET
    classes = np.asarray(kernel_features(jnp.asarray(states), jnp.zeros(2, int), 60))[..., 63:75]
    assert (classes[0] == 0).all()
    np.testing.assert_array_equal(classes[1, 0], 2 * np.eye(12)[1])


def test_whole_pieces_and_steps_agree(made):
    whole = apply(*made, TIMES)
    assert whole.logits.shape == (FRAMES * P, B, 3) and whole.value.shape == (FRAMES * P, B)
    for one, other in zip(whole, stepped(*made, TIMES), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.std(whole.logits) > 0.1


def test_a_semitone_up_moves_the_logits(made):
    """Away from the edges, and without the weights of the features that say where a pitch is."""
    params, _ = jax.tree.map(np.array, made)
    params["params"]["time_layers_0"]["inputs_0"]["kernel"][:ABSOLUTE] = 0
    frames = np.zeros((FRAMES, P, B), np.int32)
    frames[:, 46:50] = np.random.default_rng(2).integers(0, 3, (FRAMES, 4, B))

    def logits(frames, params):
        tokens = np.concatenate([np.full((1, B), NETWORK.start), frames.reshape(-1, B)[:-1]]).astype(np.int32)
        return np.asarray(apply(params, tokens, TIMES).logits).reshape(FRAMES, P, B, 3)

    middle = slice(40, P - 13)  # the LSTM along pitch has forgotten the edge below
    before, after = logits(frames, params), logits(np.roll(frames, 1, axis=1), params)
    np.testing.assert_allclose(after[:, 1:][:, middle], before[:, :-1][:, middle], atol=1e-4)
    assert np.abs(after[:, middle] - before[:, middle]).max() > 5e-3
    placed = logits(np.roll(frames, 1, axis=1), made[0])
    assert np.abs(placed[:, 1:][:, middle] - logits(frames, made[0])[:, :-1][:, middle]).max() > 1e-3


def test_only_what_was_decided_is_seen_and_a_start_token_forgets(made):
    params, tokens = made
    plain = apply(params, tokens, TIMES).logits
    for place in (P, P + 9, 2 * P - 1):
        changed = tokens.copy()
        changed[place] = (changed[place] + 1) % 3
        difference = np.abs(apply(params, changed, TIMES).logits - plain).max(axis=(1, 2))
        np.testing.assert_array_equal(difference[:place], 0)
        assert difference[place] > 1e-6
        assert difference[2 * P :].max() > 1e-4
        np.testing.assert_allclose(
            apply(params, changed, TIMES).logits[3 * P :, 1], plain[3 * P :, 1], atol=1e-6
        )


def test_other_shapes_are_refused(made):
    params, tokens = made
    with pytest.raises(AssertionError):
        jax.eval_shape(NETWORK.apply, params, tokens[0], TIMES[0])
    with pytest.raises(AssertionError):
        kernel_features(jnp.zeros((2, 24), int), jnp.zeros(3, int), 60)
