"""The likelihood of chorales under priors: the part "likelihood" of experiments/polyphony.py.

Three tasks that are not to be compared with each other, on the same split of 229, 76 and 77 chorales:

A  quarter notes; a frame is the set of the pitches that sound, without voices, of pieces on C
   (Boulanger-Lewandowski et al. 2012). It is coded as voices by height; voices that are absent are silent.
B  quarter notes; a frame is what soprano, alto, tenor and bass sound.
C  sixteenth notes, otherwise as B; and C with holds, where notes that are held and repeated are told apart.

Figures are natural logarithms, summed over the voices of a frame, and are means over all frames of the test
pieces; the mean over pieces stands beside it. Settings were chosen by the validation pieces, and of each
training the parameters are taken that are best on them.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.prior import keeping_best
from experiments.tables import interval, markdown
from mammadai_jax.agents import polyphonic_prior, prior
from mammadai_jax.music import jsb
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.notes import VOICES, VOICES_HOLD
from mammadai_jax.music.piece import MAX_VOICES, Piece
from mammadai_jax.networks import biaxial
from mammadai_jax.networks.biaxial import BiaxialLSTM
from mammadai_jax.training import loop
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import as_dict

SPLITS = ("train", "valid", "test")
Pieces = Mapping[str, Sequence[np.ndarray]]  # of each split, tokens int32 (T, V)

SIXTEENTHS = polyphonic_prior.Config()
QUARTERS = dataclasses.replace(
    SIXTEENTHS, steps_per_quarter=1, match_steps=128, sequence_length=64, batch_size=16, num_updates=700
)
SETS = dataclasses.replace(QUARTERS, transpose=0)  # all pieces are on C, as those of the published rows
BIAXIAL = dataclasses.replace(SETS, batch_size=4, dropout=0.25, num_updates=530)  # takes as long


class Model(NamedTuple):
    """A prior: its network, the learner's settings, and how it spells pieces.

    Attributes:
        composer: the network.
        config: settings of the learner.
        voices: decisions of a frame.
        pitches: tokens that are transposed.
        spell: a piece (T, V) -> decisions (T * voices,).

    """

    composer: Any
    config: polyphonic_prior.Config
    voices: int
    pitches: range
    spell: Callable[[np.ndarray], np.ndarray]


def factored(config: polyphonic_prior.Config) -> Model:
    """The polyphonic composer."""
    composer = polyphonic_prior.make_composer(config, (VOICES_HOLD if config.hold else VOICES).size)
    pitches = range(1, composer.frames.pitches + 1)
    return Model(composer, config, config.voices, pitches, polyphonic_prior.decided)


def along_pitch(config: polyphonic_prior.Config) -> Model:
    """The bi-axial LSTM over the pitches of the alphabet."""
    composer = BiaxialLSTM(
        *(VOICES.pitches, VOICES.lowest, config.steps_per_quarter),
        time_width=128,
        note_width=64,
        num_layers=1,
        dropout=config.dropout,
    )
    return Model(composer, config, VOICES.pitches, range(0), lambda piece: states(piece).reshape(-1))


def states(piece: np.ndarray) -> np.ndarray:
    """Which pitches sound and begin, int32 (T, P), of a piece (T, V) in tokens that sound.

    A pitch begins where it did not sound in the frame before.
    """
    sounding = (piece[..., None] == 1 + np.arange(VOICES.pitches)).any(axis=1)
    before = np.concatenate([np.zeros_like(sounding[:1]), sounding[:-1]])
    return np.where(sounding, np.where(before, biaxial.SUSTAIN, biaxial.ONSET), biaxial.SILENT).astype(
        np.int32
    )


def by_height(tokens: np.ndarray) -> np.ndarray:
    """Frames (T, V) as sets of pitches: from high to low, each once, and silence for what is left."""
    sets = [sorted({*frame} - {VOICES.silence}, reverse=True) for frame in np.asarray(tokens).tolist()]
    filled = [[*frame, *[VOICES.silence] * (tokens.shape[1] - len(frame))] for frame in sets]
    return np.array(filled, np.int32).reshape(tokens.shape)


class Row(NamedTuple):
    """A row of the table: the task, the name of the model, and how it is made."""

    task: str
    name: str
    make: Callable[[], Model]


MODELS = {
    "A": Row("A", "factored LSTM", lambda: factored(SETS)),
    "A-biaxial": Row("A", "bi-axial LSTM", lambda: along_pitch(BIAXIAL)),
    "B": Row("B", "factored LSTM", lambda: factored(QUARTERS)),
    "C": Row("C", "factored LSTM", lambda: factored(SIXTEENTHS)),
    "C-holds": Row("C-holds", "factored LSTM", lambda: factored(dataclasses.replace(SIXTEENTHS, hold=True))),
}
PUBLISHED = {"A": {"RNN-RBM (Boulanger-Lewandowski et al. 2012)": 6.27, "RNN-NADE (the same)": 5.56}}


def pieces(task: str, place: Path | None = None) -> Pieces:
    """The pieces of a task by split: the chorales of the installed music21, or those of a directory.

    In the directory `TASK.npz` has, for each split, the tokens of all its pieces one after another (sum of T,
    V), and their lengths as SPLIT_lengths. ValueError if something is missing.
    """
    if place is None:
        chorales = jsb.load()
        return {name: [spelled(piece, task) for piece in getattr(chorales, name)] for name in SPLITS}
    with np.load(place / f"{task}.npz", allow_pickle=False) as file:
        missing = [name for name in SPLITS if not {name, f"{name}_lengths"} <= {*file}]
        if missing:
            raise ValueError(f"{place / task}.npz has no pieces for {', '.join(missing)}")
        return {
            name: np.split(file[name].astype(np.int32), np.cumsum(file[f"{name}_lengths"])[:-1])
            for name in SPLITS
        }


def spelled(piece: Piece, task: str) -> np.ndarray:
    """A piece as a task has it, tokens (T, V), without the silence before its upbeat."""
    if task == "A":
        piece = piece.transpose(-piece.tonic % 12)  # up, as the alphabet allows
    if task in ("A", "B"):
        piece = piece.on_grid(1)
    tokens = piece.tokens(VOICES_HOLD if task == "C-holds" else VOICES)[piece.span]
    return by_height(tokens) if task == "A" else tokens


def train(model: Model, sides: Pieces, seed: int, out: Path, about: Mapping[str, Any]) -> Any:
    """Train a model in its own run directory, or go on -> its average that was best on validation."""
    composer, config = model.composer, model.config
    data = prior.stream([model.spell(piece) for piece in sides["train"]], composer.size)
    more = {"pitches": model.pitches, "voices": model.voices}
    begin = functools.partial(prior.init_composer, jax.random.key(seed), config, composer)
    rows = [model.spell(piece) for piece in sides["valid"]]
    with Run(out, about, resume=(out / "run.json").exists()) as run:
        learner = loop.Learner(
            name="prior",
            init=begin,
            step=lambda state, data: prior.step_composer(state, config, composer, data, **more),
            data=data,
            updates=int(config.num_updates),
            chunk=50,
            notes=config.batch_size * config.sequence_length * config.voices,
            shown="bits",
            measure=keeping_best(run, lambda average: prior.evaluate(composer, average, rows)),
            measure_every=2,
        )
        loop.train(learner, run)
        kept = run.checkpoints("best").restore(jax.eval_shape(begin).average)
    assert kept, "an update is measured at the end, so that there is a best one"
    return kept[1]


def log_probs(model: Model, params: Any, pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Each decision's log p in all frames of pieces, one after another, float32 (frames, voices)."""
    rows = [model.spell(piece) for piece in pieces]
    given = zip(prior.log_probs(model.composer, params, rows), rows, strict=True)
    chosen = [np.take_along_axis(own, row[:, None], axis=1) for own, row in given]
    return np.concatenate(chosen).reshape(-1, model.voices)


def figures(scores: np.ndarray, lengths: Sequence[int]) -> dict[str, Any]:
    """Nats of log-probabilities (frames, V) of pieces of such lengths: a frame, by piece, by decision."""
    frames = -scores.sum(axis=1, dtype=np.float64)
    by_piece = [part.mean() for part in np.split(frames, np.cumsum(lengths)[:-1])]
    return {
        "frame": float(frames.mean()),
        "piece": float(np.mean(by_piece)),
        "decisions": [float(x) for x in -scores.mean(axis=0, dtype=np.float64)],
    }


def together(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Each decision's log p by the mean of several models' predictions, of their own (frames, V)."""
    return np.logaddexp.reduce(np.stack(scores), axis=0) - np.log(len(scores))


def score(name: str, seed: int, args: argparse.Namespace, sides: Pieces) -> np.ndarray:
    """Train a seed of a model, or read what was kept of it -> log p of the test pieces (frames, voices)."""
    out = args.out / "likelihood" / name / f"seed-{seed}"
    model, file = MODELS[name].make(), out / "test.npy"
    if not file.exists():
        updates = args.updates or model.config.num_updates
        model = model._replace(config=dataclasses.replace(model.config, num_updates=updates))
        about = {"settings": as_dict(model.config), "data": digest(sides), "model": name, "seed": seed}
        params = train(model, sides, seed, out, about)
        part = out / "part.npy"
        np.save(part, log_probs(model, params, sides["test"]))
        part.replace(file)
    return np.load(file, allow_pickle=False)


def digest(sides: Pieces) -> str:
    """Of the tokens of all pieces."""
    sha = hashlib.sha256()
    for name in SPLITS:
        for piece in sides[name]:
            sha.update(str(piece.shape).encode() + np.ascontiguousarray(piece, np.int32).tobytes())
    return sha.hexdigest()


def seconds(out: Path) -> float:
    """How long the updates of a run took."""
    return sum(json.loads(line)["seconds"] for line in (out / "timing.jsonl").read_text().splitlines())


def run(args: argparse.Namespace) -> None:
    """Train and measure all models and seeds, and write the table after each."""
    scores: dict[str, dict[int, np.ndarray]] = {}
    lengths: dict[str, list[int]] = {}
    for name in args.models or list(MODELS):
        sides = pieces(MODELS[name].task, args.pieces)
        lengths[name], scores[name] = [len(piece) for piece in sides["test"]], {}
        for seed in args.seeds:
            scores[name][seed] = score(name, seed, args, sides)
            write_atomically(args.out / "table.md", table(scores, lengths, args.out).encode())
            print(
                f"{name}, seed {seed}: {figures(scores[name][seed], lengths[name])['frame']:.4f}", flush=True
            )


def table(
    scores: Mapping[str, Mapping[int, np.ndarray]], lengths: Mapping[str, Sequence[int]], out: Path
) -> str:
    """Rows of the published figures and of all models: mean and 95 % interval over the seeds."""
    head = "task", "model", "nats a frame", "mean over pieces", "by decision", "seeds", "seconds a seed"
    rows = [
        [task, name, f"{nats:.2f}", *[""] * 4]
        for task, published in PUBLISHED.items()
        for name, nats in published.items()
    ]
    for name, own in scores.items():
        task, model, _ = MODELS[name]
        each = [figures(one, lengths[name]) for one in own.values()]
        spent = [seconds(out / "likelihood" / name / f"seed-{seed}") for seed in own]
        rows.append(cells(task, model, each, f"{np.mean(spent):.0f}"))
        if len(own) > 1:
            mean = figures(together(list(own.values())), lengths[name])
            rows.append(cells(task, f"{model}, mean of {len(own)} seeds' predictions", [mean], ""))
    return markdown(head, rows) + "\n"


def cells(task: str, model: str, each: Sequence[Mapping[str, Any]], spent: str) -> list[str]:
    """A row of the table, of the figures of each seed."""
    by_seed = [interval([one[kind] for one in each]) for kind in ("frame", "piece")]
    means = [f"{mean:.3f}" + ("" if math.isnan(half) else f" ± {half:.3f}") for mean, half in by_seed]
    by_decision = np.mean([one["decisions"] for one in each], axis=0)
    shown = " ".join(f"{x:.2f}" for x in by_decision) if len(by_decision) <= MAX_VOICES else ""
    return [task, model, *means, shown, str(len(each)), spent]
