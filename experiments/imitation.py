"""GAIL against behaviour cloning and noise, for every definition of the state of Lowe (2020).

    python -m experiments.imitation --out DIR [--task published] [--updates 100] [--seeds 10]

For each representation (snapshot, counts, decayed) and source (accompaniment, the agent's own melody, both)
the seeds are trained together in one vmapped program: behaviour cloning, and, from where it ended, GAIL, GAIL
as published (the discriminator sees one note, no KL penalty) and the KL penalty alone (no reward). Each seed
learns from eight of the ten tunes and is compared with the two others. Its sampling temperature is 1, or the
best by the tunes that it learned from. Writes `table.csv` (a row a seed; the same command goes on after the
settings that are in it), and `table.md`: means over seeds with 95 % intervals.

The task is that of the thesis (`--task published`): notes are all that is observed, and accompaniments stay
on one chord. It is the default, because the nine definitions of the state are the thesis's and are compared
as published. `--task metre` is the task of the stages: the place in the bar is observed too, and
accompaniments follow chords. `experiments.imitation_metre` measures what that changes in meter and harmony.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tables import interval, markdown
from mammadai_jax.agents import cloning, gail, ppo
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.environments import AccompaniedParams, Representation, Source
from mammadai_jax.music import statistics
from mammadai_jax.music.arrangements import KEYS, arrange
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.sample import accompanied
from mammadai_jax.music.tunes import TUNES
from mammadai_jax.stages import gail as stage
from mammadai_jax.stages.accompanied import ImitationData, imitation_data
from mammadai_jax.stages.noise import noise
from mammadai_jax.training.stage import ComposeRequest

MEASURES = {
    "held_out": "overlap with the two tunes left out",
    "overlap": "overlap with all ten tunes",
    "temperature": "temperature",
    "rest_rate": "rest rate",
    "distinct_pitches": "distinct pitches",
    "out_of_scale": "out of C major",
    "ngrams": "3-gram overlap",
    "copied": "longest copied run",
    "distinct": "distinct melodies",
}
TASKS = ("published", "metre")
TEMPERATURES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
C_MAJOR = (0, 2, 4, 5, 7, 9, 11)


class Variant(NamedTuple):
    """A way to imitate: GAIL's settings, and the reward of a logit if it is not that of the settings."""

    config: gail.Config
    reward_fn: Any = None


# The stage's KL penalty suits its own task; on the published one less was found to be better.
LEARNERS = {"published": dataclasses.replace(stage.LEARNER, kl_coef=0.1), "metre": stage.LEARNER}


def variants(name: str) -> dict[str, Variant]:
    """The ways to imitate on a task of TASKS."""
    learner = LEARNERS[name]
    return {
        "GAIL": Variant(learner),
        "GAIL as published": Variant(dataclasses.replace(learner, context_length=1, kl_coef=0.0)),
        "KL penalty alone": Variant(learner, jnp.zeros_like),
    }


def task_of(name: str, representation: Representation, source: Source) -> ImitationData:
    """A task of TASKS, for a definition of the state."""
    in_time = name == "metre"
    return imitation_data(representation, source, metre=in_time, progressions=in_time)


def left_out(seed: int) -> tuple[int, int]:
    """The numbers of the two tunes that a seed does not learn from; neighbours have other accompaniments."""
    first = 2 * seed % len(TUNES)
    return first, first + 1


def demonstrations(task: ImitationData, seed: int) -> cloning.Demonstrations:
    """Those of the eight tunes that a seed learns from, in every key."""
    arranged = len(task.arrangements)
    rows = lambda x: x.reshape(arranged, -1, *x.shape[1:])[kept(task, seed)].reshape(-1, *x.shape[1:])
    return jax.tree.map(rows, task.demonstrations)


def kept(task: ImitationData, seed: int) -> np.ndarray:
    """The numbers of the arrangements that a seed learns from."""
    return np.array([i for i in range(len(task.arrangements)) if i % len(TUNES) not in left_out(seed)])


def over(task: ImitationData, seed: int) -> AccompaniedParams:
    """The environment's params with the accompaniments that a seed learns from."""
    pieces = np.unique([task.arrangements[i].piece for i in kept(task, seed)])
    return dataclasses.replace(task.params, backing=task.params.backing[pieces])


def train(task: ImitationData, args: argparse.Namespace) -> dict[str, Any]:
    """Clone, then imitate in every way -> the policies' parameters by model, of all seeds (S, ...)."""
    of_seeds = lambda part: jax.tree.map(lambda *x: jnp.stack(x), *(part(task, s) for s in range(args.seeds)))
    demos, env_params = of_seeds(demonstrations), of_seeds(over)
    keys = jax.random.split(jax.random.key(0), args.seeds)
    clone = functools.partial(cloned, task=task, updates=args.warm)
    found = {"cloning": jax.jit(jax.vmap(clone))(keys, demos)}
    for name, variant in variants(args.task).items():
        learn = functools.partial(imitated, task=task, variant=variant, updates=args.updates)
        found[name] = jax.jit(jax.vmap(learn))(keys, demos, found["cloning"], env_params)
    return found


def cloned(key: jax.Array, demos: cloning.Demonstrations, *, task: ImitationData, updates: int) -> Any:
    """The parameters of a policy after behaviour cloning."""
    config, actor = cloning.Config(), ppo.make_network(stage.LEARNER.ppo, task.env)
    step = lambda state, _: (cloning.step(state, config, actor, demos)[0], None)
    return jax.lax.scan(step, cloning.init(key, config, task.env), length=updates)[0].params


def imitated(
    key: jax.Array,
    demos: Any,
    params: Any,
    env_params: AccompaniedParams,
    *,
    task: ImitationData,
    variant: Variant,
    updates: int,
) -> Any:
    """The parameters of a policy after adversarial imitation from `params` on."""
    more = {"reward_fn": variant.reward_fn}

    def step(state, _):
        return gail.step(state, variant.config, task.env, env_params, demos, **more)[0], None

    state = gail.init(key, variant.config, task.env, params)
    return jax.lax.scan(step, state, length=updates)[0].policy.params


def player(task: ImitationData, melodies: int) -> Any:
    """(parameters, key, temperature) of all seeds -> tokens (S, melodies, T) over the accompaniments in C."""
    config = dataclasses.replace(stage.LEARNER.ppo, num_envs=melodies, num_steps=stage.BARS * 16)
    states = jax.vmap(task.env.begin)(jnp.arange(melodies) % len(task.backings))

    def play(params, key, temperature):
        played = ppo.play(params, config, task.env, task.params, key, states, temperature=temperature)
        return played.action.T

    return jax.jit(jax.vmap(play))


def melodies_of(tokens: jax.Array) -> list[Melody]:
    """Rows of tokens (N, T) as melodies."""
    return [sample.melody for sample in accompanied(np.asarray(tokens), "")]


def best_temperatures(play: Any, params: Any, keys: jax.Array, tunes: Sequence[Melody]) -> np.ndarray:
    """For each seed (S,) the temperature whose melodies are most like the tunes that it learned from."""
    overlaps = []
    for temperature in TEMPERATURES:
        tokens = play(params, keys, jnp.full(len(keys), temperature))
        overlaps.append(
            [
                statistics.mean_overlap(
                    melodies_of(rows), [tune for i, tune in enumerate(tunes) if i not in left_out(seed)]
                )
                for seed, rows in enumerate(tokens)
            ]
        )
    return np.array(TEMPERATURES)[np.argmax(overlaps, axis=0)]


def measure(melodies: list[Melody], tunes: list[Melody], seed: int) -> dict[str, float]:
    """What the table says of one seed's melodies."""
    copied = statistics.novelty(melodies, tunes)
    return {
        "held_out": statistics.mean_overlap(melodies, [tunes[i] for i in left_out(seed)]),
        "overlap": statistics.mean_overlap(melodies, tunes),
        "rest_rate": float(statistics.rest_rate(melodies).mean()),
        "distinct_pitches": float(statistics.distinct_pitches(melodies).mean()),
        "out_of_scale": float(np.nanmean(statistics.out_of_scale_rate(melodies, scale=C_MAJOR))),
        "ngrams": statistics.ngram_overlap(melodies, tunes),
        "copied": float(copied.notes.mean()),
        "distinct": statistics.distinct(melodies),
    }


def rows(task: ImitationData, args: argparse.Namespace, tunes: list[Melody]) -> list[dict[str, Any]]:
    """Train one definition of the state, and measure each seed of each model at both temperatures."""
    play, found = player(task, args.melodies), []
    choosing, judging = (jax.random.split(jax.random.key(seed), args.seeds) for seed in (1, 2))
    for model, params in train(task, args).items():
        best = best_temperatures(play, params, choosing, tunes)
        for name, temperatures in ((model, np.ones(args.seeds)), (f"{model}, best temperature", best)):
            tokens = play(params, judging, jnp.asarray(temperatures, jnp.float32))
            for seed, (part, temperature) in enumerate(zip(tokens, temperatures, strict=True)):
                figures = measure(melodies_of(part), tunes, seed)
                found.append({"model": name, "seed": seed, "temperature": float(temperature), **figures})
    return found


def without_learning(args: argparse.Namespace, tunes: list[Melody]) -> list[dict[str, Any]]:
    """Rows of the other eight tunes, and of noise, for each pair of tunes left out."""
    request, found = ComposeRequest(args.melodies), []
    for seed in range(min(args.seeds, len(TUNES) // 2)):
        others = [tune for i, tune in enumerate(tunes) if i not in left_out(seed)]
        random = [sample.melody for sample in noise(jax.random.key(seed), request.melodies)]
        for name, melodies in (("the eight tunes", others), ("noise", random)):
            found.append({"model": name, "seed": seed, "temperature": 1.0, **measure(melodies, tunes, seed)})
    return [{"source": "", "representation": "", **row} for row in found]


def line(label: str, group: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row of the table: means over seeds with 95 % intervals."""

    def cell(name: str) -> str:
        mean, half = interval([float(row[name]) for row in group])
        return f"{mean:.3g}" + (f" ± {half:.2g}" if half == half and half else "")

    return [label, *map(cell, MEASURES)]


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for table.csv and table.md")
    parser.add_argument("--task", choices=TASKS, default="published")
    parser.add_argument("--updates", type=int, default=100, help="of GAIL, 4,096 notes each")
    parser.add_argument("--warm", type=int, default=10_000, help="minibatches of cloning before")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--melodies", type=int, default=50, help="that each seed plays to be measured")
    parser.add_argument(
        "--representations", nargs="+", default=get_args(Representation), choices=get_args(Representation)
    )
    parser.add_argument("--sources", nargs="+", default=get_args(Source), choices=get_args(Source))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    keep_programs()
    tunes = [a.melody for a in arrange(keys=KEYS[:1])]
    found = read(args.out) or without_learning(args, tunes)
    done = {(row["source"], row["representation"]) for row in found}
    for source, representation in itertools.product(args.sources, args.representations):
        if (source, representation) in done:
            continue
        begun, task = time.monotonic(), task_of(args.task, representation, source)
        where = {"source": source, "representation": representation}
        found += [{**where, **row} for row in rows(task, args, tunes)]
        write(args.out, found)
        print(f"{source} {representation}: {time.monotonic() - begun:.0f} s", flush=True)
    print((args.out / "table.md").read_text())


def read(out: Path) -> list[dict[str, Any]]:
    """The rows that an interrupted run has found; none if there are none."""
    path = out / "table.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(out: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """Write what has been found so far as table.csv and table.md."""
    with (out / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, found[0].keys())
        writer.writeheader()
        writer.writerows(found)
    names = lambda row: (row["source"], row["representation"], row["model"])
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in found:
        groups.setdefault(names(row), []).append(row)
    lines = [line(", ".join(filter(None, name)), group) for name, group in groups.items()]
    (out / "table.md").write_text(markdown(["source, state, model", *MEASURES.values()], lines) + "\n")


if __name__ == "__main__":
    sys.exit(answered(main, "imitation"))
