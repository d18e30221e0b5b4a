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

`variety` keeps samples from drifting to relatives of what was good first (Goldberg & Richardson 1987).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.environments import MelodyState, Piece, Polyphonic, Theory, by_rules
from mammadai_jax.fields import static, traced
from mammadai_jax.learning import collectives, optimisers, sequences
from mammadai_jax.learning.adam import clip_each_array, scale_by_adam
from mammadai_jax.learning.rollout import Policy, Trajectory, composer_policy, rollout
from mammadai_jax.music.variety import own_runs
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.note_rnn import NoteRNN
from mammadai_jax.objectives import distributions
from mammadai_jax.objectives.importance import tempered_weights

__all__ = ["LONG", "SHORT", "Config", "State", "init", "step"]

Network = Composer | NoteRNN


@struct.dataclass
class Config:
    """Settings of the tuning of a prior.

    Attributes:
        num_envs: melodies played in an update.
        num_minibatches: minibatches of an epoch; an update is one.
        batch_size: examples in a minibatch; here melodies.
        copy_lag: distance in steps of the notes that exploration copies; 0 for no copying.
        copy_prob: probability that a bar (theory.Config.bar) is copied from `copy_lag` steps before; in the
            first `warmup_steps` updates, so that repetition is met before the policy has learned it.
        reward_scale: 1/c, the weight of the rules' reward against the prior's log-probability.
        temperature: divisor of the logits; t, of the target policy: below 1 it gives up entropy for reward.
        rule_weights: weights of the rules' rewards by name; a rule without one weighs 1.
        warmup_rule_weights: weights that replace some of rule_weights in the first `warmup_steps` updates.
        warmup_steps: updates of the warm-up.
        variety: reward of the share of a melody's runs of five notes that no other melody of the sample has.
        ess_fraction: least effective sample size of the importance weights, as a share of the sample.
        learning_rate: step size of the optimiser; its peak.
        lr_decay_steps: updates until the learning rate is zero; it falls linearly in their second half. 0 for
            a constant rate.
        max_grad_norm_per_array: largest norm of the gradient of each parameter array.
        tau: share by which averaged parameters move towards the new ones; after each minibatch.

    """

    num_envs: int = static(64, low=1)
    num_minibatches: int = static(4, low=1)
    batch_size: int = static(64, low=1)
    copy_lag: int = static(0, low=0, high=4096, unit="steps")
    copy_prob: float = traced(0.1, low=0, high=1)
    reward_scale: float = traced(2.0, low=0)
    temperature: float = traced(0.5, low=0.001, high=1000)
    rule_weights: Mapping[str, float] = traced(default_factory=dict, low=-1e6, high=1e6)
    warmup_rule_weights: Mapping[str, float] = traced(default_factory=dict, low=-1e6, high=1e6)
    warmup_steps: int = traced(0, low=0, unit="updates")
    variety: float = traced(0.0, low=0)
    ess_fraction: float = traced(0.2, low=0.001, high=1)
    learning_rate: float = traced(1e-3, low=0)
    lr_decay_steps: int = traced(0, low=0, unit="updates")
    max_grad_norm_per_array: float = traced(5.0, low=0)
    tau: float = traced(0.01, low=0, high=1)


# For melodies of 32 steps, found by trying: a reward_scale large enough that the rules are kept, a
# temperature high enough that melodies stay different. During the warm-up bars are copied and repeated motifs
# weigh more.
SHORT = Config(
    copy_lag=16,
    num_envs=2048,
    num_minibatches=16,
    batch_size=128,
    reward_scale=0.77,
    temperature=1.73,
    rule_weights={
        "key": 2.0,
        "tonic": 3.0,
        "penalize_repeating": 0.1,
        "penalize_autocorrelation": 1.8,
        "motif": 0.8,
        "repeated_motif": 0.61,
        "preferred_intervals": 0.0,
        "leap_up_back": 1.7,
        "high_low_unique": 4.2,
    },
    warmup_rule_weights={"repeated_motif": 1.4},
    warmup_steps=40,
    ess_fraction=0.4,
    copy_prob=0.25,
    learning_rate=3e-3,
    max_grad_norm_per_array=1.0,
    tau=0.05,
)
# For longer melodies: motifs return often enough by themselves, and a reward given once in a melody is a
# smaller part of the sum.
LONG = SHORT.replace(
    num_envs=1024,
    batch_size=64,
    reward_scale=0.6,
    temperature=1.3,
    rule_weights={
        **SHORT.rule_weights,
        "key": 2.5,
        "tonic": 8.0,
        "penalize_autocorrelation": 0.6,
        "motif": 1.0,
        "repeated_motif": 0.08,
        "leap_up_back": 5.0,
        "high_low_unique": 40.0,
    },
    warmup_rule_weights={"repeated_motif": 0.2},
    warmup_steps=30,
    copy_prob=0.1,
    learning_rate=2e-3,
)


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the network.
        average: Polyak average of `params`, which composes.
        prior: parameters of the prior, which stay as they are.
        opt_state: of the optimiser.
        update: int32, number of updates made.
        key: of the next update.

    """

    params: Any
    average: Any
    prior: Any
    opt_state: Any
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
    """Adam behind a clip of each array's gradient norm; the step size falls to zero in the second half."""

    def rate(count):
        done = count / jnp.maximum(1, config.lr_decay_steps * config.num_minibatches)
        decay = jnp.where(config.lr_decay_steps > 0, jnp.clip(2.0 - 2.0 * done, 0.0, 1.0), 1.0)
        return config.learning_rate * decay

    clip = clip_each_array(config.max_grad_norm_per_array)
    return optax.chain(clip, scale_by_adam(), optax.scale_by_learning_rate(rate))


def init(key: jax.Array, config: Config, prior: Any) -> State:
    """A learner whose policy is the prior, given the prior's parameters."""
    copy = lambda: jax.tree.map(jnp.copy, prior)
    return State(copy(), copy(), copy(), optimiser(config).init(prior), jnp.int32(0), key)


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
        under the policy; `loss`, in nats a note.

    Raises:
        ValueError: for a weight that belongs to no rule.

    """
    key, key_play, key_batches = jax.random.split(state.key, 3)
    config = at_update(config, state.update)
    env = by_rules(piece, config.rule_weights, rules)
    played = collectives.each(play, state.params, state.prior, config, network, env, key_play)
    melodies = weigh(state.params, played, config, network)

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
    return State(params, average, state.prior, opt_state, state.update + 1, key), metrics


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

    def advance(state, action):
        state, prior_carry = state
        output, prior_carry = network.apply(prior, prior_carry, state.token, state.time, method="step")
        theory_reward, rules = jax.vmap(env.rule_rewards)(state, action)
        reward = Rewards(theory_reward, distributions.Categorical(output.logits).log_prob(action), rules)
        state = jax.vmap(env.advance, (0, 0, None))(state, action, env_params)
        return (state, prior_carry), reward

    return rollout(
        policy, params, carry, (states, network.initial_carry(batch)), key_play, steps,
        advance=advance,
        observe=lambda state: MelodyState(state[0].time, state[0].token),
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


def weigh(params: Any, played: Trajectory, config: Config, network: Network) -> Weighted:
    """Played melodies with their importance weights, normalised over all shards."""
    log_ratio = collectives.gather(collectives.each(_log_ratio, params, played, config, network))
    tokens, none = collectives.gather(played.action.T), lambda x: jnp.zeros(len(x))  # none spares a sort
    own = jax.lax.cond(config.variety != 0, lambda x: own_runs(x, n=5), none, tokens)
    log_ratio += config.reward_scale * (config.variety * own) / config.temperature
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
