"""How often a run, or a trait of the music, chooses between two pieces as real people did.

    python -m experiments.human --data FOLDER --run RUN --out DIR

FOLDER holds any of the published sets that `human_choices` reads; none is part of this project. RUN is the
--out of `mammadai teach`: asked are its reward model, its prior's likelihood, and the simulated listeners
that the reward model learned from. None of these has learned from people; of chorale28's seven real chorales
the prior may have learned. Baselines have: the sixteen traits together, and each alone, fitted to other
pieces of the same set; and the sixteen, fitted to another set. Pieces are heard as skylines, in windows.
Intervals are over pieces. DIR gets `human.csv`, and `table.md` with what is said of the pairs of SHOWN.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import human_accuracy, human_choices
from experiments.human_choices import Study
from experiments.tables import markdown, write_csv
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.learning import sequences
from mammadai_jax.listening import panel as panels
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.traits import TYPICAL
from mammadai_jax.stages import STAGES, prior
from mammadai_jax.stages.captioned import captioned_of, hear, listeners_of
from mammadai_jax.stages.reward_model import likeness
from mammadai_jax.training.context import context_of, settings_of_run
from mammadai_jax.training.stage import Context

SHOWN = (
    ("survey104", "all"),
    ("survey104", "one instrument"),
    ("survey104", "one instrument, computer"),
    ("chorale28", "all"),
    ("chorale28", "without the real ones"),
    ("aimgef CSQ me", "order of means"),
    ("aimgef CSQ me", "order of means, one system"),
)
TRANSFER = ("aimgef CSQ me", "survey104")  # fitted to all of the one, asked of the other
EXCERPTS = 256  # whose likeness to their captions stands for that of any music to no prompt


def predictors(context: Context) -> dict[str, human_accuracy.Score]:
    """What a run says of melodies (N, T), each (N,)."""
    given, joint = captioned_of(context), context.learned("embedding")
    rows = given.draw(context.random("human"), min(EXCERPTS, len(given.tokens)))
    condition = joint.condition([given.prompts[row] for row in rows])
    near = likeness(condition, joint.embedding.music(jnp.asarray(given.tokens[rows]))).mean()
    composer, params = prior.composer_of(context.settings_of("prior")), context.learned("prior")
    taught = listeners_of(context)[0]

    def likelihood(tokens):
        return -sequences.negative_log_likelihood(composer, params, tokens.T).mean(axis=0)

    return {
        "reward model": human_accuracy.reward_score(context, context.learned("reward_model"), near),
        "log p under the prior": jax.jit(likelihood),
        "simulated listeners": lambda tokens: panels.gold(taught, hear(tokens), jnp.zeros(len(tokens))),
    }


def transferred(study: Study, length: int) -> human_accuracy.Score:
    """A linear score of the sixteen traits, fitted to the whole of a study."""
    pairs = next(iter(study.pairs.values()))
    columns = human_accuracy.scored(study.melodies, human_accuracy.traits_of, length)
    mean, deviation = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-9)
    z = (columns - mean) / deviation
    weights = human_accuracy.bradley_terry(z[pairs.a] - z[pairs.b], pairs.weight)
    return lambda tokens: ((human_accuracy.traits_of(tokens) - mean) / deviation) @ weights


def rows_of(context: Context, studies: Sequence[Study]) -> Iterator[dict[str, Any]]:
    """The accuracies of all predictors and baselines on all studies."""
    length, asked = context.settings_of("embedding").length, predictors(context)
    named = {study.name: study for study in studies}
    learned, other = TRANSFER
    for study in studies:
        own = dict(asked)
        if study.name == other and learned in named:
            own[f"sixteen traits, fitted to {learned}"] = transferred(named[learned], length)
        yield from human_accuracy.accuracies(own, length, [study], alone=list(TYPICAL))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What is said of the pairs of SHOWN, in %, as Markdown; of single traits the best in each column."""
    shown = [key for key in SHOWN if any((row["study"], row["pairs"]) == key for row in rows)]
    columns = {key: [row for row in rows if (row["study"], row["pairs"]) == key] for key in shown}
    best = {
        key: max((r for r in own if " alone" in r["predictor"]), key=lambda r: r["accuracy"])
        for key, own in columns.items()
    }
    names = [name for name in dict.fromkeys(row["predictor"] for row in rows) if " alone" not in name]
    lines = []
    for name in names:
        cells = [next((cell(r) for r in columns[key] if r["predictor"] == name), "") for key in shown]
        if any(cells):
            lines.append([name, *cells])
    cells = [f"{cell(row)} {row['predictor'].partition(' alone')[0]}" for row in best.values()]
    lines.append(["the best of the traits alone, chosen afterwards", *cells])
    lines.append(["measured before", *(columns[key][0]["reference"] for key in shown)])
    return markdown(["", *(f"{study}: {pairs}" for study, pairs in shown)], lines) + "\n"


def cell(row: Mapping[str, Any]) -> str:
    """An accuracy in % and its interval."""
    return f"{100 * row['accuracy']:.1f} ({100 * row['low']:.0f}-{100 * row['high']:.0f})"


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    keep_programs()
    studies = human_choices.read(args.data)
    run, parts = settings_of_run(args.run, STAGES)
    args.out.mkdir(parents=True, exist_ok=True)
    with jax.default_matmul_precision(run.precision):
        rows = list(rows_of(context_of(run, parts, args.run), studies))
    write_csv(args.out / "human.csv", rows)
    write_atomically(args.out / "table.md", table(rows).encode())
    print(table(rows))


if __name__ == "__main__":
    sys.exit(answered(main, "human"))
