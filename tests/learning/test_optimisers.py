from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mammadai_jax.learning import optimisers

CONFIG = SimpleNamespace(
    learning_rate=0.2, lr_warmup_steps=4, num_updates=10, weight_decay=0.5, max_grad_norm=1.0
)
PARAMS = {"matrix": np.full((2, 2), 2.0, "f"), "bias": np.full(2, 2.0, "f")}
GRADIENT = {"matrix": np.full((2, 2), 3.0, "f"), "bias": np.full(2, -3.0, "f")}


def test_adamw_decays_matrices_only(transform):
    """Adam's first step is 1 in the direction of the gradient, whatever the clip made of its length."""
    optimiser = optimisers.adamw(CONFIG)

    def update(gradient, params):
        return optimiser.update(gradient, optimiser.init(params), params)[0]

    found = transform(update)(GRADIENT, PARAMS)
    np.testing.assert_allclose(found["matrix"], 1.0 + 0.5 * 2.0, rtol=1e-5)
    np.testing.assert_allclose(found["bias"], -1.0, rtol=1e-5)


def test_muon_orthogonalises_the_steps_of_hidden_matrices_alone(random):
    """The tables and heads beside them get Adam's first step, which is the rate, and what Nesterov adds."""
    draw = lambda *shape: random.normal(size=shape).astype("f")
    gradient = {
        "table": {"embedding": draw(5, 4)},
        "trunk": {"dense": {"kernel": draw(4, 8), "bias": draw(8)}, "recurrent": draw(4, 8)},
        "head": {"kernel": draw(4, 3)},
    }
    params = jax.tree.map(lambda x: draw(*x.shape), gradient)
    config = SimpleNamespace(**vars(CONFIG) | {"weight_decay": 0.0})

    @jax.jit
    def change(params, gradient):
        optimiser = optimisers.muon(config, schedule=lambda count: 0.2, b2=0.99)
        return optimiser.update(gradient, optimiser.init(params), params)[0]

    found = change(params, gradient)
    rate = 0.2 * (1 + 0.9 * 0.1 / (1 - 0.9**2))
    for one, slope in (
        (found["table"]["embedding"], gradient["table"]["embedding"]),
        (found["trunk"]["dense"]["bias"], gradient["trunk"]["dense"]["bias"]),
        (found["head"]["kernel"], gradient["head"]["kernel"]),
    ):
        np.testing.assert_allclose(one, -rate * np.sign(slope), rtol=2e-3)
    for one, slope in (
        (found["trunk"]["dense"]["kernel"], gradient["trunk"]["dense"]["kernel"]),
        (found["trunk"]["recurrent"], gradient["trunk"]["recurrent"]),
    ):
        left, _, right = np.linalg.svd(slope, full_matrices=False)
        lengths = np.linalg.svd(-left.T @ one @ right.T)[1] / (0.2 * np.sqrt(8))
        assert lengths.min() > 0.6 and lengths.max() < 1.3
        assert (np.diag(left.T @ -one @ right.T) > 0).all()  # each direction of the gradient's own
    config.weight_decay = 0.5
    decayed = jax.jit(lambda p, g: change.__wrapped__(p, g))(params, gradient)
    kernel = params["trunk"]["dense"]["kernel"]
    np.testing.assert_allclose(
        decayed["trunk"]["dense"]["kernel"] - found["trunk"]["dense"]["kernel"], -0.1 * kernel, atol=1e-6
    )
    np.testing.assert_array_equal(decayed["head"]["kernel"], found["head"]["kernel"])


def test_gradients_are_clipped_by_their_global_norm():
    _, state = optimisers.adamw(CONFIG).update(GRADIENT, optimisers.adamw(CONFIG).init(PARAMS), PARAMS)
    momentum = 10 * np.concatenate([np.ravel(x) for x in jax.tree.leaves(state[1].mu)])
    np.testing.assert_allclose(np.linalg.norm(momentum), 1.0, rtol=1e-5)


def test_a_step_moves_against_the_gradient_by_the_learning_rate():
    sgd = optax.identity()
    after, _ = optimisers.step(sgd, PARAMS, sgd.init(PARAMS), gradient=GRADIENT, learning_rate=0.1)
    np.testing.assert_allclose(after["matrix"], 2.0 - 0.3, rtol=1e-6)
    own = optax.sgd(0.1)  # an optimiser with a learning rate of its own
    again, _ = optimisers.step(own, PARAMS, own.init(PARAMS), gradient=GRADIENT)
    np.testing.assert_allclose(again["bias"], after["bias"], rtol=1e-6)


def test_warmup_and_cosine_by_hand(transform):
    rate = transform(jax.vmap(optimisers.warmup_cosine(CONFIG)))(np.arange(12))
    rise = np.minimum(1.0, np.arange(1, 13) / 4)
    cosine = 0.5 * (1 + np.cos(np.pi * np.minimum(np.arange(12) / 10, 1.0)))
    np.testing.assert_allclose(rate, 0.2 * rise * cosine, atol=1e-7)
    assert rate[10] == rate[11] == 0.0


def test_linear_decay_by_hand(transform):
    decay = transform(jax.vmap(optimisers.linear_decay, in_axes=(0, None)))
    np.testing.assert_allclose(decay(np.arange(6), 4), [1.0, 0.75, 0.5, 0.25, 0.0, 0.0])
    np.testing.assert_allclose(decay(np.arange(3), 2.5), [1.0, 0.6, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(decay(np.arange(3), 0), 1.0)


def test_the_average_follows_quickly_at_first_and_slowly_later(transform):
    average = transform(lambda a, p, n: optimisers.moving_average(a, p, 0.9, n))
    start, params = {"w": np.zeros(2, "f")}, {"w": np.ones(2, "f")}
    for update, decay in ((0, 0.1), (8, 0.5), (1000, 0.9)):
        np.testing.assert_allclose(average(start, params, jnp.int32(update))["w"], 1.0 - decay, rtol=1e-5)
