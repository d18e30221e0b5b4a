"""The prior against n-grams: bits a step on melodic families that were held out.

    python -m experiments.prior --out DIR

Fits interpolated n-gram models of order 1 to 8 (Witten-Bell and modified Kneser-Ney) and trains the LSTM and
the Transformer on the same melodies, all moved to the scale of C; measures all on the same held-out families.
The same command goes on after an interruption. Writes `table.md`, and a run directory for each network.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from experiments import ngram
from mammadai_jax.agents import prior
from mammadai_jax.cli import keep_programs
from mammadai_jax.music import corpus
from mammadai_jax.music.notes import RL_TUNER
from mammadai_jax.training import loop, stages
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import Settings, as_dict, preset


def networks(updates: int | None) -> dict[str, Settings]:
    """The settings of each network: the full preset's LSTM, and a Transformer trained on as many notes."""
    full = preset("full")
    lstm = full.prior.learner
    bodies = {"LSTM": lstm, "Transformer": TRANSFORMER}
    if updates is not None:
        bodies = {name: dataclasses.replace(learner, updates=updates) for name, learner in bodies.items()}
    replaced = {name: dataclasses.replace(full.prior, learner=learner) for name, learner in bodies.items()}
    return {name: dataclasses.replace(full, prior=part) for name, part in replaced.items()}


TRANSFORMER = prior.Config(body="transformer", width=128, layers=3, dropout=0.1, learning_rate=3e-3)


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", default="folk")
    parser.add_argument("--updates", type=int, help="of each network, instead of the full preset's")
    parser.add_argument(
        "--bodies", nargs="+", default=["LSTM", "Transformer"], choices=["LSTM", "Transformer"]
    )
    args = parser.parse_args()
    keep_programs()
    melodies = corpus.load(args.corpus)
    settings = networks(args.updates)
    learn, held_out = stages.tokens_of(settings["LSTM"], melodies)
    print(f"{len(learn)} melodies to learn from ({sum(map(len, learn)):,} steps), {len(held_out)} held out")
    found = ngram.best(learn, held_out, RL_TUNER.size)
    best = found[0][2]
    rows = [
        (f"{order}-gram, {smoothing.replace('_', '-').title()}", bits) for smoothing, order, bits in found[:2]
    ]
    rows += [next((f"{o}-gram, {s.replace('_', '-').title()}", b) for s, o, b in found if s == "witten_bell")]
    for name in args.bodies:
        stage = stages.prior_stage(settings[name], melodies)
        about = {"settings": as_dict(settings[name]), "data": {"digest": melodies.digest}}
        path = args.out / name.lower()
        with Run(path, about, resume=(path / "run.json").exists()) as run:
            state = loop.train(stage, run)
        composer = prior.make_composer(settings[name].prior.learner, RL_TUNER.size)
        learner = settings[name].prior.learner
        label = f"{name}, {learner.layers} x {learner.width}"
        rows.append((label, prior.evaluate(composer, state.average, held_out)))
    lines = ["| model | bits a step | below the best n-gram |", "|---|---|---|"]
    lines += [
        f"| {name} | {bits:.4f} | {100 * (1 - bits / best):.1f} % |" for name, bits in dict.fromkeys(rows)
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
