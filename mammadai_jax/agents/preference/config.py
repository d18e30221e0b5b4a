# pyright: reportCallIssue=false
# (flax adds the constructors of its dataclasses)
"""Settings of a composer's tuning by a reward."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Literal

from flax import struct

from mammadai_jax.fields import static, traced
from mammadai_jax.learning.optimisers import Optimiser
from mammadai_jax.objectives.kl import Estimator

Method = Literal["ppo", "reinforce", "grpo"]


@struct.dataclass
class Config:
    """Settings of the composer's tuning. Both learning rates fall linearly to zero.

    Attributes:
        method: "ppo"; "reinforce", MusicRL's objective; or "grpo", which compares the melodies of a prompt
            with each other and needs no value; see losses.py.
        group_size: melodies of a prompt; with GRPO.
        decouple_rewards: whether each term of the reward is standardised in its group by itself, as in GDPO,
            before they are summed; with GRPO.
        kl_estimator: measure of the divergence from the reference at each note: "exact", the sum over the
            alphabet; "k1", log pi/ref of the note played; "k3", k1 + ref/pi - 1, never negative.
        separate_value: whether the value is a composer of its own; else it is a head of the policy's.
        critic_width: units a layer of a critic, which is the value in place of both; 0 for none. Its inputs
            are the traits of the melody so far (networks/critic.py; of the alphabet MAGENTA only).
        critic_epochs: the critic's passes over the melodies of an update, in minibatches of a quarter.
        critic_warmup_steps: updates at the start in which only the critic is trained.
        num_envs: melodies played in an update.
        num_steps: steps of a melody.
        num_epochs: passes over the data; over the melodies of an update (REINFORCE makes one).
        num_minibatches: minibatches of an epoch.
        optimiser: "adam", or "muon", which takes orthogonalised steps of matrices.
        learning_rate: step size of the optimiser; of the policy, at the start.
        value_learning_rate: step size of the value's network, or of its head, at the start.
        num_updates: updates until the learning rate has fallen to zero; 0 leaves the stage out, and keeps the
            rates of a learner without a stage constant.
        max_grad_norm: largest global norm of the gradient; of each network.
        gamma: discount of a step.
        gae_lambda: lambda of generalised advantage estimation; REINFORCE has a lambda of 1.
        clip_eps: largest difference of the probability ratio from 1; with PPO and GRPO.
        vf_clip_eps: largest change of a value in an update; None for no limit. With PPO.
        vf_coef: weight of the value loss.
        ent_coef: weight of the policy's entropy.
        normalize_advantages: whether advantages are standardised in each minibatch; with PPO.
        temperature: divisor of the logits; of the policy and of the reference, in playing and in training.
        reward_weights: weights of the reward's terms by name; a term without one weighs 1.
        scale_rewards: whether rewards are divided by their running standard deviation, without a shift.
        kl_coef: reward that a nat of divergence from the reference costs; at the start. MusicRL's alpha is
            kl_coef / (1 + kl_coef).
        kl_target: divergence of a melody at which kl_coef is adapted to hold it; 0 for a constant kl_coef.
        kl_horizon: melodies in which kl_coef can change by a fifth of itself.
        target_kl: divergence of a step from the policy that played; a minibatch beyond it ends the training
            of an update. None for no limit.

    """

    method: Method = static("ppo")
    group_size: int = static(8, low=2)
    decouple_rewards: bool = static(False)
    kl_estimator: Estimator = static("exact")
    separate_value: bool = static(False)
    critic_width: int = static(0, low=0, high=4096)
    critic_epochs: int = static(4, low=1)
    critic_warmup_steps: int = traced(0, low=0, unit="updates")
    num_envs: int = static(64, low=1)
    num_steps: int = static(96, low=1)
    num_epochs: int = static(4, low=1)
    num_minibatches: int = static(1, low=1)
    optimiser: Optimiser = static("adam")
    learning_rate: float = traced(1e-4, low=0)
    value_learning_rate: float = traced(1e-3, low=0)
    num_updates: int = traced(0, low=0, unit="updates")
    max_grad_norm: float = traced(0.5, low=0)
    gamma: float = traced(1.0, low=0, high=1)
    gae_lambda: float = traced(0.95, low=0, high=1)
    clip_eps: float = traced(0.2, low=0)
    vf_clip_eps: float | None = traced(0.2, low=0, unit="return")
    vf_coef: float = traced(0.1, low=0)
    ent_coef: float = traced(0.0, low=0)
    normalize_advantages: bool = static(True)
    temperature: float = traced(0.99, low=0.001, high=1000)
    reward_weights: Mapping[str, float] = traced(default_factory=dict, low=-1e6, high=1e6)
    scale_rewards: bool = static(False)
    kl_coef: float = traced(0.15, low=0, unit="reward / nat")
    kl_target: float = traced(0.0, low=0, unit="nats / melody")
    kl_horizon: float = traced(10_000.0, low=0, unit="melodies")
    target_kl: float | None = traced(None, low=0, unit="nats / step")


def value_network(config: Config) -> Literal["head", "composer", "critic"]:
    """What estimates values: the policy's own head, a composer of its own, or a critic."""
    if config.critic_width:
        return "critic"
    return "composer" if config.separate_value else "head"


def melodies_a_prompt(config: Config) -> int:
    """How many melodies of an update have the same prompt."""
    return config.group_size if config.method == "grpo" else 1


def check(config: Config) -> None:
    """ValueError unless each choice is a known one, and the melodies can be divided as they have to be."""
    for name, choices in (("method", Method), ("kl_estimator", Estimator), ("optimiser", Optimiser)):
        if getattr(config, name) not in typing.get_args(choices):
            raise ValueError(f"{name} is one of {typing.get_args(choices)}, not {getattr(config, name)!r}")
    if config.num_envs % config.num_minibatches:
        raise ValueError(
            f"{config.num_envs} melodies cannot be shared by {config.num_minibatches} minibatches: "
            "let num_minibatches divide num_envs"
        )
    if config.num_envs % melodies_a_prompt(config):
        raise ValueError(
            f"{config.num_envs} melodies are no groups of {config.group_size}: let group_size divide num_envs"
        )
    if config.method == "grpo" and value_network(config) != "head":
        raise ValueError("grpo has no value: set critic_width to 0 and separate_value to false")
