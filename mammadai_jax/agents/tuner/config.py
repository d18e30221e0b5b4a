# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
# (flax adds `replace` and the constructors of its dataclasses)
"""How the tuner learns, and the settings of the published program."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal

from flax import struct

from mammadai_jax.agents.tuner.backup import Algorithm
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.note_rnn import NoteRNN

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
        echo: steps back from which exploration copies now and then, so that repetition is met before it is
            learned; 0 for never (static).
        value_head: whether the network's value head gives the level of a state's action values and the
            logits the policy alone, so that the policy starts as the prior; else the logits are the action
            values, as published (static).
        double: double Q-learning, see backup.state_value (static).
        drift: let the prior learn too, through G's target, as the released program does by mistake: only to
            reproduce the published figures of G (static; only for g and transitions).
        any_primer: begin melodies from a random class, as the released program does, rather than from the
            start token (static).
        melodies: played in an update (static).
        minibatches: learned from in an update (static); batch: melodies or transitions of each (static).
        capacity: melodies or transitions that the replay buffer holds; wholes need none (static).
        scale: 1/c, the weight of the rules against the prior.
        temperature: of the policy and the soft backups: 1 as published, below it less entropy for more of
            the rules and of the prior.
        weights: of rules by name; a rule without one weighs 1.
        early: weights that are other ones in the first `settling` updates.
        settling: see early and copying.
        effective: share of the played melodies that the weights of an update are worth at least (wholes).
        discount: gamma; wholes have none.
        trace: lambda of the returns (melodies).
        epsilon: probability of any note at the end; it falls from 1 over the first `exploring` notes.
        copying: probability that a bar's notes (theory.Config.bar) are copied, where there is an echo, in
            the first `settling` updates.
        learning_rate: of Adam.
        annealing: updates by which it has fallen to zero, linearly in their later half; 0 for never.
        clip: largest norm of the gradient of each parameter array.
        follow: how much of the network the target network takes on after each minibatch.

    """

    algorithm: Algorithm = static(default="psi")
    learns_from: Literal["melodies", "transitions", "wholes"] = static(default="melodies")
    exploration: Literal["sampling", "epsilon"] = static(default="sampling")
    echo: int = static(default=0)
    value_head: bool = static(default=True)
    double: bool = static(default=False)
    drift: bool = static(default=False)
    any_primer: bool = static(default=False)
    melodies: int = static(default=64)
    minibatches: int = static(default=4)
    batch: int = static(default=64)
    capacity: int = static(default=256)
    scale: float = 2.0
    temperature: float = 0.5
    weights: Mapping[str, float] = struct.field(default_factory=dict)
    early: Mapping[str, float] = struct.field(default_factory=dict)
    settling: int = 0
    effective: float = 0.2
    discount: float = 0.97
    trace: float = 0.9
    epsilon: float = 0.1
    exploring: int = 500_000
    copying: float = 0.1
    learning_rate: float = 1e-3
    annealing: int = 0
    clip: float = 5.0
    follow: float = 0.01

    def __post_init__(self):
        if self.drift and (self.algorithm, self.learns_from) != ("g", "transitions"):
            raise ValueError("drift reproduces a mistake of published G-learning: only for g and transitions")
        if self.value_head and self.learns_from == "transitions":
            raise ValueError("transitions bootstrap beyond the last note: only without value_head")
        if self.learns_from == "wholes" and self.algorithm != "psi":
            raise ValueError(f"wholes have psi's aim; {self.algorithm} learns from melodies or transitions")


PAPER = Config(
    algorithm="q",
    learns_from="transitions",
    exploration="epsilon",
    value_head=False,
    melodies=25,
    minibatches=160,  # one for five notes
    batch=32,
    capacity=100_000,
    scale=2.0,
    temperature=1.0,
    discount=0.5,
    epsilon=0.1,
    exploring=500_000,
    learning_rate=1e-3,
    clip=5.0,
    follow=0.01,
)


# Found by trying, for melodies of 32 steps: strict enough that the rules are kept, warm enough that melodies
# stay different. A bar is copied, and its return praised, until returning is learned.
MODERN = Config(
    learns_from="wholes",
    echo=16,
    melodies=2048,
    minibatches=16,
    batch=128,
    scale=0.77,
    temperature=1.73,
    weights={
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
    early={"repeated_motif": 1.4},
    settling=40,
    effective=0.4,
    copying=0.25,
    learning_rate=3e-3,
    clip=1.0,
    follow=0.05,
)
# The same for longer melodies, in which motifs return soon enough and what comes once is one note of many.
LONG = MODERN.replace(
    melodies=1024,
    batch=64,
    scale=0.6,
    temperature=1.3,
    weights={
        **MODERN.weights,
        "key": 2.5,
        "tonic": 8.0,
        "penalize_autocorrelation": 0.6,
        "motif": 1.0,
        "repeated_motif": 0.08,
        "leap_up_back": 5.0,
        "high_low_unique": 40.0,
    },
    early={"repeated_motif": 0.2},
    settling=30,
    copying=0.1,
    learning_rate=2e-3,
)
