"""A composer tuned beside a discriminator, on melodies of one note, whose best policy has a closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import adversarial, preference
from mammadai_jax.objectives.discriminator import Transitions
from tests.agents.table import drawn, table_of

A = 4
TABLE = table_of(A)
PARAMS = drawn(TABLE, *np.zeros((2, 1, 1), int), np.zeros((1, 2)), scale=0.01)
PROMPTS = {"condition": jnp.zeros((3, 2))}
REAL = Transitions(jnp.zeros((64, 2)), jnp.arange(64)[:, None] % 2)  # notes 0 and 1, as often
CONFIG = adversarial.Config(
    reward_form="logit", disc_updates=4, batch_size=64, learning_rate=0.01, disc_ent_coef=0.0
)
TUNER = preference.Config(
    num_envs=128, num_steps=1, num_epochs=1, learning_rate=0.03, kl_coef=0.0, temperature=1.0,
    critic_warmup_steps=10, reward_weights={"real": 1.0}, max_grad_norm=10.0,
)  # fmt: skip


def favourite(_, rows, tokens):
    """Note 0 is worth log 3 more than the others."""
    return {"own": jnp.log(3.0) * (tokens[:, 0] == 0)}


@functools.partial(jax.jit, static_argnums=2)
def updated(state, tuner, count):
    def update(state, _):
        state, metrics = adversarial.step(state, CONFIG, tuner, TABLE, PROMPTS, REAL, reward_fn=favourite)
        return state, (chances(state.params["policy"]), metrics)

    return jax.lax.scan(update, state, None, count)


def chances(params):
    """The probability of each note (A,)."""
    start, time = jnp.full((1, 1), TABLE.start), jnp.zeros((1, 1), int)
    return jax.nn.softmax(TABLE.apply(params, start, time, jnp.zeros((1, 2))).logits[0, 0])


def tuned(weight):
    """The mean chances of each note over the second half of 400 updates, and the last metrics."""
    tuner = TUNER.replace(reward_weights={"real": weight})
    state = adversarial.init(jax.random.key(0), CONFIG, tuner, TABLE, PARAMS)
    state, (found, metrics) = updated(state, tuner, 400)
    assert state.update == 400
    return np.mean(found[200:], axis=0), jax.tree.map(lambda x: x[-1], metrics)


def test_the_policy_is_the_real_music_times_the_exponential_of_the_reward():
    # E[r] + E[log real - log pi] is largest for pi = real exp(r) / Z: 3/4 and 1/4 of two notes
    found, metrics = tuned(1.0)
    np.testing.assert_allclose(found, [0.75, 0.25, 0.0, 0.0], atol=0.03)
    assert {"reward/own", "reward/real", "disc_acc", "objective/kl"} <= metrics.keys()


def test_without_its_weight_the_favourite_alone_is_left():
    found, metrics = tuned(0.0)
    assert found[0] > 0.99 and metrics["disc_acc"] > 0.7
