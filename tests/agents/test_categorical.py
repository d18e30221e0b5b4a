import distrax
import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents.categorical import Categorical


def test_it_is_distrax_s(random, transform):
    logits = jnp.asarray(random.normal(0, 3, (5, 7)), jnp.float32)
    key = jax.random.key(3)
    ours, theirs = Categorical(logits), distrax.Categorical(logits)
    action, log_prob = transform(lambda x: Categorical(x).sample_and_log_prob(key))(logits)
    expected = theirs.sample_and_log_prob(seed=key)
    assert action.dtype == jnp.int32
    np.testing.assert_array_equal(action, expected[0])
    np.testing.assert_allclose(log_prob, expected[1], rtol=1e-6)
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    np.testing.assert_allclose(
        transform(lambda x: Categorical(x).entropy())(logits), theirs.entropy(), rtol=1e-5
    )


def test_its_gradients_are_distrax_s(random):
    logits = jnp.asarray(random.normal(0, 3, (5, 7)), jnp.float32)
    action = jnp.array([0, 6, 3, 3, 1])
    score = lambda kind: lambda x: (kind(x).log_prob(action) + 0.3 * kind(x).entropy()).sum()
    found, expected = (jax.grad(score(kind))(logits) for kind in (Categorical, distrax.Categorical))
    np.testing.assert_allclose(found, expected, atol=1e-6)
