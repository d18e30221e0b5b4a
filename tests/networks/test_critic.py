import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.traits import standardised
from mammadai_jax.networks.critic import BEAT, Critic, listen

TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, MAGENTA.size, (34, 3)), jnp.int32)


def test_what_is_heard_is_what_was_played():
    heard = jax.jit(listen)(TOKENS)
    assert heard.shape == (9, 3, 16)
    for beat in (0, 1, 5, 8):
        cut = TOKENS.at[BEAT * beat :].set(MAGENTA.silence)
        np.testing.assert_allclose(heard[beat], standardised(cut.T), atol=1e-4)


def test_a_value_knows_the_past_alone():
    critic = Critic(8)
    hidden = jax.random.normal(jax.random.key(0), (34, 3, 5))
    condition = jnp.eye(3)
    params = critic.init(jax.random.key(1), listen(TOKENS), hidden, condition)
    assert not critic.apply(params, listen(TOKENS), hidden, condition).any()  # it begins without an opinion
    params = jax.tree.map(lambda x: x + 0.3, params)
    values = critic.apply(params, listen(TOKENS), hidden, condition)
    assert values.shape == (34, 3)
    other = TOKENS.at[18].set((TOKENS[18] + 7) % MAGENTA.size)
    changed = np.any(critic.apply(params, listen(other), hidden, condition) != values, axis=1)
    assert not changed[:20].any()  # a note is heard with the next beat, unless the states tell of it
    assert changed[20]
    states = critic.apply(params, listen(TOKENS), hidden.at[18].add(1.0), condition)
    np.testing.assert_array_equal(np.any(states != values, axis=1), np.arange(34) == 18)
    prompts = critic.apply(params, listen(TOKENS), hidden, condition[::-1])
    np.testing.assert_array_equal(np.any(prompts != values, axis=0), [True, False, True])
