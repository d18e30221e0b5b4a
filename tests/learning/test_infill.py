import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from mammadai_jax.learning import sequences
from mammadai_jax.learning.infill import Config, infill
from mammadai_jax.networks.composer import Composer

SIZE, T = 3, 5
CONDITION = jnp.array([0.5, -1.0])
ALL = np.array([*itertools.product(range(SIZE), repeat=T)])
# the second and the fourth step are given, the third lacks a token
ALLOWED = np.ones((T, SIZE), bool)
ALLOWED[1], ALLOWED[3], ALLOWED[2, 0] = [False, True, False], [False, False, True], False


@functools.cache
def make(body):
    """A composer with strong opinions, and log p of all melodies at a temperature of 0.8."""
    composer = Composer(
        size=SIZE, body=body, width=8, num_heads=2, attention_window=16, lookback=(), match_steps=2
    )

    @jax.jit
    def made():
        blank = jnp.zeros((1, 1), jnp.int32)
        params = composer.init(jax.random.key(0), blank, blank, CONDITION[None])
        params = jax.tree.map(lambda x: x + 0.5 * jax.random.normal(jax.random.key(1), x.shape), params)
        previous = sequences.previous_tokens(jnp.asarray(ALL.T), SIZE)
        condition = jnp.tile(CONDITION, (len(ALL), 1))
        output = composer.apply(params, previous, sequences.positions(previous), condition)
        return params, output.logits

    params, logits = made()
    log_p = special.log_softmax(np.asarray(logits, float) / 0.8, axis=-1)
    return composer, params, np.take_along_axis(log_p, ALL.T[..., None], axis=2)[..., 0].sum(axis=0)


def filled(body, config, allowed=ALLOWED, number=1):
    composer, params, log_p = make(body)
    key = jax.random.key(2)
    return infill(key, composer, params, allowed, config, number=number, condition=CONDITION), log_p


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_melodies_are_drawn_by_the_probability_of_the_whole(body):
    results, log_p = filled(body, Config(num_particles=64, temperature=0.8), number=400)
    possible = np.array([ALLOWED[np.arange(T), row].all() for row in ALL])
    of_each = {tuple(row): value for row, value in zip(ALL[possible], log_p[possible], strict=True)}
    total = special.logsumexp(list(of_each.values()))
    counts = dict.fromkeys(of_each, 0)
    for result in results:
        counts[tuple(result.tokens.tolist())] += 1  # KeyError for what is not allowed
        assert result.log_prob == pytest.approx(of_each[tuple(result.tokens.tolist())], abs=1e-3)
    # the mean weight is an unbiased estimate of the sum
    assert np.exp([r.log_evidence - total for r in results]).mean() == pytest.approx(1, abs=0.05)
    expected = np.exp(np.array(list(of_each.values())) - total)
    off = np.abs(np.array(list(counts.values())) / len(results) - expected)
    assert (off < 4 * np.sqrt(expected * (1 - expected) / len(results)) + 0.01).all()


def test_a_single_particle_does_not_look_ahead_and_the_same_key_gives_the_same():
    one, _ = filled("lstm", Config(num_particles=1), number=3)
    again, _ = filled("lstm", Config(num_particles=1), number=2)
    assert [r.tokens.tolist() for r in one[:2]] == [r.tokens.tolist() for r in again]
    assert all((r.tokens[[1, 3]] == [1, 2]).all() and r.tokens[2] > 0 for r in one)


@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        (np.ones((4, 2), bool), "allowed should be .steps, 3., got shape .4, 2."),
        (np.ones((0, 3), bool), "got shape .0, 3."),
        (ALLOWED & np.array([1, 1, 0, 1, 1], bool)[:, None], "step 2 allows no token"),
    ],
)
def test_what_cannot_be_filled_is_refused(allowed, said):
    with pytest.raises(ValueError, match=said):
        filled("lstm", Config(), allowed)
