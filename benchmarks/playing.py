"""What plays: environments without a network, rules, and composers that write."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure, operations
from benchmarks.measure import Contest, Job
from mammadai_jax import environments
from mammadai_jax.agents import polyphonic_prior
from mammadai_jax.learning import rollout
from mammadai_jax.music import harmony, theory
from mammadai_jax.networks.composer import Composer
from mammadai_jax.stages import chorales as chorales_stage

LENGTH = 32  # of the environment's melodies
NOTES = 1 << 20  # in a run, if the melodies are many enough
LONGEST = 1 << 13  # steps in a run, if they are few
GROUP = 1 << 13  # environments that play together: the states of more do not fit a core's cache


def stepping(env: Any, params: Any, batch: int) -> Job:
    """Steps of a batch of gymnax's environments, any actions fed: `step` with its automatic reset.

    Every observation, reward and end is summed, so that none is optimised away. Of more environments than
    GROUP so many play together, group after group.
    """
    group, steps = min(batch, GROUP), min(LONGEST, NOTES // batch)
    shape = batch // group, steps, group
    actions = jax.random.randint(jax.random.key(0), shape, 0, env.action_space(params).n)
    keys = jax.random.split(jax.random.key(1), shape[::2])
    state = jax.jit(jax.vmap(jax.vmap(env.reset, (0, None)), (0, None)))(keys, params)[1]

    def play(now):
        state, actions, key = now

        def step(loop, now):
            (state, total), (action, time) = loop, now
            keys = jax.random.split(jax.random.fold_in(key, time), group)
            stepped = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
            observation, state, reward, terminated, *_ = stepped
            return (state, total + observation.sum(axis=-1) + reward + terminated), None

        return jax.lax.scan(step, (state, jnp.zeros(group)), (actions, jnp.arange(steps)))[0]

    def run(state, actions, key):
        return jax.lax.map(play, (state, actions, jax.random.split(key, shape[0])))

    moved = 2 * operations.size(state) + 4 * batch  # and the action
    return measure.job(run, state, actions, jax.random.key(2), units=actions.size, bytes=steps * moved)


def scanning(env: Any, params: Any, batch: int) -> Job:
    """Melody after melody in a batch of environments, by what agents scan: the functions below `step`.

    Of more environments than GROUP so many play together, as in `stepping`.
    """
    group, melodies = min(batch, GROUP), min(LONGEST, NOTES // batch) // LENGTH or 1
    shape = batch // group, melodies, LENGTH, group
    actions = jax.random.randint(jax.random.key(0), shape, 0, env.num_actions)

    @jax.vmap
    def advance(state, action):
        after = env.advance(state, action, params)
        return after, env.observe(after, params).sum() + env.reward(state, action, after)

    def note(loop, action):
        state, heard = advance(loop[0], action)
        return (state, loop[1] + heard), None

    def melody(total, now):
        actions, key = now
        state = jax.vmap(env.initial, (0, None))(jax.random.split(key, group), params)
        return jax.lax.scan(note, (state, total), actions)[0][1], None

    def play(now):
        return jax.lax.scan(melody, jnp.zeros(group), now)[0]

    def run(actions, key):
        return jax.lax.map(play, (actions, jax.random.split(key, shape[:2])))

    state = jax.eval_shape(lambda: env.initial(jax.random.key(0), params))
    moved = 2 * operations.size(state) + 4
    return measure.job(run, actions, jax.random.key(2), units=actions.size, bytes=actions.size * moved)


def note(xp: Any, time: Any, last: Any, action: Any) -> tuple[Any, Any, Any, Any]:
    """A step of `rl_tuner`, automatic reset included, written out for B melodies.

    Args:
        xp: NumPy or jax.numpy.
        time: int32 (B,), see environments.rl_tuner.
        last: int32 (B,), the previous actions.
        action: int32 (B,).

    Returns:
        time, last, whether the melody ended (B,), and the observation float32 (B, 63).

    """
    time = time + 1
    ends = time >= LENGTH
    time, last = xp.where(ends, 0, time), xp.where(ends, 38, action)
    places, lit = xp.arange(63), (last, 39 + time % 16, 55 + time // 16 % 8)
    seen = [place[:, None] == places for place in lit]
    return time, last, ends, (seen[0] | seen[1] | seen[2]).astype(xp.float32)


def by_hand(batch: int) -> Job:
    """`stepping` of `rl_tuner` as a scan without any framework."""
    steps = min(LONGEST, NOTES // batch)
    actions = jax.random.randint(jax.random.key(0), (steps, batch), 0, 38)

    def run(actions):
        def step(loop, action):
            time, last, total = loop
            time, last, ends, observation = note(jnp, time, last, action)
            return (time, last, total + observation.sum(axis=-1) + ends), None

        begin = jnp.zeros(batch, jnp.int32), jnp.full(batch, 38, jnp.int32), jnp.zeros(batch)
        return jax.lax.scan(step, begin, actions)[0]

    return measure.job(run, actions, units=actions.size)


def numpy_loop(batch: int) -> Job:
    """The same in a plain loop over NumPy arrays."""
    steps = max(1, min(2048, NOTES // 8 // batch))
    actions = np.random.default_rng(0).integers(0, 38, (steps, batch), np.int32)

    def run():
        time, last, total = np.zeros(batch, np.int32), np.full(batch, 38, np.int32), np.zeros(batch)
        for action in actions:
            time, last, ends, observation = note(np, time, last, action)
            total += observation.sum(axis=-1) + ends
        return total

    return Job(lambda: measure.seconds(run), actions.size)


def cartpole(batch: int) -> Job:
    """Steps of gymnax's CartPole."""
    import gymnax  # pyright: ignore[reportMissingImports]

    env, params = gymnax.make("CartPole-v1")
    return stepping(env, params, batch)


def environment(batch: int) -> Contest:
    """The slim environment without rules."""
    ours = stepping(*environments.make("rl_tuner"), batch)
    loop = {"NumPy loop": numpy_loop(batch)}
    return Contest(ours, by_hand(batch), loop, {"gymnax CartPole": lambda: cartpole(batch)})


def theory_environment(batch: int) -> Contest:
    """The environment that all nine rules reward."""
    return Contest(scanning(*environments.make("theory"), batch))


def polyphonic_environment(batch: int) -> Contest:
    """The environment of four voices that all rules of harmony reward, beside the one of a single voice."""
    config = harmony.Config(frames=LENGTH // 4)
    ours = scanning(*environments.make("polyphonic", config=config), batch)
    return Contest(ours, peers={"theory": scanning(*environments.make("theory"), batch)})


def chorales(pieces: int, quarters: int) -> Contest:
    """Pieces of four voices, composed by the network of the stage "chorales" decision by decision."""
    settings = chorales_stage.Settings()
    composer = chorales_stage.composer_of(settings)
    state = polyphonic_prior.init(
        jax.random.key(0), settings.learner, chorales_stage.alphabet_of(settings).size
    )
    steps = quarters * settings.learner.steps_per_quarter * composer.voices
    write = lambda params, key: rollout.compose(composer, params, key, pieces, steps).action
    return Contest(measure.job(write, state.average, jax.random.key(1), units=pieces * steps))


def rules(melodies: int, steps: int) -> Contest:
    """All nine rules' opinions of given melodies, beside Magenta's of a few of them."""
    tokens = jax.random.randint(jax.random.key(0), (melodies, steps), 0, 38)
    piece = theory.Config(length=steps)
    moved = 4 * (1 + len(theory.RULES)) * tokens.size  # the notes and the rewards: melodies stay in the cache
    job = measure.job(lambda rows: theory.score(rows, piece), tokens, units=tokens.size, bytes=moved)

    def peer() -> Job:
        from benchmarks import magenta_peer

        return magenta_peer.rules(np.asarray(tokens[: max(1, 1024 // steps)]))

    return Contest(job, optional={"Magenta rules": peer})


def composer_rollout(body: str, melodies: int, steps: int) -> Contest:
    """A composer of 128 units a layer, one of LSTM cells or three of attention, that writes melodies."""
    composer = Composer(38, body, 128, 1 if body == "lstm" else 3)
    blank = jnp.zeros((1, 1), jnp.int32)
    params = jax.jit(composer.init)(jax.random.key(0), blank, blank)

    def write(params, key):
        return rollout.compose(composer, params, key, melodies, steps)[1:3]

    job = measure.job(
        write,
        params,
        jax.random.key(1),
        units=melodies * steps,
        operations=melodies * operations.compose(composer, steps),
        bytes=operations.composing(composer, params, melodies, steps),
    )
    return Contest(job)
