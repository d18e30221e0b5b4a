"""The prior against n-grams: bits a step on melodic families that were held out.

    python -m experiments.prior --out DIR

Fits interpolated n-gram models of order 1 to 8 (Witten-Bell and modified Kneser-Ney) and trains the LSTM and
the Transformer on the same melodies, all moved to the scale of C; measures all on the same held-out families.
N-grams see the last seven tokens only; two more rows are of LSTMs without the other inputs of the networks.
The same command goes on after an interruption. Writes `table.md`, and a run directory for each network.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

from experiments import ngram
from mammadai_jax.agents import prior
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.music import corpus
from mammadai_jax.music.notes import RL_TUNER
from mammadai_jax.stages import STAGES, Settings
from mammadai_jax.stages import prior as stage
from mammadai_jax.training import loop
from mammadai_jax.training.context import context_of
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import as_dict

FULL = stage.Settings()
LSTM = FULL.learner
LEARNERS = {
    "LSTM": LSTM,
    "LSTM, no lookback": dataclasses.replace(LSTM, lookback=()),
    "LSTM, no lookback, no metre": dataclasses.replace(LSTM, lookback=(), metre=False),
    "Transformer": prior.Config(body="transformer", width=128, num_layers=3, dropout=0.1, learning_rate=3e-3),
}


def ngrams(learn: list[np.ndarray], held_out: list[np.ndarray]) -> list[tuple[str, float]]:
    """The best two n-gram models of all, and the best Witten-Bell one: (label, bits), best first."""
    found = ngram.best(learn, held_out, RL_TUNER.size)
    chosen = [*found[:2], next(row for row in found if row[0] == "witten_bell")]
    named = [(f"{order}-gram, {kind.replace('_', '-').title()}", bits) for kind, order, bits in chosen]
    return list(dict.fromkeys(named))


def train(name: str, learner: prior.Config, melodies: corpus.Corpus, out: Path) -> tuple[str, float]:
    """Train a network in its own run directory, or go on -> (label, bits on the held-out families)."""
    settings = dataclasses.replace(FULL, learner=learner)
    about = {"settings": as_dict(settings), "data": {"digest": melodies.digest}}
    path = out / name.lower().replace(",", "").replace(" ", "-")
    with Run(path, about, resume=(path / "run.json").exists()) as run:
        context = dataclasses.replace(context_of(Settings(), STAGES, path), corpus=lambda: melodies)
        data = stage.data(settings, context)
        state = loop.train(stage.make_learner(settings, context, data), run)
    label = f"{name}, {learner.num_layers} x {learner.width}"
    return label, prior.evaluate(stage.composer_of(settings), state.average, data[1])


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", default="folk")
    parser.add_argument("--updates", type=int, help="of each network, instead of the full preset's")
    parser.add_argument("--bodies", nargs="+", default=list(LEARNERS), choices=list(LEARNERS))
    args = parser.parse_args()
    keep_programs()
    melodies = corpus.load(args.corpus)
    learn, held_out = stage.split(FULL, melodies, 0)
    print(f"{len(learn)} melodies to learn from ({sum(map(len, learn)):,} steps), {len(held_out)} held out")
    rows = ngrams(learn, held_out)
    best = rows[0][1]
    for name in args.bodies:
        learner = LEARNERS[name]
        if args.updates is not None:
            learner = dataclasses.replace(learner, num_updates=args.updates)
        rows.append(train(name, learner, melodies, args.out))
    lines = ["| model | bits a step | below the best n-gram |", "|---|---|---|"]
    lines += [f"| {name} | {bits:.4f} | {100 * (1 - bits / best):.1f} % |" for name, bits in rows]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(answered(main, "prior"))
