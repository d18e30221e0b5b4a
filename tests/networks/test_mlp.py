import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.networks.mlp import MLP, ActorCritic, Discriminator, spectrally_normalised


def largest(kernel):
    return np.linalg.svd(np.asarray(kernel, np.float64), compute_uv=False)[0]


def test_mlp_by_hand(random):
    network = MLP((3,), 2)
    x = jnp.asarray(random.normal(size=(5, 4)), jnp.float32)
    params = network.init(jax.random.key(0), x)
    params = jax.tree.map(lambda p: p + 0.1, params)
    p = {name: np.asarray(value) for name, value in params["params"].items()}
    expected = np.tanh(x @ p["kernel_0"] + p["bias_0"]) @ p["kernel_1"] + p["bias_1"]
    np.testing.assert_allclose(network.apply(params, x), expected, atol=1e-6)


def test_initial_kernels_are_orthogonal():
    params = MLP((6, 4), 2, scale=0.01).init(jax.random.key(0), jnp.zeros(8))["params"]
    for name, gain in (("kernel_0", 2**0.5), ("kernel_1", 2**0.5), ("kernel_2", 0.01)):
        gram = np.asarray(params[name]).T @ np.asarray(params[name])
        np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 7), (7, 20), (30, 30), (9, 1)])
def test_the_largest_singular_value_becomes_the_bound(shape, random):
    kernel = 5.0 + 5.0 * random.normal(size=shape)
    for bound in (1.0, 0.3):
        assert largest(spectrally_normalised(jnp.asarray(kernel), bound)) == pytest.approx(bound, rel=0.01)


def test_close_singular_values(random):
    kernel = random.normal(size=(100, 100))  # the hardest: a whole crowd of nearly equal ones
    found = largest(spectrally_normalised(jnp.asarray(kernel), 1.0))
    assert 1.0 - 1e-4 < found < 1.05


def test_kernels_with_symmetries():
    opposed = [[1.0, -1.0], [1.0, -1.0]]
    for kernel in (opposed, [[3.0, -3.0, 0.0], [0.0, 5.0, -5.0]], np.diag([1.0, 2.0, 8.0])):
        assert largest(spectrally_normalised(jnp.asarray(kernel), 1.0)) == pytest.approx(1.0, rel=0.01)


def test_kernels_below_the_bound_stay_as_they_are(random):
    for kernel in (0.1 * random.normal(size=(4, 3)), np.zeros((4, 3))):
        kernel = jnp.asarray(kernel, jnp.float32)
        np.testing.assert_array_equal(spectrally_normalised(kernel, 1.0), kernel)


def test_the_gradient_counts_the_normalisation(random):
    """Along itself a normalised kernel does not change: the gradient must be at right angles to it."""
    kernel = jnp.asarray(3.0 * random.normal(size=(5, 4)), jnp.float32)
    weights = jnp.asarray(random.normal(size=(5, 4)), jnp.float32)
    gradient = jax.grad(lambda k: (weights * spectrally_normalised(k, 1.0)).sum())(kernel)
    assert abs((gradient * kernel).sum()) < 1e-3
    assert np.abs(gradient).max() > 1e-2


@pytest.mark.parametrize("bound", [1.0, 3.0])
def test_a_network_keeps_its_lipschitz_bound(bound, random):
    network = Discriminator((16, 16), lipschitz=bound)
    one, other = (
        (jnp.asarray(random.normal(size=(500, 5)), jnp.float32), jnp.eye(4)[random.integers(0, 4, 500)])
        for _ in range(2)
    )
    params = network.init(jax.random.key(0), *one)
    params = jax.tree.map(lambda p: 4.0 * p + 2.0, params)

    def steepest(network):
        change = np.abs(network.apply(params, *one) - network.apply(params, *other))
        distance = np.sqrt(sum(((a - b) ** 2).sum(axis=1) for a, b in zip(one, other, strict=True)))
        return (change / distance).max()

    assert steepest(network) <= bound * 1.01
    assert steepest(Discriminator((16, 16))) > bound


@pytest.mark.parametrize("bound", [0.5, 1.0, 3.0])
def test_the_layers_share_the_bound(bound):
    """Layers that are straight and lie in one direction reach it."""
    network = MLP((6, 5), 1, activation=lambda x: x, lipschitz=bound)
    params = jax.tree.map(jnp.ones_like, network.init(jax.random.key(0), jnp.zeros(4)))
    slope = jax.grad(lambda x: network.apply(params, x)[0])(jnp.zeros(4))
    assert np.linalg.norm(slope) == pytest.approx(bound, rel=1e-4)


def test_a_fresh_policy_has_no_opinion_and_the_value_is_its_own_network(random):
    network = ActorCritic(5, (8,))
    observation = jnp.asarray(random.normal(size=(3, 2, 6)), jnp.float32)
    params = network.init(jax.random.key(0), observation)
    opinion = network.apply(params, observation)
    assert opinion.logits.shape == (3, 2, 5)
    assert opinion.value.shape == (3, 2)
    assert np.abs(opinion.logits).max() < 0.1
    gradient = jax.grad(lambda p: network.apply(p, observation).value.sum())(params)["params"]
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient["policy"]))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient["value"]))


def test_the_discriminator_sees_observation_and_action():
    network = Discriminator((8,))
    observation, action = jnp.ones((4, 3)), jnp.eye(4)
    params = network.init(jax.random.key(0), observation, action)
    logits = network.apply(params, observation, action)
    assert logits.shape == (4,)
    assert len(np.unique(np.round(logits, 6))) == 4
    assert np.abs(logits - network.apply(params, 2 * observation, action)).min() > 1e-4
