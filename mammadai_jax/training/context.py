"""The context of a run's stages: its corpus, and what its stages learned, from their newest checkpoints."""

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
from mammadai_jax.training import launch
from mammadai_jax.training.checkpoints import CheckpointError, Checkpoints
from mammadai_jax.training.run import RunError, differences, identity
from mammadai_jax.training.run import read as read_run
from mammadai_jax.training.settings import Stages, as_dict, at, check, overlay, settings_type
from mammadai_jax.training.sharding import Placement
from mammadai_jax.training.stage import Context, StageSpec


def context_of(settings: Any, stages: Stages, path: Path) -> Context:
    """The context of stages in a run directory, with what they learned there.

    `context.learned` raises RunError for a stage that has no checkpoint yet, and CheckpointError for one
    whose checkpoint cannot be used.
    """
    specs = {spec.name: spec for spec in stages}

    @functools.cache
    def learned(name: str) -> Any:
        if specs[name].make_learner is None:
            return None
        own = getattr(settings, name)
        return finish(specs[name], own, context, restore(specs[name], own, context), None)

    context = Context(
        seed=settings.seed,
        shards=settings.shards,
        path=expanded(path).resolve(),
        corpus=functools.cache(lambda: load_corpus(settings.corpus)),
        settings_of=lambda name: getattr(settings, name, None),
        learned=learned,
    )
    return context


def settings_of_run(path: Path, stages: Stages) -> Any:
    """The settings that a run was trained with, all of which its run.json names.

    Raises:
        RunError: if there is no run, or its run.json lacks a setting.
        SettingsError: if its settings are not those of these stages.

    """
    tree = read_run(path).get("settings")
    settings = overlay(settings_type(stages)(), tree, f"{path}/run.json: settings")
    check(settings, stages)
    for name, _, _ in differences(tree, as_dict(settings)):
        raise RunError(f"{path}/run.json lacks the setting {name}: put back a copy of it")
    return settings


def is_left_out(spec: StageSpec, own: Any) -> bool:
    """Whether a stage that learns makes no updates by its settings."""
    return spec.make_learner is not None and not at(own, spec.updates)


def finish(spec: StageSpec, own: Any, context: Context, state: Any, data: Any) -> Any:
    """What a stage's final state means to later stages and to its own composing; None without a state."""
    return None if state is None else spec.learned(own, context, state, data)


def restore(spec: StageSpec, own: Any, context: Context) -> Any:
    """The state of a stage from its newest checkpoint; None if it is left out.

    Raises:
        RunError: if the stage was not trained yet.
        CheckpointError: if its checkpoint cannot be used.

    """
    if is_left_out(spec, own):
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
    """Whether a run has a checkpoint of a stage."""
    directory = Path(path) / "checkpoints" / stage
    return directory.is_dir() and bool(Checkpoints(directory).updates())


def way_on(path: Path) -> str:
    """How to go on with a run, as the end of a sentence."""
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
