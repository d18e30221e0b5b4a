import jax
import numpy as np

from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.traits import standardized_traits
from mammadai_jax.networks.critic import BEAT, Critic, traits_so_far
from tests.agents.table import drawn

RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, MAGENTA.size, (34, 3)).astype(np.int32)

hear = jax.jit(traits_so_far)


def test_what_is_heard_is_what_was_played():
    heard = np.asarray(hear(TOKENS))
    assert heard.shape == (9, 3, 16)
    every = jax.jit(standardized_traits)
    for beat in (0, 1, 5, 8):
        cut = TOKENS.copy()
        cut[BEAT * beat :] = MAGENTA.silence
        np.testing.assert_allclose(heard[beat], every(cut.T), atol=1e-4)


def test_a_value_knows_the_past_alone():
    critic = Critic(8)
    heard, hidden = RANDOM.normal(size=(9, 3, 6)).astype("f"), RANDOM.normal(size=(34, 3, 5)).astype("f")
    condition = np.eye(3, dtype=np.float32)
    value = jax.jit(critic.apply)
    fresh = jax.jit(critic.init)(jax.random.key(1), heard, hidden, condition)
    assert not np.any(value(fresh, heard, hidden, condition))  # it begins without an opinion
    params = drawn(critic, heard, hidden, condition)
    values = np.asarray(value(params, heard, hidden, condition))
    assert values.shape == (34, 3)
    # what is heard before a beat is known in it, and the states only when they are there
    beat, state = heard.copy(), hidden.copy()
    beat[5] += 1.0
    state[18] += 1.0
    changed = np.any(value(params, beat, hidden, condition) != values, axis=1)
    np.testing.assert_array_equal(changed, np.arange(34) // BEAT == 5)
    changed = np.any(value(params, heard, state, condition) != values, axis=1)
    np.testing.assert_array_equal(changed, np.arange(34) == 18)
    changed = np.any(value(params, heard, hidden, condition[::-1]) != values, axis=0)
    np.testing.assert_array_equal(changed, [True, False, True])
    # and by hand, of one melody
    weights = params["params"]
    dense = lambda name, x: x @ weights[name]["kernel"] + weights[name].get("bias", 0.0)
    gelu = lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    features = np.repeat(dense("Dense_0", heard), BEAT, axis=0)[:34] + weights["length_table"]
    features += dense("Dense_1", hidden) + dense("Dense_2", condition)
    expected = dense("Dense_4", gelu(dense("Dense_3", gelu(features))))[..., 0]
    np.testing.assert_allclose(values, expected, atol=1e-5)
    without = drawn(critic, heard, hidden, None)["params"]
    assert set(weights) - set(without) == {"Dense_4"}


def test_notes_are_heard_with_the_next_beat():
    other = TOKENS.copy()
    other[18] = (TOKENS[18] + 7) % MAGENTA.size
    changed = np.any(np.asarray(hear(other)) != np.asarray(hear(TOKENS)), axis=(1, 2))
    assert not changed[:5].any() and changed[5]
