# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
# (flax adds `replace` and the constructors of its dataclasses)
"""Programs to compile for chips that are not there: the quick workloads', and the learners that have none."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import measure, preference, workloads
from benchmarks.measure import Program
from mammadai_jax import environments
from mammadai_jax.agents import (
    cloning,
    dpo,
    dqn,
    embedding,
    polyphonic_prior,
    ppo,
    prior,
    prompted,
    quality,
    reward_model,
)
from mammadai_jax.music.notes import MAGENTA

NOTES, ROWS = preference.NOTES, 1024  # steps of an excerpt, and excerpts that a learner has
COMPOSER = preference.composer_of(128)


def programs() -> dict[str, Callable[[], Program]]:
    """All programs by name, a family, a slash, and its batch by steps."""
    quick = [workload for workload in workloads.workloads() if workload.quick]
    measured = {w.name: functools.partial(program_of, w.make) for w in quick}
    return {**{name: make for name, make in measured.items() if "-bfloat16" not in name}, **unmeasured()}


def program_of(make: Callable[[], measure.Contest]) -> Program:
    """The program of a contest's own job."""
    with measure.described() as found:
        make()
    return found[0]


def unmeasured() -> dict[str, Callable[[], Program]]:
    """Learners without a workload, with their default settings."""
    polyphonic = polyphonic_prior.Config()
    shape = lambda config, steps: f"{config.batch_size}x{steps}"
    return {
        f"prompted/{shape(prompted.Config(), NOTES)}": lambda: of_prompts(prompted.Config()),
        f"cloning/{cloning.Config().batch_size}": lambda: of_demonstrations(cloning.Config()),
        "ppo-theory/64x32": lambda: of_rules(ppo, ppo.Config(num_envs=64, num_steps=32)),
        "dqn-theory/64x4": lambda: of_rules(dqn, dqn.Config(num_envs=64)),
        f"embedding/{shape(embedding.Config(), NOTES)}": lambda: of_captions(embedding.Config()),
        f"quality/{shape(quality.Config(), NOTES)}": lambda: of_opinions(quality.Config()),
        f"dpo/{2 * dpo.Config().batch_size}x{NOTES}": lambda: of_pairs(dpo.Config()),
        f"prior-polyphonic/{shape(polyphonic, polyphonic.sequence_length)}": lambda: prior_of_voices(
            polyphonic
        ),
    }


def learner(begin: Callable[[], Any], step: Callable, data: Any, units: float) -> Program:
    """The program of an update, of an abstract state."""
    return Program(lambda state, data: step(state, data)[0], (jax.eval_shape(begin), data), units, True)


def ints(*shape: int) -> Any:
    """Whole numbers that are not there."""
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def flags(*shape: int) -> Any:
    """Truth values that are not there."""
    return jax.ShapeDtypeStruct(shape, bool)


def floats(*shape: int) -> Any:
    """Numbers that are not there."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def prior_of_voices(config: polyphonic_prior.Config) -> Program:
    """Windows of pieces of several voices."""
    notes = 64 * config.sequence_length * config.voices
    data = prior.Stream(*[ints(notes)] * 4)
    size = MAGENTA.size
    begin = lambda: polyphonic_prior.init(jax.random.key(0), config, size)
    step = lambda state, data: polyphonic_prior.step(state, config, data, size)
    return learner(begin, step, data, config.batch_size * config.sequence_length)


def of_prompts(config: prompted.Config) -> Program:
    """Excerpts, each with a prompt."""
    width, size = embedding.EMBEDDING_DIM, MAGENTA.size
    data = prompted.Excerpts(ints(ROWS, NOTES), floats(ROWS, width), flags(ROWS))
    begin = lambda: prompted.init(jax.random.key(0), config, size, width)
    step = lambda state, data: prompted.step(state, config, data, size)
    return learner(begin, step, data, config.batch_size * NOTES)


def of_demonstrations(config: cloning.Config) -> Program:
    """Notes that were demonstrated, beside what was seen."""
    env, _ = environments.make("accompanied")
    seen = floats(ROWS, env.observation_size)
    data = cloning.Demonstrations(observation=seen, action=ints(ROWS), step=ints(ROWS))
    network = ppo.make_network(ppo.Config(hidden=config.hidden), env)
    begin = lambda: cloning.init(jax.random.key(0), config, env)
    return learner(begin, lambda s, data: cloning.step(s, config, network, data), data, config.batch_size)


def of_rules(agent: Any, config: Any) -> Program:
    """Notes played in environments that all nine rules reward."""
    env, params = environments.make("theory")
    begin = lambda: agent.init(jax.random.key(0), config, env, params)
    step = lambda state, params: agent.step(state, config, env, params)
    return learner(begin, step, params, config.num_envs * config.num_steps)


def of_captions(config: embedding.Config) -> Program:
    """Excerpts and four captions of each, of 48 words."""
    data = embedding.Data(tokens=ints(ROWS, NOTES), captions=ints(ROWS, 4, 48, 9), group=ints(ROWS))
    one = jax.tree.map(lambda x: jnp.zeros((1, *x.shape[1:]), x.dtype), data)
    begin = lambda: embedding.init(jax.random.key(0), config, one)
    step = lambda state, data: embedding.step(state, config, data)
    return learner(begin, step, data, config.batch_size * NOTES)


def of_opinions(config: quality.Config) -> Program:
    """Excerpts and what was thought of them."""
    data = quality.Excerpts(tokens=ints(ROWS, NOTES), target=floats(ROWS))
    begin = lambda: quality.init(jax.random.key(0), config, COMPOSER)
    step = lambda state, data: quality.step(state, config, COMPOSER, data)
    return learner(begin, step, data, config.batch_size * NOTES)


def of_pairs(config: dpo.Config) -> Program:
    """Choices between melodies, of which a composer learns directly."""
    width, melodies = embedding.EMBEDDING_DIM, ints(ROWS, NOTES)
    data = reward_model.Pairs(floats(ROWS, width), melodies, melodies, ints(ROWS))

    def begin():
        blank = jnp.zeros((1, 1), jnp.int32)
        params = COMPOSER.init(jax.random.key(0), blank, blank, jnp.zeros((1, width)))
        return dpo.init(jax.random.key(0), config, params)

    step = lambda state, data: dpo.step(state, config, COMPOSER, data)
    return learner(begin, step, data, 2 * config.batch_size * NOTES)
