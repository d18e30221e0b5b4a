"""Music of several voices, measured on the standard split of Bach's chorales.

    python -m experiments.polyphony --out DIR [--parts likelihood] [--pieces DIR]
    python -m experiments.polyphony --out DIR --parts tuning [--seeds 100 101 ... 109]

Every part goes on after an interruption with the same command: each model and seed has a directory of its
own, and `table.md`, of tuning in a folder of that name, is written anew after each. The parts:

likelihood  -log p of the test pieces, in nats a frame, of priors that were chosen by the validation pieces
tuning      rules of harmony before and after Q-, Psi- and G-learning, with and without a KL penalty
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments import polyphony_likelihood, polyphony_tuning
from mammadai_jax.cli import answered, keep_programs

PARTS = {"likelihood": polyphony_likelihood, "tuning": polyphony_tuning}


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pieces", type=Path, help="directory with TASK.npz, instead of music21's chorales")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--models", nargs="+", help="of the part; by default all")
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument(
        "--updates", type=int, help="of each training, instead of its own number; tuning: but of the prior"
    )
    parser.add_argument("--preset", default="full", help="tuning: of the stages chorales and polyphony")
    parser.add_argument("--compositions", type=int, default=500, help="tuning: that are measured")
    args = parser.parse_args()
    check(args)
    keep_programs()
    for part in args.parts:
        PARTS[part].run(args)


def check(args: argparse.Namespace) -> None:
    """ValueError for models that no part has."""
    for part in args.parts:
        if unknown := sorted(set(args.models or ()) - set(PARTS[part].MODELS)):
            raise ValueError(
                f"--parts {part} has no model {unknown[0]!r}; there are {', '.join(PARTS[part].MODELS)}"
            )


if __name__ == "__main__":
    sys.exit(answered(main, "polyphony"))
