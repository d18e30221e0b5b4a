import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import polyphonic_prior, prior
from mammadai_jax.music.piece import decision_order

SIZE, VOICES = 6, 2
PIECES = [np.random.default_rng(0).integers(0, SIZE, (length, VOICES)) for length in (21, 9)]
CONFIG = polyphonic_prior.Config(
    voices=VOICES, steps_per_quarter=1, width=8, match_steps=4, dropout=0.0, feature_dropout=0.0, transpose=2,
    batch_size=4, sequence_length=6, num_updates=60, lr_warmup_steps=2, learning_rate=0.03,
)  # fmt: skip


def test_pieces_become_rows_of_decisions():
    piece = np.arange(8).reshape(2, 4)
    np.testing.assert_array_equal(polyphonic_prior.decided(piece), [0, 3, 2, 1, 4, 7, 6, 5])
    data = polyphonic_prior.stream([piece, piece[:1]], 9)
    np.testing.assert_array_equal(data.tokens, [0, 3, 2, 1, 4, 7, 6, 5, 0, 3, 2, 1])
    np.testing.assert_array_equal(data.previous, [9, 0, 3, 2, 1, 4, 7, 6, 9, 0, 3, 2])
    np.testing.assert_array_equal(data.times, [*range(8), *range(4)])
    with pytest.raises(ValueError, match="no notes"):
        polyphonic_prior.stream([], 9)


def test_windows_begin_where_a_frame_does():
    data = polyphonic_prior.stream(PIECES, SIZE)
    places = data.replace(tokens=jnp.arange(len(data.tokens)))
    rows = jax.jit(prior.windows, static_argnums=(2, 3, 4))(jax.random.key(0), places, 500, 12, VOICES)
    assert rows.tokens.shape == (12, 500)
    np.testing.assert_array_equal(np.unique(rows.tokens[0]), np.arange(0, 60 - 12 + 1, VOICES))
    assert (rows.times[0] % VOICES == 0).all()


def test_a_composer_is_made_as_the_config_says():
    config = CONFIG.replace(hold=True, body="transformer", num_layers=3, attention_window=7, dropout=0.2)
    made = polyphonic_prior.make_composer(config, SIZE)
    assert (made.size, made.voices, made.hold, made.body, made.num_layers) == (
        SIZE,
        2,
        True,
        "transformer",
        3,
    )
    assert (made.attention_window, made.match_steps, made.dropout, made.steps_per_quarter) == (7, 4, 0.2, 1)
    assert made.frames.pitches == SIZE - 2


def test_a_canon_is_learned():
    """The lower voice follows the upper one; transposed within the alphabet, too."""
    line = np.tile([1, 2, 3, 2], 10)
    piece = np.stack([line, np.roll(line, 1)], axis=1)
    data = polyphonic_prior.stream([piece], SIZE)
    state = jax.jit(polyphonic_prior.init, static_argnums=2)(jax.random.key(0), CONFIG, SIZE)
    update = jax.jit(polyphonic_prior.step, static_argnums=3)
    bits = []
    for _ in range(60):
        state, metrics = update(state, CONFIG, data, SIZE)
        bits.append(float(metrics["bits"]))
    assert abs(bits[0] - np.log2(SIZE)) < 0.5 and int(state.update) == 60
    composer = polyphonic_prior.make_composer(CONFIG, SIZE)
    rows = [polyphonic_prior.decided(np.where(piece, piece + up, 0)) for up in (0, 1)]
    assert prior.evaluate(composer, state.average, rows) < 0.3
    assert decision_order(VOICES) == (0, 1)
