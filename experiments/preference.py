"""MusicRL at note level (Cideron et al. 2024): win rates by two juries of simulated listeners, over seeds.

    python -m experiments.preference --out DIR [--seeds 0 1 2 3 4] [--variants traits no-traits]
                                     [--human FOLDER] [--preset full|small|tiny]

Every seed has a base of its own: a joint embedding of captions and melodies, a second one for evaluation
only, a prompted composer, a quality model, and a reward model on pairs that simulated listeners chose from.
On it stand MusicRL-R (adherence and quality), -U (the reward model) and -RU (U, from R and with a KL penalty
to R) by PPO, and the best of 16 of the base's melodies by the reward model. They and the base write for
prompts of held-out melodies in held-out wordings. Two juries who taught nobody compare them: one of the same
kind as the listeners who taught, and one whose utility is made of what no learner reads (`second_jury`). In
the variant "no-traits" no network reads the traits of which the first kind's utility is made.

With --human, the reward models are also tested on real people's choices, which are read from a folder and are
not part of this project (`human_choices`); what is compared there is kept out of the corpus.

Each seed of a variant has a run directory in DIR: the same command goes on after an interruption, and
commands for other seeds may share DIR. Every command writes the tables of all finished seeds anew:
`win_matrix.csv`, `systems.csv`, `juries.csv`, `human.csv`, `report.md`, and the curves `rewards.svg` and
`overoptimisation.svg` of seed 0. Every listener is simulated but those of --human.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments import human_accuracy, human_choices, preference_settings
from experiments import preference_pages as pages
from experiments.human_choices import Study
from experiments.preference_settings import BEST, VARIANTS
from experiments.preference_study import study
from experiments.preference_systems import compare, contest, correlations, measured
from experiments.preference_world import World, prepare
from experiments.tables import write_csv
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.training import loop
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import as_dict

STUDIED = ("traits", 0)  # the seed of which everything else is measured
SHOWN = ("tunes", "base", BEST, "R", "U", "RU")  # whose melodies' utilities are correlated


def run_seed(args: argparse.Namespace, variant: str, seed: int, studies: Sequence[Study]) -> None:
    """Train, judge and measure a seed of a variant; what an earlier command did is not done again."""
    path = pages.seed_path(args.out, variant, seed)
    settings = preference_settings.settings_for(args.preset, variant, seed)
    about = {
        "settings": as_dict(settings),
        "data": {"corpus": settings.corpus, "prompts": args.prompts},
        "human": sorted(one.name for one in studies),
    }
    with Run(path, about, resume=(path / "run.json").exists()) as run:
        if not (path / pages.WINS).exists():
            drive = functools.partial(loop.train, run=run)
            preset = preference_settings.PRESETS[args.preset]
            world = prepare(preset, settings, run, drive, without=human_choices.tunes(studies))
            judge(world, drive, args.prompts, studies, (variant, seed) == STUDIED)


def judge(world: World, drive: Callable, prompts: int, studies: Sequence[Study], studied: bool) -> None:
    """Tune the systems, let them write for so many held-out prompts, and write the seed's tables."""
    path = world.context.path
    rows = world.test.draw(world.context.random("test prompts"), prompts)
    texts, tunes = [world.test.prompts[row] for row in rows], world.test.tokens[rows]
    written, systems = contest(world, drive, texts)
    written = {**written, "tunes": tunes}
    systems.append({"system": "tunes", **measured(world, tunes, texts)})
    write_csv(path / pages.SYSTEMS, systems)
    shown = {name: written[name] for name in SHOWN}
    write_csv(path / pages.JURIES, list(correlations(world, shown, texts)))
    if studies:
        write_csv(
            path / pages.HUMAN,
            list(human_accuracy.accuracies(human_accuracy.scores(world), world.length, studies)),
        )
    if studied:
        study(world, drive, written, texts)
    write_csv(path / pages.WINS, list(compare(world, written, texts)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--variants", choices=tuple(VARIANTS), nargs="+", default=list(VARIANTS))
    parser.add_argument("--prompts", type=int, default=192, help="that each seed's systems write for")
    parser.add_argument("--human", type=Path, help="folder of people's choices, see human_choices")
    parser.add_argument("--preset", choices=tuple(preference_settings.PRESETS), default="full")
    args = parser.parse_args()
    if min(args.seeds) < 0 or args.prompts < 1:
        parser.error("--seeds are 0 or more, and --prompts 1 or more")
    return args


def main() -> None:
    """Run the experiment."""
    args = _arguments()
    keep_programs()
    studies = human_choices.read(args.human) if args.human else []
    for seed in args.seeds:
        for variant in args.variants:
            run_seed(args, variant, seed, studies)
            pages.write(args.out)


if __name__ == "__main__":
    sys.exit(answered(main, "preference"))
