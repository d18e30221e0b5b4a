# pyright: reportArgumentType=false
# (MAGENTA has a hold, others may have none)
"""Quality: how well made a melody is, from 0 to 1, without a prompt (the second term of MusicRL-R's reward).

MusicRL learns it from a mean opinion score: raters give music by people and by the model 1 to 5, are told to
rate nothing but its quality, and the mean is mapped to [0, 1]. Here too, with damaged music among it:
`corrupt` damages melodies by any strength, down to noise. Without raters the opinion can be 1 for real music
and less the more it was damaged. The network is the reward model's with a sigmoid on its heads, trained by
cross-entropy:

    L = - y log sigmoid(h) - (1 - y) log(1 - sigmoid(h)),   y = (opinion - 1) / 4
"""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from mammadai_jax.agents.reward_model import Config, Params, State, init, optimiser, rewards
from mammadai_jax.learning import epochs
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.networks.composer import Composer

__all__ = ["Config", "Excerpts", "State", "corrupt", "init", "score", "step"]

OUT_OF_SCALE = np.array([-6, -1, 1, 6])  # semitones of transposition


@struct.dataclass
class Excerpts:
    """Melodies and their quality.

    Attributes:
        tokens: int32 (N, T).
        target: the quality y, float32 (N,) in 0..1.

    """

    tokens: jax.Array
    target: jax.Array


def score(
    params: Params, config: Config, composer: Composer, tokens: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation over the heads of the quality 0..1 of melodies (B, T): (B,), (B,)."""
    chex.assert_rank(tokens, 2)
    each = jax.nn.sigmoid(rewards(params, config, composer, None, tokens))
    return each.mean(axis=0), each.std(axis=0)


def step(
    state: State,
    config: Config,
    composer: Composer,
    data: Excerpts,
    *,
    loss: Callable[[jax.Array, jax.Array], jax.Array] = optax.losses.sigmoid_binary_cross_entropy,
) -> tuple[State, dict[str, jax.Array]]:
    """One update.

    `init` is the reward model's with condition_size 0; the config's fields about pairs are not used.

    Args:
        state: of the learner.
        config: see reward_model.Config.
        composer: the body.
        data: all excerpts.
        loss: (logits of the heads, targets), each (H, B) -> float32 (H, B).

    Returns:
        State, and the metrics of `epochs.minibatch_step` with "error", the mean absolute error.

    """
    examples = data.target.shape[0]
    chosen = epochs.minibatch(state.key, state.update, config, examples)
    tokens, target = data.tokens[chosen], data.target[chosen]

    def mean_loss(params):
        logits = rewards(params, config, composer, None, tokens)
        error = jnp.abs(jax.nn.sigmoid(logits).mean(axis=0) - target).mean()
        return loss(logits, jnp.broadcast_to(target, logits.shape)).mean(), {"error": error}

    return epochs.minibatch_step(state, config, mean_loss, examples=examples, optimiser=optimiser(config))


def corrupt(
    key: jax.Array, tokens: jax.Array, strength: jax.Array | float, steps_per_bar: int = 16
) -> jax.Array:
    """Damage melodies of the alphabet MAGENTA, from mildly to beyond recognition.

    The kinds of damage: notes of random pitch, a fragment transposed out of its scale, bars in another order,
    notes that come a step late or early, and a fragment in which one note is held. A melody gets at least one
    kind, and each other one with the probability `strength`, which is also the share of it that is damaged.

    Args:
        key: consumed.
        tokens: int (N, T).
        strength: 0 (no damage) to 1 (noise), one for all or one for each (N,).
        steps_per_bar: of the bars that are reordered.

    Returns:
        Tokens (N, T) of the same alphabet.

    """
    chex.assert_rank(tokens, 2)
    strength = jnp.broadcast_to(jnp.asarray(strength, jnp.float32), tokens.shape[:1])
    keys = jax.random.split(key, tokens.shape[0])
    return jax.vmap(_corrupt, (0, 0, 0, None))(keys, tokens, strength, steps_per_bar)


def _corrupt(key, tokens, strength, steps_per_bar):
    """One melody (T,), damaged by a random set of kinds, at least one."""
    key, key_active = jax.random.split(key)
    draws = jax.random.uniform(key_active, (5,))
    amounts = strength * ((draws < strength) | (draws == draws.min()))
    keys = jax.random.split(key, 5)
    damaged = _shuffle_bars(keys[0], tokens, amounts[0], steps_per_bar)
    damaged = _transpose(keys[1], damaged, amounts[1])
    damaged = _shift(keys[2], damaged, amounts[2])
    damaged = _hold(keys[3], damaged, amounts[3])
    damaged = _other_pitches(keys[4], damaged, amounts[4])
    # a hold at the start holds no note: it is silence
    begins = jnp.where(damaged[0] == MAGENTA.hold, MAGENTA.silence, damaged[0])
    return jnp.where(strength > 0, damaged.at[0].set(begins), tokens)


def _fragment(key, steps, share):
    """Which of (T,) steps are in a fragment at a random place, of such a share of them."""
    length = jnp.round(share * steps).astype(jnp.int32)
    begin = jax.random.randint(key, (), 0, steps - length + 1)
    place = jnp.arange(steps)
    return (place >= begin) & (place < begin + length)


def _other_pitches(key, tokens, amount):
    """Each note gets a random pitch with the probability `amount`."""
    key_which, key_pitch = jax.random.split(key)
    pitches = jax.random.randint(key_pitch, tokens.shape, MAGENTA.first, MAGENTA.size, tokens.dtype)
    hit = jax.random.bernoulli(key_which, amount, tokens.shape)
    return jnp.where(hit & (tokens >= MAGENTA.first), pitches, tokens)


def _transpose(key, tokens, amount):
    """Transpose a fragment out of the scale; a pitch beyond the range wraps around it."""
    key_fragment, key_interval = jax.random.split(key)
    moved = tokens - MAGENTA.first + jax.random.choice(key_interval, OUT_OF_SCALE)
    moved = MAGENTA.first + moved % MAGENTA.pitches  # the range is three octaves
    hit = _fragment(key_fragment, len(tokens), amount)
    return jnp.where(hit & (tokens >= MAGENTA.first), moved, tokens).astype(tokens.dtype)


def _shuffle_bars(key, tokens, amount, steps_per_bar):
    """Permute the bars that are drawn with the probability `amount`; an incomplete last bar stays."""
    count = len(tokens) // steps_per_bar
    key_which, key_order = jax.random.split(key)
    stays = ~jax.random.bernoulli(key_which, amount, (count,))
    places = jnp.argsort(stays, stable=True)  # those that move first, in order
    sources = jnp.argsort(jnp.where(stays, 1.0, jax.random.uniform(key_order, (count,))), stable=True)
    order = jnp.arange(count).at[places].set(sources)
    bars = tokens[: count * steps_per_bar].reshape(count, steps_per_bar)
    return tokens.at[: count * steps_per_bar].set(bars[order].reshape(-1))


def _shift(key, tokens, amount):
    """Move each event a step later or earlier with the probability `amount`, where a hold makes room."""
    draws = jax.random.uniform(key, tokens.shape)
    late = _delay(tokens, draws < amount / 2)
    early = (draws > 1 - amount / 2) & (tokens != MAGENTA.hold)  # an event that moved does not move back
    return _delay(late[::-1], early[::-1])[::-1]


def _delay(tokens, hit):
    """Exchange the events that are hit with the hold after them."""
    room = jnp.append(tokens[1:] == MAGENTA.hold, False)
    moves = hit & room & (tokens != MAGENTA.hold)
    arrives = jnp.roll(moves, 1)  # never from the last step, which has no room
    return jnp.where(arrives, jnp.roll(tokens, 1), jnp.where(moves, MAGENTA.hold, tokens))


def _hold(key, tokens, amount):
    """Replace a fragment of up to half of the melody by holds."""
    return jnp.where(_fragment(key, len(tokens), amount / 2), MAGENTA.hold, tokens)
