"""How often each kind of claim of a prompt holds of what a run's prompted stages write.

    python -m experiments.claims RUN... --out DIR [--prompts 600]

A RUN is the --out of `mammadai teach`. All of its systems write one melody for each of the same prompts of
melodies that nothing learned from, in wordings held out: the prompted composer without a prompt (guidance 0)
and with it, the tuned composer of the stage "preference", and the best of 16 of both, picked as `mammadai
compose` does. A kind counts where a prompt claims something of it. Shares are in %, with 95 % intervals: over
runs, or over prompts if there is one run. DIR gets `table.md`, and the shares as `claims.json`.
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
from mammadai_jax.commands.compose import CANDIDATES
from mammadai_jax.music import captions
from mammadai_jax.music.files import write_atomically
from mammadai_jax.stages import STAGES
from mammadai_jax.stages.captioned import claims_of, held_out_of
from mammadai_jax.stages.picking import pick, scorer_of
from mammadai_jax.stages.prompted import composer_of, write_melodies
from mammadai_jax.training.context import context_of, settings_of_run
from mammadai_jax.training.stage import ComposeRequest, Context

KINDS = captions.MEASURED  # of a kind of tune no rule can tell
UNPROMPTED, PROMPTED, TUNED = "unprompted", "prompted", "preference"
Shares = Mapping[str, Mapping[str, tuple[float, int]]]  # by system and kind: a share, and of how many claims


def shares(path: Path, count: int) -> Shares:
    """The shares of claims that hold of what each system of a run writes for so many prompts."""
    run, parts = settings_of_run(path, STAGES)
    context = context_of(run, parts, path)
    prompts = held_out_of(context).draw_prompts(context.random("claims"), count)
    temperatures = {
        PROMPTED: parts[PROMPTED].settings.temperature,
        TUNED: parts[TUNED].settings.learner.temperature,
    }
    with jax.default_matmul_precision(run.precision):
        written = systems(context, prompts, temperatures)
    codes = claims_of(prompts)
    return {name: by_kind(codes, tokens) for name, tokens in written.items()}


def systems(
    context: Context, prompts: Sequence[str], temperatures: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """What every system writes for N prompts, int32 (N, T), by its name."""
    composer, condition = composer_of(context), context.learned("embedding").condition(prompts)
    scorer, steps = scorer_of(context), context.settings_of("embedding").length
    request, written = ComposeRequest(len(prompts), prompts=tuple(prompts)), {}
    for stage, temperature in temperatures.items():
        params, key = context.learned(stage), context.key(f"{stage} claims")
        options = {"steps": steps, "temperature": temperature, "allowed": request.allowed(steps)}
        if stage == PROMPTED:
            inputs = composer, params, context.key("unprompted claims"), condition
            written[UNPROMPTED] = write_melodies(*inputs, **options, guidance=0.0)
        options["form"] = request.form(key, steps, composer.reach, prompts)
        written[stage] = write_melodies(composer, params, key, condition, **options)
        options |= {"candidates": CANDIDATES, "scorer": scorer}
        written[f"{stage}, best of {CANDIDATES}"] = pick(composer, params, key, prompts, condition, **options)
    return written


_holds = jax.jit(captions.holds)


def by_kind(codes: np.ndarray, tokens: np.ndarray) -> dict[str, tuple[float, int]]:
    """The share of the claims (N, kinds) of each kind that hold of melodies (N, T), and their number."""
    held = np.asarray(_holds(codes, tokens))
    columns = {name: list(captions.ATTRIBUTES).index(name) for name in KINDS}
    claimed = {name: codes[:, column] >= 0 for name, column in columns.items()}
    return {
        name: (float(held[claimed[name], column].mean()), int(claimed[name].sum()))
        for name, column in columns.items()
        if claimed[name].any()
    }


def page(runs: Sequence[Shares], prompts: int) -> str:
    """The table as Markdown: a row for each kind, their mean, and a column for each system."""
    names, kinds = list(runs[0]), [kind for kind in KINDS if all(kind in run[UNPROMPTED] for run in runs)]
    rows = [[kind, *(cell([run[name][kind] for run in runs]) for name in names)] for kind in kinds]
    means = [[float(np.mean([run[name][kind][0] for kind in kinds])) for run in runs] for name in names]
    rows.append(["mean", *(f"{100 * np.mean(m):.1f}" for m in means)])
    size = f"{len(runs)} run{'s' * (len(runs) > 1)}, {prompts} prompts each."
    return f"{size}\n\n{markdown(['kind', *names], rows)}\n"


def cell(found: Sequence[tuple[float, int]]) -> str:
    """The mean share of runs in %, with half of its 95 % interval."""
    mean, half = interval([share for share, _ in found])
    if len(found) == 1:
        half = 1.96 * math.sqrt(mean * (1 - mean) / found[0][1])
    return f"{100 * mean:.1f} ± {100 * half:.1f}"


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=600, help="that each system writes for")
    args = parser.parse_args()
    if args.prompts < 1:
        raise ValueError(f"--prompts is 1 or more, not {args.prompts}")
    keep_programs()
    args.out.mkdir(parents=True, exist_ok=True)
    runs = [shares(path, args.prompts) for path in args.runs]
    numbers = {str(path): run for path, run in zip(args.runs, runs, strict=True)}
    write_atomically(args.out / "claims.json", json.dumps(numbers, indent=1).encode() + b"\n")
    write_atomically(args.out / "table.md", page(runs, args.prompts).encode())
    print(page(runs, args.prompts))


if __name__ == "__main__":
    sys.exit(answered(main, "claims"))
