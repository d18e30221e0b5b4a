import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.networks.mlp import MLP, ActorCritic, Discriminator, spectral_normalization
from tests.agents.table import drawn

normalised = jax.jit(spectral_normalization)


def largest(kernel):
    return np.linalg.svd(np.asarray(kernel, np.float64), compute_uv=False)[0]


def test_mlp_by_hand(random):
    network = MLP((3,), 2)
    x = random.normal(size=(5, 4)).astype(np.float32)
    params = drawn(network, x)
    p = params["params"]
    expected = np.tanh(x @ p["kernel_0"] + p["bias_0"]) @ p["kernel_1"] + p["bias_1"]
    np.testing.assert_allclose(jax.jit(network.apply)(params, x), expected, atol=1e-6)


def test_initial_kernels_are_orthogonal():
    params = jax.jit(MLP((6, 4), 2, scale=0.01).init)(jax.random.key(0), np.zeros(8))["params"]
    for name, gain in (("kernel_0", 2**0.5), ("kernel_1", 2**0.5), ("kernel_2", 0.01)):
        gram = np.asarray(params[name]).T @ np.asarray(params[name])
        np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=1e-5)
    assert not any(np.any(params[f"bias_{layer}"]) for layer in range(3))


@pytest.mark.parametrize("shape", [(20, 7), (7, 20), (30, 30), (9, 1)])
def test_the_largest_singular_value_becomes_the_bound(shape, random):
    kernel = (5.0 + 5.0 * random.normal(size=shape)).astype(np.float32)
    for bound in (1.0, 0.3):
        assert largest(normalised(kernel, bound)) == pytest.approx(bound, rel=0.01)


def test_close_singular_values(random):
    kernel = random.normal(size=(100, 100)).astype(
        np.float32
    )  # the hardest: a whole crowd of nearly equal ones
    found = largest(normalised(np.asarray(kernel, np.float32), 1.0))
    assert 1.0 - 1e-4 < found < 1.05


def test_kernels_with_symmetries():
    opposed = [[1.0, -1.0], [1.0, -1.0]]
    for kernel in (opposed, [[3.0, -3.0, 0.0], [0.0, 5.0, -5.0]], np.diag([1.0, 2.0, 8.0])):
        assert largest(normalised(np.asarray(kernel, np.float32), 1.0)) == pytest.approx(1.0, rel=0.01)


def test_kernels_below_the_bound_stay_as_they_are(random):
    for kernel in (0.1 * random.normal(size=(4, 3)), np.zeros((4, 3))):
        kernel = kernel.astype(np.float32)
        np.testing.assert_array_equal(normalised(kernel, 1.0), kernel)


def test_the_gradient_counts_the_normalisation(random):
    """Along itself a normalised kernel does not change: the gradient must be at right angles to it."""
    kernel, weights = (random.normal(size=(2, 5, 4)) * [[[3.0]], [[1.0]]]).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda k: (weights * spectral_normalization(k, 1.0)).sum()))(kernel)
    assert abs((gradient * kernel).sum()) < 1e-3
    assert np.abs(gradient).max() > 1e-2


@pytest.mark.parametrize("bound", [1.0, 3.0])
def test_a_network_keeps_its_lipschitz_bound(bound, random):
    network = Discriminator((16, 16), lipschitz=bound)
    draw = lambda: (
        random.normal(size=(500, 5)).astype("f"),
        np.eye(4, dtype="f")[random.integers(0, 4, 500)],
    )
    one, other = draw(), draw()
    params = jax.tree.map(lambda p: 4.0 * p + 2.0, drawn(network, *one, scale=1.0))

    def steepest(network):
        logits = jax.jit(network.apply)
        change = np.abs(logits(params, *one) - logits(params, *other))
        distance = np.sqrt(sum(((a - b) ** 2).sum(axis=1) for a, b in zip(one, other, strict=True)))
        return (change / distance).max()

    assert steepest(network) <= bound * 1.01
    assert steepest(Discriminator((16, 16))) > bound


def test_the_layers_share_the_bound():
    """Layers that are straight and lie in one direction reach it."""

    @jax.jit
    @functools.partial(jax.grad, argnums=2)
    def slope(params, bound, x):
        return MLP((6, 5), 1, activation=lambda x: x, lipschitz=bound).apply(params, x)[0]

    params = jax.tree.map(np.ones_like, drawn(MLP((6, 5), 1), np.zeros(4)))
    for bound in (0.5, 1.0, 3.0):
        assert np.linalg.norm(slope(params, bound, np.zeros(4))) == pytest.approx(bound, rel=1e-4)


def test_a_fresh_policy_has_no_opinion_and_the_value_is_its_own_network(random):
    network = ActorCritic(5, (8,))
    observation = random.normal(size=(3, 2, 6)).astype(np.float32)
    params = jax.jit(network.init)(jax.random.key(0), observation)

    @jax.jit
    def read(params):
        value = lambda params: (
            network.apply(params, observation).value.sum(),
            network.apply(params, observation),
        )
        return jax.grad(value, has_aux=True)(params)

    gradient, opinion = read(params)
    assert opinion.logits.shape == (3, 2, 5)
    assert opinion.value.shape == (3, 2)
    assert 0 < np.abs(opinion.logits).max() < 0.1
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient["params"]["policy"]))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient["params"]["value"]))
    widths = jax.tree.map(jnp.shape, jax.eval_shape(ActorCritic(5).init, jax.random.key(0), observation))
    assert widths["params"]["policy"]["kernel_1"] == (64, 64)  # as in Lowe (2020)


def test_the_discriminator_sees_observation_and_action():
    network = Discriminator((8,))
    observation, action = np.ones((4, 3), np.float32), np.eye(4, dtype=np.float32)
    params = jax.jit(network.init)(jax.random.key(0), observation, action)
    read = jax.jit(network.apply)
    logits = np.asarray(read(params, observation, action))
    assert logits.shape == (4,)
    assert len(np.unique(np.round(logits, 6))) == 4
    assert np.abs(logits - read(params, 2 * observation, action)).min() > 1e-4
    assert (
        np.abs(np.linalg.svd(params["params"]["MLP_0"]["kernel_1"])[1] - 0.1).max() < 1e-5
    )  # nearly no opinion
