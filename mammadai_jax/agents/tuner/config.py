# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
# (flax adds `replace` and the constructors of its dataclasses)
"""How the tuner learns, and the settings of the published program."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal

from flax import struct

from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.note_rnn import NoteRNN
from mammadai_jax.objectives.soft_backups import Algorithm

Network = Composer | NoteRNN
static = functools.partial(struct.field, pytree_node=False)


@struct.dataclass
class Config:
    """How the tuner learns. Fields marked *static* change the program; the rest may be traced and swept.

    Attributes:
        algorithm: q, psi, g or pure_rl, see backup.py (static).
        learns_from: "melodies", "transitions" or "wholes", see tuner/__init__.py (static).
        exploration: "sampling" plays the policy itself; "epsilon" plays the best note, or with probability
            epsilon any (static). What is learned from is what was played.
        copy_lag: steps back from which exploration copies now and then, so that repetition is met before it
            is learned; 0 for never (static).
        value_head: whether the network's value head gives the level of a state's action values and the
            logits the policy alone, so that the policy starts as the prior; else the logits are the action
            values, as published (static).
        double_q: double Q-learning, see backup.state_value (static).
        drifting_prior: let the prior learn too, through G's target, as the released program does by mistake:
            only to reproduce the published figures of G (static; only for g and transitions).
        random_primer: begin melodies from a random class, as the released program does, rather than from the
            start token (static).
        num_envs: played in an update (static).
        num_minibatches: learned from in an update (static).
        batch_size: melodies or transitions of each (static).
        buffer_size: melodies or transitions that the replay buffer holds; wholes need none (static).
        reward_scale: 1/c, the weight of the rules against the prior.
        temperature: of the policy and the soft backups: 1 as published, below it less entropy for more of
            the rules and of the prior.
        rule_weights: of rules by name; a rule without one weighs 1.
        warmup_rule_weights: weights that are other ones in the first `warmup_steps` updates.
        warmup_steps: see warmup_rule_weights and copy_prob.
        ess_fraction: share of the played melodies that the weights of an update are worth at least (wholes).
        gamma: gamma; wholes have none.
        td_lambda: lambda of the returns (melodies).
        epsilon: probability of any note at the end; it falls from 1 over the first `epsilon_decay` notes.
        copy_prob: probability that a bar's notes (theory.Config.bar) are copied, where there is an echo, in
            the first `warmup_steps` updates.
        learning_rate: of Adam.
        lr_decay_steps: updates by which it has fallen to zero, linearly in their later half; 0 for never.
        max_grad_norm_per_array: largest norm of the gradient of each parameter array.
        tau: how much of the network the target network takes on after each minibatch.

    """

    algorithm: Algorithm = static(default="psi")
    learns_from: Literal["melodies", "transitions", "wholes"] = static(default="melodies")
    exploration: Literal["sampling", "epsilon"] = static(default="sampling")
    copy_lag: int = static(default=0)
    value_head: bool = static(default=True)
    double_q: bool = static(default=False)
    drifting_prior: bool = static(default=False)
    random_primer: bool = static(default=False)
    num_envs: int = static(default=64)
    num_minibatches: int = static(default=4)
    batch_size: int = static(default=64)
    buffer_size: int = static(default=256)
    reward_scale: float = 2.0
    temperature: float = 0.5
    rule_weights: Mapping[str, float] = struct.field(default_factory=dict)
    warmup_rule_weights: Mapping[str, float] = struct.field(default_factory=dict)
    warmup_steps: int = 0
    ess_fraction: float = 0.2
    gamma: float = 0.97
    td_lambda: float = 0.9
    epsilon: float = 0.1
    epsilon_decay: int = 500_000
    copy_prob: float = 0.1
    learning_rate: float = 1e-3
    lr_decay_steps: int = 0
    max_grad_norm_per_array: float = 5.0
    tau: float = 0.01

    def __post_init__(self):
        if self.drifting_prior and (self.algorithm, self.learns_from) != ("g", "transitions"):
            raise ValueError(
                "drifting_prior reproduces a mistake of published G-learning: only for g and transitions"
            )
        if self.value_head and self.learns_from == "transitions":
            raise ValueError("transitions bootstrap beyond the last note: only without value_head")
        if self.learns_from == "wholes" and self.algorithm != "psi":
            raise ValueError(f"wholes have psi's aim; {self.algorithm} learns from melodies or transitions")


PAPER = Config(
    algorithm="q",
    learns_from="transitions",
    exploration="epsilon",
    value_head=False,
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


# Found by trying, for melodies of 32 steps: strict enough that the rules are kept, warm enough that melodies
# stay different. A bar is copied, and its return praised, until returning is learned.
MODERN = Config(
    learns_from="wholes",
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
# The same for longer melodies, in which motifs return soon enough and what comes once is one note of many.
LONG = MODERN.replace(
    num_envs=1024,
    batch_size=64,
    reward_scale=0.6,
    temperature=1.3,
    rule_weights={
        **MODERN.rule_weights,
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
