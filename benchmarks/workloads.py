# pyright: reportAttributeAccessIssue=false
# (flax adds `replace` to its dataclasses)
"""All workloads by name: what is measured, in which unit, and whether `--quick` measures it too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import learning, playing, preference
from benchmarks.measure import BFLOAT16, Contest
from mammadai_jax.agents import gail, ppo, prior, projection, reward_model, tuner

LENGTHS = (32, 256, 1024, 4096)


class Workload(NamedTuple):
    """`make` a contest, whose jobs' speed is reported in `unit`; `quick` ones are part of a quick run.

    The unit "s" reports the seconds of a run. A name is a family, a slash, and its shape.
    """

    name: str
    unit: str
    make: Callable[[], Contest]
    quick: bool = False


def workloads() -> list[Workload]:
    """All of them, melodies by steps where two numbers are in a name."""
    return [*environments(), *composers(), *learners(), *rounded()]


def rounded() -> list[Workload]:
    """What is quicker where operands of products are rounded to bfloat16, beside the same by default."""
    families = {"lstm-rollout", "generation", "prior-lstm", "prior-transformer", "ppo"}
    chosen = [w for w in [*composers(), *learners()] if w.quick and w.name.split("/")[0] in families]
    make = lambda workload: functools.partial(beside_float32, workload.make)
    return [Workload(w.name.replace("/", "-bfloat16/"), w.unit, make(w)) for w in chosen]


def beside_float32(make: Callable[[], Contest]) -> Contest:
    """What is made where operands are rounded, with the same by default as its peer."""
    with jax.default_matmul_precision("bfloat16"):
        ours = make().ours
    return Contest(ours._replace(products=BFLOAT16), peers={"float32": make().ours})


def environments() -> list[Workload]:
    """What plays without a network."""
    found = []
    for batch in (1, 64, 1024, 8192, 65_536):
        for family, make in (
            ("environment", playing.environment),
            ("theory", playing.theory_environment),
            ("polyphonic", playing.polyphonic_environment),
        ):
            quick = batch in (1024, 65_536)
            found.append(Workload(f"{family}/{batch}", "steps/s", functools.partial(make, batch), quick))
    for melodies, steps in [(4096, 32), *((128, steps) for steps in LENGTHS)]:
        make = functools.partial(playing.rules, melodies, steps)
        found.append(Workload(f"rules/{melodies}x{steps}", "notes/s", make, melodies == 4096))
    return found


def composers() -> list[Workload]:
    """What composes."""
    shapes = {
        "lstm": [(64, 32), (1024, 32), (8192, 32), *((64, steps) for steps in LENGTHS[1:])],
        "transformer": [(1024, 32), *((64, steps) for steps in LENGTHS)],
    }
    quick = {"lstm": (1024, 32), "transformer": (64, 256)}
    found = [
        Workload(
            f"{body}-rollout/{melodies}x{steps}",
            "notes/s",
            functools.partial(playing.composer_rollout, body, melodies, steps),
            (melodies, steps) == quick[body],
        )
        for body, rows in shapes.items()
        for melodies, steps in rows
    ]
    for melodies in (preference.MELODIES, 256):
        make = functools.partial(preference.composing, melodies=melodies)
        name = f"generation/{melodies}x{preference.NOTES}"
        found.append(Workload(name, "notes/s", make, melodies == preference.MELODIES))
    chorales = functools.partial(playing.chorales, 64, 64)
    return [*found, Workload("chorales/64x64", "notes/s", chorales, False)]


def learners() -> list[Workload]:
    """What learns, an update each."""
    rnn = learning.note_rnn
    shape = f"{preference.MELODIES}x{preference.NOTES}"
    pairs = reward_model.Config()
    pairs_contest = lambda: learning.reward_model_of_pairs(
        preference.composer_of(128), pairs, preference.NOTES
    )
    imitated = gail.Config(ppo=ppo.Config(num_envs=64))
    # as stable-baselines3's PPO, and with it imitation's GAIL, is by default
    customary = imitated.replace(ppo=imitated.ppo.replace(num_minibatches=64 * 256 // 64, num_epochs=10))
    paper, short = tuner.PAPER.replace(random_primer=True), projection.SHORT
    rows = [
        *priors(),
        ("gail/64x256", lambda: learning.imitation(imitated), True),
        ("gail-minibatches-of-64/64x256", lambda: learning.imitation(customary), False),
        ("tuner-paper/25x32", lambda: learning.rl_tuner(paper, *rnn(), updates=10), True),
        (f"projection/{short.num_envs}x32", lambda: learning.projected(short, *rnn()), True),
        (f"reward-model/{2 * pairs.batch_size}x{preference.NOTES}", pairs_contest, True),
        (f"ppo/{shape}", preference.tuning, True),
        (f"ppo-separate/{shape}", lambda: preference.tuning(separate=True), False),
    ]
    return [Workload(name, "notes/s", make, quick) for name, make, quick in rows]


def priors() -> list[tuple[str, Callable[[], Contest], bool]]:
    """Updates of the prior: both bodies, windows of all lengths, and where it is fast enough a large one."""
    bodies = {
        "lstm": prior.Config(),
        "transformer": prior.Config(body="transformer", width=128, num_layers=3),
    }
    rows = [
        (
            f"prior-{name}/{c.batch_size}x{steps}",
            c.replace(sequence_length=steps),
            jnp.float32,
            steps == c.sequence_length,
        )
        for name, c in bodies.items()
        for steps in (c.sequence_length, *LENGTHS)
        if steps <= 1024 or name == "lstm"
    ]
    if jax.default_backend() != "cpu":
        large = prior.Config(
            body="transformer",
            width=768,
            num_layers=12,
            num_heads=12,
            attention_window=1024,
            batch_size=16,
            sequence_length=1024,
        )
        rows.append(("prior-85M-bfloat16/16x1024", large, jnp.bfloat16, True))
    return [
        (name, functools.partial(learning.composer_prior, config, dtype), quick)
        for name, config, dtype, quick in rows
    ]
