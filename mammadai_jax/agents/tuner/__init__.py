# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# (flax declares that apply returns a tuple and adds constructors)
"""RL Tuner (Jaques et al. 2017): a prior tuned by music theory, by Q-, Psi- or G-learning.

A network that starts as the prior learns action values of the rules' rewards, with a KL penalty to the prior,
whose parameters stay fixed. The equations are in objectives/soft_backups.py. `step` plays whole melodies,
puts them into a replay buffer, and learns from minibatches of it, in one of two ways:

* "melodies": the network reads whole melodies and regresses on lambda-returns that end with the last note;
* "transitions": single notes with the recurrent states that were stored with them, one-step targets, and a
  bootstrap beyond the last note, as in the released program (magenta/models/rl_tuner). See PAPER.

agents/projection.py reaches the same optimum as Psi-learning without action values.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.agents.tuner.config import PAPER, Config, Network
from mammadai_jax.agents.tuner.losses import items, melody_loss, pick, transition_loss
from mammadai_jax.agents.tuner.rollout import Played, play
from mammadai_jax.environments import Piece, by_rules
from mammadai_jax.learning import collectives, optimisers
from mammadai_jax.learning.adam import clipped_adam
from mammadai_jax.objectives.soft_backups import Algorithm

__all__ = [
    "PAPER",
    "Algorithm",
    "Config",
    "Network",
    "Played",
    "State",
    "init",
    "play",
    "step",
]


LOSSES = {"melodies": melody_loss, "transitions": transition_loss}


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the network.
        target: of the target network, the Polyak average of `params`.
        prior: parameters of the prior.
        opt_state: of the optimiser.
        notes: int32, number of notes played.
        update: int32, number of updates made.
        replay: flashbax's buffer.
        key: of the next update.

    """

    params: Any
    target: Any
    prior: Any
    opt_state: Any
    notes: jax.Array
    update: jax.Array
    replay: Any = collectives.own()
    key: jax.Array = collectives.own()


def optimiser(config: Config) -> optax.GradientTransformation:
    """Adam behind a clip of each parameter array's gradient norm, see clipped_adam."""
    steps = config.lr_decay_steps * config.num_minibatches
    return clipped_adam(config.learning_rate, config.max_grad_norm_per_array, steps)


def buffer(config: Config) -> Any:
    """Replay of the newest `buffer_size` items, sampled uniformly, `batch_size` at a time."""
    import flashbax  # slow to import

    return flashbax.make_item_buffer(config.buffer_size, 1, config.batch_size, add_batches=True)


def init(
    key: jax.Array,
    config: Config,
    network: Network,
    prior: Any,
    piece: Piece,
    rules: Mapping[str, Any] | None = None,
) -> State:
    """A learner that starts as the prior.

    Args:
        key: of all that is drawn from here on.
        config: see Config.
        network: of the prior and of the tuner.
        prior: its parameters.
        piece: what is composed, see theory.Config and, for several voices, harmony.Config.
        rules: rewards by name; those of music/theory or music/harmony by default.

    Raises:
        ValueError: if the replay buffer cannot hold what an update plays, or a batch, or for a weight that
            belongs to no rule.

    """
    copy = lambda tree: jax.tree.map(jnp.copy, tree)
    env = by_rules(piece, config.rule_weights, rules)
    new_items = lambda key: items(_play(prior, prior, config, network, env, key=key, epsilon=0.0), config)
    return State(
        params=copy(prior),
        target=copy(prior),
        prior=copy(prior),
        opt_state=optimiser(config).init(_trained(config, prior, prior)),
        notes=jnp.int32(0),
        update=jnp.int32(0),
        replay=_empty(config, jax.eval_shape(new_items, key)),
        key=key,
    )


def _empty(config: Config, shapes: Any) -> Any:
    """A buffer for an update's items of such shapes; ValueError if it cannot hold them, or a batch."""
    count = shapes.action.shape[0]
    if config.buffer_size < max(count, config.batch_size):
        raise ValueError(
            f"a buffer_size of {config.buffer_size} {config.learns_from} is less than the {count} that an "
            f"update plays or a batch_size of {config.batch_size}: raise it, or lower num_envs or batch_size"
        )
    empty = buffer(config).init(jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), shapes))
    # flashbax's counters are weakly typed: a restored state, whose are not, would be traced again
    return jax.tree.map(lambda x: jnp.asarray(x, x.dtype), empty)


def step(
    state: State,
    config: Config,
    network: Network,
    piece: Piece,
    rules: Mapping[str, Any] | None = None,
) -> tuple[State, dict[str, jax.Array]]:
    """One update: play, remember, learn; arguments as for `init`.

    Metrics: `theory`, the rules' mean weighted reward of a note, and each rule's unweighted one by its name;
    `log_prior`, the notes' mean log-probability under the prior; `entropy`, minus that under the policy that
    played them; `loss`.
    """
    key, key_play, key_sample = jax.random.split(state.key, 3)
    env = by_rules(piece, config.rule_weights, rules)
    own = functools.partial(_play, key=key_play, epsilon=epsilon_at(config, state.notes))
    played = collectives.each(own, state.params, state.prior, config, network, env)
    replay = buffer(config).add(state.replay, items(played, config))
    # all are drawn here, after the write and outside of the scan: within it the buffer would be copied
    sample = lambda key: buffer(config).sample(replay, key).experience
    batches = jax.vmap(sample)(jax.random.split(key_sample, config.num_minibatches))
    (trained, target, opt_state), loss = jax.lax.scan(
        lambda carry, batch: _minibatch_step(carry, batch, config, network),
        (_trained(config, state.params, state.prior), state.target, state.opt_state),
        batches,
    )
    state = State(
        params=trained["network"],
        target=target,
        prior=trained.get("prior", state.prior),
        opt_state=opt_state,
        notes=state.notes + collectives.count() * config.num_envs * piece.length,
        update=state.update + 1,
        replay=replay,
        key=key,
    )
    return state, {**collectives.each(summary, played, piece.length), "loss": loss.mean()}


def epsilon_at(config: Config, notes: jax.Array) -> jax.Array:
    """Probability () of a random note after `notes` () notes."""
    chex.assert_rank(notes, 0)
    left = jnp.maximum(0.0, config.epsilon_decay - notes) / jnp.maximum(1, config.epsilon_decay)
    return config.epsilon + (1.0 - config.epsilon) * left


def _play(params, prior, config, network, env, *, key, epsilon) -> Played:
    # a transition needs log p and the carries after its note: one step more, of which the note is not kept
    steps = env.config.length + (config.learns_from == "transitions")
    return play(params, prior, config, network, env, key, epsilon=epsilon, num_steps=steps)


def _trained(config: Config, params: Any, prior: Any) -> dict[str, Any]:
    """The parameters that receive gradients."""
    return {"network": params, "prior": prior} if config.drifting_prior else {"network": params}


def _minibatch_step(carry, batch, config, network):
    """A gradient step on a minibatch and a step of the target network towards the new parameters."""
    trained, target, opt_state = carry
    gradient_of = collectives.value_and_grad(LOSSES[config.learns_from], has_aux=False)
    loss, gradient = gradient_of(trained, target, config, network, batch)
    trained, opt_state = optimisers.step(optimiser(config), trained, opt_state, gradient=gradient)
    target = optax.incremental_update(trained["network"], target, config.tau)
    return (trained, target, opt_state), loss


def summary(played: Played, length: int) -> dict[str, jax.Array]:
    """Metrics () of the first `length` steps of played melodies (T, B), see `step`."""
    log_prior = pick(played.log_prior, played.action)
    means = {"theory": played.theory, "log_prior": log_prior, "entropy": -played.log_prob, **played.rules}
    return {name: x[:length].mean() for name, x in means.items()}
