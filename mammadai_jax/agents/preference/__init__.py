# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportCallIssue=false
# (flax adds constructors and `replace` to its dataclasses)
"""A prompted composer tuned by any reward of whole melodies, with a KL penalty to a reference.

MusicRL at note level (Cideron et al. 2024), by PPO as in fine-tuning language models from preferences
(Ziegler et al. 2019; Huang et al. 2023), or by MusicRL's own objective. One `step` plays a melody to each of
the next prompts, rewards it, computes its log-probabilities under the reference, and trains on it in
minibatches of whole melodies. The equations are in losses.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import struct

from mammadai_jax.agents.preference.config import Config, Method, check, melodies_a_prompt, value_network
from mammadai_jax.agents.preference.losses import Batch, PolicyLoss, forward, prepare
from mammadai_jax.agents.preference.rollout import (
    Played,
    Reward,
    by_name,
    group_scores,
    means_of,
    play,
    prompt_indices,
    score_melodies,
)
from mammadai_jax.agents.preference.updates import optimiser, update_critic, update_policy
from mammadai_jax.learning import collectives, optimisers
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.critic import Critic, traits_so_far
from mammadai_jax.objectives import distributions, spread
from mammadai_jax.objectives import kl as kl_objectives

__all__ = [
    "Config",
    "Method",
    "Played",
    "PolicyLoss",
    "Reward",
    "State",
    "Statistics",
    "by_name",
    "check",
    "forward",
    "init",
    "learn",
    "perform",
    "play",
    "prompt_indices",
    "score_melodies",
    "step",
]  # fmt: skip


class Statistics(NamedTuple):
    """Of all rewards so far: their count, mean and sum of squared differences from the mean; float32 ()."""

    count: jax.Array
    mean: jax.Array
    squares: jax.Array

    def add(self, rewards: jax.Array) -> Statistics:
        """The statistics with more rewards (B,) (Chan et al. 1979)."""
        chex.assert_rank(rewards, 1)
        count = self.count + rewards.size
        difference = rewards.mean() - self.mean
        between = difference**2 * self.count * rewards.size / count
        mean = self.mean + difference * rewards.size / count
        return Statistics(count, mean, self.squares + jnp.var(rewards) * rewards.size + between)

    @property
    def scale(self) -> jax.Array:
        """Their standard deviation (); 1 while they are all equal but for rounding."""
        deviation = jnp.sqrt(self.squares / jnp.maximum(self.count, 1.0))
        return jnp.where(deviation > spread.ROUNDING * jnp.maximum(1.0, jnp.abs(self.mean)), deviation, 1.0)


class Performed(NamedTuple):
    """What an update learns from, before it is rewarded.

    Attributes:
        rows: the prompts (B, ...) of the melodies.
        played: the melodies.
        key_train: of the training on them.
        key: of the next update.

    """

    rows: Any
    played: Played
    key_train: jax.Array
    key: jax.Array

    @property
    def tokens(self) -> jax.Array:
        """The melodies, int32 (B, T)."""
        return self.played.action.T


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the networks by name: "policy", and "value" or "critic" if the config has one.
        reference: the composer's parameters that the KL penalty refers to.
        opt_state: of each network's optimiser, by name.
        kl_coef: reward that a nat of divergence costs, float32.
        statistics: of the rewards.
        position: int32, number of prompts taken.
        order: key of the orders in which prompts are taken.
        update: int32, number of updates made.
        key: of the next update.

    """

    params: dict[str, Any]
    reference: Any
    opt_state: dict[str, Any]
    kl_coef: jax.Array
    statistics: Statistics
    position: jax.Array
    order: jax.Array
    update: jax.Array
    key: jax.Array = collectives.own()


def init(
    key: jax.Array,
    config: Config,
    composer: Composer,
    params: Any,
    *,
    reference: Any = None,
    value: Any = None,
) -> State:
    """A learner that starts as a composer.

    Args:
        key: of everything random later on.
        config: see Config.
        composer: the network.
        params: its parameters. MusicRL-RU begins with MusicRL-R's.
        reference: parameters of the reference; `params` by default.
        value: parameters of a composer from which the value starts: from its head only if the value is a head
            of the policy's, from all of them if it is a composer of its own. By default `params` with a head
            of zeros.

    Raises:
        ValueError: for a config that `check` refuses, or parameters of another composer.

    """
    check(config)
    shape, expected = params["params"]["token_table"]["embedding"].shape, (composer.size + 1, composer.width)
    if shape != expected:
        raise ValueError(f"the parameters have a token table of {shape}, the composer one of {expected}")
    copy = lambda tree: jax.tree.map(jnp.copy, tree)
    value = copy(_zero_value_head(params) if value is None else value)
    policy = {**params["params"], "value_head": value["params"]["value_head"]}
    networks = {"policy": copy({**params, "params": policy})}
    if value_network(config) == "composer":
        networks["value"] = value
    if value_network(config) == "critic":
        key, key_critic = jax.random.split(key)
        networks["critic"] = _init_critic(key_critic, config, composer, params)
    key, order = jax.random.split(key)
    return State(
        params=networks,
        reference=copy(params if reference is None else reference),
        opt_state={name: optimiser(config).init(network) for name, network in networks.items()},
        kl_coef=jnp.float32(config.kl_coef),
        statistics=Statistics(*jnp.zeros((3,), jnp.float32)),
        position=jnp.int32(0),
        order=order,
        update=jnp.int32(0),
        key=key,
    )


def _init_critic(key: jax.Array, config: Config, composer: Composer, params: Any) -> Any:
    """Parameters of a critic for the prompts of a composer with these `params`."""
    layer = params["params"].get("condition_layer")
    condition = None if layer is None else jnp.zeros((1, len(layer["kernel"])))
    traits = traits_so_far(jnp.zeros((config.num_steps, 1), jnp.int32))
    hidden = jnp.zeros((config.num_steps, 1, composer.width))
    return Critic(config.critic_width).init(key, traits, hidden, condition)


def _zero_value_head(params: Any) -> Any:
    """The parameters with a value head of zeros."""
    head = jax.tree.map(jnp.zeros_like, params["params"]["value_head"])
    return {**params, "params": {**params["params"], "value_head": head}}


def step(
    state: State,
    config: Config,
    composer: Composer,
    prompts: Any,
    *,
    reward_fn: Reward,
    reward_params: Any = None,
    policy_loss: PolicyLoss | None = None,
) -> tuple[State, dict[str, jax.Array]]:
    """One update: play, reward, train.

    Args:
        state: of the learner.
        config: see Config.
        composer: the network.
        prompts: dict of arrays (P, ...) of all prompts: "condition" (P, C), the composer's input, or None,
            and whatever else the reward reads.
        reward_fn: (reward_params, rows, tokens int32 (B, T)) -> float32 (B,), or a dict of several by name,
            which are summed with config.reward_weights. `rows` are the prompts (B, ...) of the melodies.
        reward_params: the reward's parameters.
        policy_loss: see losses.PolicyLoss; by default that of config.method.

    Returns:
        State, and metrics by the names of TRL's PPO: objective/kl and objective/entropy (nats a melody),
        objective/scores, objective/non_score_reward, objective/rlhf_reward, policy/approxkl_avg,
        policy/clipfrac_avg, policy/entropy_avg, loss/policy_avg, loss/value_avg, val/ratio, val/ratio_var,
        lr, episode (melodies so far). Beside them reward/NAME of each term, unweighted; kl_coef, as used;
        explained_variance; grad_norm, before the clip; minibatches, without those skipped.

    """
    performed = perform(state, config, composer, prompts)
    inputs = config, reward_fn, reward_params, performed.rows, performed.tokens
    score, terms = collectives.each(score_melodies, *inputs)
    return learn(state, config, composer, performed, score=score, terms=terms, policy_loss=policy_loss)


def perform(state: State, config: Config, composer: Composer, prompts: Any) -> Performed:
    """Play to the next prompts; one shard's share. The arguments are as of `step`."""
    key, key_play, key_train = jax.random.split(state.key, 3)
    times = melodies_a_prompt(config)
    rows = _next_prompts(state, prompts, collectives.count() * config.num_envs // times, times)
    policy = state.params["policy"]
    played = collectives.each(play, policy, config, composer, rows["condition"], key_play)
    return Performed(rows, played, key_train, key)


def learn(
    state: State,
    config: Config,
    composer: Composer,
    performed: Performed,
    *,
    score: jax.Array,
    terms: dict[str, jax.Array],
    policy_loss: PolicyLoss | None = None,
) -> tuple[State, dict[str, jax.Array]]:
    """Train on what was performed, by its scores (B,) and their terms (B,); the rest is as of `step`."""
    chex.assert_rank(score, 1)
    rows, played, key_train, key = performed
    melodies, times = collectives.count() * config.num_envs, melodies_a_prompt(config)
    condition, kl_coef = rows["condition"], state.kl_coef
    statistics = state.statistics.add(collectives.gather(score))
    scaled = score / statistics.scale if config.scale_rewards else score
    credit = group_scores(config, score, terms) if config.method == "grpo" else scaled
    inputs = {"played": played, "condition": condition, "score": credit, "kl_coef": kl_coef}
    batch, kl = collectives.each(
        lambda: prepare(state.params, config, composer, reference=state.reference, **inputs)
    )
    inputs = {"batch": batch, "condition": condition, "key": key_train, "policy_loss": policy_loss}
    params, opt_state, training = _train(state, config, composer, **inputs)
    kl, entropy = collectives.mean(collectives.each(_per_melody, kl, played.log_policy))
    metrics = {
        "objective/kl": kl,
        "objective/entropy": entropy,
        "objective/scores": collectives.gather(score).mean(),
        "objective/non_score_reward": -kl_coef * kl,
        "objective/rlhf_reward": collectives.gather(scaled).mean() - kl_coef * kl,
        "kl_coef": kl_coef,
        "episode": jnp.float32(state.position * times + melodies),
    }
    adapted = kl_objectives.adapted_coefficient(kl_coef, kl, config.kl_target, config.kl_horizon, melodies)
    state = state.replace(
        params=params,
        opt_state=opt_state,
        kl_coef=adapted,
        statistics=statistics,
        position=state.position + melodies // times,
        update=state.update + 1,
        key=key,
    )
    return state, {**metrics, **training, **collectives.each(means_of, terms)}


def _next_prompts(state: State, prompts: Any, count: int, times: int) -> Any:
    """One shard's rows of the next prompts, each so many times; all shards together take `count` of them."""
    indices = prompt_indices(state.order, state.position, len(jax.tree.leaves(prompts)[0]), count)
    own = collectives.share(jnp.repeat(indices, times))
    return jax.tree.map(lambda x: x[own], prompts)


def _train(
    state: State,
    config: Config,
    composer: Composer,
    *,
    batch: Batch,
    condition: Any,
    key: jax.Array,
    policy_loss: PolicyLoss | None,
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """Train the policy and its value, and the critic if there is one -> params, opt_state, metrics."""
    decay = optimisers.linear_decay(state.update, config.num_updates)
    params, opt_state = dict(state.params), dict(state.opt_state)
    critic = params.pop("critic", None), opt_state.pop("critic", None)
    data = {"batch": batch, "condition": condition}
    params, opt_state, metrics = update_policy(
        params,
        opt_state,
        config,
        composer=composer,
        kl_coef=state.kl_coef,
        decay=decay * (state.update >= config.critic_warmup_steps),
        key=key,
        policy_loss=policy_loss,
        **data,
    )
    if value_network(config) == "critic":
        key = jax.random.fold_in(key, 1)
        trained = update_critic(*critic, config, decay=decay, key=key, **data)
        params["critic"], opt_state["critic"], metrics["loss/value_avg"] = trained
    return params, opt_state, {**metrics, "lr": decay * config.learning_rate}


def _per_melody(kl: jax.Array, log_policy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean over melodies of the sums of divergences (T, B) and of entropies, of distributions (T, B, A)."""
    entropy = distributions.Categorical(log_policy).entropy()
    return kl.sum(axis=0).mean(), entropy.sum(axis=0).mean()
