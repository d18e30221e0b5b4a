"""The prior against count models: bits a step on melodic families that were held out.

    python -m experiments.prior --out DIR

On each of three splits of the corpus, all melodies moved to the scale of C, into families to learn from, for
validation, and for the test: n-gram models, a log-linear mixture of count models that are told what the
networks are told (see `mixture`), networks, and the mixture with a network as one more expert. Whatever else
is chosen or fitted (orders, weights, when to stop) is so on the validation families. Count models count them,
too, before the test; no network learns from them.

The same command goes on after an interruption. Every row is written into `split-N.json` and `table.md` as
soon as it is known.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import mixture, ngram
from experiments.tables import interval, markdown
from mammadai_jax.agents import prior
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.music import corpus
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.stages import Settings, divided
from mammadai_jax.stages import prior as stage
from mammadai_jax.training import loop
from mammadai_jax.training.context import context_of
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import as_dict

FULL = stage.Settings()
SPLITS = (0, 7, 3)
VALIDATION = 1000  # added to a split's number: the seed that takes validation families from the others
LSTM = stage.PRESETS["quick"].learner
TRANSFORMER = prior.Config(body="transformer", width=128, num_layers=3, num_updates=400, learning_rate=4e-3)
LEARNERS = {
    "LSTM": LSTM,
    "LSTM, larger": FULL.learner,
    "Transformer": TRANSFORMER,
    "LSTM, by Adam": dataclasses.replace(LSTM, optimiser="adam"),
    "LSTM, no match": dataclasses.replace(LSTM, match_steps=0),
    "LSTM, no match, no lookback": dataclasses.replace(LSTM, match_steps=0, lookback=()),
}
MIXTURE = "mixture of counts"
ALONE = np.ones((mixture.STEPS_PER_BAR, 1), np.float32)
SIZE = MAGENTA.size


class Families(NamedTuple):
    """The melodies of one split, as rows of tokens."""

    learn: list[np.ndarray]
    validation: list[np.ndarray]
    held_out: list[np.ndarray]


def families(melodies: corpus.Corpus, seed: int) -> Families:
    """Split a corpus, all melodies on C, by families."""
    rest, held_out = stage.on_c(melodies).split(FULL.held_out, seed)
    learn, validation = rest.split(FULL.held_out, VALIDATION + seed)
    return Families(*(stage.tokens(FULL, side) for side in (learn, validation, held_out)))


def measures(
    sides: Families, bodies: Iterable[str], trained: Callable[[str], mixture.Expert]
) -> dict[str, Callable[[], float]]:
    """What measures the bits of every row on a split: count models, networks, and both together.

    `trained` gives a network as an expert.
    """
    told_more = (*mixture.CHAINS, *mixture.MATCHES)
    found: dict[str, Callable[[], float]] = {
        f"n-gram, {kind.replace('_', '-').title()}": functools.partial(ngram_bits, sides, kind)
        for kind in ngram.SMOOTHINGS
    }
    found[MIXTURE] = lambda: mixed(sides, mixture.CHAINS)
    found[f"{MIXTURE}, longest match"] = lambda: mixed(sides, told_more)
    for name in bodies:
        found[name] = lambda name=name: mixture.bits(ALONE, [trained(name)], sides.held_out)
        found[f"{name}, with the counts"] = lambda name=name: mixed(sides, told_more, trained(name))
    return found


def ngram_bits(sides: Families, smoothing: ngram.Smoothing) -> float:
    """Bits of the n-gram model whose order, 1 to 11, is best on validation."""
    cost = lambda order: ngram.bits(ngram.fit(sides.learn, order, SIZE, smoothing), sides.validation)
    model = ngram.fit([*sides.learn, *sides.validation], min(range(1, 12), key=cost), SIZE, smoothing)
    return ngram.bits(model, sides.held_out)


def mixed(sides: Families, chains: mixture.Chains, *networks: mixture.Expert) -> float:
    """Bits of the mixture of count models and networks, with the weights that suit validation."""
    counted = mixture.count(sides.learn, SIZE, chains)
    weights = mixture.fit([counted, *networks], sides.validation)
    counted = mixture.count([*sides.learn, *sides.validation], SIZE, chains)
    return mixture.bits(weights, [counted, *networks], sides.held_out)


def train(
    name: str, sides: Families, out: Path, updates: int | None, about: dict[str, Any]
) -> mixture.Expert:
    """Train a network in its own run directory, or go on -> its average that was best on validation."""
    learner, path = LEARNERS[name], out / name.lower().replace(",", "").replace(" ", "-")
    learner = dataclasses.replace(learner, num_updates=updates or learner.num_updates)
    settings = dataclasses.replace(FULL, learner=learner)
    about, composer = {"settings": as_dict(settings), **about}, stage.composer_of(settings)
    with Run(path, about, resume=(path / "run.json").exists()) as run:
        context = context_of(*divided(Settings()), path)
        learner = stage.make_learner(settings, context, (stage.stream(settings, sides.learn), []))
        bits = functools.partial(prior.evaluate, composer, melodies=sides.validation)
        loop.train(learner._replace(measure=keeping_best(run, bits)), run)
        kept = run.checkpoints("best").restore(stage.template(settings, context).average)
    assert kept, "an update is measured at the end, so that there is a best one"
    return lambda melodies: np.concatenate(prior.log_probs(composer, kept[1], melodies))[:, None]


def keeping_best(run: Run, bits: Callable[[Any], float]) -> Callable[[Any], dict[str, float]]:
    """What measures a state of the loop, by its average, and keeps that of fewest bits as "best"."""

    def measure(state):
        found = bits(state.average)
        earlier = (row["validation_bits"] for row in run.rows("prior") if "validation_bits" in row)
        if found < min(earlier, default=math.inf):
            run.checkpoints("best").save(int(state.update), state.average)
        return {"validation_bits": found}

    return measure


def table(found: dict[int, dict[str, float]]) -> str:
    """Bits of every row on every split, and how far below the mixture they are in the mean."""
    rows = []
    for name in dict.fromkeys(name for bits in found.values() for name in bits):
        cells = [f"{bits[name]:.4f}" if name in bits else "" for bits in found.values()]
        gains = [
            100 * (1 - bits[name] / bits[MIXTURE]) for bits in found.values() if {name, MIXTURE} <= {*bits}
        ]
        mean, half = interval(gains) if gains else (math.nan, math.nan)
        shown = "" if not gains else f"{mean:.1f}" + ("" if math.isnan(half) else f" ± {half:.1f}") + " %"
        rows.append([name, *cells, shown])
    return markdown(["model", *(f"split {split}" for split in found), "below the mixture"], rows) + "\n"


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", default="folk")
    parser.add_argument("--splits", type=int, nargs="+", default=SPLITS)
    parser.add_argument("--updates", type=int, help="of each network, instead of its own number")
    parser.add_argument("--bodies", nargs="*", default=list(LEARNERS), choices=list(LEARNERS))
    args = parser.parse_args()
    keep_programs()
    melodies = corpus.load(args.corpus)
    rows, found = {}, {}
    for split in args.splits:
        sides = families(melodies, split)
        about = {"data": {"digest": melodies.digest}, "split": split}
        place = {"out": args.out / f"split-{split}", "updates": args.updates}
        trained = functools.cache(functools.partial(train, sides=sides, about=about, **place))
        rows[split] = measures(sides, args.bodies, trained)
        file = args.out / f"split-{split}.json"
        found[split] = json.loads(file.read_text()) if file.exists() else {}
    args.out.mkdir(parents=True, exist_ok=True)
    for name in rows[args.splits[0]]:
        for split in (split for split in args.splits if name not in found[split]):
            found[split][name] = rows[split][name]()
            write_atomically(args.out / f"split-{split}.json", json.dumps(found[split], indent=1).encode())
            write_atomically(args.out / "table.md", table(found).encode())
            print(f"split {split}, {name}: {found[split][name]:.4f}", flush=True)


if __name__ == "__main__":
    sys.exit(answered(main, "prior"))
