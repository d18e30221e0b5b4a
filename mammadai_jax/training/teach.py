"""Training a run: the stages in their order, and the page that shows each of them."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mammadai_jax.music.files import expanded
from mammadai_jax.training import ahead, launch, loop
from mammadai_jax.training.context import context_of, finish, is_trained, say
from mammadai_jax.training.live_page import LivePage
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import Parts, RunSettings, check, is_left_out, recorded
from mammadai_jax.training.sharding import place
from mammadai_jax.training.stage import Context, Part


def teach(
    settings: RunSettings,
    parts: Parts,
    out: Path,
    *,
    resume: bool = False,
    save_seconds: float = loop.SAVE_SECONDS,
    devices: int | None = None,
) -> Path:
    """Train every stage, and write the report anew after each of them -> the report's path.

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
    page = LivePage(parts, context, num_samples=settings.num_samples, saved_samples=settings.saved_samples)
    say(f"page: {page.path.as_uri()} shows each stage as it ends")
    corpus = context.corpus()
    data = {"corpus": corpus.name, "melodies": len(corpus), "digest": corpus.digest, **files}
    about = {"settings": recorded(settings, parts), "data": data}
    with Run(out, about, resume) as run, jax.default_matmul_precision(settings.precision):
        drive = functools.partial(loop.train, run=run, save_seconds=save_seconds, placement=placement)
        with page.open():
            context = train(parts, context, drive, page.add)
            page.finish(context, time.monotonic() - begun)
    return page.path


def train(
    parts: Parts,
    context: Context,
    drive: Callable[[Learner], Any],
    ended: Callable[[Part, Context], None] = lambda *_: None,
) -> Context:
    """Take the stages in their order, those that learn each to its end.

    Args:
        parts: the stages with their settings.
        context: of the run.
        drive: a learner -> its final state.
        ended: called with each stage that was not left out, and with what was learned so far.

    Returns:
        the context with what the stages learned, in memory.

    """
    learned = {}
    context = dataclasses.replace(context, learned=learned.get)
    # a run that has a checkpoint has passed the dry run, and its settings are the same
    traced = {} if any(is_trained(context.path, name) for name in parts) else None
    with ahead.Ahead() as programs:
        for name, part in parts.items():
            spec, own = part
            if is_left_out(part):
                continue
            if spec.make_learner:
                if traced is None:
                    traced = dry_run(parts, context)
                    programs.start(later_programs(parts, context, traced))
                prepared = traced.pop(name, None)
                data = prepared.data if prepared and prepared.data is not None else spec.data(own, context)
                programs.begins(name)
                state = drive(spec.make_learner(own, context, data))
                learned[name] = finish(part, context, state, data)
                if launch.leads():
                    spec.save(context, data, learned[name])
            ended(part, context)
    return context


class Traced(NamedTuple):
    """What a dry run leaves of a stage.

    Attributes:
        data: of the stage, if it depends on no other; else None.
        state: shapes of the learner's first state.
        learns_from: shapes of the learner's data.

    """

    data: Any
    state: Any
    learns_from: Any


def later_programs(
    parts: Parts, context: Context, traced: Mapping[str, Traced]
) -> dict[str, Callable[[], None]]:
    """Jobs for `ahead.Ahead`: the programs of all stages but the first, as far as their shapes are known."""
    if context.shards > 1 or not ahead.can_be_kept():
        return {}
    unknown = dataclasses.replace(context, learned=lambda name: None)
    jobs = {}
    for name in [*traced][1:]:
        spec, own = parts[name]
        if spec.example is None and spec.make_learner:
            known = traced[name]
            data = known.learns_from if known.data is None else known.data
            make = functools.partial(spec.make_learner, own, unknown, data)
            jobs[name] = ahead.compiling(make, known.state)
    return jobs


def dry_run(parts: Parts, context: Context) -> dict[str, Traced]:
    """Trace an update of every stage that learns without making it.

    Settings and data that do not fit together are thus refused before anything is learned.
    """
    learning = [part for part in parts.values() if part.spec.make_learner and not is_left_out(part)]
    prepared = {spec.name: spec.data(own, context) for spec, own in learning if not spec.depends_on}

    def trace() -> dict[str, tuple[Any, Any]]:
        traced, shapes = {}, {}
        here = dataclasses.replace(context, learned=traced.get)
        for part in learning:
            spec, own = part
            data = prepared[spec.name] if spec.name in prepared else (spec.example or spec.data)(own, here)
            assert spec.make_learner
            learner = spec.make_learner(own, here, data)
            begin = learner.init()
            shapes[spec.name] = begin, learner.data
            state, _ = learner.step(begin, learner.data)
            traced[spec.name] = finish(part, here, state, data)
        return shapes

    shapes = jax.eval_shape(trace)
    return {spec.name: Traced(prepared.get(spec.name), *shapes[spec.name]) for spec, _ in learning}
