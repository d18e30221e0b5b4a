import jax
import numpy as np
import pytest

from mammadai_jax.objectives import value_losses

VALUE = np.array([0.5, 0.1, 0.5, -0.5], "f")
TARGET = np.array([1.0, 1.0, 0.3, 0.0], "f")
OLD = np.zeros(4, "f")


def test_the_clipped_loss_by_hand(transform):
    found = transform(lambda v, o, t: value_losses.clipped_value_loss(v, o, t, 0.2))(VALUE, OLD, TARGET)
    # the clipped value's error, one within the clip, and twice the larger error of the free value
    np.testing.assert_allclose(found, 0.5 * np.mean([0.8**2, 0.9**2, 0.2**2, 0.5**2]), rtol=1e-6)


def test_the_value_is_clipped_in_both_directions():
    loss = value_losses.clipped_value_loss
    both = np.array([0.5, -0.5], "f")
    np.testing.assert_allclose(loss(both, OLD[:2], 2 * both, 0.2), 0.5 * 0.8**2, rtol=1e-6)


def test_a_wide_clip_and_none_are_the_squared_error(transform):
    loss = lambda clip_eps: transform(lambda v, o, t: value_losses.clipped_value_loss(v, o, t, clip_eps))(
        VALUE, OLD, TARGET
    )
    expected = 0.5 * ((VALUE - TARGET) ** 2).mean()
    np.testing.assert_allclose([loss(None), loss(1e9)], expected, rtol=1e-6)


def test_a_clipped_value_has_no_gradient():
    gradient = jax.grad(lambda v: value_losses.clipped_value_loss(v, OLD, TARGET, 0.2))(VALUE)
    np.testing.assert_allclose(gradient, [0.0, -0.9 / 4, 0.2 / 4, -0.5 / 4], rtol=1e-5)


def test_explained_variance_by_hand(random, transform):
    target = random.normal(size=(5, 3)).astype("f")
    explained = transform(value_losses.explained_variance)
    np.testing.assert_allclose(explained(target + 7.0, target), 1.0, atol=1e-5)  # a shift does not matter
    np.testing.assert_allclose(explained(np.zeros_like(target), target), 0.0, atol=1e-5)
    np.testing.assert_allclose(explained(-target, target), -3.0, atol=1e-4)


def test_only_equal_shapes_are_taken():
    with pytest.raises(AssertionError):
        value_losses.clipped_value_loss(VALUE, OLD, TARGET[:3])
    with pytest.raises(AssertionError):
        value_losses.explained_variance(VALUE, TARGET[:3])
