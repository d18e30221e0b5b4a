"""The meter and the harmony of what imitation learns: the task of Lowe (2020) beside that of the stages.

    python -m experiments.imitation_metre --out DIR [--seeds 6 7 8]

In the thesis notes are all that is observed, and each accompaniment stays on one chord. In the stages the
place in the bar is observed too, by the policy and by GAIL's discriminator, and the accompaniments follow
chords that are matched to the tunes. On either task policies are cloned and go on with GAIL, with the
settings of the stages "cloning" and "gail" (on the published task with a KL penalty of 0.1); each seed plays
melodies at temperature 1 over the accompaniments that were learned from. Writes `table.csv` (a row a seed;
the same command goes on after the tasks that are in it) and `table.md`: means over the seeds, with the lowest
and the highest. The tunes are a task's first row.
The chords and the KL penalty were chosen on the seeds 0 to 5, 100, 101 and 102; the others are for the table.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.imitation import LEARNERS, TASKS, Variant, cloned, imitated, player, read, task_of
from experiments.tables import markdown
from mammadai_jax.agents import gail as gail_agent
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.music import statistics
from mammadai_jax.music.arrangements import KEYS, arrange
from mammadai_jax.music.notes import PIANO
from mammadai_jax.music.sample import Sample, accompanied, tunes
from mammadai_jax.music.statistics import musicality
from mammadai_jax.stages import cloning, gail
from mammadai_jax.stages.accompanied import ImitationData

MEASURES = {
    "onsets_on_beats": "onsets on beats",
    "onsets_on_weak_sixteenths": "onsets on weak sixteenths",
    "consonance_on_beats": "consonance on beats",
    "notes_per_quarter": "notes per quarter",
    "rest_rate": "rest rate",
    "overlap": "overlap area",
    "copied": "longest copied run",
}
SHARES = ("onsets_on_beats", "onsets_on_weak_sixteenths", "consonance_on_beats", "rest_rate")


def measure(samples: Sequence[Sample]) -> dict[str, float]:
    """What the table says of melodies over accompaniments."""
    melodies, learned = [sample.melody for sample in samples], [a.melody for a in arrange(keys=KEYS[:1])]
    measured = musicality.measure(melodies, [sample.line for sample in samples])
    return {
        **{name: float(np.nanmean(measured[name])) for name in list(MEASURES)[:4]},
        "rest_rate": float(statistics.rest_rate(melodies).mean()),
        "overlap": statistics.mean_overlap(melodies, learned),
        "copied": float(statistics.novelty(melodies, learned).notes.mean()),
    }


def tied(sample: Sample) -> Sample:
    """A sample as the policy's alphabet says it: notes that are repeated are one."""
    events = PIANO.decode(PIANO.encode(sample.melody.events))
    return dataclasses.replace(sample, music=dataclasses.replace(sample.melody, events=events))


def train(task: ImitationData, learner: gail_agent.Config, args: argparse.Namespace) -> dict[str, Any]:
    """Clone, then imitate -> the policies' parameters by model, of all seeds (S, ...)."""
    keys, demos = jnp.stack([jax.random.key(seed) for seed in args.seeds]), task.demonstrations
    clone = functools.partial(cloned, demos=demos, task=task, updates=args.warm)
    learn = functools.partial(imitated, task=task, variant=Variant(learner), updates=args.updates)
    first = jax.jit(jax.vmap(clone))(keys)
    later = jax.jit(jax.vmap(learn, in_axes=(0, None, 0, None)))(keys, demos, first, task.params)
    return {"cloning": first, "GAIL": later}


def rows(name: str, task: ImitationData, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Train on a task, and measure each seed of each model."""
    play, made = player(task, args.melodies), []
    keys = jnp.stack([jax.random.fold_in(jax.random.key(seed), 1) for seed in args.seeds])
    for model, params in train(task, LEARNERS[name], args).items():
        tokens = np.asarray(play(params, keys, jnp.ones(len(args.seeds))))
        for seed, part in zip(args.seeds, tokens, strict=True):
            samples = accompanied(part, model, task.backings)
            made.append({"model": model, "seed": seed, **measure(samples)})
    return made


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for table.csv and table.md")
    parser.add_argument("--seeds", type=int, nargs="+", default=[6, 7, 8])
    parser.add_argument("--updates", type=int, default=gail.Settings().num_updates, help="of GAIL")
    parser.add_argument("--warm", type=int, default=cloning.Settings().num_updates, help="of cloning")
    parser.add_argument("--melodies", type=int, default=50, help="that each seed plays")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    keep_programs()
    done, settings = read(args.out), cloning.Settings()
    for name in args.tasks:
        if name in {row["task"] for row in done}:
            continue
        begun, task = time.monotonic(), task_of(name, settings.representation, settings.source)
        heard = [tied(sample) for sample in tunes(progressions=name == "metre")]
        made = [{"model": "the ten tunes", "seed": "", **measure(heard)}, *rows(name, task, args)]
        done += [{"task": name, **row} for row in made]
        write(args.out, done)
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    print((args.out / "table.md").read_text())


def line(label: str, group: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row of the table: means over the seeds, with the lowest and the highest."""

    def cell(name: str) -> str:
        values = [float(row[name]) for row in group]
        spelled = "{:.1%}".format if name in SHARES else "{:.2f}".format
        extremes = f" ({spelled(min(values))}–{spelled(max(values))})" if len(values) > 1 else ""
        return (spelled(float(np.mean(values))) + extremes).replace("%", " %")

    return [label, *map(cell, MEASURES)]


def write(out: Path, done: Sequence[Mapping[str, Any]]) -> None:
    """Write what was measured so far as table.csv and table.md."""
    with (out / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, done[0].keys())
        writer.writeheader()
        writer.writerows(done)
    lines = []
    for label in dict.fromkeys((row["task"], row["model"]) for row in done):
        group = [row for row in done if (row["task"], row["model"]) == label]
        lines.append(line(", ".join(label), group))
    (out / "table.md").write_text(markdown(["task, model", *MEASURES.values()], lines) + "\n")


if __name__ == "__main__":
    sys.exit(answered(main, "imitation_metre"))
