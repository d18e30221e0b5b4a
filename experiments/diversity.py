"""What keeps tuned music diverse: a penalty on shared runs, or a discriminator that learns beside it.

    python -m experiments.diversity RUN --out DIR [--seeds 10 11 12 13 14 15 16 17 18 19]

RUN is the --out of `mammadai teach`. Its prompted composer is tuned by its reward model and the claims of the
prompts, from each seed, in each of VARIANTS. Every few updates it writes for the same prompts of melodies
that nothing learned from; what these are worth to the reward, and how diverse they are, is written to
DIR/VARIANT-SEED.csv, and what is there is not done again. `table.md` compares the variants of each seed: of
the measurements that reach the highest reward that all of them reach, the one with the highest Vendi score;
then all of them at the end; with 95 % intervals over seeds. `diversity.svg` shows diversity against reward.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.plots import plot
from experiments.tables import interval, markdown, read_csv, write_csv
from mammadai_jax.agents import adversarial
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.music import statistics
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.notes import MAGENTA, Melody
from mammadai_jax.stages import STAGES, preference, preference_reward
from mammadai_jax.stages.captioned import held_out_of
from mammadai_jax.stages.prompted import composer_of, write_melodies
from mammadai_jax.training.context import context_of, settings_of_run
from mammadai_jax.training.stage import Context

# Settings of the stage. The discriminator's were chosen on seed 100, among weights of 0.3, 1, 3 and 10.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "neither": {"variety_weight": 0.0, "discriminator_weight": 0.0},
    "penalty": {"variety_weight": 1.0, "discriminator_weight": 0.0},
    "discriminator": {
        "variety_weight": 0.0,
        "discriminator_weight": 3.0,
        "discriminator": adversarial.Config(disc_updates=6, learning_rate=2e-3),
    },
}
SEEDS = tuple(range(10, 20))
EVERY, PROMPTS = 10, 200  # updates between measurements, and melodies in each
COMPARED = ("preference", "adherence", "claims")  # terms of the reward that is compared
MEASURES = {
    "vendi": "Vendi score",
    "runs": "different runs of 8 notes",
    "shared": "runs of 6 notes that another melody has",
    "melodies": "different melodies",
}
Row = dict[str, float]


def measure(tokens: np.ndarray) -> Row:
    """How diverse melodies (N, T) are, by the names of MEASURES."""
    melodies = [Melody(MAGENTA.decode(row)) for row in tokens]
    return {
        "vendi": statistics.vendi_score(melodies),
        "runs": statistics.distinct_runs(melodies),
        "shared": statistics.self_overlap(melodies, 6),
        "melodies": statistics.distinct(melodies),
    }


def tuned(context: Context, settings: preference.Settings, seeds: Sequence[int]) -> Iterator[list[Row]]:
    """The measurements of one tuning from each seed, the first of the composer before it."""
    data = preference.data(settings, context)
    prompts = held_out_of(context).draw_prompts(context.random("diversity"), PROMPTS)
    rows, composer = preference_reward.rows_of(context, prompts), composer_of(context)
    judging = context.settings_of("reward_model").learner
    reward = jax.jit(preference_reward.reward_of(judging, composer))
    weights = preference.reward_weights(settings)
    options = {"steps": context.settings_of("embedding").length, "temperature": settings.learner.temperature}
    step = jax.jit(preference.make_learner(settings, context, data).step, donate_argnums=0)

    def row(params: Any, update: int) -> Row:
        key = context.key(f"diversity {update}")
        tokens = write_melodies(composer, params, key, rows["condition"], **options)
        terms = reward(data.reward, rows, tokens)
        worth = sum(weights[name] * float(terms[name].mean()) for name in COMPARED)
        return {"update": update, "reward": worth, **measure(tokens)}

    for seed in seeds:
        own = dataclasses.replace(context, seed=seed)
        state = preference.make_learner(settings, own, data).init()
        found = [row(state.params["policy"], 0)]
        for update in range(1, settings.learner.num_updates + 1):
            state, _ = step(state, data)
            if update % EVERY == 0:
                found.append(row(state.params["policy"], update))
                print(f"seed {seed}: {found[-1]}", file=sys.stderr)
        yield found


def at_equal_reward(curves: Mapping[str, Sequence[Row]]) -> dict[str, Row]:
    """The measures of each variant at the highest reward that all of them reach, or above it.

    Of the measurements there, it is the one with the highest Vendi score: whoever tunes keeps that composer.
    "before" is the composer before tuning.
    """
    reward = min(max(row["reward"] for row in curve) for curve in curves.values())
    reached = {name: [row for row in curve if row["reward"] >= reward] for name, curve in curves.items()}
    most_diverse = {name: max(rows, key=lambda row: row["vendi"]) for name, rows in reached.items()}
    return {"before": next(iter(curves.values()))[0], **most_diverse}


def at_the_end(curves: Mapping[str, Sequence[Row]]) -> dict[str, Row]:
    """The measures of each variant when its tuning ends, and "before"."""
    return {"before": next(iter(curves.values()))[0], **{name: curve[-1] for name, curve in curves.items()}}


def page(seeds: Sequence[Mapping[str, Row]]) -> str:
    """The table as Markdown: a row for each measure, a column for each variant."""
    names, rows = list(seeds[0]), []
    for measure, title in {"reward": "reward", "update": "updates", **MEASURES}.items():
        cells = (interval([seed[name][measure] for seed in seeds]) for name in names)
        rows.append([title, *(f"{mean:.3g} ± {half:.2g}" for mean, half in cells)])
    return markdown([f"{len(seeds)} seeds", *names], rows) + "\n"


def read(path: Path) -> list[Row]:
    """The measurements that a tuning wrote."""
    return [{name: float(value) for name, value in row.items()} for row in read_csv(path)]


def curves_of(runs: Sequence[Mapping[str, Sequence[Row]]]) -> dict[str, list[tuple[float, float]]]:
    """Reward and Vendi score of each variant, measurement by measurement, in the mean over seeds."""
    mean = lambda rows, axis: float(np.mean([row[axis] for row in rows]))
    means = lambda curves: [(mean(rows, "reward"), mean(rows, "vendi")) for rows in zip(*curves, strict=True)]
    return {name: means([run[name] for run in runs]) for name in runs[0]}


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS))
    args = parser.parse_args()
    keep_programs()
    args.out.mkdir(parents=True, exist_ok=True)
    run, parts = settings_of_run(args.run, STAGES)
    context = context_of(run, parts, args.run)
    place = lambda variant, seed: args.out / f"{variant}-{seed}.csv"
    with jax.default_matmul_precision(run.precision):
        for variant in args.variants:
            settings = dataclasses.replace(parts["preference"].settings, **VARIANTS[variant])
            missing = [seed for seed in args.seeds if not place(variant, seed).exists()]
            for seed, rows in zip(missing, tuned(context, settings, missing), strict=True):
                write_csv(place(variant, seed), rows)
    done = [seed for seed in args.seeds if all(place(name, seed).exists() for name in VARIANTS)]
    if done:
        runs = [{name: read(place(name, seed)) for name in VARIANTS} for seed in done]
        tables = [page([compared(curves) for curves in runs]) for compared in (at_equal_reward, at_the_end)]
        text = "At equal reward:\n\n{}\nAt the end:\n\n{}".format(*tables)
        axes = "reward", f"Vendi score of {PROMPTS}"
        write_atomically(args.out / "table.md", text.encode())
        write_atomically(args.out / "diversity.svg", plot(curves_of(runs), *axes, whole=True).encode())
        print(text)


if __name__ == "__main__":
    sys.exit(answered(main, "diversity"))
