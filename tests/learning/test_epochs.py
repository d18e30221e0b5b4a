import jax
import numpy as np
import pytest

from mammadai_jax.agents import reward_model
from mammadai_jax.learning import epochs

CONFIG = reward_model.Config(batch_size=8)
N = 40


def test_an_epoch_shows_every_pair_once_and_is_a_function_of_key_and_update():
    minibatch = jax.jit(epochs.minibatch, static_argnums=3)
    key = jax.random.key(3)
    chosen = [minibatch(key, np.int32(i), CONFIG, N) for i in range(10)]
    for epoch in (chosen[:5], chosen[5:]):
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), np.arange(N))
    assert (np.concatenate(chosen[:5]) != np.concatenate(chosen[5:])).any()
    np.testing.assert_array_equal(chosen[7], minibatch(key, np.int32(7), CONFIG, N))
    assert minibatch(key, np.int32(0), CONFIG, 3).shape == (3,)
    assert epochs.updates_in(CONFIG.replace(num_epochs=2), N) == 10
    assert epochs.updates_in(CONFIG.replace(num_epochs=2.5), N + 7) == 12
    with pytest.raises(ValueError, match="no examples"):
        epochs.updates_in(CONFIG, 0)
