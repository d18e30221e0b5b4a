"""The outer loop: any learner's `init` and `step`, in jitted chunks, with a log, checkpoints and progress.

It never looks inside a learner. A chunk is a scan of `step` under one donated jit; between chunks, on the host,
are logged the chunk's mean metrics, and now and then the whole state is saved.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import tqdm

from mammadai_jax.training.run import Run

SAVE_SECONDS = 20.0
TELL_SECONDS = 10.0


class Diverged(ArithmeticError):
    """A metric is no longer a finite number: says which and when; the last checkpoint is from before."""


class Stage(NamedTuple):
    """One learner to be driven.

    Attributes:
        name: of its rows, checkpoints and samples.
        init: () -> state.
        step: (state, data) -> (state, metrics), one update; metrics are scalars.
        data: pytree of arrays that every step is given.
        updates: how many to make.
        chunk: updates in one program call.
        notes: notes seen in an update, for the progress bar.
        shown: the metric the progress bar shows.
        measure: state -> further numbers for the log, or None; called on the host every `measure_every`
            chunks and after the last.
        measure_every: see measure.
    """

    name: str
    init: Callable[[], Any]
    step: Callable[[Any, Any], tuple[Any, Mapping[str, jax.Array]]]
    data: Any
    updates: int
    chunk: int
    notes: int
    shown: str
    measure: Callable[[Any], Mapping[str, float]] | None = None
    measure_every: int = 1


def train(stage: Stage, run: Run) -> Any:
    """Drive a stage to its end, going on from its newest checkpoint if it has one -> the final state.

    Raises:
        Diverged: when a metric is not finite.
        CheckpointError: when there are checkpoints but none can be used.
    """
    checkpoints = run.checkpoints(stage.name)
    # a first state made by a program has strong types and the same layout as those that follow
    init = jax.jit(stage.init)
    restored = checkpoints.restore(jax.eval_shape(init), warn=_tell)
    update, state = restored if restored is not None else (0, init())
    run.rewind(stage.name, update)
    advance = jax.jit(
        lambda state, data, updates: jax.lax.scan(lambda s, _: stage.step(s, data), state, length=updates),
        static_argnums=2,
        donate_argnums=0,
    )
    saved = time.monotonic()
    with Progress(stage, update) as progress:
        while update < stage.updates:
            length = min(stage.chunk, stage.updates - update)
            begun = time.monotonic()
            state, metrics = advance(state, stage.data, length)
            metrics = {name: float(value) for name, value in _means(metrics).items()}
            update += length
            seconds = time.monotonic() - begun
            _refuse_nonsense(stage, update, metrics)
            if stage.measure and (
                update >= stage.updates or update // stage.chunk % stage.measure_every == 0
            ):
                metrics |= stage.measure(state)
            run.log(
                stage.name,
                update,
                metrics,
                {"seconds": seconds, "notes_per_second": length * stage.notes / seconds},
            )
            progress.advance(length, metrics)
            if update >= stage.updates or time.monotonic() - saved > SAVE_SECONDS:
                checkpoints.save(update, state)
                saved = time.monotonic()
    return state


@jax.jit
def _means(metrics):
    return jax.tree.map(lambda x: jnp.mean(x, dtype=jnp.float32), metrics)


def _refuse_nonsense(stage: Stage, update: int, metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise Diverged(
                f"stage {stage.name}: {name} is {value} by update {update}; the last checkpoint is from before. "
                "Lower the learning rate, or resume to try those updates again"
            )


class Progress:
    """A bar with notes a second and the time left; where there is no terminal, a line now and then."""

    def __init__(self, stage: Stage, update: int):
        self.stage, self.update = stage, update
        self.begun = self.told = time.monotonic()
        self.first = update
        self.bar = tqdm.tqdm(
            total=stage.updates * stage.notes,
            initial=update * stage.notes,
            desc=f"{stage.name:>8}",
            unit=" notes",
            unit_scale=True,
            disable=None,
            file=sys.stderr,
            dynamic_ncols=True,
        )
        if update < stage.updates:
            _tell(f"{stage.name}: compiling", self.bar)

    def advance(self, updates: int, metrics: Mapping[str, float]) -> None:
        """Count updates that were made and show the stage's metric."""
        self.update += updates
        shown = f"{self.stage.shown} {metrics[self.stage.shown]:.3f}"
        self.bar.set_postfix_str(shown, refresh=False)
        self.bar.update(updates * self.stage.notes)
        now = time.monotonic()
        if self.bar.disable and (now - self.told > TELL_SECONDS or self.update >= self.stage.updates):
            self.told = now
            rate = (self.update - self.first) / (now - self.begun)
            left = (self.stage.updates - self.update) / rate
            _tell(
                f"{self.stage.name}: {self.update}/{self.stage.updates} updates, "
                f"{rate * self.stage.notes:,.0f} notes/s, {left:.0f} s left, {shown}"
            )

    def __enter__(self) -> Progress:
        """The progress itself."""
        return self

    def __exit__(self, *_) -> None:
        """Leave the bar as it stands."""
        self.bar.close()


def _tell(message: str, bar: tqdm.tqdm | None = None) -> None:
    """A line on standard error that does not break a bar."""
    if bar is None or bar.disable:
        print(message, file=sys.stderr, flush=True)
    else:
        bar.set_postfix_str(message.split(": ")[-1])
