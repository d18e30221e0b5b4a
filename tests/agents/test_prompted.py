import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from mammadai_jax.agents import prompted
from mammadai_jax.learning import microbatches
from mammadai_jax.music import captions
from tests.agents.table import drawn, table_of

SIZE, STEPS, WIDTH = 6, 8, 4
CONFIG = prompted.Config(
    body="lstm", width=8, num_layers=1, num_heads=2, batch_size=16, dropout=0.0, lookback=(),
    match_steps=0, lr_warmup_steps=5, num_updates=80, optimiser="adam",
    learning_rate=2e-2, condition_dropout=0.2,
)  # fmt: skip
COMPOSER = prompted.make_composer(CONFIG, SIZE)
start = jax.jit(prompted.init, static_argnums=(2, 3))
update = jax.jit(prompted.step, static_argnums=3)
score = jax.jit(prompted.negative_log_likelihood, static_argnums=0)
write = jax.jit(prompted.compose, static_argnums=(0, 4))


def excerpts(rows=64):
    """Two kinds of melody, told apart by the condition alone: all 1s or all 3s."""
    kind = np.arange(rows) % 2
    tokens = np.broadcast_to(np.where(kind, 3, 1)[:, None], (rows, STEPS)).astype(np.int32)
    return prompted.Excerpts(tokens, np.eye(WIDTH, dtype=np.float32)[kind], kind > 1)


DATA = excerpts()


def train(updates, config=CONFIG, data=DATA):
    state, told = start(jax.random.key(0), config, SIZE, WIDTH), []
    for _ in range(updates):
        state, metrics = update(state, config, data, SIZE)
        told.append(metrics)
    return state, jax.tree.map(lambda *rows: np.stack(rows), *told)


def layer(tree):
    """What is of the layer that reads the condition."""
    return np.asarray(tree["params"]["condition_layer"]["kernel"])


@pytest.fixture(scope="module")
def learned():
    return train(80)


def test_it_writes_what_the_condition_says(learned):
    state, metrics = learned
    assert metrics["bits"][-1] < 0.6 * metrics["bits"][0]
    tokens = write(COMPOSER, state.params, jax.random.key(1), DATA.embedding, STEPS)
    chex.assert_shape(tokens, (64, STEPS))
    assert (np.asarray(tokens)[0::2] == 1).mean() > 0.9
    assert (np.asarray(tokens)[1::2] == 3).mean() > 0.9


def test_the_right_condition_makes_a_melody_likelier(learned):
    nats = lambda condition: score(COMPOSER, learned[0].params, DATA.tokens, condition)
    assert nats(DATA.embedding).mean() < nats(DATA.embedding[::-1]).mean() - 0.1


def test_guidance_of_one_is_the_composer_and_more_exaggerates():
    """Guided logits are l(unprompted) + g (l(prompted) - l(unprompted)): here 0 and the prompt's, by hand."""
    composer = table_of(SIZE)
    params = jax.tree.map(np.zeros_like, drawn(composer, *np.zeros((2, 1, 1), int), np.zeros((1, WIDTH))))
    params["params"]["condition_layer"]["kernel"] = np.eye(WIDTH, SIZE + 1, dtype=np.float32)
    params["params"]["logits_head"]["kernel"] = np.eye(SIZE + 1, SIZE, dtype=np.float32)
    condition = np.tile(np.eye(WIDTH, dtype=np.float32), (64, 1))
    compose = lambda g, t=1.0: write(
        composer, params, jax.random.key(2), condition, STEPS, temperature=t, guidance=g
    )
    chex.assert_trees_all_equal(compose(None), compose(1.0))
    for guidance, temperature in [(3.0, 1.0), (1.0, 0.5), (0.0, 1.0), (-2.0, 1.0)]:
        share = (np.asarray(compose(guidance, temperature)) == np.arange(256)[:, None] % WIDTH).mean()
        expected = np.exp(log_softmax(guidance / temperature * np.eye(SIZE)[0]))[0]
        assert abs(share - expected) < 0.04
    assert (compose(3.0) != compose(1.0)).any()


def test_a_few_excerpts_at_a_time_give_the_update_of_all(monkeypatch):
    config = CONFIG.replace(body="transformer", attention_window=8)
    state = start(jax.random.key(0), config, SIZE, WIDTH)
    data = jax.tree.map(jnp.asarray, DATA)
    learn = lambda state: prompted.step(state, config, data, SIZE)
    whole, told = jax.jit(lambda state: learn(state))(state)
    monkeypatch.setattr(microbatches, "NOTES", 4 * STEPS)
    after, again = jax.jit(lambda state: learn(state))(state)
    chex.assert_trees_all_close((after.params, again), (whole.params, told), rtol=1e-4, atol=1e-5)
    unequal = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, whole.params)
    assert any(jax.tree.leaves(unequal))  # it was another sum


def test_noise_and_dropping_are_of_the_condition():
    """A condition that is dropped teaches its layer nothing; one of zeros does so by its noise alone."""
    nothing = DATA.replace(embedding=np.zeros_like(DATA.embedding))
    momentum = lambda config, data: np.abs(layer(train(1, config, data)[0].opt_state[1].mu)).max()
    assert momentum(CONFIG.replace(condition_dropout=1.0), DATA) == 0
    assert momentum(CONFIG.replace(condition_dropout=0.0, condition_noise=0.0), nothing) == 0
    assert momentum(CONFIG.replace(condition_dropout=0.0), nothing) > 1e-5
    assert momentum(CONFIG.replace(condition_dropout=0.0, condition_noise=0.0), DATA) > 1e-5


def test_some_claims_are_heard_and_none_of_what_is_dropped():
    claims = captions.encode([{"mode": "minor", "density": "busy", "kind": "jig"}] * 4000)
    hear = lambda **changes: np.asarray(
        prompted.corrupt_condition(
            *jax.random.split(jax.random.key(0)), np.ones((4000, WIDTH)), CONFIG.replace(**changes), claims
        )
    )
    heard = hear(claim_dropout=0.3, condition_dropout=0.0)
    assert heard.shape == (4000, WIDTH + captions.INPUTS)
    assert set(np.unique(heard[:, WIDTH:])) == {0, 1}
    both = heard[:, WIDTH:][:, heard[:, WIDTH:].any(axis=0)]  # of each claim whether it was heard
    np.testing.assert_allclose(both.mean(axis=0), [0.7, 0.7], atol=0.03)
    assert abs(np.prod(both, axis=1).mean() - 0.49) < 0.03  # one by one
    dropped = hear(claim_dropout=0.0, condition_dropout=0.25)
    gone = ~dropped.any(axis=1)
    assert abs(gone.mean() - 0.25) < 0.03 and (dropped[~gone, WIDTH:].sum(axis=1) == 2).all()


def test_negative_log_likelihood_by_hand():
    composer = table_of(SIZE)
    params = drawn(composer, *np.zeros((2, 1, 1), int), np.zeros((1, WIDTH)))
    tokens = np.random.default_rng(0).integers(0, SIZE, (4, STEPS)).astype(np.int32)
    condition = np.eye(4, WIDTH, dtype=np.float32)
    weights, head = params["params"], params["params"]["logits_head"]
    previous = np.concatenate([np.full((4, 1), SIZE), tokens[:, :-1]], axis=1)
    features = weights["token_table"]["embedding"][previous] + layer(params)[:4, None]
    log_prob = log_softmax(features @ head["kernel"] + head["bias"], axis=-1)
    expected = -np.take_along_axis(log_prob, tokens[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(score(composer, params, tokens, condition), expected, atol=1e-5)


def test_a_fresh_composer_has_no_opinion_and_is_made_as_the_config_says():
    state = start(jax.random.key(0), CONFIG, SIZE, WIDTH)
    nats = score(COMPOSER, state.params, DATA.tokens, DATA.embedding)
    np.testing.assert_allclose(nats.mean(), np.log(SIZE), atol=0.3)
    config = prompted.Config(
        body="lstm", width=12, num_layers=3, num_heads=2, attention_window=7, lookback=(1,), dropout=0.2
    )
    made = prompted.make_composer(config, SIZE)
    assert (made.size, made.body, made.width, made.num_layers, made.metre_period) == (SIZE, "lstm", 12, 3, 48)
    assert (made.num_heads, made.attention_window, made.lookback, made.dropout) == (2, 7, (1,), 0.2)
