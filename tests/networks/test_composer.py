import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.networks import longest_match
from mammadai_jax.networks.composer import Composer
from tests.agents.table import drawn

T, B, SIZE, WIDTH = 36, 3, 38, 8
RANDOM = np.random.default_rng(1)
TOKENS = RANDOM.integers(0, SIZE, (T, B)).astype(np.int32)
TOKENS[0] = SIZE
TIMES = np.broadcast_to(np.arange(T, dtype=np.int32)[:, None], (T, B))
CONDITION = RANDOM.normal(size=(B, 5)).astype(np.float32)


class Made:
    """A composer with random parameters, compiled once for whole melodies and once note by note."""

    def __init__(self, body, **kwargs):
        kwargs = {"lookback": (1, 2), "attention_window": 64, **kwargs}
        self.composer = Composer(size=SIZE, body=body, width=WIDTH, num_layers=2, num_heads=2, **kwargs)
        self.params = drawn(self.composer, TOKENS[:1], TIMES[:1], CONDITION, scale=0.4)
        self._read = jax.jit(self.composer.apply)
        self._step = jax.jit(self._write)

    def _write(self, tokens, times, condition):
        def advance(carry, now):
            output, carry = self.composer.apply(self.params, carry, *now, condition, method="step")
            return carry, output

        return jax.lax.scan(advance, self.composer.initial_carry(B), (tokens, times))[1]

    def read(self, tokens=TOKENS, times=TIMES, condition=CONDITION):
        return jax.tree.map(np.asarray, self._read(self.params, tokens, times, condition))

    def write(self, tokens=TOKENS, times=TIMES, condition=CONDITION):
        return jax.tree.map(np.asarray, self._step(tokens, times, condition))


make = functools.cache(Made)
bodies = pytest.mark.parametrize("body", ["lstm", "transformer"])


def with_token(place, token):
    changed = TOKENS.copy()
    changed[place] = token
    return changed


def agree(whole, stepped):
    np.testing.assert_allclose(whole.logits, stepped.logits, atol=1e-5)
    np.testing.assert_allclose(whole.value, stepped.value, atol=1e-5)


@bodies
def test_whole_melodies_and_steps_agree(body):
    made = make(body)
    agree(made.read(), made.write())
    # a melody that begins within a row, too
    tokens = with_token((20, 1), SIZE)
    agree(made.read(tokens), made.write(tokens))


def test_whole_melodies_and_steps_agree_on_what_repeats():
    """Of melodies of three notes, so that much does; one begins within a row."""
    made = make("lstm", match_steps=9)
    tokens = np.where(with_token((20, 1), SIZE) == SIZE, SIZE, TOKENS % 3)
    agree(made.read(tokens), made.write(tokens))
    other = np.where(tokens == 1, 2, tokens)
    assert np.abs(made.read(tokens).logits - made.read(other).logits).max() > 1e-3


def test_whole_melodies_and_steps_agree_on_a_length_that_is_told():
    """In the middle of a row too, where the melody before has another length, or none that is told."""
    made = make("lstm", countdown=4)
    begin = made.composer.start_of
    assert [int(begin(steps)) - SIZE for steps in (1, 4, 5, 36, 1024, 1025)] == [1, 1, 2, 9, 256, 0]
    assert int(make("lstm").composer.start_of(36)) == SIZE
    tokens = with_token(0, np.array([begin(36), SIZE, begin(1025)]))
    tokens[20, 0], tokens[20, 1] = SIZE, begin(12)
    times = np.where(np.arange(T)[:, None] < 20, TIMES, TIMES - 20 * (np.arange(B) < 2)).astype(np.int32)
    agree(made.read(tokens, times), made.write(tokens, times))
    # and of whole melodies it may be told by step
    quarters = np.where(np.arange(T)[:, None] < 20, [9, 0, 0], [0, 3, 0])
    told = made.composer.apply(made.params, np.minimum(tokens, SIZE), times, CONDITION, quarters=quarters)
    np.testing.assert_allclose(told.logits, made.read(tokens, times).logits, atol=1e-5)


def test_quarters_before_the_end_are_an_input():
    made = make("lstm", countdown=4)
    of_length = lambda steps: made.read(with_token(0, made.composer.start_of(steps))).logits
    untold, nine, ten = made.read().logits, of_length(36), of_length(40)
    assert np.abs(untold - nine)[0].max() > 1e-3  # more than four quarters before the end is an input, too
    np.testing.assert_allclose(nine[:24], ten[:24], atol=1e-6)  # nine and ten quarters before it are the same
    assert np.abs(nine - ten)[24:].max() > 1e-3


def test_tokens_that_lie_back_or_follow_a_match_can_be_copied():
    """The copy head's bias alone: it is added to the logit of the token that each source names, if any."""
    made = make("lstm", lookback=(1,), match_steps=9)
    tokens = np.where(TOKENS == SIZE, SIZE, TOKENS % 3)
    params = jax.tree.map(np.array, made.params)
    head = params["params"]["copy_head"]
    head["kernel"][:] = 0
    head["bias"][:] = 0
    read = lambda: np.asarray(made.composer.apply(params, tokens, TIMES, CONDITION).logits)
    before = read()
    head["bias"][:] = 2.0, 5.0
    followed, _ = longest_match.find(jnp.asarray(tokens), jnp.asarray(tokens == SIZE), 9, SIZE)
    expected = 5.0 * (np.asarray(followed)[..., None] == np.arange(SIZE))
    expected[16:] += 2.0 * (tokens[1 : T - 15, :, None] == np.arange(SIZE))
    np.testing.assert_allclose(read() - before, expected, atol=1e-5)
    assert (expected > 5).any() and not expected[0].any()


def test_whole_melodies_and_steps_agree_on_a_context_that_is_shorter_than_they_are():
    made = make("transformer", attention_window=4)
    whole = made.read()
    agree(whole, made.write())
    assert np.abs(whole.logits[:4] - make("transformer").read().logits[:4]).max() < 1e-5
    assert np.abs(whole.logits[4:] - make("transformer").read().logits[4:]).max() > 1e-3


@bodies
def test_bfloat16_products_change_little_and_whole_melodies_and_steps_still_agree(body):
    made = make(body)
    tokens, times = TOKENS[:18], TIMES[:18]  # of lookbacks there is one

    def read(params):
        logits = made.composer.apply(params, tokens, times, CONDITION).logits
        return (logits**2).mean(), logits

    def both(params):
        (_, logits), gradient = jax.value_and_grad(read, has_aux=True)(params)
        first = made.composer.apply(
            params, made.composer.initial_carry(B), tokens[0], times[0], CONDITION, method="step"
        )[0].logits
        return logits, gradient, first

    exact, gradient, _ = jax.jit(lambda params: both(params))(made.params)
    with jax.default_matmul_precision("bfloat16"):
        whole, rounded, first = jax.jit(lambda params: both(params))(made.params)
    assert 1e-4 < np.abs(whole - exact).max() < 0.05 * np.abs(exact).max()
    np.testing.assert_allclose(whole[0], first, atol=0.01)
    length = lambda tree: np.sqrt(sum(float((x**2).sum()) for x in jax.tree.leaves(tree)))
    gradient, rounded = (jax.tree.map(np.asarray, tree) for tree in (gradient, rounded))
    assert 1e-5 < length(jax.tree.map(np.subtract, rounded, gradient)) / length(gradient) < 0.03


@bodies
def test_start_token_forgets(body):
    again, other = with_token(5, SIZE), with_token(5, SIZE)
    other[1:5] = (other[1:5] + 7) % SIZE
    outputs = [make(body).read(tokens).logits for tokens in (again, other)]
    np.testing.assert_allclose(outputs[0][5:], outputs[1][5:], atol=1e-6)
    assert np.abs(outputs[0][1:5] - outputs[1][1:5]).max() > 1e-3


@bodies
def test_the_future_is_not_seen(body):
    before = make(body).read().logits
    after = make(body).read(with_token(8, (TOKENS[8] + 3) % SIZE)).logits
    np.testing.assert_allclose(before[:8], after[:8], atol=1e-6)
    assert np.abs(before[8:] - after[8:]).max() > 1e-3


@bodies
def test_condition_and_metre_matter(body):
    made = make(body)
    plain = made.read().logits
    assert np.abs(plain - made.read(condition=CONDITION + 1).logits).max() > 1e-3
    assert np.abs(plain - made.read(times=TIMES + 3).logits).max() > 1e-3
    assert np.abs(plain - made.read(times=TIMES + 16).logits).max() > 1e-3  # another bar
    np.testing.assert_allclose(plain, made.read(times=TIMES + 8 * 16).logits, atol=1e-6)  # of eight


def test_lstm_cell_follows_its_equation():
    """And what it reads: tokens, those a bar or two ago, the place in the bar, the bar and the condition."""
    made = make("lstm")
    p = made.params["params"]
    trunk, embed = p["trunk"], lambda name: p[name]["embedding"]
    hidden = embed("token_table")[TOKENS[:, 0]] + embed("place_table")[TIMES[:, 0] % 16]
    hidden = hidden + embed("bar_table")[TIMES[:, 0] // 16] + CONDITION[0] @ p["condition_layer"]["kernel"]
    sources = []
    for table, distance in (("lookback_tables_0", 15), ("lookback_tables_1", 31)):
        earlier = np.concatenate([np.full(distance, SIZE), TOKENS[:, 0]])[:T]
        hidden = hidden + embed(table)[earlier]
        sources.append(np.eye(SIZE + 1, SIZE)[earlier])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    for layer in range(2):
        kernel, bias = (np.asarray(trunk[f"inputs_{layer}"][n]) for n in ("kernel", "bias"))
        recurrent = np.asarray(trunk[f"recurrent_{layer}"])
        c, h, outputs = np.zeros(WIDTH), np.zeros(WIDTH), []
        for x in hidden:
            i, j, f, o = np.split(x @ kernel + bias + h @ recurrent, 4)
            c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        hidden = np.stack(outputs)
    found = made.read()
    by_head = lambda name: hidden @ p[name]["kernel"] + p[name]["bias"]
    copied = np.einsum("tk,kta->ta", by_head("copy_head"), sources)
    np.testing.assert_allclose(found.logits[:, 0], by_head("logits_head") + copied, atol=1e-5)
    np.testing.assert_allclose(found.value[:, 0], by_head("value_head")[:, 0], atol=1e-5)


def test_unknown_body_is_refused():
    init = lambda: Composer(size=4, body="gru").init(jax.random.key(0), jnp.zeros((1, 1), int), TIMES[:1, :1])
    with pytest.raises(ValueError, match="lstm"):
        jax.eval_shape(init)
    with pytest.raises(ValueError, match="10 cannot be divided into 4 heads"):
        drawn(Composer(size=4, body="transformer", width=10), TOKENS[:1], TIMES[:1])


def test_lookback_reads_the_same_place_of_earlier_bars():
    made = make("lstm")
    earlier = functools.partial(made.composer.apply, made.params, method="_earlier")
    # the token played at step 3 is fed at step 4; one bar later it is looked back at by step 19
    one, two = jax.jit(earlier)(TOKENS, TOKENS == SIZE)
    np.testing.assert_array_equal(one[19], TOKENS[4])
    np.testing.assert_array_equal(one[:16], SIZE)
    np.testing.assert_array_equal(two[35], TOKENS[4])
    np.testing.assert_array_equal(two[:32], SIZE)
    started = with_token((10, 1), SIZE)  # where a melody begins anew, nothing lies back
    one = np.asarray(jax.jit(earlier)(started, started == SIZE)[0])
    np.testing.assert_array_equal(one[16:25, 1], SIZE)
    np.testing.assert_array_equal(one[26:, 1], started[11:21, 1])
