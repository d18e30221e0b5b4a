# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# (flax declares that apply returns a tuple and adds constructors)
"""RL Tuner (Jaques et al. 2017): a prior tuned by music theory, by Q-, Psi- or G-learning.

A network that starts as the prior learns action values of the rules' rewards, on a leash to the prior, which
stays as it is. The equations are in backup.py. In one `step` melodies are played from their start to their
end, and minibatches of them are learned from, in one of three ways, the first two by way of a replay buffer:

* "melodies": the network reads whole melodies and regresses on lambda-returns that end with the last note;
* "transitions": single notes with the recurrent states that were stored with them, one-step targets, and a
  bootstrap beyond the last note, as in the released program (magenta/models/rl_tuner). See PAPER;
* "wholes": what Psi-learning aims at is projected on the network: whole melodies, each weighed by its score,
  are learned by likelihood. See projection.py and MODERN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.agents.tuner import projection
from mammadai_jax.agents.tuner.config import LONG, MODERN, PAPER, Config, Network
from mammadai_jax.agents.tuner.losses import items, melody_loss, of, transition_loss
from mammadai_jax.agents.tuner.rollout import Played, play
from mammadai_jax.learning import collectives
from mammadai_jax.learning.adam import scale_by_adam
from mammadai_jax.music import theory
from mammadai_jax.objectives.soft_backups import Algorithm

__all__ = [
    "LONG",
    "MODERN",
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


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the network; target: of the target network; prior: of the prior.
        opt_state: of the optimiser.
        notes: int32, how many were played.
        update: int32, how many updates were made.
        replay: flashbax's buffer, () for wholes.
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
    """Adam behind a clip of each parameter array's gradient norm."""

    def rate(minibatches):
        done = minibatches / jnp.maximum(1, config.lr_decay_steps * config.num_minibatches)
        return config.learning_rate * jnp.where(
            config.lr_decay_steps > 0, jnp.clip(2.0 - 2.0 * done, 0.0, 1.0), 1.0
        )

    def clip(gradient):
        # rows are summed by a product, which is faster than XLA's reduction on a CPU
        norm = jnp.sqrt((jnp.square(gradient) @ jnp.ones(gradient.shape[-1])).sum())
        return gradient * jnp.minimum(1.0, config.max_grad_norm_per_array / jnp.maximum(norm, 1e-12))

    clipped = optax.stateless(lambda updates, _: jax.tree.map(clip, updates))
    adam = optax.chain(scale_by_adam(), optax.scale_by_learning_rate(rate))
    return optax.chain(clipped, adam)


def buffer(config: Config) -> Any:
    """Replay of the newest `capacity` items, sampled uniformly, `batch` at a time."""
    import flashbax  # slow to import

    return flashbax.make_item_buffer(config.buffer_size, 1, config.batch_size, add_batches=True)


def init(
    key: jax.Array,
    config: Config,
    network: Network,
    prior: Any,
    piece: theory.Config,
    rules: Mapping[str, theory.Rule] = theory.RULES,
) -> State:
    """A learner that starts as the prior.

    Args:
        key: of all that is drawn from here on.
        config: see Config.
        network: of the prior and of the tuner.
        prior: its parameters.
        piece: what is composed, see theory.Config.
        rules: by name.

    Raises:
        ValueError: if the replay buffer cannot hold what an update plays, or a batch.

    """
    copy = lambda tree: jax.tree.map(jnp.copy, tree)
    played = lambda key: items(_play(prior, prior, config, network, piece, key, 0.0, rules), config)
    return State(
        params=copy(prior),
        target=copy(prior),
        prior=copy(prior),
        opt_state=optimiser(config).init(_learned(config, prior, prior)),
        replay=() if config.learns_from == "wholes" else _empty(config, jax.eval_shape(played, key)),
        notes=jnp.int32(0),
        update=jnp.int32(0),
        key=key,
    )


def _empty(config: Config, shapes: Any) -> Any:
    """A buffer for what an update plays, of such shapes; ValueError if it cannot hold it, or a batch."""
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
    piece: theory.Config,
    rules: Mapping[str, theory.Rule] = theory.RULES,
) -> tuple[State, dict[str, jax.Array]]:
    """One update: play, remember, learn; arguments as for `init`.

    Metrics: `theory`, the rules' mean reward a note, weighted, and each rule's own by its name; `log_prior`,
    the notes' mean log-probability under the prior; `entropy`, -log pi of what was played; `loss`.
    """
    key, key_play, key_sample = jax.random.split(state.key, 3)
    falling = jnp.maximum(0.0, config.epsilon_decay - state.notes) / jnp.maximum(1, config.epsilon_decay)
    epsilon = config.epsilon + (1.0 - config.epsilon) * falling
    config = _settled(config, state.update)
    played = collectives.each(
        _play, state.params, state.prior, config, network, piece, key_play, epsilon, rules
    )
    if config.learns_from == "wholes":
        replay, melodies = state.replay, projection.weigh(state.params, played, config, network)
        batches = projection.minibatches(key_sample, melodies, config)
    else:
        replay = buffer(config).add(state.replay, items(played, config))
        # all are drawn here, after the write and outside of the scan: within it the buffer would be copied
        sample = lambda key: buffer(config).sample(replay, key).experience
        batches = jax.vmap(sample)(jax.random.split(key_sample, config.num_minibatches))
    (learned, target, opt_state), loss = jax.lax.scan(
        lambda loop, batch: _learn(loop, batch, config, network),
        (_learned(config, state.params, state.prior), state.target, state.opt_state),
        batches,
    )
    state = State(
        params=learned["network"],
        target=target,
        prior=learned.get("prior", state.prior),
        opt_state=opt_state,
        replay=replay,
        notes=state.notes + collectives.count() * config.num_envs * piece.length,
        update=state.update + 1,
        key=key,
    )
    return state, {**collectives.each(_heard, played, piece.length), "loss": loss.mean()}


def _settled(config: Config, update: jax.Array) -> Config:
    """The config with the rules' weights and the copying of an update."""
    settling = update < config.warmup_steps
    late = {name: config.rule_weights.get(name, 1.0) for name in config.warmup_rule_weights}
    early = {
        name: jnp.where(settling, weight, late[name]) for name, weight in config.warmup_rule_weights.items()
    }
    copying = jnp.where(settling, config.copy_prob, 0.0)
    return config.replace(rule_weights={**config.rule_weights, **early}, copy_prob=copying)


def _play(params, prior, config, network, piece, key, epsilon, rules) -> Played:
    # transitions need what is known after the last note: one step more, of which the note is not kept
    steps = piece.length + (config.learns_from == "transitions")
    return play(params, prior, config, network, piece, key, epsilon, rules, steps)


def _learned(config: Config, params: Any, prior: Any) -> dict[str, Any]:
    return {"network": params, "prior": prior} if config.drifting_prior else {"network": params}


def _learn(loop, batch, config, network):
    """A minibatch's update of what is learned, and the target network a little nearer to it."""
    learned, target, opt_state = loop
    gradient_of = collectives.value_and_grad(LOSSES[config.learns_from], has_aux=False)
    loss, gradient = gradient_of(learned, target, config, network, batch)
    updates, opt_state = optimiser(config).update(gradient, opt_state, learned)
    learned = optax.apply_updates(learned, updates)
    target = optax.incremental_update(learned["network"], target, config.tau)
    return (learned, target, opt_state), loss


def _heard(played: Played, length: int) -> dict[str, jax.Array]:
    """Metrics of what was played."""
    mean = lambda x: x[:length].mean()
    log_prior = of(played.log_prior, played.action)
    rules = {name: mean(reward) for name, reward in played.rules.items()}
    heard = {"theory": mean(played.theory), "log_prior": mean(log_prior), "entropy": -mean(played.log_prob)}
    return {**heard, **rules}


LOSSES = {
    "melodies": melody_loss,
    "transitions": transition_loss,
    "wholes": projection.weighed_loss,
}
