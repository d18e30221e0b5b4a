import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from mammadai_jax.agents import prior
from mammadai_jax.learning import likelihood, microbatches
from tests.agents.table import Table, drawn

SIZE = 6
MELODIES = np.split(np.random.default_rng(0).integers(0, SIZE, 71), [40, 47, 70])
DATA = prior.stream(MELODIES, SIZE)
CONFIG = prior.Config(
    width=8, num_layers=1, num_heads=2, attention_window=16, lookback=(), dropout=0.0, batch_size=4,
    sequence_length=8, num_updates=40,
    lr_warmup_steps=2, ema_decay=0.9,
)  # fmt: skip


start = jax.jit(prior.init, static_argnums=2)
update = jax.jit(prior.step, static_argnums=3)
windows = jax.jit(prior.windows, static_argnums=(2, 3))


def assert_trees(found, expected, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


def distance(one, other):
    return max(np.abs(a - b).max() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_stream_by_hand():
    data = prior.stream([np.array([3, 1, 4]), np.array([], int), np.array([1, 5])], SIZE)
    np.testing.assert_array_equal(data.tokens, [3, 1, 4, 1, 5])
    np.testing.assert_array_equal(data.previous, [SIZE, 3, 1, SIZE, 1])
    np.testing.assert_array_equal(data.times, [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(data.quarters, [1, 1, 1, 1, 1])
    cut = prior.stream([np.zeros(9, int), np.zeros(5, int)], SIZE, cut=9)
    np.testing.assert_array_equal(cut.quarters, [0] * 9 + [2] * 5)
    assert {x.dtype for x in jax.tree.leaves((data, cut))} == {jnp.dtype(jnp.int32)}


@pytest.mark.parametrize("melodies", [[], [np.array([], int)]])
def test_stream_needs_a_note(melodies):
    with pytest.raises(ValueError, match="no notes"):
        prior.stream(melodies, SIZE)


def test_windows_are_runs_of_the_stream():
    places = DATA.replace(tokens=jnp.arange(len(DATA.tokens)))
    rows = jax.tree.map(np.asarray, windows(jax.random.key(0), places, 2000, 8))
    assert rows.tokens.shape == rows.previous.shape == rows.times.shape == (8, 2000)
    begins = rows.tokens[0]
    np.testing.assert_array_equal(rows.tokens, begins + np.arange(8)[:, None])
    np.testing.assert_array_equal(rows.previous, np.asarray(DATA.previous)[rows.tokens])
    np.testing.assert_array_equal(rows.times, np.asarray(DATA.times)[rows.tokens])
    # every place is drawn, the first and the last too
    np.testing.assert_array_equal(np.unique(begins), np.arange(len(DATA.tokens) - 8 + 1))


def test_a_window_is_no_longer_than_the_stream():
    data = prior.stream([np.array([3, 1, 4])], SIZE)
    rows = windows(jax.random.key(0), data, 2, 8)
    np.testing.assert_array_equal(rows.tokens, [[3, 3], [1, 1], [4, 4]])


def test_windows_are_transposed_as_a_whole_and_within_the_alphabet():
    size, first = 14, 2
    tokens = np.array([[0, 5, 1, 13], [4, 0, 6, 9], [3, 7, 11, 2]]).T
    previous = np.concatenate([[[3, size, 8]], tokens[:-1]])
    rows = prior.Stream(tokens, previous, *[np.zeros_like(tokens)] * 2)
    move = jax.jit(lambda key: prior.transposed(key, rows, 4, range(first, size)))
    moves = []
    for seed in range(100):
        found = jax.tree.map(np.asarray, move(jax.random.key(seed)))
        for before, after in ((tokens, found.tokens), (previous, found.previous)):
            special = (before < first) | (before == size)
            np.testing.assert_array_equal(after[special], before[special])
            shift = np.where(special, np.nan, after - before)
            assert (np.nanmin(shift, axis=0) == np.nanmax(shift, axis=0)).all()
            assert (after[~special] >= first).all() and (after[~special] < size).all()
        moves.append(np.nanmax(shift, axis=0))
    # the first reaches up to the highest token, the third down to the lowest
    np.testing.assert_array_equal(np.min(moves, axis=0), [-1, -2, 0])
    np.testing.assert_array_equal(np.max(moves, axis=0), [0, 4, 2])


def test_evaluation_is_the_mean_over_the_tokens_of_all_melodies(random):
    composer = Table(SIZE, width=8, lookback=())
    params = drawn(composer, *np.zeros((2, 1, 1), int), scale=0.8)
    tables = params["params"]
    head, table = tables["logits_head"], lambda name: tables[f"{name}_table"]["embedding"]
    bits = []
    melodies = [*MELODIES, random.integers(0, SIZE, 130)]
    for melody in melodies:
        previous, times = np.array([SIZE, *melody[:-1]]), np.arange(len(melody))
        features = table("token")[previous] + table("place")[times % 16] + table("bar")[times // 16 % 8]
        log_prob = log_softmax(features @ head["kernel"] + head["bias"], axis=-1)
        bits.extend(-log_prob[times, melody] / np.log(2))
    found = prior.evaluate(composer, params, [*melodies, np.array([], int)], batch_size=2)
    assert found == pytest.approx(np.mean(bits), abs=1e-5)
    assert np.std(bits) > 0.1


def test_evaluation_needs_a_note():
    composer = prior.make_composer(CONFIG, SIZE)
    with pytest.raises(ValueError, match="no melodies"):
        prior.evaluate(composer, {}, [np.array([], int)])


def test_a_composer_is_made_as_the_config_says():
    config = prior.Config(
        body="transformer",
        width=12,
        num_layers=3,
        num_heads=2,
        attention_window=7,
        metre=False,
        lookback=(1,),
        match_steps=5,
        dropout=0.2,
    )
    made = prior.make_composer(config, SIZE)
    assert (made.size, made.body, made.width, made.num_layers) == (SIZE, "transformer", 12, 3)
    assert (made.num_heads, made.attention_window, made.metre) == (2, 7, False)
    assert (made.lookback, made.match_steps, made.dropout) == ((1,), 5, 0.2)


def test_a_periodic_melody_is_learned():
    melody = np.tile([0, 3, 1, 3, 5, 3, 1, 4], 9)[: len(DATA.tokens)]
    # windows of eight steps show neither its period nor its end
    config = CONFIG.replace(match_steps=0, countdown=0, learning_rate=0.05, num_updates=80, weight_decay=0.0)
    state, data, bits = start(jax.random.key(0), config, SIZE), prior.stream([melody], SIZE), []
    for _ in range(80):
        state, metrics = update(state, config, data, SIZE)
        bits.append(metrics["bits"])
    assert abs(bits[0] - np.log2(SIZE)) < 0.2
    assert prior.evaluate(prior.make_composer(config, SIZE), state.average, [melody]) < 0.1
    assert int(state.update) == 80


def test_dropout_acts_in_training_only():
    config = CONFIG.replace(dropout=0.5)
    params = start(jax.random.key(0), CONFIG, SIZE).params

    @jax.jit
    def score(keys, rows):
        nats = lambda config, key: prior.negative_log_likelihood(
            prior.make_composer(config, SIZE), params, rows, key
        )
        return jax.vmap(lambda key: nats(config, key))(keys), nats(config, None), nats(CONFIG, None)

    rows = jax.tree.map(lambda row: np.asarray(row)[:32].reshape(4, 8).T, DATA)
    (first, again, other), without, plain = score(jax.vmap(jax.random.key)(np.array([0, 0, 1])), rows)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert np.abs(first - without).max() > 1e-3
    np.testing.assert_allclose(without, plain, atol=1e-6)


def test_a_few_melodies_at_a_time_give_the_update_of_all(monkeypatch):
    config = CONFIG.replace(body="transformer", attention_window=8)
    learn = lambda state: prior.step(state, config, DATA, SIZE)
    state = start(jax.random.key(0), config, SIZE)
    whole, told = jax.jit(lambda state: learn(state))(state)
    monkeypatch.setattr(microbatches, "NOTES", 8)
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
    config = CONFIG.replace(
        optimiser="adam", learning_rate=0.01, lr_warmup_steps=4, num_updates=20, max_grad_norm=1e9,
        weight_decay=0.0,
    )  # fmt: skip
    learner = likelihood.optimiser(config)
    params = {"w": np.ones(1, np.float32)}

    def change(opt_state, _):
        updates, opt_state = learner.update({"w": jnp.ones(1)}, opt_state, params)
        return opt_state, -updates["w"][0]

    _, rates = jax.jit(lambda state: jax.lax.scan(change, state, length=24))(learner.init(params))
    count = np.arange(24)
    expected = 0.01 * np.minimum(1, (count + 1) / 4) * 0.5 * (1 + np.cos(np.pi * np.minimum(count / 20, 1)))
    np.testing.assert_allclose(rates, expected, rtol=1e-4, atol=1e-8)  # Adam makes a steady gradient 1
    np.testing.assert_allclose(rates[20:], 0.0, atol=1e-8)


def test_only_matrices_decay():
    config = CONFIG.replace(optimiser="adam", learning_rate=1.0, lr_warmup_steps=1, weight_decay=0.1)
    params = {"matrix": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}

    @jax.jit
    def step(gradient):
        learner = likelihood.optimiser(config)
        return learner.update(gradient, learner.init(params), params)[0]

    updates = step(jax.tree.map(np.zeros_like, params))
    np.testing.assert_allclose(updates["matrix"], -0.1, atol=1e-6)
    np.testing.assert_allclose(updates["bias"], 0.0, atol=1e-6)
