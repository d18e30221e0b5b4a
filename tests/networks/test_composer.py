import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.networks.composer import Composer

T, B, SIZE = 36, 3, 38


def make(body, **kwargs):
    kwargs = {"lookback": (1, 2), **kwargs}
    composer = Composer(size=SIZE, body=body, width=16, layers=2, heads=2, **kwargs)
    tokens = jax.random.randint(jax.random.key(1), (T, B), 0, SIZE).at[0].set(composer.start)
    times = jnp.broadcast_to(jnp.arange(T)[:, None], (T, B))
    condition = jax.random.normal(jax.random.key(2), (B, 5))
    params = composer.init(jax.random.key(0), tokens, times, condition)
    # heads start near zero: widen them so that a difference would be seen
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(3), x.shape), params)
    return composer, params, tokens, times, condition


@pytest.mark.parametrize("body", ["lstm", "transformer"])
@pytest.mark.parametrize("context", [4, 64])
def test_whole_melodies_and_steps_agree(body, context):
    composer, params, tokens, times, condition = make(body, context=context)
    whole = composer.apply(params, tokens, times, condition)

    def advance(carry, now):
        output, carry = composer.apply(params, carry, *now, condition, method="step")
        return carry, output

    _, stepped = jax.jit(lambda c: jax.lax.scan(advance, c, (tokens, times)))(composer.initial_carry(B))
    np.testing.assert_allclose(whole.logits, stepped.logits, atol=1e-5)
    np.testing.assert_allclose(whole.value, stepped.value, atol=1e-5)


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_bfloat16_products_change_little_and_whole_melodies_and_steps_still_agree(body):
    composer, params, tokens, times, condition = make(body)
    read = lambda: composer.apply(params, tokens, times, condition).logits
    carry = composer.initial_carry(B)
    exact = read()
    with jax.default_matmul_precision("bfloat16"):
        whole = read()
        first = composer.apply(params, carry, tokens[0], times[0], condition, method="step")[0].logits
    assert 1e-4 < np.abs(whole - exact).max() < 0.05 * np.abs(exact).max()
    np.testing.assert_allclose(whole[0], first, atol=0.01)
    gradient = lambda: jax.grad(lambda p: (composer.apply(p, tokens, times, condition).logits ** 2).mean())(
        params
    )
    exact = gradient()
    with jax.default_matmul_precision("bfloat16"):
        rounded = gradient()
    length = lambda tree: np.sqrt(sum(float((x**2).sum()) for x in jax.tree.leaves(tree)))
    assert 1e-5 < length(jax.tree.map(jnp.subtract, rounded, exact)) / length(exact) < 0.03


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_start_token_forgets(body):
    composer, params, tokens, times, condition = make(body)
    again = tokens.at[5].set(composer.start)
    other = again.at[1:5].set((again[1:5] + 7) % SIZE)
    outputs = [composer.apply(params, x, times, condition).logits for x in (again, other)]
    np.testing.assert_allclose(outputs[0][5:], outputs[1][5:], atol=1e-6)
    assert np.abs(outputs[0][1:5] - outputs[1][1:5]).max() > 1e-3


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_the_future_is_not_seen(body):
    composer, params, tokens, times, condition = make(body)
    changed = tokens.at[8].set((tokens[8] + 3) % SIZE)
    before = composer.apply(params, tokens, times, condition).logits
    after = composer.apply(params, changed, times, condition).logits
    np.testing.assert_allclose(before[:8], after[:8], atol=1e-6)
    assert np.abs(before[8:] - after[8:]).max() > 1e-3


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_condition_and_metre_matter(body):
    composer, params, tokens, times, condition = make(body)
    plain = composer.apply(params, tokens, times, condition).logits
    assert np.abs(plain - composer.apply(params, tokens, times, condition + 1).logits).max() > 1e-3
    assert np.abs(plain - composer.apply(params, tokens, times + 3, condition).logits).max() > 1e-3


def test_lstm_cell_follows_its_equation():
    composer, params, tokens, times, _ = make("lstm", metre=False, lookback=())
    p = params["params"]
    table, trunk = p["token_table"]["embedding"], p["trunk"]
    hidden = np.asarray(table)[np.asarray(tokens[:, 0])]
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    for layer in range(2):
        kernel, bias = (np.asarray(trunk[f"inputs_{layer}"][n]) for n in ("kernel", "bias"))
        recurrent = np.asarray(trunk[f"recurrent_{layer}"])
        c, h, outputs = np.zeros(16), np.zeros(16), []
        for x in hidden:
            i, j, f, o = np.split(x @ kernel + bias + h @ recurrent, 4)
            c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        hidden = np.stack(outputs)
    logits = hidden @ np.asarray(p["logits_head"]["kernel"]) + np.asarray(p["logits_head"]["bias"])
    np.testing.assert_allclose(composer.apply(params, tokens, times).logits[:, 0], logits, atol=1e-5)


def test_unknown_body_is_refused():
    with pytest.raises(ValueError, match="lstm"):
        Composer(size=4, body="gru").init(jax.random.key(0), jnp.zeros((1, 1), int), jnp.zeros((1, 1), int))


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_restarts_agree_in_both_ways_of_reading(body):
    composer, params, tokens, times, _ = make(body)
    tokens = tokens.at[20, 1].set(composer.start)
    whole = composer.apply(params, tokens, times).logits
    advance = lambda carry, now: composer.apply(params, carry, *now, method="step")[::-1]
    _, stepped = jax.lax.scan(advance, composer.initial_carry(B), (tokens, times))
    np.testing.assert_allclose(whole, stepped.logits, atol=1e-5)


def test_lookback_reads_the_same_place_of_earlier_bars():
    composer, params, tokens, times, _ = make("lstm", lookback=(1,))
    # the token played at step 3 is fed at step 4; one bar later it is looked back at by step 19
    embed = lambda rows: composer.apply(params, rows, times).logits
    table = {"params": {**params["params"], "lookback_tables_0": {"embedding": jnp.zeros((SIZE + 1, 16))}}}
    changed = tokens.at[4].set((tokens[4] + 1) % SIZE)
    earlier = composer.apply(params, tokens, tokens == composer.start, method="_earlier")[0]
    np.testing.assert_array_equal(earlier[19], tokens[4])
    np.testing.assert_array_equal(earlier[:16], composer.start)
    assert np.abs(embed(tokens) - composer.apply(table, tokens, times).logits).max() > 1e-3
    assert (embed(tokens) != embed(changed)).any()
