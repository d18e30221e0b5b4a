import distrax
import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.objectives.distributions import Categorical


def test_it_is_distrax_s(random, transform):
    logits = jnp.asarray(random.normal(0, 3, (5, 7)), jnp.float32)
    action = jnp.array([0, 6, 3, 3, 1])
    ours, theirs = Categorical(logits), distrax.Categorical(logits)
    log_prob = transform(lambda x: Categorical(x).log_prob(action))(logits)
    np.testing.assert_allclose(log_prob, theirs.log_prob(action), rtol=1e-6)
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


def test_notes_are_drawn_as_often_as_their_probability_says(random, transform):
    logits = jnp.asarray(random.normal(0, 2, (3, 7)), jnp.float32).at[:, 0].set(-jnp.inf).at[1, 3:].set(-1e9)
    draws = 20_000
    many = transform(lambda x: Categorical(jnp.broadcast_to(x, (draws, 3, 7))).sample(jax.random.key(0)))
    action, chances = many(logits), np.exp(Categorical(logits).logits)
    assert action.dtype == jnp.int32
    shares = np.asarray(action[..., None] == np.arange(7)).mean(axis=0)
    assert (shares[chances == 0] == 0).all()
    error = np.sqrt(chances * (1 - chances) / draws)
    np.testing.assert_array_less(np.abs(shares - chances), 4 * error + 1e-9)


def test_draws_are_independent_of_one_another_and_reproducible():
    flat = Categorical(jnp.zeros((50_000, 4)))
    first, again = flat.sample(jax.random.key(1)), flat.sample(jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    pairs = np.bincount(np.asarray(first[:-1] * 4 + first[1:]), minlength=16) / (len(first) - 1)
    np.testing.assert_allclose(pairs, 1 / 16, atol=0.005)


def test_the_log_probability_is_that_of_what_was_drawn(random):
    distribution = Categorical(jnp.asarray(random.normal(0, 3, (9, 5)), jnp.float32))
    action, log_prob = distribution.sample_and_log_prob(jax.random.key(2))
    np.testing.assert_array_equal(log_prob, np.take_along_axis(distribution.logits, action[:, None], 1)[:, 0])


def test_even_the_largest_random_number_draws_a_note(monkeypatch):
    top = np.nextafter(np.float32(1), np.float32(0))
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, top))
    logits = jnp.array([[0.0] * 89, [0.0] * 88 + [-50.0]])
    assert Categorical(logits).sample(jax.random.key(0)).max() <= 88
