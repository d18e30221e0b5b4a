# pyright: reportCallIssue=false
# (flax adds the constructors of its dataclasses)
"""How a composer is tuned by a reward."""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping
from typing import Literal

from flax import struct

from mammadai_jax.objectives.kl import Estimator

Method = Literal["ppo", "reinforce"]
Optimiser = Literal["adam", "muon"]
static = functools.partial(struct.field, pytree_node=False)


@struct.dataclass
class Config:
    """How the composer learns. Fields marked *static* change the program; the rest may be traced and swept.

    Attributes:
        method: "ppo" or "reinforce", MusicRL's objective; see losses.py (static).
        kl_estimator: how the divergence from the reference is measured at each note (static): "exact", the
            sum over the alphabet; "k1", log pi/ref of the note played; "k3", k1 + ref/pi - 1, never negative.
        separate_value: whether the value has a network of its own, a second composer, or is a head of the
            policy's (static).
        critic_width: units a layer of a critic, which replaces the value; its inputs are the traits of the
            melody so far (networks/critic.py; of the alphabet MAGENTA only); 0 for none (static).
        critic_epochs: its passes over an update's melodies, in minibatches of a quarter (static).
        critic_warmup_steps: updates at the beginning in which only the critic learns.
        num_envs: played in an update (static); num_steps: of each (static).
        num_epochs: passes over an update's melodies (ppo; reinforce makes one) (static).
        num_minibatches: of whole melodies in a pass (static).
        optimiser: of every network, "adam" or "muon" (static).
        learning_rate: of the policy; value_learning_rate: of the value's network, or of its head.
        num_updates: by which both rates have fallen to zero, linearly; 0 leaves them constant.
        max_grad_norm: largest global gradient norm, of each network.
        gamma, gae_lambda: gamma and lambda of generalised advantage estimation (reinforce has a lambda of 1).
        clip_eps: of the probability ratio (ppo).
        vf_clip_eps: of the value's change in an update, in units of the return; None leaves it free (ppo).
        vf_coef, ent_coef: in the loss.
        normalize_advantages: whether advantages are standardised within a minibatch (ppo) (static).
        temperature: divides the logits, of the policy and of the reference, in playing and in learning.
        reward_weights: of the reward's terms by name; a term without one weighs 1.
        scale_rewards: whether rewards are divided by their running deviation, without a shift (static).
        kl_coef: nats of reward that a nat of divergence costs, to begin with. MusicRL's alpha is
            beta / (1 + beta).
        kl_target: nats a melody at which the divergence is held by an adaptive kl_coef, see `adapt`; 0: none.
        kl_horizon: melodies in which beta can change by a fifth of itself.
        target_kl: nats a note from the policy that played; beyond it the rest of an update is skipped. None
            never stops.

    """

    method: Method = static(default="ppo")
    kl_estimator: Estimator = static(default="exact")
    separate_value: bool = static(default=False)
    critic_width: int = static(default=0)
    critic_epochs: int = static(default=4)
    critic_warmup_steps: int = 0
    num_envs: int = static(default=64)
    num_steps: int = static(default=96)
    num_epochs: int = static(default=4)
    num_minibatches: int = static(default=1)
    optimiser: Optimiser = static(default="adam")
    learning_rate: float = 1e-4
    value_learning_rate: float = 1e-3
    num_updates: int = 0
    max_grad_norm: float = 0.5
    gamma: float = 1.0
    gae_lambda: float = 0.95
    clip_eps: float = 0.2
    vf_clip_eps: float | None = 0.2
    vf_coef: float = 0.1
    ent_coef: float = 0.0
    normalize_advantages: bool = static(default=True)
    temperature: float = 0.99
    reward_weights: Mapping[str, float] = struct.field(default_factory=dict)
    scale_rewards: bool = static(default=False)
    kl_coef: float = 0.15
    kl_target: float = 0.0
    kl_horizon: float = 10_000.0
    target_kl: float | None = None


def check(config: Config) -> None:
    """ValueError unless the static fields fit together."""
    for name, kinds in (("method", Method), ("kl_estimator", Estimator), ("optimiser", Optimiser)):
        if getattr(config, name) not in typing.get_args(kinds):
            raise ValueError(f"{name} is one of {typing.get_args(kinds)}, not {getattr(config, name)!r}")
    if config.num_envs % config.num_minibatches:
        raise ValueError(
            f"{config.num_envs} melodies cannot be shared by {config.num_minibatches} minibatches: "
            "let minibatches divide melodies"
        )
    if config.critic_width and config.separate_value:
        raise ValueError("a critic is the value: set critic to 0, or separate to false")
