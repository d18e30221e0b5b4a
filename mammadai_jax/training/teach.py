"""Training a run: the stages in their order, what they compose, and the report."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from mammadai_jax.music.files import expanded
from mammadai_jax.music.sample import Sample, save
from mammadai_jax.training import launch, loop
from mammadai_jax.training.context import context_of, finish, is_left_out, is_trained, say
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.report import write as write_report
from mammadai_jax.training.run import Run
from mammadai_jax.training.run_report import run_report
from mammadai_jax.training.settings import Parts, RunSettings, check, recorded
from mammadai_jax.training.sharding import place
from mammadai_jax.training.stage import ComposeRequest, Context


def teach(
    settings: RunSettings,
    parts: Parts,
    out: Path,
    *,
    resume: bool = False,
    save_seconds: float = loop.SAVE_SECONDS,
    devices: int | None = None,
) -> Path:
    """Train every stage and write the report -> the report's path.

    Args:
        settings: of the run itself.
        parts: the stages in their order, each with its settings.
        out: the run directory.
        resume: go on with a run that was interrupted.
        save_seconds: between checkpoints; makes no difference to the result.
        devices: to train on, see sharding.place.

    Raises:
        ValueError: if the settings, the directory or the checkpoints in it cannot be used.
        Diverged: if training does.

    """
    begun, out = time.monotonic(), expanded(out)
    placement = place(settings.shards, devices)
    settings = dataclasses.replace(settings, shards=placement.shards)
    check(settings, parts)
    context = context_of(settings, parts, out)
    files = {name: digest for spec, own in parts.values() for name, digest in spec.files(own).items()}
    corpus = context.corpus()
    data = {"corpus": corpus.name, "melodies": len(corpus), "digest": corpus.digest, **files}
    about = {"settings": recorded(settings, parts), "data": data}
    with Run(out, about, resume) as run, jax.default_matmul_precision(settings.precision):
        drive = functools.partial(loop.train, run=run, save_seconds=save_seconds, placement=placement)
        context = train(parts, context, drive)
        page = run.path / "report.html"
        if launch.leads():
            counts = {"num_samples": settings.num_samples, "saved_samples": settings.saved_samples}
            samples = write_samples(parts, context, **counts)
            report = run_report(parts, context, samples, seconds=time.monotonic() - begun, **counts)
            write_report(page, report)
    return page


def train(parts: Parts, context: Context, drive: Callable[[Learner], Any]) -> Context:
    """Drive the stages that learn, each to its end -> the context with what they learned, in memory."""
    # a run that has a checkpoint has passed the dry run, and its settings are the same
    begun = any(is_trained(context.path, name) for name in parts)
    prepared, learned = {} if begun else dry_run(parts, context), {}
    context = dataclasses.replace(context, learned=learned.get)
    for name, part in parts.items():
        spec, own = part
        if spec.make_learner is None or is_left_out(part):
            continue
        data = prepared.pop(name) if name in prepared else spec.data(own, context)
        state = drive(spec.make_learner(own, context, data))
        learned[name] = finish(part, context, state, data)
        if launch.leads():
            spec.save(context, data, learned[name])
    return context


def dry_run(parts: Parts, context: Context) -> dict[str, Any]:
    """Trace an update of every stage without making it -> the data of the stages that depend on no other.

    Settings and data that do not fit together are thus refused before anything is learned.
    """
    learning = [part for part in parts.values() if part.spec.make_learner and not is_left_out(part)]
    prepared = {spec.name: spec.data(own, context) for spec, own in learning if not spec.depends_on}

    def trace() -> None:
        traced = {}
        here = dataclasses.replace(context, learned=traced.get)
        for part in learning:
            spec, own = part
            data = prepared[spec.name] if spec.name in prepared else (spec.example or spec.data)(own, here)
            assert spec.make_learner
            learner = spec.make_learner(own, here, data)
            state, _ = learner.step(learner.init(), learner.data)
            traced[spec.name] = finish(part, here, state, data)

    jax.eval_shape(trace)
    return prepared


def write_samples(
    parts: Parts, context: Context, *, num_samples: int, saved_samples: int
) -> Mapping[str, list[Sample]]:
    """Let every stage compose what is evaluated -> samples by stage; the first few become files too."""
    samples = {}
    for name, part in parts.items():
        spec, own = part
        if spec.compose is None or is_left_out(part):
            continue
        say(f"report: {name} composes {num_samples} melodies")
        key, request = context.key(f"{name} samples"), ComposeRequest(num_samples)
        samples[name] = spec.compose(own, context, context.learned(name), key, request)
        for number, sample in enumerate(samples[name][:saved_samples], start=1):
            save(sample, context.path / "samples" / name / f"{number}")
    return samples
