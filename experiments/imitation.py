"""GAIL against behaviour cloning and noise, for every definition of the state of Lowe (2020).

    python -m experiments.imitation --out DIR [--updates 100] [--seeds 5]

For each representation (snapshot, counts, decayed) and source (accompaniment, the agent's own melody, both),
the seeds are trained together in one vmapped program: behaviour cloning, and GAIL from where cloning ended.
Each seed then plays every accompaniment in C, and its melodies are compared with the ten tunes. Writes
`table.csv` (a row a seed), and `table.md`: means over seeds with the lowest and highest.
"""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
import sys
import time
from pathlib import Path
from typing import get_args

import jax
import numpy as np

from mammadai_jax.agents import cloning, gail, ppo
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.environments import Representation, Source
from mammadai_jax.music import statistics
from mammadai_jax.music.arrangements import KEYS, arrange
from mammadai_jax.music.notes import Melody
from mammadai_jax.stages import gail as stage
from mammadai_jax.stages.accompanied import ImitationData, imitation_data
from mammadai_jax.stages.noise import noise
from mammadai_jax.training.stage import ComposeRequest

MEASURES = {
    "overlap": "mean overlap area",
    "rest_rate": "rest rate",
    "distinct_pitches": "distinct pitches",
    "out_of_scale": "out of C major",
    "ngrams": "3-gram overlap",
    "copied": "longest copied run",
    "distinct": "distinct melodies",
}


def train(task: ImitationData, seeds: int, updates: int, warm: int, log=print):
    """Clone, then imitate, all seeds in one program -> parameters of cloning, of GAIL, GAIL's metrics."""
    demos, config, clone = task.demonstrations, stage.LEARNER, cloning.Config()
    actor = ppo.make_network(config.ppo, task.env)
    keys = jax.random.split(jax.random.key(0), seeds)
    repeat = lambda step, length: lambda s: jax.lax.scan(lambda s, _: step(s), s, length=length)
    cloned = jax.vmap(lambda key: cloning.init(key, clone, task.env))(keys)
    cloned, _ = jax.jit(jax.vmap(repeat(lambda s: cloning.step(s, clone, actor, demos), warm)))(cloned)
    state = jax.vmap(lambda key, params: gail.init(key, config, task.env, params))(keys, cloned.params)
    chunk = jax.jit(jax.vmap(repeat(lambda s: gail.step(s, config, task.env, task.params, demos), 10)))
    history = []
    for done in range(10, updates + 1, 10):
        state, metrics = chunk(state)
        history.append({name: np.asarray(value).mean(axis=1) for name, value in metrics.items()})
        if done % 100 == 0:
            log(
                f"  {done}/{updates}",
                {name: round(float(value.mean()), 3) for name, value in history[-1].items()},
            )
    return cloned.params, state.policy.params, history


def measure(melodies: list[Melody], tunes: list[Melody]) -> dict[str, float]:
    """What the table says of one seed's melodies."""
    copied = statistics.novelty(melodies, tunes)
    return {
        "overlap": statistics.mean_overlap(melodies, tunes),
        "rest_rate": float(statistics.rest_rate(melodies).mean()),
        "distinct_pitches": float(statistics.distinct_pitches(melodies).mean()),
        "out_of_scale": float(np.nanmean(statistics.out_of_scale_rate(melodies, scale=C_MAJOR))),
        "ngrams": statistics.ngram_overlap(melodies, tunes),
        "copied": float(copied.notes.mean()),
        "distinct": statistics.distinct(melodies),
    }


C_MAJOR = (0, 2, 4, 5, 7, 9, 11)


def rows(representation: Representation, source: Source, args, tunes: list[Melody]) -> list[dict]:
    """Train one definition of the state and measure each seed of cloning and GAIL."""
    task, begun = imitation_data(representation, source), time.monotonic()
    cloned, imitated, _ = train(task, args.seeds, args.updates, args.warm)
    found = []
    for name, params in (("cloning", cloned), ("gail", imitated)):
        for seed in range(args.seeds):
            chosen = jax.tree.map(lambda x, seed=seed: x[seed], params)
            request = ComposeRequest(args.melodies)
            samples = stage.play(stage.Settings(), task, chosen, jax.random.key(seed), request)
            figures = measure([sample.melody for sample in samples], tunes)
            found.append(
                {"model": name, "representation": representation, "source": source, "seed": seed, **figures}
            )
    print(f"{representation} {source}: {time.monotonic() - begun:.0f} s", flush=True)
    return found


def line(label: str, group: list[dict]) -> str:
    """A row of the README's table: mean (lowest to highest) over seeds."""

    def cell(name):
        values = [row[name] for row in group]
        spread = f" ({min(values):.3g} to {max(values):.3g})" if len(values) > 1 else ""
        return f"{np.mean(values):.3g}{spread}"

    return f"| {label} | " + " | ".join(cell(name) for name in MEASURES) + " |"


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for table.csv and table.md")
    parser.add_argument("--updates", type=int, default=100, help="of GAIL, 4,096 notes each")
    parser.add_argument("--warm", type=int, default=10_000, help="minibatches of cloning before")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--melodies", type=int, default=50, help="that each seed plays to be judged")
    parser.add_argument(
        "--representations", nargs="+", default=get_args(Representation), choices=get_args(Representation)
    )
    parser.add_argument("--sources", nargs="+", default=get_args(Source), choices=get_args(Source))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    keep_programs()
    tunes = [a.melody for a in arrange(keys=KEYS[:1])]
    random = [sample.melody for sample in noise(jax.random.key(0), args.melodies)]
    blank = {"representation": "", "source": "", "seed": 0}
    found = [
        {"model": "tunes", **blank, **measure(tunes, tunes)},
        {"model": "noise", **blank, **measure(random, tunes)},
    ]
    for source, representation in itertools.product(args.sources, args.representations):
        found += rows(representation, source, args, tunes)
        write(args.out, found)
    print((args.out / "table.md").read_text())


def write(out: Path, found: list[dict]) -> None:
    """Write what has been found so far as table.csv and table.md."""
    with (out / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, found[0].keys())
        writer.writeheader()
        writer.writerows(found)
    group = functools.partial(
        itertools.groupby, key=lambda row: (row["model"], row["source"], row["representation"])
    )
    ordered = sorted(found, key=lambda row: (row["source"], row["representation"], row["model"]))
    lines = [
        "| model, source, state | " + " | ".join(MEASURES.values()) + " |",
        "|---" * (len(MEASURES) + 1) + "|",
    ]
    lines += [line(", ".join(filter(None, name)), list(members)) for name, members in group(ordered)]
    (out / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(answered(main, "imitation"))
