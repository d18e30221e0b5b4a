import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.objectives import distributions
from mammadai_jax.objectives.distributions import Categorical


def test_it_is_a_categorical_of_distrax():
    assert issubclass(Categorical, distrax.Categorical)
    assert distributions.Categorical is Categorical
    with pytest.raises(AttributeError, match="Normal"):
        _ = distributions.Normal


def test_its_numbers_are_distrax_s(random, transform):
    logits = jnp.asarray(random.normal(0, 3, (5, 7)), jnp.float32)
    action = jnp.array([0, 6, 3, 3, 1])

    def numbers(kind):
        return lambda x, y: (
            kind(x).logits,
            kind(x).probs,
            kind(x).log_prob(action),
            kind(x).entropy(),
            kind(x).kl_divergence(kind(y)),
        )

    found = transform(numbers(Categorical))(logits, 0.5 * logits)
    for ours, theirs in zip(found, numbers(distrax.Categorical)(logits, 0.5 * logits), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6)


def test_its_gradients_are_distrax_s(random):
    logits = jnp.asarray(random.normal(0, 3, (5, 7)), jnp.float32)
    action = jnp.array([0, 6, 3, 3, 1])
    score = lambda kind: lambda x: (kind(x).log_prob(action) + 0.3 * kind(x).entropy()).sum()
    found, expected = (jax.grad(score(kind))(logits) for kind in (Categorical, distrax.Categorical))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 1e-3, 1e-6, 1e-10, 1e-30, 1e-39, 1e-320])
def test_near_zero_temperature_the_largest_logit_keeps_all_the_mass(temperature, transform):
    logits = jnp.array([3.0, 41.7, 41.2, -1e9, -jnp.inf])
    scaled = transform(lambda x: distributions.at_temperature(x, temperature))(logits)
    assert np.isfinite(scaled).all()
    if temperature == 1.0:
        np.testing.assert_allclose(jax.nn.softmax(scaled), jax.nn.softmax(logits), atol=1e-7)
    else:
        sample = Categorical(scaled).sample(seed=jax.random.key(0), sample_shape=200)
        assert (np.asarray(sample) == 1).all()


def test_the_gradient_at_a_temperature_is_that_of_the_quotient(random):
    logits = jnp.asarray(random.normal(0, 3, (5, 7)), jnp.float32)
    score = lambda f: jax.grad(lambda x: jax.nn.log_softmax(f(x))[:, 2].sum())(logits)
    found = score(lambda x: distributions.at_temperature(x, 0.5))
    np.testing.assert_allclose(found, score(lambda x: x / 0.5), atol=1e-6)


def test_entropy_leaves_out_masked_actions():
    logits = jnp.array([0.0, 1.0, -1e9])
    entropy, gradient = jax.value_and_grad(lambda x: Categorical(x).entropy())(logits)
    np.testing.assert_allclose(entropy, distrax.Categorical(logits[:2]).entropy(), rtol=1e-6)
    np.testing.assert_allclose(gradient.sum(), 0.0, atol=1e-6)
    assert gradient[2] == 0.0


def test_actions_are_sampled_as_often_as_their_probability_says(random, transform):
    logits = jnp.asarray(random.normal(0, 2, (3, 7)), jnp.float32).at[:, 0].set(-jnp.inf).at[1, 3:].set(-1e9)
    draws = 20_000
    action = transform(lambda x: Categorical(x).sample(seed=jax.random.key(0), sample_shape=draws))(logits)
    probs = np.exp(Categorical(logits).logits)
    assert action.dtype == jnp.int32 and action.shape == (draws, 3)
    shares = np.asarray(action[..., None] == np.arange(7)).mean(axis=0)
    assert (shares[probs == 0] == 0).all()
    error = np.sqrt(probs * (1 - probs) / draws)
    np.testing.assert_array_less(np.abs(shares - probs), 4 * error + 1e-9)


def test_samples_are_independent_of_one_another_and_reproducible():
    flat = Categorical(jnp.zeros((50_000, 4)))
    first, again = (flat.sample(seed=jax.random.key(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    pairs = np.bincount(np.asarray(first[:-1] * 4 + first[1:]), minlength=16) / (len(first) - 1)
    np.testing.assert_allclose(pairs, 1 / 16, atol=0.005)


def test_a_sample_is_where_the_cumulative_distribution_passes_one_uniform_number(random):
    logits = jnp.asarray(random.normal(0, 3, (9, 5)), jnp.float32)
    height = jax.random.uniform(jax.random.key(2), (9, 1))
    cumulative = np.cumsum(np.exp(Categorical(logits).logits), axis=-1)
    action = Categorical(logits).sample(seed=jax.random.key(2))
    np.testing.assert_array_equal(action, (cumulative <= cumulative[:, -1:] * height).sum(axis=-1))


def test_the_log_probability_is_that_of_the_sample(random):
    distribution = Categorical(jnp.asarray(random.normal(0, 3, (9, 5)), jnp.float32))
    action, log_prob = distribution.sample_and_log_prob(seed=jax.random.key(2))
    np.testing.assert_array_equal(action, distribution.sample(seed=jax.random.key(2)))
    np.testing.assert_array_equal(log_prob, np.take_along_axis(distribution.logits, action[:, None], 1)[:, 0])


def test_even_the_largest_random_number_samples_an_action(monkeypatch):
    top = np.nextafter(np.float32(1), np.float32(0))
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, top))
    logits = jnp.array([[0.0] * 89, [0.0] * 88 + [-50.0]])
    assert Categorical(logits).sample(seed=jax.random.key(0)).max() <= 88
