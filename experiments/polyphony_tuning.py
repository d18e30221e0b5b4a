"""Tuning by the rules of harmony: the part "tuning" of experiments/polyphony.py.

A prior of four voices is trained on the chorales of music21 (stage "chorales"), once; the models of MODELS
start from it, each with each seed. Pieces have as many bars as in the preset, of quarter notes, and end on C.
Of what they compose:

* the rules' events in a piece, beside Bach's own rates (music/harmony/bach.py);
* the mean log-probability under the prior, in nats a frame, beside that of the prior's own pieces;
* the share of pieces that end with the tonic's triad, that of different pieces, the entropy of the chords;
* the longest run of frames that a piece copies from a training chorale, beside the runs that each held-out
  chorale has in common with them.

"one note a step" is the ablation of a published attempt that diverged: a single note is decided in a step, so
that no rule about two voices can reward anything, and no log-probability of the prior holds the policy back.
Its prior is trained on the sopranos alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.plots import plot
from experiments.tables import interval, markdown
from mammadai_jax.agents import polyphonic_prior, projection, tuner
from mammadai_jax.music import harmony, jsb, statistics
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.harmony import bach
from mammadai_jax.stages import Settings, chorales, divided, polyphony
from mammadai_jax.stages.chorales import alphabet_of, composer_of, piece_tokens
from mammadai_jax.stages.evaluate_harmony import measure
from mammadai_jax.training import loop
from mammadai_jax.training.context import context_of
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import as_dict

BATCH = 100  # composed at once
PSI = polyphony.LEARNER
PROJECTION = projection.Config(
    num_envs=512,
    num_minibatches=8,
    batch_size=64,
    reward_scale=1.0,
    temperature=1.0,
    rule_weights=PSI.rule_weights,
    target_rate=0.1,
    ess_fraction=0.4,
    learning_rate=2e-4,
    max_grad_norm_per_array=1.0,
    tau=0.05,
)
AT_MOST = ("copied_most",)  # among the measures with bounds: more is worse
NO_KL = 50.0  # 1/c with which the prior hardly counts


class Model(NamedTuple):
    """What is tuned: the learner's settings, and the voices that are decided; None for the prior itself."""

    config: tuner.Config | projection.Config | None
    voices: int = 4


MODELS = {
    "prior": Model(None),
    "Q": Model(dataclasses.replace(PSI, algorithm="q")),
    "Psi": Model(PSI),
    "G": Model(dataclasses.replace(PSI, algorithm="g")),
    "Q, no KL": Model(dataclasses.replace(PSI, algorithm="pure_rl")),
    "Psi, no KL": Model(dataclasses.replace(PSI, reward_scale=NO_KL)),
    "G, no KL": Model(dataclasses.replace(PSI, algorithm="g", reward_scale=NO_KL)),
    "projection, Bach's rates": Model(PROJECTION),
    "one note a step, prior": Model(None, voices=1),
    "one note a step, no KL": Model(dataclasses.replace(PSI, algorithm="pure_rl"), voices=1),
}


def settings_of(
    preset: str, voices: int, updates: int | None = None
) -> tuple[chorales.Settings, polyphony.Settings]:
    """The settings of the prior and of the tuning, for so many of the upper voices and updates of tuning."""
    prior, tuning = chorales.STAGE.settings(preset), polyphony.STAGE.settings(preset)
    learner = dataclasses.replace(prior.learner, voices=voices)
    tuning = dataclasses.replace(tuning, num_updates=updates or tuning.num_updates)
    return dataclasses.replace(prior, learner=learner), tuning


def piece_of(prior: chorales.Settings, settings: polyphony.Settings) -> harmony.Config:
    """What the rules expect of pieces in the prior's voices."""
    return dataclasses.replace(polyphony.piece(settings, prior), voices=prior.learner.voices)


def rows_of(prior: chorales.Settings) -> dict[str, list[np.ndarray]]:
    """The chorales of the split as tokens (T, V) in the prior's voices, the upper ones."""
    split = jsb.load()
    return {
        part: [
            piece[:, : prior.learner.voices]
            for piece in chorales.tokens(prior, chorales.on_c(getattr(split, part)))
        ]
        for part in ("train", "valid")
    }


def train_prior(prior: chorales.Settings, rows: Mapping[str, Sequence[np.ndarray]], out: Path) -> Any:
    """Train the prior in its own run directory, or go on -> its averaged parameters."""
    size = alphabet_of(prior).size
    data = polyphonic_prior.stream(rows["train"], size), [*map(polyphonic_prior.decided, rows["valid"])]
    about = {"settings": as_dict(prior), "data": {"pieces": len(rows["train"])}}
    with Run(out, about, resume=(out / "run.json").exists()) as run:
        return loop.train(
            chorales.make_learner(prior, context_of(*divided(Settings()), out), data), run
        ).average


def targets(settings: polyphony.Settings, piece: harmony.Config) -> dict[str, float]:
    """Bach's mean reward of a decision by each rule, in pieces of the settings' length."""
    own = bach.events(settings.bars * polyphony.QUARTERS_PER_BAR)
    return {rule: count / piece.length for rule, count in own.items()}


def learner_of(model: Model, prior: chorales.Settings, settings: polyphony.Settings, params: Any) -> Any:
    """(seed) -> the tuning of a model as the loop drives it, from the prior's parameters."""
    config, piece, composer = model.config, piece_of(prior, settings), composer_of(prior)
    assert config is not None
    config = dataclasses.replace(config, lr_decay_steps=settings.num_updates)
    if isinstance(config, projection.Config):
        config = dataclasses.replace(config, rule_targets=targets(settings, piece))
        learner, begin = projection, functools.partial(projection.init, config=config, prior=params)
    else:
        learner, begin = (
            tuner,
            functools.partial(tuner.init, config=config, network=composer, prior=params, piece=piece),
        )
    return lambda seed: loop.Learner(
        name="tuning",
        init=lambda: begin(jax.random.key(seed)),
        step=lambda state, _: learner.step(state, config, composer, piece),
        data=(),
        updates=settings.num_updates,
        chunk=settings.log_every,
        notes=config.num_envs * piece.length,
        shown="theory",
    )


def tune(name: str, seed: int, base: tuple[chorales.Settings, polyphony.Settings, Any], out: Path) -> Any:
    """Tune a model with a seed in its own run directory, or go on -> parameters, the learning curve."""
    prior, settings, params = base
    config = MODELS[name].config
    if config is None:
        return params, []
    about = {
        "settings": {"learner": as_dict(config), "stage": as_dict(settings)},
        "data": {},
        "model": name,
        "seed": seed,
    }
    with Run(out, about, resume=(out / "run.json").exists()) as run:
        state = loop.train(learner_of(MODELS[name], prior, settings, params)(seed), run)
        curve = [(row["log_prior"], row["theory"]) for row in run.rows("tuning")]
    return state.average if isinstance(config, projection.Config) else state.target, curve


def compose(composer: Any, params: Any, seed: int, pieces: int, frames: int) -> np.ndarray:
    """So many pieces, or some more, int32 (N, T, V)."""
    keys = jax.random.split(jax.random.key(1000 + seed), -(-pieces // BATCH))
    return np.concatenate([piece_tokens(composer, params, key, BATCH, frames) for key in keys])


def result(name: str, seed: int, base: Any, train: Sequence[np.ndarray], args: Any) -> dict[str, Any]:
    """Tune and measure a model with a seed, or read what is on file."""
    out = args.out / "tuning" / name.replace(",", "").replace(" ", "-").lower() / f"seed-{seed}"
    file = out / "result.json"
    if file.exists():
        return json.loads(file.read_text())
    prior, settings, params = base
    composer, piece = composer_of(prior), piece_of(prior, settings)
    tuned, curve = tune(name, seed, base, out)
    rows = compose(composer, tuned, seed, args.compositions, piece.frames)
    copied = statistics.copied_frames(list(rows), train)
    figures = {
        **measure(rows, piece, composer, params),
        "copied": float(copied.mean()),
        "copied_most": float(copied.max()),
        "curve": curve,
    }
    figures["log_prior"] *= piece.voices
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(figures).encode())
    return figures


def bach_column(quarters: float, rows: Mapping[str, Sequence[np.ndarray]]) -> dict[str, float]:
    """What Bach's chorales have of the table's measures; what is copied is that of the held-out ones."""
    copied = statistics.copied_frames(rows["valid"], rows["train"])
    return {
        **bach.events(quarters),
        "chord_entropy": bach.CHORD_ENTROPY,
        "distinct": 1.0,
        "copied": float(copied.mean()),
        "copied_most": float(copied.max()),
    }


def bounds(own: Mapping[str, float], prior: Mapping[str, float]) -> dict[str, float]:
    """The least (of AT_MOST the most) of each measure for a tuned model, given Bach's and the prior's."""
    rules = ("parallel_fifths", "parallel_octaves", "crossing", "unresolved_dissonance")
    return {
        **{rule: own[rule] for rule in rules},
        "log_prior": 1.1 * prior["log_prior"],
        "final_tonic": 0.95,
        "distinct": 0.99,
        "chord_entropy": 0.9 * own["chord_entropy"],
        "copied_most": own["copied_most"],
    }


def missed(figures: Mapping[str, float], limits: Mapping[str, float]) -> list[str]:
    """The measures that do not reach their bounds."""
    sign = lambda name: -1 if name in AT_MOST else 1
    return [name for name, bound in limits.items() if sign(name) * (figures[name] - bound) < 0]


def table(figures: Mapping[str, Mapping[int, Mapping[str, Any]]], own: Mapping[str, float]) -> str:
    """A row a measure, a column a model: mean and 95 % interval of the seeds; then what bounds they miss."""
    names = [name for name in next(iter(next(iter(figures.values())).values())) if name != "curve"]
    rows = []
    for name in names:
        cells = [cell([one[name] for one in by_seed.values()]) for by_seed in figures.values()]
        mine = f"{own[name]:.3f}" if name in own else ""
        rows.append([name.replace("_", " "), mine, *cells])
    lines = [markdown(["", "Bach", *figures], rows), ""]
    if "prior" in figures:
        limits = bounds(own, next(iter(figures["prior"].values())))
        for model, by_seed in figures.items():
            misses = {seed: missed(one, limits) for seed, one in by_seed.items()}
            good = sum(not those for those in misses.values())
            every = sorted({name for those in misses.values() for name in those})
            lines.append(
                f"* {model}: {good} of {len(misses)} seeds within all bounds; missed: {every or '-'}"
            )
    return "\n".join([*lines, ""])


def cell(values: Sequence[float]) -> str:
    """Mean and half of the 95 % interval."""
    mean, half = interval(values)
    return f"{mean:.3f}" + ("" if math.isnan(half) else f" ± {half:.3f}")


@functools.cache
def prepared(
    preset: str, voices: int, updates: int | None, out: Path
) -> tuple[Any, dict[str, list[np.ndarray]]]:
    """The settings and the trained prior of so many voices, and the chorales."""
    prior, settings = settings_of(preset, voices, updates)
    rows = rows_of(prior)
    return (prior, settings, train_prior(prior, rows, out / f"prior-{voices}")), rows


def run(args: argparse.Namespace) -> None:
    """Tune and measure all models and seeds, and write the table and the curves after each."""
    figures: dict[str, dict[int, dict[str, Any]]] = {}
    out = args.out / "tuning"
    for name in args.models or list(MODELS):
        base, rows = prepared(args.preset, MODELS[name].voices, args.updates, out)
        figures[name] = {}
        for seed in args.seeds:
            figures[name][seed] = result(name, seed, base, rows["train"], args)
            quarters = base[1].bars * polyphony.QUARTERS_PER_BAR
            own = bach_column(quarters, prepared(args.preset, 4, args.updates, out)[1])
            write_atomically(out / "table.md", table(figures, own).encode())
            write_curves(figures, out)
            shown = ("parallel_fifths", "parallel_octaves", "final_tonic", "log_prior")
            numbers = ", ".join(f"{key} {figures[name][seed][key]:.3f}" for key in shown)
            print(f"{name}, seed {seed}: {numbers}", flush=True)


def write_curves(figures: Mapping[str, Mapping[int, Mapping[str, Any]]], out: Path) -> None:
    """Draw how the models of four voices learn: the rules' reward against log p, the mean of their seeds."""
    lines = {
        name: np.mean([one["curve"] for one in by_seed.values()], axis=0).tolist()
        for name, by_seed in figures.items()
        if MODELS[name].voices > 1 and all(one["curve"] for one in by_seed.values())
    }
    if lines:
        axes = "log p of a decision under the prior", "rules' reward a decision"
        write_atomically(out / "curves.svg", plot(lines, *axes).encode())
