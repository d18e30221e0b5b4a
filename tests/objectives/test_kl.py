import distrax
import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from mammadai_jax.objectives import kl

KINDS = ("exact", "k1", "k3")


def test_estimators_agree_in_expectation(random):
    log_policy, log_reference = log_softmax(random.normal(size=(2, 3, 5)), axis=-1).astype(np.float32)
    every = np.broadcast_to(np.arange(5), (3, 5))
    spread = lambda x: np.broadcast_to(x[:, None], (3, 5, 5))

    @jax.jit
    def measure(log_policy, log_reference):
        each = {kind: kl.divergence(log_policy, log_reference, every, kind) for kind in KINDS}
        return each, kl.divergence(log_policy[:, 0], log_reference[:, 0], every[:, 0], "exact")

    of, exact = measure(spread(log_policy), spread(log_reference))
    mean = lambda x: (np.exp(log_policy) * x).sum(axis=1)
    np.testing.assert_allclose(exact, mean(log_policy - log_reference), atol=1e-6)
    assert exact.min() > 0.01
    np.testing.assert_allclose(of["exact"], np.broadcast_to(exact[:, None], (3, 5)), atol=1e-6)
    np.testing.assert_allclose(mean(of["k1"]), exact, atol=1e-6)
    np.testing.assert_allclose(mean(of["k3"]), exact, atol=1e-6)
    assert of["k1"].min() < 0 < of["k3"].min()
    np.testing.assert_allclose(measure(spread(log_policy), spread(log_policy))[0]["k3"], 0.0, atol=1e-6)
    far = spread(log_softmax(np.eye(3, 5) * 200.0, axis=-1).astype(np.float32))
    assert np.isfinite(measure(far, far[::-1])[0]["k3"]).all()


def test_the_coefficient_follows_its_target():
    adapt = jax.jit(kl.adapted_coefficient)
    for nats, factor in [(6.0, 1.0), (6.6, 1 + 0.1 * 0.08), (60.0, 1 + 0.2 * 0.08), (0.0, 1 - 0.2 * 0.08)]:
        np.testing.assert_allclose(adapt(0.15, nats, 6.0, 100.0, 8), 0.15 * factor, rtol=1e-6)
        assert adapt(0.15, nats, 0.0, 100.0, 8) == np.float32(0.15)


def test_the_exact_divergence_is_distrax_s(random, transform):
    policy, reference = log_softmax(random.normal(size=(2, 3, 5)), axis=-1).astype(np.float32)
    found = transform(lambda p, q: kl.divergence(p, q, np.zeros(3, int), "exact"))(policy, reference)
    expected = distrax.Categorical(policy).kl_divergence(distrax.Categorical(reference))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_only_shapes_that_fit_are_taken():
    with pytest.raises(AssertionError):
        kl.divergence(np.zeros((3, 5)), np.zeros((3, 4)), np.zeros(3, int), "k1")
    with pytest.raises(AssertionError):
        kl.divergence(np.zeros((3, 5)), np.zeros((3, 5)), np.zeros(4, int), "k1")
    with pytest.raises(AssertionError):
        kl.adapted_coefficient(np.ones(2), np.float32(1.0), 6.0, 100.0, 8)
