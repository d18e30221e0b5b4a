# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportArgumentType=false
# pyright: reportCallIssue=false
# (flax adds `replace` and constructors to its dataclasses, and declares that apply returns a tuple)
"""A prior tuned by music theory: KL-projection of the optimal policy on the network.

The KL-regularised optimum, which Psi-learning (agents/tuner) approaches note by note, is known in closed
form for whole melodies m, without discount, up to its constant Z (Jaques et al. 2017):

    pi*(m)  =  (p(m) exp(r(m) / c)) ** (1 / t) / Z

`step` samples melodies from the network's policy pi, weights each by (pi*(m) / pi(m)) ** (1 / eta),
self-normalised, and maximises their weighted log-likelihood. That is a step towards the policy of the network
that minimises KL(pi* || pi), as in distributional policy gradients (Khalifa et al. 2021), with the tempered
weights of REPS and MPO (Peters et al. 2010; Abdolmaleki et al. 2018). There is no value function and no
bootstrapping: a melody that is rewarded for its last note is learned as a whole.

A rule may have a target, the mean reward of a note that it is to give, instead of a fixed weight. The least
weights that reach all targets give the policy nearest to the prior that does (Jaynes 1957); they are found
while the policy is learned. `variety` keeps samples from drifting to relatives of what was good first
(Goldberg & Richardson 1987).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.agents.projection.config import LONG, SHORT, Config
from mammadai_jax.environments import MelodyState, Piece, Polyphonic, Theory, by_rules
from mammadai_jax.learning import collectives, optimisers, sequences
from mammadai_jax.learning.adam import clipped_adam
from mammadai_jax.learning.rollout import Policy, Trajectory, composer_policy, first_token, rollout
from mammadai_jax.music.variety import own_runs
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.note_rnn import NoteRNN
from mammadai_jax.networks.polyphonic import PolyphonicComposer
from mammadai_jax.objectives import distributions
from mammadai_jax.objectives.importance import tempered_weights

__all__ = ["LONG", "SHORT", "Config", "State", "init", "step"]

Network = Composer | PolyphonicComposer | NoteRNN
VARIETY = "variety"  # among the rules with targets: minus the share of runs that another melody has


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the network.
        average: Polyak average of `params`, which composes.
        prior: parameters of the prior, which stay as they are.
        opt_state: of the optimiser.
        rule_weights: float32 () by name, of the rules that have a target.
        update: int32, number of updates made.
        key: of the next update.

    """

    params: Any
    average: Any
    prior: Any
    opt_state: Any
    rule_weights: dict[str, jax.Array]
    update: jax.Array
    key: jax.Array = collectives.own()


class Rewards(NamedTuple):
    """Rewards of notes (T, B), float32: the rules' weighted sum, log p of the prior, each rule's by name."""

    theory: jax.Array
    log_prior: jax.Array
    rules: dict[str, jax.Array]


class Weighted(NamedTuple):
    """Melodies: previous_token and action int32 (N, T), importance weight float32 (N,) with mean 1."""

    previous_token: jax.Array
    action: jax.Array
    weight: jax.Array


def optimiser(config: Config) -> optax.GradientTransformation:
    """Adam behind a clip of each parameter array's gradient norm, see clipped_adam."""
    steps = config.lr_decay_steps * config.num_minibatches
    return clipped_adam(config.learning_rate, config.max_grad_norm_per_array, steps)


def init(key: jax.Array, config: Config, prior: Any) -> State:
    """A learner whose policy is the prior, given the prior's parameters."""
    copy = lambda: jax.tree.map(jnp.copy, prior)
    first = {**config.rule_weights, VARIETY: config.variety}
    weights = {name: jnp.float32(first.get(name, 1.0)) for name in config.rule_targets}
    return State(copy(), copy(), copy(), optimiser(config).init(prior), weights, jnp.int32(0), key)


def step(
    state: State,
    config: Config,
    network: Network,
    piece: Piece,
    rules: Mapping[str, Any] | None = None,
) -> tuple[State, dict[str, jax.Array]]:
    """One update: play, weight, fit.

    Args:
        state: see State.
        config: see Config.
        network: of the policy and of the prior.
        piece: what is composed, see theory.Config and, for several voices, harmony.Config.
        rules: rewards by name; those of music/theory or music/harmony by default.

    Returns:
        The state and metrics: `theory`, the rules' mean weighted reward of a note, and each rule's unweighted
        one by its name; `log_prior`, the notes' mean log-probability under the prior; `entropy`, minus that
        under the policy; `loss`, in nats a note; `variety`, if it has a target.

    Raises:
        ValueError: for a weight or a target that belongs to no rule.

    """
    key, key_play, key_batches = jax.random.split(state.key, 3)
    config = at_update(config, state.update)
    config = with_weights(config, state.rule_weights)
    env = by_rules(piece, config.rule_weights, rules)
    played = collectives.each(play, state.params, state.prior, config, network, env, key_play)
    shared = shared_runs(played, config)
    melodies = weigh(state.params, played, shared, config, network)

    def minibatch_step(carry, batch):
        params, average, opt_state = carry
        gradient_of = collectives.value_and_grad(loss, has_aux=False)
        nats, gradient = gradient_of(params, network, batch)
        params, opt_state = optimisers.step(optimiser(config), params, opt_state, gradient=gradient)
        return (params, optax.incremental_update(params, average, config.tau), opt_state), nats

    carry = state.params, state.average, state.opt_state
    (params, average, opt_state), nats = jax.lax.scan(
        minibatch_step, carry, minibatches(key_batches, melodies, config)
    )
    metrics = {**collectives.each(summary, played), "loss": nats.mean()}
    if VARIETY in config.rule_targets:
        metrics[VARIETY] = -shared.mean()
    weights = adapted(state.rule_weights, collectives.mean(metrics), config)
    return State(params, average, state.prior, opt_state, weights, state.update + 1, key), metrics


def adapted(
    weights: Mapping[str, jax.Array], rewards: Mapping[str, jax.Array], config: Config
) -> dict[str, jax.Array]:
    """The weights () of the rules with targets, given the rules' mean rewards of a note ().

        w  <-  w exp(rate clip((target - reward) / |target|, -1, 1))

    a step of exponentiated gradient (Kivinen & Warmuth 1997) on the Lagrange multipliers of the targets.
    """

    def weight(name: str, target: jax.Array) -> jax.Array:
        chex.assert_equal_shape([weights[name], rewards[name]])
        missing = (target - rewards[name]) / jnp.maximum(jnp.abs(target), 1e-6)
        return weights[name] * jnp.exp(config.target_rate * jnp.clip(missing, -1.0, 1.0))

    return {name: weight(name, target) for name, target in config.rule_targets.items()}


def with_weights(config: Config, weights: Mapping[str, jax.Array]) -> Config:
    """The config with the weights () of the rules that have targets, and that of variety if it has one."""
    rules = {name: weight for name, weight in weights.items() if name != VARIETY}
    return config.replace(
        rule_weights={**config.rule_weights, **rules}, variety=weights.get(VARIETY, config.variety)
    )


def at_update(config: Config, update: jax.Array) -> Config:
    """The config with the rule weights and the copy_prob of an update (), during or after the warm-up."""
    chex.assert_rank(update, 0)
    warming = update < config.warmup_steps
    late = {name: config.rule_weights.get(name, 1.0) for name in config.warmup_rule_weights}
    early = {name: jnp.where(warming, w, late[name]) for name, w in config.warmup_rule_weights.items()}
    copy_prob = jnp.where(warming, config.copy_prob, 0.0)
    return config.replace(rule_weights={**config.rule_weights, **early}, copy_prob=copy_prob)


def play(
    params: Any, prior: Any, config: Config, network: Network, env: Theory | Polyphonic, key: jax.Array
) -> Trajectory:
    """Sample whole melodies from the policy -> Trajectory (T, B) of MelodyState and Rewards.

    Of the environment's states the time and the last token are observed; the reward includes the prior's
    log-probability of each note.
    """
    env.check_size(network.size)
    batch, steps, env_params = config.num_envs, env.config.length, env.default_params
    key_reset, key_play, key_copies = jax.random.split(key, 3)
    states = jax.vmap(env.initial, (0, None))(jax.random.split(key_reset, batch), env_params)
    policy, carry = composer_policy(network), network.initial_carry(batch)
    if config.copy_lag:
        copies = jax.random.bernoulli(key_copies, config.copy_prob, (-(-steps // env.config.bar), batch))
        policy = with_copying(policy, jnp.repeat(copies, env.config.bar, axis=0)[:steps], config.copy_lag)
        carry = carry, jnp.zeros((config.copy_lag, batch), jnp.int32)

    def heard(state):  # the network is told how long the melody is to be
        return jnp.where(state.time == 0, first_token(network, steps), state.token)

    def advance(state, action):
        state, prior_carry = state
        output, prior_carry = network.apply(prior, prior_carry, heard(state), state.time, method="step")
        theory_reward, rules = jax.vmap(env.rule_rewards)(state, action)
        reward = Rewards(theory_reward, distributions.Categorical(output.logits).log_prob(action), rules)
        state = jax.vmap(env.advance, (0, 0, None))(state, action, env_params)
        return (state, prior_carry), reward

    return rollout(
        policy, params, carry, (states, network.initial_carry(batch)), key_play, steps,
        advance=advance,
        observe=lambda state: MelodyState(state[0].time, heard(state[0])),
    )[0]  # fmt: skip


def with_copying(policy: Policy, copies: jax.Array, lag: int) -> Policy:
    """A policy that repeats the note of `lag` steps before where `copies`, bool (T, B), says so.

    Its carry is the policy's and the last `lag` notes, int32 (lag, B). A copied note has log-probability 0.
    """
    chex.assert_rank(copies, 2)

    def copy_or_play(params, observation, carry, key):
        carry, recent = carry
        action, log_prob, carry = policy(params, observation, carry, key)
        time = observation.time[0]
        copy = copies[time] & (time >= lag)
        action, log_prob = jnp.where(copy, recent[0], action), jnp.where(copy, 0.0, log_prob)
        return action, log_prob, (carry, jnp.concatenate([recent[1:], action[None]]))

    return copy_or_play


def log_prob(params: Any, network: Network, previous_token: jax.Array, action: jax.Array) -> jax.Array:
    """Log-probability of whole melodies (T, B) under the network, float32 (B,)."""
    chex.assert_equal_shape([previous_token, action])
    logits = network.apply(params, previous_token, sequences.positions(previous_token)).logits
    return distributions.Categorical(logits).log_prob(action).sum(axis=0)


def shared_runs(played: Trajectory, config: Config) -> jax.Array:
    """The share of each melody's runs of five notes that another one has, of all shards: float32 (S * B,).

    It is not computed, and 0, where variety has no weight.
    """
    tokens, none = collectives.gather(played.action.T), lambda x: jnp.zeros(len(x))
    return jax.lax.cond(config.variety != 0, lambda x: 1.0 - own_runs(x, n=5), none, tokens)


def weigh(params: Any, played: Trajectory, shared: jax.Array, config: Config, network: Network) -> Weighted:
    """Played melodies with their importance weights, normalised over all shards.

    `shared` (S * B,) is as `shared_runs` gives it.
    """
    log_ratio = collectives.gather(collectives.each(_log_ratio, params, played, config, network))
    chex.assert_equal_shape([log_ratio, shared])
    log_ratio -= config.reward_scale * (config.variety * shared) / config.temperature
    weight = collectives.share(tempered_weights(log_ratio, config.ess_fraction))
    return Weighted(played.observation.token.T, played.action.T, weight)


def _log_ratio(params: Any, played: Trajectory, config: Config, network: Network) -> jax.Array:
    """Log pi*(m) / pi(m) of played melodies (B,), up to a constant."""
    target = config.reward_scale * played.reward.theory + played.reward.log_prior
    own = log_prob(params, network, played.observation.token, played.action)
    return target.sum(axis=0) / config.temperature - own


def minibatches(key: jax.Array, melodies: Weighted, config: Config) -> Weighted:
    """The melodies in minibatches (num_minibatches, batch_size, ...), reshuffled for each pass over them."""
    number, total = len(melodies.weight), config.num_minibatches * config.batch_size
    keys = jax.random.split(key, -(-total // number))
    order = jax.vmap(lambda key: jax.random.permutation(key, number))(keys).ravel()[:total]
    return jax.tree.map(lambda x: x[order.reshape(config.num_minibatches, config.batch_size)], melodies)


def loss(params: Any, network: Network, batch: Weighted) -> jax.Array:
    """Weighted negative log-likelihood of melodies, in nats a note: float32 ()."""
    nats = -log_prob(params, network, batch.previous_token.T, batch.action.T)
    return (batch.weight * nats).mean() / batch.previous_token.shape[1]


def summary(played: Trajectory) -> dict[str, jax.Array]:
    """Metrics () of played melodies (T, B), see `step`."""
    reward = played.reward
    means = {"theory": reward.theory, "log_prior": reward.log_prior, "entropy": -played.log_prob}
    return jax.tree.map(jnp.mean, {**means, **reward.rules})
