import jax
import numpy as np
import pytest

from mammadai_jax.learning import minibatches


def test_every_epoch_has_each_item_once_in_an_order_of_its_own():
    rows = jax.jit(minibatches.shuffled, static_argnums=(1, 2, 3))(jax.random.key(0), 12, 3, 4)
    assert rows.shape == (12, 3)
    epochs = np.asarray(rows).reshape(3, 12)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.broadcast_to(np.arange(12), (3, 12)))
    assert len({tuple(order) for order in epochs}) == 3


def test_advantages_are_standardised(random, transform):
    advantage = random.normal(3.0, 2.0, 50).astype("f")
    found = transform(minibatches.normalized)(advantage)
    np.testing.assert_allclose(found, (advantage - advantage.mean()) / advantage.std(), atol=1e-5)
    np.testing.assert_allclose(minibatches.normalized(np.full(5, 2.0, "f")), 0.0)  # no division by zero


def test_advantages_are_a_vector():
    with pytest.raises(AssertionError):
        minibatches.normalized(np.ones((2, 3)))
