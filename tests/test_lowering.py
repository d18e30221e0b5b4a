"""Programs lowered for chips that are not there, without their plugins."""

import re

import jax
import jax.numpy as jnp
import pytest

from mammadai_jax import environments
from mammadai_jax.learning import rollout
from tests.agents.learners import ATTENTIVE, LEARNERS

DOUBLE = re.compile(r"\bf64\b|xf64\b")
HOST = re.compile(r"callback|infeed|outfeed|stablehlo\.(?:send|recv)\b")
ENVIRONMENT, PARAMS = environments.make("theory")  # all nine rules reward it


def learner_step(name):
    """An update, and its abstract arguments."""
    learner = LEARNERS[name]
    state = jax.eval_shape(lambda: learner.init(jax.random.key(0), learner.config))
    return lambda state, data: learner.step(state, learner.config, data), (state, learner.data)


def generation():
    """Melodies that a Transformer writes."""
    blank = jnp.zeros((1, 1), jnp.int32)
    params = jax.eval_shape(lambda: ATTENTIVE.init(jax.random.key(0), blank, blank))
    key = jax.eval_shape(lambda: jax.random.key(0))
    return lambda params, key: rollout.compose(ATTENTIVE, params, key, 2, 8).action, (params, key)


def rewarded_notes():
    """Notes in environments with rules, after automatic resets too."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    actions = jax.ShapeDtypeStruct((40, 2), jnp.int32)

    def play(keys, actions):
        step = jax.vmap(ENVIRONMENT.step, (0, 0, 0, None))
        state = jax.vmap(ENVIRONMENT.reset, (0, None))(keys, PARAMS)[1]
        note = lambda state, action: step(keys, state, action, PARAMS)[1:3]
        return jax.lax.scan(note, state, actions)

    return play, (keys, actions)


PROGRAMS = {
    **{name: lambda name=name: learner_step(name) for name in ("gail", "projection", "preference_ppo")},
    "generation": generation,
    "environment": rewarded_notes,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_lowered_without_doubles_or_the_host(name):
    """For platforms of which this machine needs neither a device nor a plugin."""
    function, arguments = PROGRAMS[name]()
    program = jax.export.export(jax.jit(function), platforms=["tpu", "cuda"])(*arguments)
    assert program.platforms == ("tpu", "cuda")
    text = program.mlir_module()
    assert "stablehlo" in text and not DOUBLE.findall(text) and not HOST.findall(text)


def test_doubles_and_the_host_are_seen_in_a_text():
    ask = lambda x: jax.pure_callback(lambda x: x, x, x)
    assert HOST.findall(jax.jit(ask).lower(jnp.zeros(2)).as_text())
    with jax.enable_x64(True):
        assert DOUBLE.findall(jax.jit(jnp.sin).lower(jnp.zeros(2, jnp.float64)).as_text())
