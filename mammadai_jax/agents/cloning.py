# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Behaviour cloning, GAIL's baseline and warm start: maximum likelihood on demonstrations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from mammadai_jax.environments import Environment
from mammadai_jax.fields import MAX_WIDTH, static, traced
from mammadai_jax.learning import collectives, optimisers
from mammadai_jax.networks.mlp import ActorCritic


@struct.dataclass
class Demonstrations:
    """An expert's observations and actions, melody after melody.

    Attributes:
        observation: float32 (N, D).
        action: int32 (N,).
        step: int32 (N,), the place of each note in its melody; needed where several notes are seen.

    """

    observation: jax.Array
    action: jax.Array
    step: Any = None


@struct.dataclass
class Config:
    """Settings of behaviour cloning.

    Attributes:
        hidden: units of each hidden layer.
        batch_size: examples in a minibatch; here notes.
        learning_rate: step size of the optimiser.
        weight_decay: coefficient of AdamW's weight decay.

    """

    hidden: tuple[int, ...] = static((64, 64), low=1, high=MAX_WIDTH)
    batch_size: int = static(256, low=1)
    learning_rate: float = traced(1e-3, low=0)
    weight_decay: float = traced(1e-4, low=0)


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the network.
        opt_state: of the optimiser.
        update: int32, number of updates made.
        key: of the next update.

    """

    params: Any
    opt_state: Any
    update: jax.Array
    key: jax.Array = collectives.own()


def demonstrate(env: Any, env_params: Any, pieces: np.ndarray, melodies: np.ndarray) -> Demonstrations:
    """Observations of an expert who plays melodies in an `accompanied` environment.

    Args:
        env: the environment.
        env_params: its params.
        pieces: int (M,), the number of the accompaniment of each melody.
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
    """A new policy for an environment; its value is not trained."""
    key, key_params = jax.random.split(key)
    params = ActorCritic(env.num_actions, config.hidden).init(key_params, jnp.zeros(env.observation_size))
    return State(params=params, opt_state=optimiser(config).init(params), update=jnp.int32(0), key=key)


def step(
    state: State,
    config: Config,
    actor: ActorCritic,
    demos: Demonstrations,
    *,
    loss: Callable[..., jax.Array] = optax.losses.softmax_cross_entropy_with_integer_labels,
) -> tuple[State, dict[str, jax.Array]]:
    """One minibatch. Metrics: `nats`, the loss of a note; `accuracy` of the most likely notes.

    `loss` is (logits (B, A), actions int32 (B,)) -> float32 (B,).
    """
    key, key_batch = jax.random.split(state.key)
    rows = jax.random.randint(key_batch, (config.batch_size,), 0, demos.action.shape[0])
    observation, action = demos.observation[rows], demos.action[rows]

    def mean_loss(params):
        logits = actor.apply(params, observation).logits
        return loss(logits, action).mean(), (logits.argmax(axis=-1) == action).mean()

    (nats, accuracy), gradient = collectives.value_and_grad(mean_loss)(state.params)
    params, opt_state = optimisers.step(optimiser(config), state.params, state.opt_state, gradient=gradient)
    return State(params, opt_state, state.update + 1, key), {"nats": nats, "accuracy": accuracy}
