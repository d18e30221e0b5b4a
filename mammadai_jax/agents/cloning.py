# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Behaviour cloning: a policy fitted to demonstrations by maximum likelihood.

It is GAIL's baseline and warm start.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from mammadai_jax.environments import Environment
from mammadai_jax.learning import collectives
from mammadai_jax.networks.mlp import ActorCritic

static = functools.partial(struct.field, pytree_node=False)


@struct.dataclass
class Demonstrations:
    """What an expert saw and played, melody after melody.

    Attributes:
        observation: float32 (N, D).
        action: int32 (N,).
        step: int32 (N,), the place of each note in its melody; needed by those who look at several notes.
    """

    observation: jax.Array
    action: jax.Array
    step: Any = None


@struct.dataclass
class Config:
    """How the policy is fitted.

    Attributes:
        hidden: units of each hidden layer (static); batch_size: notes a minibatch (static).
        learning_rate: of Adam; weight_decay: of AdamW.

    """

    hidden: tuple[int, ...] = static(default=(64, 64))
    batch_size: int = static(default=256)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4


@struct.dataclass
class State:
    """Everything that must survive a crash: `params`, `opt_state`, the `update` count and the `key`."""

    params: Any
    opt_state: Any
    update: jax.Array
    key: jax.Array = collectives.own()


def demonstrate(env: Any, env_params: Any, pieces: np.ndarray, melodies: np.ndarray) -> Demonstrations:
    """Play given melodies in an `accompanied` environment.

    Args:
        env: the environment.
        env_params: its params.
        pieces: int (M,), which accompaniment each melody is played over.
        melodies: tokens int (M, T).

    Returns:
        Demonstrations of M * T notes, melody after melody.

    """

    def one(piece, melody):
        def note(state, action):
            return env.advance(state, action, env_params), env.observe(state, env_params)

        return jax.lax.scan(note, env.begin(piece), melody)[1]

    actions = jnp.asarray(melodies, jnp.int32)
    observation = jax.vmap(one)(jnp.asarray(pieces, jnp.int32), actions)
    steps = jnp.broadcast_to(jnp.arange(actions.shape[1]), actions.shape)
    return Demonstrations(
        observation.reshape(-1, observation.shape[-1]), actions.reshape(-1), steps.reshape(-1)
    )


def optimiser(config: Config) -> optax.GradientTransformation:
    """AdamW."""
    return optax.adamw(config.learning_rate, weight_decay=config.weight_decay)


def init(key: jax.Array, config: Config, env: Environment) -> State:
    """A fresh policy (and value, left as it is) for an environment."""
    key, key_params = jax.random.split(key)
    params = ActorCritic(env.num_actions, config.hidden).init(key_params, jnp.zeros(env.observation_size))
    return State(params=params, opt_state=optimiser(config).init(params), update=jnp.int32(0), key=key)


def step(
    state: State, config: Config, actor: ActorCritic, demos: Demonstrations
) -> tuple[State, dict[str, jax.Array]]:
    """One minibatch. Metrics: nats a note, accuracy."""
    key, key_batch = jax.random.split(state.key)
    chosen = jax.random.randint(key_batch, (config.batch_size,), 0, demos.action.shape[0])
    observation, action = demos.observation[chosen], demos.action[chosen]

    def loss(params):
        logits = actor.apply(params, observation).logits
        nats = optax.losses.softmax_cross_entropy_with_integer_labels(logits, action).mean()
        return nats, (logits.argmax(axis=-1) == action).mean()

    (nats, accuracy), gradient = collectives.value_and_grad(loss)(state.params)
    updates, opt_state = optimiser(config).update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(params, opt_state, state.update + 1, key), {"nats": nats, "accuracy": accuracy}
