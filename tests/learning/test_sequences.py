import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from mammadai_jax.learning import sequences
from tests.agents.table import drawn, table_of

SIZE, STEPS, BATCH = 5, 4, 3
COMPOSER = table_of(SIZE)
TOKENS = np.random.default_rng(0).integers(0, SIZE, (STEPS, BATCH)).astype(np.int32)


def test_tokens_are_shifted_by_a_step(transform):
    previous = transform(lambda tokens: sequences.previous_tokens(tokens, SIZE))(TOKENS)
    np.testing.assert_array_equal(previous[0], SIZE)
    np.testing.assert_array_equal(previous[1:], TOKENS[:-1])
    assert previous.dtype == TOKENS.dtype


def test_positions_count_the_steps(transform):
    positions = transform(sequences.positions)(TOKENS)
    np.testing.assert_array_equal(positions, np.arange(STEPS)[:, None] + np.zeros((1, BATCH), int))


def test_the_likelihood_by_hand(transform):
    """A table's logits depend on the token before and on the condition."""
    condition = np.random.default_rng(1).normal(size=(BATCH, 2)).astype("f")
    params = drawn(COMPOSER, *np.zeros((2, 1, 1), int), np.zeros((1, 2)))
    found = transform(
        lambda tokens, c: sequences.negative_log_likelihood(COMPOSER, params, tokens, condition=c)
    )(TOKENS, condition)
    weights, previous = params["params"], np.concatenate([np.full((1, BATCH), SIZE), TOKENS[:-1]])
    prompt = condition @ weights["condition_layer"]["kernel"]
    features = weights["token_table"]["embedding"][previous] + prompt
    logits = features @ weights["logits_head"]["kernel"] + weights["logits_head"]["bias"]
    chosen = np.take_along_axis(log_softmax(logits, axis=-1), TOKENS[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(found, -chosen, atol=1e-5)


def test_only_whole_batches_are_taken():
    with pytest.raises(AssertionError):
        jax.eval_shape(lambda: sequences.negative_log_likelihood(COMPOSER, {}, TOKENS[0]))
