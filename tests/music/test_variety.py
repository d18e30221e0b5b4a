import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.music import corpus, statistics
from mammadai_jax.music.excerpts import excerpts
from mammadai_jax.music.notes import HOLD, MAGENTA, Melody
from mammadai_jax.music.variety import own_runs

runs = jax.jit(own_runs, static_argnums=1)


def overlap(tokens, n):
    return statistics.self_overlap([Melody(MAGENTA.decode(row)) for row in np.asarray(tokens)], n)


@pytest.mark.parametrize("n", [3, 6])
def test_real_melodies_have_for_themselves_what_they_do_not_share(n):
    tokens = excerpts(corpus.load("embedded"), 96).tokens
    assert 0 < overlap(tokens, n) < 1
    own = runs(tokens, n)
    assert own.mean() == pytest.approx(1 - overlap(tokens, n), abs=1e-6)


def test_random_melodies_too(random):
    tokens = random.integers(0, 8, (64, 48))  # short notes of few pitches
    assert runs(jnp.asarray(tokens), 3).mean() == pytest.approx(1 - overlap(tokens, 3), abs=1e-6)


def test_a_transposed_copy_is_a_copy_and_another_rhythm_is_not():
    tune = np.full(32, HOLD)
    tune[::4] = [60, 62, 64, 65, 67, 65, 64, 62]
    higher = np.where(tune >= 0, tune + 5, tune)
    faster = np.full(32, HOLD)
    faster[:16:2] = tune[::4]
    tokens = jnp.asarray(np.stack([MAGENTA.encode(events) for events in (tune, higher, faster)]))
    np.testing.assert_array_equal(runs(tokens, 6), [0, 0, 1])
    np.testing.assert_array_equal(runs(tokens[::2], 6), [1, 1])


def test_what_a_melody_repeats_is_its_own_and_who_has_no_run_has_nothing():
    again = np.full(64, HOLD)
    again[::4] = [60, 62, 64, 65] * 4
    short = np.full(64, HOLD)
    short[:20:4] = [60, 62, 64, 65, 60]
    tokens = jnp.asarray(np.stack([MAGENTA.encode(events) for events in (again, short)]))
    np.testing.assert_array_equal(runs(tokens, 6), [1, 0])
