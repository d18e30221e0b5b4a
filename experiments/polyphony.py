"""Music of several voices, measured on the standard split of Bach's chorales.

    python -m experiments.polyphony --out DIR [--parts likelihood]

Every part goes on after an interruption with the same command: each model and seed has a directory of its
own, and `table.md` is written anew after each. The parts:

likelihood  -log p of the test pieces, in nats a frame, of priors that were chosen by the validation pieces
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments import polyphony_likelihood
from mammadai_jax.cli import answered, keep_programs

PARTS = {"likelihood": polyphony_likelihood.run}


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pieces", type=Path, help="directory with TASK.npz, instead of music21's chorales")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--models", nargs="+", default=list(polyphony_likelihood.MODELS))
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--updates", type=int, help="of each training, instead of its own number")
    args = parser.parse_args()
    keep_programs()
    for part in args.parts:
        PARTS[part](args)


if __name__ == "__main__":
    sys.exit(answered(main, "polyphony"))
