"""Musicality by stage over runs: how far what each stage composes is from real tunes.

    python -m experiments.musicality RUN... --out DIR [--melodies 200]

A RUN is the --out of `mammadai teach`; several of them, trained with several seeds, give intervals over the
runs, a single one those of a bootstrap over its melodies. Each is compared with the tunes of its corpus that
it did not learn from; stages that take prompts write for the last excerpts of held-out melodies, which are
measured beside them, as short as they are and in the key and meter in which they are heard. Stages that are
not trained yet are left out. DIR gets `table.md`, and the same numbers as `musicality.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.tables import interval, markdown
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.sample import unaccompanied
from mammadai_jax.music.statistics.musicality import MEASURES
from mammadai_jax.music.statistics.musicality.distance import Estimate, Musicality, Typical, of_tunes
from mammadai_jax.stages import STAGES
from mammadai_jax.stages.captioned import Captioned, held_out_of
from mammadai_jax.training.context import context_of, is_trained, settings_of_run
from mammadai_jax.training.musicality import of_samples, real_tunes
from mammadai_jax.training.report.musicality import by_stage, change
from mammadai_jax.training.report.table import Cell
from mammadai_jax.training.run_report import compared_with, write_samples
from mammadai_jax.training.settings import is_left_out
from mammadai_jax.training.stage import Context

TUNES, EXCERPTS = "Real tunes", "Real excerpts"
TITLES = {EXCERPTS: EXCERPTS} | {spec.name: spec.title for spec in STAGES}


def measured(path: Path, melodies: int) -> dict[str, Musicality]:
    """The musicality of real tunes and excerpts, and of so many melodies of each stage, by its name."""
    run, parts = settings_of_run(path, STAGES)
    context = context_of(run, parts, path)
    tunes, last = real_tunes(parts, context)[1], last_excerpts(context, melodies)
    composing = {name: part for name, part in parts.items() if part.spec.compose and not is_left_out(part)}
    with jax.default_matmul_precision(run.precision):
        samples = {
            name: write_samples(
                part,
                context,
                num_samples=melodies,
                saved_samples=0,
                prompts=last.prompts if part.spec.takes_prompt else (),
            )
            for name, part in composing.items()
            if part.spec.make_learner is None or is_trained(path, name)
        }
    samples = {EXCERPTS: unaccompanied(last.tokens, EXCERPTS), **samples}
    return {TUNES: of_tunes(tunes)} | {name: of_samples(each, tunes) for name, each in samples.items()}


def last_excerpts(context: Context, count: int) -> Captioned:
    """So many excerpts with which a melody ends that nothing learned from, of all collections."""
    held_out = held_out_of(context)
    last = held_out.take(np.flatnonzero(held_out.ends))
    return last.take(last.draw(context.random("musicality"), count))


def together(runs: Sequence[Musicality]) -> Musicality:
    """The mean over runs, with Student's intervals; that of a single run as it is."""
    if len(runs) == 1:
        return runs[0]
    means = lambda each: {name: float(np.mean([one[name] for one in each])) for name in MEASURES}
    return Musicality(
        min(run.bars for run in runs),
        Typical(means([run.real.mean for run in runs]), means([run.real.deviation for run in runs])),
        means([run.means for run in runs]),
        {name: over_runs([run.deviations[name].value for run in runs]) for name in MEASURES},
        over_runs([run.distance.value for run in runs]),
    )


def over_runs(values: Sequence[float]) -> Estimate:
    """The mean of independent values with its interval."""
    mean, half = interval(values)
    return Estimate(mean, mean - half, mean + half)


def page(runs: Sequence[Mapping[str, Musicality]], melodies: int) -> str:
    """The tables as Markdown, the nearest to the tunes in bold, and what each stage gained and lost."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    each = {name: together([run[name] for run in runs]) for name in names}
    tunes, specs = each.pop(TUNES), {spec.name: spec for spec in STAGES}
    tables = by_stage({TITLES[name]: music for name, music in each.items()}, TUNES, tunes).tables
    lines = [f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}, {melodies} melodies of each stage.", ""]
    for table in tables:
        rows = [[row.title, *map(_cell, row.cells)] for row in table.rows]
        lines += [f"**{table.caption}**", "", markdown(table.columns, rows), ""]
    stages = [name for name in each if name in specs]
    for name in stages:
        if other := compared_with(specs[name], stages):
            lines.append(f"* **{TITLES[name]}**. {change(each[other], each[name], TITLES[other])}")
    return "\n".join([*lines, ""])


def _cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.mark else cell.text
    return f"{text} ({cell.note})" if cell.note else text


def plain(music: Musicality) -> dict[str, object]:
    """Means and distance as plain values for JSON; what is not defined is null."""
    finite = lambda value: None if math.isnan(value) else value
    return {
        "bars": music.bars,
        "distance": [finite(value) for value in music.distance],
        "means": {name: finite(value) for name, value in music.means.items()},
        "deviations": {name: finite(each.value) for name, each in music.deviations.items()},
    }


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--melodies", type=int, default=200, help="of each stage")
    args = parser.parse_args()
    if args.melodies < 2:
        raise ValueError(f"--melodies is 2 or more, not {args.melodies}")
    keep_programs()
    args.out.mkdir(parents=True, exist_ok=True)
    runs = [measured(path, args.melodies) for path in args.runs]
    numbers = {
        str(path): {name: plain(music) for name, music in run.items()}
        for path, run in zip(args.runs, runs, strict=True)
    }
    write_atomically(args.out / "musicality.json", json.dumps(numbers, indent=1).encode() + b"\n")
    write_atomically(args.out / "table.md", page(runs, args.melodies).encode())
    print(page(runs, args.melodies))


if __name__ == "__main__":
    sys.exit(answered(main, "musicality"))
