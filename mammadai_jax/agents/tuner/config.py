# pyright: reportCallIssue=false
# (flax adds the constructors of its dataclasses)
"""Settings of the tuner, and those of the published program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from flax import struct

from mammadai_jax.fields import static, traced
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.note_rnn import NoteRNN
from mammadai_jax.networks.polyphonic import PolyphonicComposer
from mammadai_jax.objectives.soft_backups import Algorithm

Network = Composer | PolyphonicComposer | NoteRNN


@struct.dataclass
class Config:
    """Settings of Q-, Psi- and G-learning.

    Attributes:
        algorithm: "q", "psi", "g" or "pure_rl", see objectives/soft_backups.py.
        learns_from: "melodies" or "transitions", see tuner/__init__.py.
        exploration: "sampling" plays the policy itself; "epsilon" plays its most likely note, or with
            probability epsilon a uniformly random one.
        double_q: whether the network chooses the action that the target network evaluates; see
            soft_backups.state_value.
        drifting_prior: whether, with transitions, the prior is trained too through the bootstrap value, which
            the released program does by mistake. Only G's value depends on the prior: only its prior drifts.
            It reproduces the published figures of G.
        random_primer: whether melodies begin after a random token; as in the released program, rather than
            after the start token.
        num_envs: melodies played in an update.
        num_minibatches: minibatches of an epoch; an update is one.
        batch_size: examples in a minibatch; here melodies or transitions.
        buffer_size: melodies or transitions that the replay buffer holds.
        reward_scale: 1/c, the weight of the rules' reward against the prior's log-probability.
        temperature: divisor of the logits; t, of the target policy: below 1 it gives up entropy for reward.
        rule_weights: weights of the rules' rewards by name; a rule without one weighs 1.
        gamma: discount of a step.
        td_lambda: lambda of the returns; with melodies.
        epsilon: final probability of a random action; it falls from 1 over the first epsilon_decay notes.
        epsilon_decay: notes until epsilon has its final value.
        learning_rate: step size of the optimiser.
        lr_decay_steps: updates until the learning rate is zero; it falls linearly in their second half. 0 for
            a constant one.
        max_grad_norm_per_array: largest norm of the gradient of each parameter array.
        tau: share by which averaged parameters move towards the new ones; after each minibatch.

    """

    algorithm: Algorithm = static("psi")
    learns_from: Literal["melodies", "transitions"] = static("melodies")
    exploration: Literal["sampling", "epsilon"] = static("sampling")
    double_q: bool = static(False)
    drifting_prior: bool = static(False)
    random_primer: bool = static(False)
    num_envs: int = static(64, low=1)
    num_minibatches: int = static(4, low=1)
    batch_size: int = static(64, low=1)
    buffer_size: int = static(256, low=1)
    reward_scale: float = traced(2.0, low=0)
    temperature: float = traced(0.5, low=0.001, high=1000)
    rule_weights: Mapping[str, float] = traced(default_factory=dict, low=-1e6, high=1e6)
    gamma: float = traced(0.97, low=0, high=1)
    td_lambda: float = traced(0.9, low=0, high=1)
    epsilon: float = traced(0.1, low=0, high=1)
    epsilon_decay: int = traced(500_000, low=1, unit="notes")
    learning_rate: float = traced(1e-3, low=0)
    lr_decay_steps: int = traced(0, low=0, unit="updates")
    max_grad_norm_per_array: float = traced(5.0, low=0)
    tau: float = traced(0.01, low=0, high=1)


PAPER = Config(
    algorithm="q",
    learns_from="transitions",
    exploration="epsilon",
    num_envs=25,
    num_minibatches=160,  # one for five notes
    batch_size=32,
    buffer_size=100_000,
    reward_scale=2.0,
    temperature=1.0,
    gamma=0.5,
    epsilon=0.1,
    epsilon_decay=500_000,
    learning_rate=1e-3,
    max_grad_norm_per_array=5.0,
    tau=0.01,
)
