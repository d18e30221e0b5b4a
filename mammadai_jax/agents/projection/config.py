"""Settings of the projection, and those that were found for melodies of 32 steps and for longer ones."""

from __future__ import annotations

from collections.abc import Mapping

from flax import struct

from mammadai_jax.fields import static, traced


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
        rule_targets: mean rewards of a note, by the names of rules whose weights are not fixed: a weight
            grows while its rule gives less than this, and falls while it gives more.
        target_rate: largest relative change of such a weight in an update.
        variety: reward of the share of a melody's runs of five notes that no other melody of the sample has;
            with a target ("variety", minus the share of those that another has), what it begins with.
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
    rule_targets: Mapping[str, float] = traced(default_factory=dict, low=-1e6, high=1e6)
    target_rate: float = traced(0.05, low=0)
    variety: float = traced(0.0, low=0)
    ess_fraction: float = traced(0.2, low=0.001, high=1)
    learning_rate: float = traced(1e-3, low=0)
    lr_decay_steps: int = traced(0, low=0, unit="updates")
    max_grad_norm_per_array: float = traced(5.0, low=0)
    tau: float = traced(0.01, low=0, high=1)


# For melodies of 32 steps: of each rule as much as the best model of Jaques et al. 2017 has and some more,
# at a temperature high enough that melodies stay different. Found on other seeds than judge it. Bars are
# copied all along, so that motifs that return are never forgotten; their target has what is copied in it.
# The ending alone earns .375 a note from the tonic's rule, so that its target needs the first note as well.
# Its weight begins high: the autocorrelation misses more of its target at first, so that its weight grows
# faster, and would lead melodies to open on a unique top note before the tonic's has grown.
SHORT = Config(
    copy_lag=16,
    num_envs=2048,
    num_minibatches=16,
    batch_size=128,
    reward_scale=1.0,
    temperature=2.4,
    rule_weights={
        "key": 15.0,
        "tonic": 16.0,
        "penalize_repeating": 0.1,
        "penalize_autocorrelation": 4.0,
        "motif": 4.5,
        "repeated_motif": 1.0,
        "preferred_intervals": 0.0,
        "leap_up_back": 6.0,
        "high_low_unique": 6.0,
    },
    rule_targets={
        "key": -0.003,
        "tonic": 0.44,
        "penalize_autocorrelation": -0.5,
        "motif": 2.77,
        "repeated_motif": 0.22,
        "leap_up_back": 0.3,
        "high_low_unique": 0.15,
        "variety": -0.088,
    },
    target_rate=0.025,
    variety=600.0,
    warmup_steps=280,
    ess_fraction=0.3,
    copy_prob=0.06,
    learning_rate=3e-3,
    lr_decay_steps=280,
    max_grad_norm_per_array=1.0,
    tau=0.05,
)
# For longer melodies: motifs return often enough by themselves, and a reward given once in a melody is a
# smaller part of the sum.
LONG = Config(
    copy_lag=16,
    num_envs=1024,
    num_minibatches=16,
    batch_size=64,
    reward_scale=0.6,
    temperature=1.3,
    rule_weights={
        "key": 2.5,
        "tonic": 8.0,
        "penalize_repeating": 0.1,
        "penalize_autocorrelation": 0.6,
        "motif": 1.0,
        "repeated_motif": 0.08,
        "preferred_intervals": 0.0,
        "leap_up_back": 5.0,
        "high_low_unique": 40.0,
    },
    warmup_rule_weights={"repeated_motif": 0.2},
    warmup_steps=30,
    ess_fraction=0.4,
    copy_prob=0.1,
    learning_rate=2e-3,
    max_grad_norm_per_array=1.0,
    tau=0.05,
)
