# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
# (flax adds `replace` and the constructors of its dataclasses)
"""What learns: one update of each learner, with its own settings, on made-up data."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure, operations
from benchmarks.measure import Contest, Job
from benchmarks.operations import ADAM, LEARNING
from mammadai_jax import environments
from mammadai_jax.agents import cloning, gail, prior, projection, reward_model, tuner
from mammadai_jax.learning import likelihood
from mammadai_jax.music import theory
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.note_rnn import NoteRNN


def composer_prior(config: prior.Config, dtype: Any = jnp.float32) -> Contest:
    """An update of the prior: windows of random notes; `dtype` of the matrix products."""
    network = prior.make_composer(config, MAGENTA.size).clone(dtype=dtype)
    random = np.random.default_rng(0)
    melodies = [
        random.integers(0, MAGENTA.size, config.sequence_length) for _ in range(2 * config.batch_size)
    ]
    data = prior.stream(melodies, MAGENTA.size)

    def step(state, data):
        key, key_windows, key_dropout = jax.random.split(state.key, 3)
        rows = prior.windows(key_windows, data, config.batch_size, config.sequence_length)
        loss = lambda params, rows, key: prior.negative_log_likelihood(network, params, rows, key).mean()
        keys = {"key_dropout": key_dropout, "key": key}
        return likelihood.minibatch_step(state, config, loss, rows=rows, axis=1, **keys)[0]

    state = jax.jit(lambda key: prior.init(key, config, MAGENTA.size))(jax.random.key(0))
    job = measure.job(
        step,
        state,
        data,
        updates=True,
        units=config.batch_size * config.sequence_length,
        operations=config.batch_size
        * LEARNING
        * operations.read(network, config.sequence_length, head=operations.heads(network, value=False)),
        bytes=ADAM * operations.size(state.params),
    )
    return Contest(job if dtype == jnp.float32 else job._replace(products=measure.BFLOAT16))


def imitation(config: gail.Config) -> Contest:
    """An update of GAIL over the embedded accompaniments, beside the library imitation's."""
    env, params = environments.make("accompanied")
    notes = config.ppo.num_envs * config.ppo.num_steps
    random = np.random.default_rng(0)
    played = random.integers(0, env.num_actions, (10, config.ppo.num_steps))
    demos = cloning.demonstrate(env, params, np.arange(10) % 5, played)
    state = jax.jit(lambda key: gail.init(key, config, env))(jax.random.key(0))
    job = measure.job(
        lambda state, params, demos: gail.step(state, config, env, params, demos)[0],
        state,
        params,
        demos,
        updates=True,
        units=notes,
        operations=gail_operations(config, env),
        bytes=ADAM * config.ppo.num_epochs * config.ppo.num_minibatches * operations.size(state.policy.params)
        + ADAM * config.disc_updates * operations.size(state.discriminator),
    )

    def peer() -> Job:
        from benchmarks import imitation_peer

        return imitation_peer.update(config, np.asarray(params.backing), env.num_actions, demos)

    return Contest(job, optional={"imitation GAIL": peer})


def gail_operations(config: gail.Config, env: environments.Environment) -> float:
    """Playing, the first policy's opinion and the discriminator's, values, and all that is learned."""
    notes = config.ppo.num_envs * config.ppo.num_steps
    policy = env.observation_size, *config.ppo.hidden, env.num_actions
    value = *policy[:-1], 1
    told = env.num_actions + (config.context_length - 1) * (2 * gail.WIDEST + 4)
    disc_layers = env.observation_size + told, *config.hidden, 1
    mlp = operations.mlp
    improved = mlp(*policy, learning=True) + mlp(*value, learning=True)
    return notes * (
        2 * mlp(*policy) + mlp(*value) + mlp(*disc_layers) + config.ppo.num_epochs * improved
    ) + 2 * config.disc_updates * config.batch_size * mlp(*disc_layers, learning=True)


def note_rnn() -> tuple[NoteRNN, Any]:
    """A network of the published Note RNN's size with random parameters."""
    network, blank = NoteRNN(38), jnp.zeros((1, 1), jnp.int32)
    return network, jax.jit(network.init)(jax.random.key(0), blank, blank)


def rl_tuner(config: tuner.Config, network: NoteRNN, params: Any, updates: int = 1) -> Contest:
    """Updates of the tuner, rules included, that starts as a Note RNN with such parameters.

    Paper mode is measured against Magenta's program.
    """
    piece = theory.Config()
    state = jax.jit(lambda key: tuner.init(key, config, network, params, piece))(jax.random.key(1))
    one = lambda state, _: (tuner.step(state, config, network, piece)[0], None)
    job = measure.job(
        lambda state: jax.lax.scan(one, state, length=updates)[0],
        state,
        updates=True,
        units=updates * config.num_envs * piece.length,
        operations=updates * tuner_operations(config, network, piece.length),
        bytes=updates * config.num_minibatches * ADAM * operations.size(state.params),
    )

    def peer() -> Job:
        from benchmarks import magenta_peer

        return magenta_peer.learning(config, piece.length)

    published = config.learns_from == "transitions"
    return Contest(job, optional={"Magenta RL Tuner": peer} if published else {})


def projected(config: projection.Config, network: NoteRNN, params: Any) -> Contest:
    """An update of the projection, rules included, that starts as a Note RNN with such parameters."""
    piece = theory.Config()
    state = jax.jit(lambda key: projection.init(key, config, params))(jax.random.key(1))
    job = measure.job(
        lambda state: projection.step(state, config, network, piece)[0],
        state,
        updates=True,
        units=config.num_envs * piece.length,
        operations=projection_operations(config, network, piece.length),
        bytes=config.num_minibatches * ADAM * operations.size(state.params),
    )
    return Contest(job)


def tuner_operations(config: tuner.Config, network: NoteRNN, length: int) -> float:
    """Of an update: playing by network and prior, and minibatches, which the target network reads too."""
    single = config.learns_from == "transitions"
    body, logits = operations.body(network, 0), operations.heads(network, value=False)
    heads = operations.heads(network, value=not single)
    # no gradient goes into the notes, nor, from a single one, into the recurrent state before it
    halted = body if single else 2.0 * network.size * 4 * network.width
    trained = (LEARNING + 1) * (body + heads) - halted
    played = config.num_envs * (length + single) * 2 * (body + logits)
    return played + config.num_minibatches * config.batch_size * trained * (1 if single else length)


def projection_operations(config: projection.Config, network: NoteRNN, length: int) -> float:
    """Of an update: playing by network and prior, reading the melodies to weight them, and minibatches."""
    read = operations.body(network, 0) + operations.heads(network, value=False)
    trained = LEARNING * read - 2.0 * network.size * 4 * network.width  # no gradient goes into the notes
    return length * (config.num_envs * 3 * read + config.num_minibatches * config.batch_size * trained)


def reward_model_of_pairs(composer: Composer, config: reward_model.Config, steps: int) -> Contest:
    """An update of the reward model on pairs of random melodies for random prompts."""
    count, prompt = 8 * config.batch_size, 64
    keys = jax.random.split(jax.random.key(0), 4)
    a, b = (jax.random.randint(key, (count, steps), 0, composer.size) for key in keys[:2])
    choice = jax.random.randint(keys[2], (count,), -1, 2)
    data = reward_model.Pairs(jax.random.normal(keys[3], (count, prompt)), a, b, choice)
    state = jax.jit(lambda key: reward_model.init(key, config, composer, prompt))(jax.random.key(1))
    read = operations.read(composer, steps + 1, prompt, head=0.0)
    job = measure.job(
        lambda state, data: reward_model.step(state, config, composer, data)[0],
        state,
        data,
        updates=True,
        units=2 * config.batch_size * steps,
        operations=2 * config.batch_size * LEARNING * read,
        bytes=ADAM * operations.size(state.params.network),
    )
    return Contest(job)
