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
from mammadai_jax.training.context import context_of, finish, is_left_out, say
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.report import write as write_report
from mammadai_jax.training.run import Run
from mammadai_jax.training.run_report import run_report
from mammadai_jax.training.settings import Stages, as_dict, check
from mammadai_jax.training.sharding import place
from mammadai_jax.training.stage import ComposeRequest, Context


def teach(
    settings: Any,
    out: Path,
    stages: Stages,
    *,
    resume: bool = False,
    save_seconds: float = loop.SAVE_SECONDS,
    devices: int | None = None,
) -> Path:
    """Train every stage and write the report -> the report's path.

    Args:
        settings: what decides the result; of `settings_type(stages)`.
        out: the run directory.
        stages: in their order.
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
    check(settings, stages)
    context = context_of(settings, stages, out)
    files = {
        name: digest for spec in stages for name, digest in spec.files(context.settings_of(spec.name)).items()
    }
    corpus = context.corpus()
    data = {"corpus": corpus.name, "melodies": len(corpus), "digest": corpus.digest, **files}
    about = {"settings": as_dict(settings), "data": data}
    with Run(out, about, resume) as run, jax.default_matmul_precision(settings.precision):
        drive = functools.partial(loop.train, run=run, save_seconds=save_seconds, placement=placement)
        context = train(stages, context, drive)
        page = run.path / "report.html"
        if launch.leads():
            counts = {"num_samples": settings.num_samples, "saved_samples": settings.saved_samples}
            samples = write_samples(stages, context, **counts)
            report = run_report(stages, context, samples, seconds=time.monotonic() - begun, **counts)
            write_report(page, report)
    return page


def train(stages: Stages, context: Context, drive: Callable[[Learner], Any]) -> Context:
    """Drive the stages that learn, each to its end -> the context with what they learned, in memory."""
    prepared, learned = dry_run(stages, context), {}
    context = dataclasses.replace(context, learned=learned.get)
    for spec in stages:
        part, name = context.settings_of(spec.name), spec.name
        if spec.make_learner is None or is_left_out(spec, part):
            continue
        data = prepared.pop(name) if name in prepared else spec.data(part, context)
        state = drive(spec.make_learner(part, context, data))
        learned[name] = finish(spec, part, context, state, data)
        if launch.leads():
            spec.save(context, data, learned[name])
    return context


def dry_run(stages: Stages, context: Context) -> dict[str, Any]:
    """Trace an update of every stage without making it -> the data of the stages that depend on no other.

    Settings and data that do not fit together are thus refused before anything is learned.
    """
    part_of = context.settings_of
    learning = [s for s in stages if s.make_learner and not is_left_out(s, part_of(s.name))]
    prepared = {s.name: s.data(part_of(s.name), context) for s in learning if not s.depends_on}

    def trace() -> None:
        traced = {}
        here = dataclasses.replace(context, learned=traced.get)
        for spec in learning:
            part, name = context.settings_of(spec.name), spec.name
            data = prepared[name] if name in prepared else (spec.example or spec.data)(part, here)
            assert spec.make_learner
            learner = spec.make_learner(part, here, data)
            state, _ = learner.step(learner.init(), learner.data)
            traced[name] = finish(spec, part, here, state, data)

    jax.eval_shape(trace)
    return prepared


def write_samples(
    stages: Stages, context: Context, *, num_samples: int, saved_samples: int
) -> Mapping[str, list[Sample]]:
    """Let every stage compose what is evaluated -> samples by stage; the first few become files too."""
    samples = {}
    for spec in stages:
        part = context.settings_of(spec.name)
        if spec.compose is None or is_left_out(spec, part):
            continue
        say(f"report: {spec.name} composes {num_samples} melodies")
        key, request = context.key(f"{spec.name} samples"), ComposeRequest(num_samples)
        samples[spec.name] = spec.compose(part, context, context.learned(spec.name), key, request)
        for number, sample in enumerate(samples[spec.name][:saved_samples], start=1):
            save(sample, context.path / "samples" / spec.name / f"{number}")
    return samples
