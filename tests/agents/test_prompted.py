import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import prompted

SIZE, STEPS, WIDTH = 6, 24, 4
CONFIG = prompted.Config(
    width=16, layers=1, heads=2, batch=16, dropout=0.0, lookback=(), warmup=5, updates=80
)


def excerpts(rows=64):
    """Two kinds of melody, told apart by the condition alone: all 1s or all 3s."""
    kind = jnp.arange(rows) % 2
    tokens = jnp.broadcast_to(jnp.where(kind, 3, 1)[:, None], (rows, STEPS)).astype(jnp.int32)
    return prompted.Excerpts(tokens, jax.nn.one_hot(kind, WIDTH))


def learned(config=CONFIG, data=None, key=0, updates=80):
    data = excerpts() if data is None else data
    step = lambda state, _: prompted.step(state, config, data, SIZE)
    state = prompted.init(jax.random.key(key), config, SIZE, WIDTH)
    return jax.jit(lambda s: jax.lax.scan(step, s, length=updates))(state)


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_it_writes_what_the_condition_says(body):
    config = CONFIG.replace(body=body, learning_rate=1e-2)
    state, metrics = learned(config)
    assert metrics["bits"][-1] < 0.5 * metrics["bits"][0]
    composer = prompted.make_composer(config, SIZE)
    condition = jax.nn.one_hot(jnp.array([0, 1] * 8), WIDTH)
    tokens = prompted.compose(composer, state.params, jax.random.key(1), condition, STEPS)
    chex.assert_shape(tokens, (16, STEPS))
    assert (np.asarray(tokens)[0::2] == 1).mean() > 0.9
    assert (np.asarray(tokens)[1::2] == 3).mean() > 0.9


def test_the_right_condition_makes_a_melody_likelier():
    state, _ = learned(CONFIG.replace(learning_rate=1e-2))
    composer, data = prompted.make_composer(CONFIG, SIZE), excerpts(8)
    nats = lambda condition: prompted.negative_log_likelihood(composer, state.params, data.tokens, condition)
    assert nats(data.condition).mean() < nats(data.condition[::-1]).mean() - 0.1


def test_guidance_of_one_is_the_composer_and_more_exaggerates():
    state, _ = learned(CONFIG.replace(unprompted=0.5), updates=30)
    composer = prompted.make_composer(CONFIG, SIZE)
    condition, key = jax.nn.one_hot(jnp.arange(64) % 2, WIDTH), jax.random.key(2)
    write = lambda guidance: prompted.compose(composer, state.params, key, condition, STEPS, 1.0, guidance)
    chex.assert_trees_all_equal(write(None), write(1.0))
    right = lambda tokens: (tokens == jnp.where(condition[:, 1:2] > 0, 3, 1)).mean()
    assert right(write(3.0)) > right(write(1.0)) > right(write(0.0))


def test_a_few_excerpts_at_a_time_give_the_update_of_all(monkeypatch):
    config, data = CONFIG.replace(body="transformer"), excerpts()
    learn = lambda state: prompted.step(state, config, data, SIZE)
    state = prompted.init(jax.random.key(0), config, SIZE, WIDTH)
    whole, told = jax.jit(lambda state: learn(state))(state)
    monkeypatch.setattr(prompted.prior.microbatches, "NOTES", 4 * STEPS)
    after, again = jax.jit(lambda state: learn(state))(state)
    chex.assert_trees_all_close((after.params, again), (whole.params, told), rtol=1e-4, atol=1e-5)
    assert float(told["bits"]) != float(again["bits"])  # it was another sum


def test_without_prompts_the_condition_is_not_heard():
    state, _ = learned(CONFIG.replace(unprompted=1.0, noise=0.0), updates=5)
    fresh = prompted.init(jax.random.key(0), CONFIG, SIZE, WIDTH)
    layer = lambda s: s.params["params"]["condition_layer"]["kernel"]
    # decayed, but never learned
    cosine = (
        (layer(state) * layer(fresh)).sum() / jnp.linalg.norm(layer(state)) / jnp.linalg.norm(layer(fresh))
    )
    assert cosine > 0.999999


def test_seeds_under_vmap_are_single_runs():
    data = excerpts()
    step = jax.jit(lambda s: prompted.step(s, CONFIG, data, SIZE)[0])
    keys = jax.random.split(jax.random.key(3), 2)
    single = [step(prompted.init(key, CONFIG, SIZE, WIDTH)) for key in keys]
    many = jax.vmap(step)(jax.vmap(lambda key: prompted.init(key, CONFIG, SIZE, WIDTH))(keys))
    for index, state in enumerate(single):
        chex.assert_trees_all_close(
            jax.tree.map(lambda x, i=index: x[i], many.params), state.params, atol=1e-5
        )


def test_negative_log_likelihood_of_a_fresh_composer_is_near_uniform():
    state = prompted.init(jax.random.key(0), CONFIG, SIZE, WIDTH)
    composer, data = prompted.make_composer(CONFIG, SIZE), excerpts(4)
    nats = prompted.negative_log_likelihood(composer, state.params, data.tokens, data.condition)
    chex.assert_shape(nats, (4, STEPS))
    np.testing.assert_allclose(nats.mean(), np.log(SIZE), atol=0.5)
