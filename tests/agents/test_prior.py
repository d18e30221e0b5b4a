import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import prior

SIZE = 6
MELODIES = np.split(np.random.default_rng(0).integers(0, SIZE, 71), [40, 47, 70])
DATA = prior.stream(MELODIES, SIZE)
CONFIG = prior.Config(
    width=8, layers=1, heads=2, context=16, dropout=0.0, batch=4, window=8, updates=40, warmup=2, decay=0.9
)


start = jax.jit(prior.init, static_argnums=2)
update = jax.jit(prior.step, static_argnums=3)


def train(config, key, updates, data=DATA):
    """A learner's state and bits after each of `updates`."""
    learn = lambda state, _: prior.step(state, config, data, SIZE)
    state, metrics = jax.lax.scan(learn, prior.init(key, config, SIZE), length=updates)
    return state, metrics["bits"]


train_jit = jax.jit(train, static_argnums=2)


def assert_trees(found, expected, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


def distance(one, other):
    return max(np.abs(a - b).max() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_stream_by_hand():
    data = prior.stream([np.array([3, 1, 4]), np.array([], int), np.array([1, 5])], SIZE)
    np.testing.assert_array_equal(data.tokens, [3, 1, 4, 1, 5])
    np.testing.assert_array_equal(data.previous, [SIZE, 3, 1, SIZE, 1])
    np.testing.assert_array_equal(data.times, [0, 1, 2, 0, 1])
    assert data.tokens.dtype == data.previous.dtype == data.times.dtype == jnp.int32


@pytest.mark.parametrize("melodies", [[], [np.array([], int)]])
def test_stream_needs_a_note(melodies):
    with pytest.raises(ValueError, match="no notes"):
        prior.stream(melodies, SIZE)


def test_windows_are_runs_of_the_stream():
    places = DATA.replace(tokens=jnp.arange(len(DATA.tokens)))
    rows = prior.windows(jax.random.key(0), places, 2000, 8)
    assert rows.tokens.shape == rows.previous.shape == rows.times.shape == (8, 2000)
    begins = rows.tokens[0]
    np.testing.assert_array_equal(rows.tokens, begins + np.arange(8)[:, None])
    np.testing.assert_array_equal(rows.previous, DATA.previous[rows.tokens])
    np.testing.assert_array_equal(rows.times, DATA.times[rows.tokens])
    # every place is drawn, the first and the last too
    np.testing.assert_array_equal(np.unique(begins), np.arange(len(DATA.tokens) - 8 + 1))


def test_a_window_is_no_longer_than_the_stream():
    data = prior.stream([np.array([3, 1, 4])], SIZE)
    rows = prior.windows(jax.random.key(0), data, 2, 8)
    np.testing.assert_array_equal(rows.tokens, [[3, 3], [1, 1], [4, 4]])


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_evaluation_is_the_sum_over_melodies(body, random):
    config = CONFIG.replace(body=body)
    composer = prior.make_composer(config, SIZE)
    params = start(jax.random.key(0), config, SIZE).params
    params = jax.tree.map(lambda x: x + 0.8 * jax.random.normal(jax.random.key(1), x.shape), params)
    melodies = [*MELODIES, random.integers(0, SIZE, 130)]

    @jax.jit
    def note(carry, previous, time):
        output, carry = composer.apply(params, carry, previous[None], time[None], method="step")
        return jax.nn.log_softmax(output.logits[0]), carry

    bits = []
    for melody in melodies:
        carry = composer.initial_carry(1)
        for time, (previous, token) in enumerate(zip([SIZE, *melody[:-1]], melody, strict=True)):
            log_prob, carry = note(carry, jnp.int32(previous), jnp.int32(time))
            bits.append(-float(log_prob[token]) / np.log(2))
    found = prior.evaluate(composer, params, [*melodies, np.array([], int)], batch=2)
    assert found == pytest.approx(np.mean(bits), abs=1e-5)
    assert np.std(bits) > 0.1


def test_evaluation_needs_a_note():
    composer = prior.make_composer(CONFIG, SIZE)
    with pytest.raises(ValueError, match="no melodies"):
        prior.evaluate(composer, {}, [np.array([], int)])


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_a_periodic_melody_is_learned(body):
    melody = np.tile([0, 3, 1, 3, 5, 3, 1, 4], 8)
    config = CONFIG.replace(body=body, width=16, learning_rate=0.02, updates=100, window=16)
    state, bits = train_jit(config, jax.random.key(0), 100, prior.stream([melody], SIZE))
    assert abs(bits[0] - np.log2(SIZE)) < 0.2
    composer = prior.make_composer(config, SIZE)
    assert prior.evaluate(composer, state.average, [melody]) < 0.1
    assert int(state.update) == 100


def test_the_step_is_traced_once():
    traced = []

    @jax.jit
    def step(state, config):
        traced.append(1)
        return prior.step(state, config, DATA, SIZE)

    state = start(jax.random.key(0), CONFIG, SIZE)
    for learning_rate in (1e-3, 2e-3, 3e-3):
        state, metrics = step(state, CONFIG.replace(learning_rate=learning_rate))
    assert len(traced) == 1
    assert all(metric.shape == () for metric in metrics.values())


def test_keys_and_seeds():
    key = jax.random.key(0)
    state, bits = train_jit(CONFIG, key, 5)
    again, _ = train_jit(CONFIG, key, 5)
    jax.tree.map(np.testing.assert_array_equal, state.params, again.params)
    one, other = (start(jax.random.key(seed), CONFIG, SIZE).params for seed in (0, 1))
    assert distance(one, other) > 0.01
    assert len(np.unique(jax.random.key_data(jnp.stack([key, state.key])), axis=0)) == 2
    assert len(np.unique(bits)) == 5


def test_seeds_together_equal_seeds_alone():
    keys = jax.random.split(jax.random.key(0), 2)
    together, bits = jax.jit(jax.vmap(lambda key: train(CONFIG, key, 5)))(keys)
    for seed in range(2):
        alone, bits_alone = train_jit(CONFIG, keys[seed], 5)
        np.testing.assert_allclose(bits[seed], bits_alone, atol=1e-5)
        assert_trees(jax.tree.map(lambda x: x[seed], together.average), alone.average, 1e-5)  # noqa: B023
        assert_trees(jax.tree.map(lambda x: x[seed], together.params), alone.params, 1e-5)  # noqa: B023


def test_learning_rates_together_equal_learning_rates_alone():
    rates, key = (1e-3, 1e-2), jax.random.key(0)
    sweep = jax.vmap(lambda rate: train(CONFIG.replace(learning_rate=rate), key, 5)[0].params)
    together = jax.jit(sweep)(jnp.array(rates))
    for index, rate in enumerate(rates):
        alone = train_jit(CONFIG.replace(learning_rate=rate), key, 5)[0].params
        assert_trees(jax.tree.map(lambda x: x[index], together), alone, 1e-5)  # noqa: B023
    assert any(np.abs(leaf[0] - leaf[1]).max() > 1e-3 for leaf in jax.tree.leaves(together))


def test_dropout_acts_in_training_only():
    config = CONFIG.replace(dropout=0.5)
    composer = prior.make_composer(config, SIZE)
    params = start(jax.random.key(0), config, SIZE).params
    rows = prior.windows(jax.random.key(1), DATA, 4, 8)
    score = jax.jit(lambda key: prior.negative_log_likelihood(composer, params, rows, key))
    first, again, other = (score(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    without = prior.negative_log_likelihood(composer, params, rows)
    assert np.abs(first - without).max() > 1e-3
    plain = prior.make_composer(CONFIG, SIZE)
    np.testing.assert_allclose(without, prior.negative_log_likelihood(plain, params, rows), atol=1e-6)


@pytest.mark.parametrize(("body", "parts"), [("lstm", 1), ("transformer", 4)])
def test_a_few_melodies_at_a_time_give_the_update_of_all(body, parts, monkeypatch):
    config = CONFIG.replace(body=body, width=8)
    rows = prior.windows(jax.random.key(1), DATA, 4, 8)
    learn = lambda state: prior.step(state, config, DATA, SIZE)
    state = jax.jit(prior.init, static_argnums=2)(jax.random.key(0), config, SIZE)
    whole, told = jax.jit(lambda state: learn(state))(state)
    monkeypatch.setattr(prior.microbatches, "NOTES", 8)
    divided = prior.divide(prior.make_composer(config, SIZE), rows, 8, axis=1)
    assert divided.tokens.shape == (parts, 8, 4 // parts)
    after, again = jax.jit(lambda state: learn(state))(state)
    chex.assert_trees_all_close((after.params, again), (whole.params, told), rtol=1e-4, atol=1e-5)
    assert distance(after.params, state.params) > 1e-3


def test_the_average_follows_the_parameters():
    before = start(jax.random.key(0), CONFIG, SIZE)
    first, _ = update(before, CONFIG, DATA, SIZE)
    # early decays are (1 + n) / (10 + n)
    mixed = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, before.params, first.params)
    assert_trees(first.average, mixed, 1e-6)
    late = first.replace(update=jnp.int32(1000))
    after, _ = update(late, CONFIG, DATA, SIZE)
    mixed = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, first.average, after.params)
    assert_trees(after.average, mixed, 1e-6)
    assert distance(after.params, first.params) > 1e-4


def test_the_learning_rate_warms_up_and_ends_at_zero():
    config = CONFIG.replace(learning_rate=0.01, warmup=4, updates=20, clip=1e9, weight_decay=0.0)
    learner = prior.optimiser(config)
    params = {"w": jnp.ones(1)}

    def change(opt_state, _):
        updates, opt_state = learner.update({"w": jnp.ones(1)}, opt_state, params)
        return opt_state, -updates["w"][0]

    _, rates = jax.lax.scan(change, learner.init(params), length=24)
    count = np.arange(24)
    expected = 0.01 * np.minimum(1, (count + 1) / 4) * 0.5 * (1 + np.cos(np.pi * np.minimum(count / 20, 1)))
    np.testing.assert_allclose(rates, expected, rtol=1e-4, atol=1e-8)  # Adam makes a steady gradient 1
    np.testing.assert_allclose(rates[20:], 0.0, atol=1e-8)


def test_only_matrices_decay():
    config = CONFIG.replace(learning_rate=1.0, warmup=1, weight_decay=0.1)
    params = {"matrix": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    learner = prior.optimiser(config)
    updates, _ = learner.update(jax.tree.map(jnp.zeros_like, params), learner.init(params), params)
    np.testing.assert_allclose(updates["matrix"], -0.1, atol=1e-6)
    np.testing.assert_allclose(updates["bias"], 0.0, atol=1e-6)
