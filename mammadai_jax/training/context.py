"""The context of a run's stages: its corpus, and what they learned, from their checkpoints or a box."""

from __future__ import annotations

import functools
import shlex
import sys
from pathlib import Path
from typing import Any

import jax

from mammadai_jax.music import corpus as corpora
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.excerpts import shortcomings
from mammadai_jax.music.files import expanded, visible
from mammadai_jax.music.transcription import reasons
from mammadai_jax.training import box, launch
from mammadai_jax.training.checkpoints import CheckpointError, Checkpoints
from mammadai_jax.training.run import RunError, differences, identity, is_box
from mammadai_jax.training.run import read as read_run
from mammadai_jax.training.settings import (
    Parts,
    RunSettings,
    Stages,
    at,
    check,
    is_left_out,
    of_record,
    recorded,
)
from mammadai_jax.training.sharding import Placement
from mammadai_jax.training.stage import Context, Part


def context_of(run: RunSettings, parts: Parts, path: Path) -> Context:
    """The context of stages in a run directory, with what they learned there.

    `context.learned` raises RunError for a stage that has no checkpoint yet, and CheckpointError or BoxError
    for one whose checkpoint or weights cannot be used.
    """

    @functools.cache
    def learned(name: str) -> Any:
        spec, own = part = parts[name]
        if spec.make_learner is None or is_left_out(part):
            return None
        return spec.learned(own, context, weights_of(part, context), None)

    context = Context(
        seed=run.seed,
        shards=run.shards,
        path=expanded(path).resolve(),
        corpus=functools.cache(lambda: load_corpus(run.corpus)),
        settings_of=lambda name: parts[name].settings,
        learned=learned,
    )
    return context


def settings_of_run(path: Path, stages: Stages) -> tuple[RunSettings, Parts]:
    """The settings that a run was trained with, all of which its run.json names: its own and its stages'.

    Raises:
        RunError: if there is no run, or its run.json lacks a setting.
        SettingsError: if its settings are not those of these stages.

    """
    tree = read_run(path).get("settings")
    run, parts = of_record(tree, stages, f"{path}/run.json: settings")
    check(run, parts)
    for name, _, _ in differences(tree, recorded(run, parts)):
        raise RunError(
            f"{path}/run.json lacks the setting {name}: the run is of another version, or the file was "
            "changed; use that version, put back a copy of the file, or train anew"
        )
    return run, parts


def finish(part: Part, context: Context, state: Any, data: Any) -> Any:
    """What a stage's final state means to later stages and to its own composing; None without a state."""
    spec, own = part
    return None if state is None else spec.learned(own, context, spec.weights(state), data)


def weights_of(part: Part, context: Context) -> Any:
    """The weights of a stage that learned, from its newest checkpoint or its box.

    Errors as of `restore`; BoxError if a box cannot be used.
    """
    spec, own = part
    if not is_box(context.path):
        return spec.weights(restore(part, context))
    template = spec.template
    assert template
    return box.read_weights(
        context.path, spec.name, jax.eval_shape(lambda: spec.weights(template(own, context)))
    )


def restore(part: Part, context: Context) -> Any:
    """The state of a stage from its newest checkpoint; None if it is left out.

    Raises:
        RunError: if the stage was not trained yet.
        CheckpointError: if its checkpoint cannot be used.

    """
    spec, own = part
    if is_left_out(part):
        return None
    assert spec.template
    template, directory = spec.template, context.path / "checkpoints" / spec.name
    if not directory.is_dir():
        raise RunError(f"{context.path} has no stage {spec.name!r} yet: {way_on(context.path)}")
    init = Placement(context.shards).spread(lambda: template(own, context))
    restored = Checkpoints(directory, run=identity(context.path)).restore(jax.eval_shape(init), say)
    if restored is None:
        raise CheckpointError(f"{directory} holds no finished checkpoint: {way_on(context.path)}")
    return restored[1]


def is_trained(path: Path, stage: str) -> bool:
    """Whether a run has a checkpoint of a stage, or a box its weights."""
    directory = Path(path) / "checkpoints" / stage
    if not directory.is_dir():
        return stage in box.digests(path)
    return bool(Checkpoints(directory).updates())


def has_ended(path: Path, part: Part) -> bool:
    """Whether a run has the checkpoint of the last update of a stage that learns."""
    directory, updates = Path(path) / "checkpoints" / part.spec.name, part.spec.updates
    if part.spec.make_learner is None or not directory.is_dir():
        return False
    return at(part.settings, updates) in Checkpoints(directory).updates()


def has_learned(path: Path, part: Part) -> bool:
    """Whether a run has a checkpoint of a stage that its settings do not leave out."""
    return not is_left_out(part) and is_trained(path, part.spec.name)


def way_on(path: Path) -> str:
    """How to go on with a run, as the end of a sentence."""
    if is_box(path):
        return "train a run of your own with `mammadai teach`"
    return f"go on with `mammadai teach --out {shlex.quote(str(path))} --resume`"


def load_corpus(name: str) -> Corpus:
    """The corpus of that name, reported on standard error; the embedded tunes if music21 is missing."""
    try:
        corpus = corpora.folk(progress=_progress) if name == "folk" else corpora.load(name)
    except corpora.CorpusMissing as error:
        say(f"{error}; going on with the ten embedded tunes, from which a prior learns little")
        corpus = corpora.embedded()
    say(f"corpus {corpus.name}: {len(corpus)} melodies ({corpus.licence})")
    for heading, sources in shortcomings(corpus).items():
        if sources:
            say(f"  {heading}: {reasons(sources)}")
    return corpus


def _progress(done: int, total: int) -> None:
    """A line on standard error while the folk corpus is read."""
    if done % 10 == 0 or done == total:
        end = "\n" if done == total else ""
        print(f"\rreading the folk corpus, once: {done}/{total} files", end=end, file=sys.stderr, flush=True)


def say(message: str) -> None:
    """A line on standard error, of the leading process only."""
    if launch.leads():
        print(visible(message), file=sys.stderr, flush=True)
