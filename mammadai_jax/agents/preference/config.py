# pyright: reportCallIssue=false
# (flax adds the constructors of its dataclasses)
"""How a composer is tuned by a reward."""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping
from typing import Literal

from flax import struct

Method = Literal["ppo", "reinforce"]
Estimator = Literal["exact", "k1", "k3"]
Optimiser = Literal["adam", "muon"]
static = functools.partial(struct.field, pytree_node=False)


@struct.dataclass
class Config:
    """How the composer learns. Fields marked *static* change the program; the rest may be traced and swept.

    Attributes:
        method: "ppo" or "reinforce", MusicRL's objective; see learning.py (static).
        estimator: how the divergence from the reference is measured at each note (static): "exact", the sum
            over the alphabet; "k1", log pi/ref of the note played; "k3", k1 + ref/pi - 1, never negative.
        separate: whether the value has a network of its own, a second composer, or is a head of the policy's
            (static).
        critic: units a layer of a critic, which is the value instead; it is told the traits of the melody so
            far (networks/critic.py; of the alphabet MAGENTA only); 0 for none (static).
        critic_epochs: its passes over an update's melodies, in minibatches of a quarter (static).
        settling: updates at the beginning in which only the critic learns.
        melodies: played in an update (static); steps: of each (static).
        epochs: passes over an update's melodies (ppo; reinforce makes one) (static).
        minibatches: of whole melodies in a pass (static).
        optimiser: of every network, "adam" or "muon" (static).
        learning_rate: of the policy; value_learning_rate: of the value's network, or of its head.
        updates: by which both rates have fallen to zero, linearly; 0 leaves them constant.
        max_gradient: largest global gradient norm, of each network.
        discount, trace: gamma and lambda of generalised advantage estimation (reinforce has a lambda of 1).
        clip: of the probability ratio (ppo).
        value_clip: of the value's change in an update, in units of the return; None leaves it free (ppo).
        value_weight, entropy_weight: in the loss.
        whiten: whether advantages are standardised within a minibatch (ppo) (static).
        temperature: divides the logits, of the policy and of the reference, in playing and in learning.
        weights: of the reward's terms by name; a term without one weighs 1.
        scale_rewards: whether rewards are divided by their running deviation, without a shift (static).
        beta: nats of reward that a nat of divergence costs, to begin with. MusicRL's alpha is
            beta / (1 + beta).
        target: nats a melody at which the divergence is held by an adaptive beta, see `adapt`; 0 keeps beta.
        horizon: melodies in which beta can change by a fifth of itself.
        stop_kl: nats a note from the policy that played; beyond it the rest of an update is skipped. None
            never stops.

    """

    method: Method = static(default="ppo")
    estimator: Estimator = static(default="exact")
    separate: bool = static(default=False)
    critic: int = static(default=0)
    critic_epochs: int = static(default=4)
    settling: int = 0
    melodies: int = static(default=64)
    steps: int = static(default=96)
    epochs: int = static(default=4)
    minibatches: int = static(default=1)
    optimiser: Optimiser = static(default="adam")
    learning_rate: float = 1e-4
    value_learning_rate: float = 1e-3
    updates: int = 0
    max_gradient: float = 0.5
    discount: float = 1.0
    trace: float = 0.95
    clip: float = 0.2
    value_clip: float | None = 0.2
    value_weight: float = 0.1
    entropy_weight: float = 0.0
    whiten: bool = static(default=True)
    temperature: float = 0.99
    weights: Mapping[str, float] = struct.field(default_factory=dict)
    scale_rewards: bool = static(default=False)
    beta: float = 0.15
    target: float = 0.0
    horizon: float = 10_000.0
    stop_kl: float | None = None


def check(config: Config) -> None:
    """ValueError unless the static fields fit together."""
    for name, kinds in (("method", Method), ("estimator", Estimator), ("optimiser", Optimiser)):
        if getattr(config, name) not in typing.get_args(kinds):
            raise ValueError(f"{name} is one of {typing.get_args(kinds)}, not {getattr(config, name)!r}")
    if config.melodies % config.minibatches:
        raise ValueError(
            f"{config.melodies} melodies cannot be shared by {config.minibatches} minibatches: "
            "let minibatches divide melodies"
        )
    if config.critic and config.separate:
        raise ValueError("a critic is the value: set critic to 0, or separate to false")
