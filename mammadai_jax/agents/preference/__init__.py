# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportCallIssue=false
# (flax adds constructors and `replace` to its dataclasses)
"""A prompted composer tuned by any reward of whole melodies, on a KL leash to a reference.

MusicRL at note level (Cideron et al. 2024), by PPO as in fine-tuning language models from preferences
(Ziegler et al. 2019; Huang et al. 2023), or by MusicRL's own objective. One `step` plays a melody to each of
the next prompts, has it rewarded, reads it once under the reference, and learns from it in minibatches of
whole melodies. The objectives are in learning.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from mammadai_jax.agents.preference.config import Config, Method, check
from mammadai_jax.agents.preference.losses import (
    forward,
    left,
    optimiser,
    prepare,
    update_critic,
    update_policy,
)
from mammadai_jax.agents.preference.rollout import Played, Reward, play, prompt_indices, score_melodies
from mammadai_jax.learning import collectives
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.critic import Critic, traits_so_far
from mammadai_jax.objectives import kl as kl_objectives

__all__ = [
    "Config",
    "Method",
    "Played",
    "Reward",
    "State",
    "Statistics",
    "forward",
    "init",
    "play",
    "prompt_indices",
    "step",
]  # fmt: skip


class Statistics(NamedTuple):
    """Of all rewards so far: how many, their mean, and the sum of squared distances to it; float32 ()."""

    count: jax.Array
    mean: jax.Array
    squares: jax.Array

    def add(self, rewards: jax.Array) -> Statistics:
        """With more rewards (B,) (Chan et al. 1979)."""
        count = self.count + rewards.size
        apart = rewards.mean() - self.mean
        between = apart**2 * self.count * rewards.size / count
        mean = self.mean + apart * rewards.size / count
        return Statistics(count, mean, self.squares + jnp.var(rewards) * rewards.size + between)

    @property
    def scale(self) -> jax.Array:
        """Their standard deviation; 1 while they are all the same."""
        deviation = jnp.sqrt(self.squares / jnp.maximum(self.count, 1.0))
        return jnp.where(deviation > 1e-6, deviation, 1.0)


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the networks by name: "policy", and "value" if it is separate, or "critic" if there is one.
        reference: the composer's parameters at the other end of the leash.
        opt_state: of each network's optimiser, by name.
        coefficient: beta, float32.
        statistics: of the rewards.
        position: int32, how many prompts were visited; order: the key of the orders they are visited in.
        update: int32, how many updates were made.
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
    reference: Any = None,
    value: Any = None,
) -> State:
    """A learner that starts as a composer.

    Args:
        key: of all that is drawn from here on.
        config: see Config.
        composer: the network.
        params: its parameters. MusicRL-RU begins with MusicRL-R's.
        reference: the leash's other end; `params` by default.
        value: the composer's parameters to begin the value with: only their head if the trunk is shared, all
            of them if it is not. By default `params`, with a head of zeros.

    Raises:
        ValueError: if the config contradicts itself, or the parameters are another composer's.

    """
    check(config)
    found, wanted = params["params"]["token_table"]["embedding"].shape, (composer.size + 1, composer.width)
    if found != wanted:
        raise ValueError(f"the parameters have a token table of {found}, the composer one of {wanted}")
    copy = lambda tree: jax.tree.map(jnp.copy, tree)
    critic = copy(_without_opinion(params) if value is None else value)
    inner = {**params["params"], "value_head": critic["params"]["value_head"]}
    networks = {"policy": copy({**params, "params": inner})}
    if config.separate_value:
        networks["value"] = critic
    if config.critic_width:
        key, key_critic = jax.random.split(key)
        networks["critic"] = _fresh_critic(key_critic, config, composer, params)
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


def _fresh_critic(key: jax.Array, config: Config, composer: Composer, params: Any) -> Any:
    """Of a critic, for the prompts of a composer with these parameters."""
    layer = params["params"].get("condition_layer")
    condition = None if layer is None else jnp.zeros((1, len(layer["kernel"])))
    heard = traits_so_far(jnp.zeros((config.num_steps, 1), jnp.int32))
    hidden = jnp.zeros((config.num_steps, 1, composer.width))
    return Critic(config.critic_width).init(key, heard, hidden, condition)


def _without_opinion(params: Any) -> Any:
    """The parameters with a value head of zeros."""
    head = jax.tree.map(jnp.zeros_like, params["params"]["value_head"])
    return {**params, "params": {**params["params"], "value_head": head}}


def step(
    state: State,
    config: Config,
    composer: Composer,
    prompts: Any,
    reward: Reward,
    reward_params: Any = None,
) -> tuple[State, dict[str, jax.Array]]:
    """One update: play, have it judged, learn.

    Args:
        state: of the learner.
        config: see Config.
        composer: the network.
        prompts: dict of arrays (P, ...), of all prompts there are: under "condition" (P, C) what the composer
            is told of them (or None), beside it whatever the reward wants to know.
        reward: (reward_params, rows, tokens int32 (B, T)) -> float32 (B,), or a dict of several by name,
            which config.weights weighs. `rows` are the prompts' rows (B, ...) of the melodies.
        reward_params: whatever the reward has learned.

    Metrics, by the names of TRL's PPO: objective/kl (nats a melody), objective/entropy (nats a melody),
    objective/scores, objective/non_score_reward, objective/rlhf_reward, policy/approxkl_avg,
    policy/clipfrac_avg, policy/entropy_avg, loss/policy_avg, loss/value_avg, val/ratio, val/ratio_var, lr,
    episode (melodies so far). Beside them reward/NAME of each term, unweighted, kl_coefficient (the one that
    was used), explained_variance, gradient_norm (before the clip) and minibatches (those not skipped).
    """
    check(config)
    key, key_play, key_learn = jax.random.split(state.key, 3)
    melodies = collectives.count() * config.num_envs
    rows = collectives.share(
        prompt_indices(state.order, state.position, len(jax.tree.leaves(prompts)[0]), melodies)
    )
    rows = jax.tree.map(lambda x: x[rows], prompts)
    condition = rows["condition"]
    played = collectives.each(play, state.params["policy"], config, composer, condition, key_play)
    score, terms = collectives.each(score_melodies, config, reward, reward_params, rows, played.action.T)
    statistics = state.statistics.add(collectives.gather(score))
    scaled = score / statistics.scale if config.scale_rewards else score
    known = state.params, state.reference, config, composer, played, condition, scaled, state.kl_coef
    batch, kl = collectives.each(prepare, *known)
    rate = left(config, state.update)
    params, opt_state, learned = _learn(state, config, composer, batch, condition, rate, key_learn)
    kl, entropy = collectives.mean(collectives.each(_spread, kl, played.log_policy))
    metrics = {
        "objective/kl": kl,
        "objective/entropy": entropy,
        "objective/scores": collectives.gather(score).mean(),
        "objective/non_score_reward": -state.kl_coef * kl,
        "objective/rlhf_reward": collectives.gather(scaled).mean() - state.kl_coef * kl,
        "kl_coef": state.kl_coef,
        "lr": rate * config.learning_rate,
        "episode": jnp.float32(state.position + melodies),
    }
    state = State(
        params=params,
        reference=state.reference,
        opt_state=opt_state,
        kl_coef=kl_objectives.adapted_coefficient(
            state.kl_coef, kl, config.kl_target, config.kl_horizon, melodies
        ),
        statistics=statistics,
        position=state.position + melodies,
        order=state.order,
        update=state.update + 1,
        key=key,
    )
    return state, {**metrics, **learned, **terms}


def _learn(
    state: State,
    config: Config,
    composer: Composer,
    batch: Any,
    condition: Any,
    rate: jax.Array,
    key: jax.Array,
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """What has learned from a batch, the critic by itself -> params, opt_state, metrics."""
    params, opt_state = dict(state.params), dict(state.opt_state)
    critic, of_critic = params.pop("critic", None), opt_state.pop("critic", None)
    own = rate * (state.update >= config.critic_warmup_steps)
    known = config, composer, batch, condition, state.kl_coef, own, key
    params, opt_state, told = update_policy(params, opt_state, *known)
    if config.critic_width:
        key = jax.random.fold_in(key, 1)
        learned = update_critic(critic, of_critic, config, batch, condition, rate, key)
        params["critic"], opt_state["critic"], told["loss/value_avg"] = learned
    return params, opt_state, told


def _spread(kl: jax.Array, log_policy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Divergence and entropy of a melody, means of (T, B) and of the distributions (T, B, A)."""
    entropy = -(jnp.exp(log_policy) * log_policy).sum(axis=-1)
    return kl.sum(axis=0).mean(), entropy.sum(axis=0).mean()
