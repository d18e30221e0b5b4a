"""The outer loop: any learner's `init` and `step`, in jitted chunks, with a log, checkpoints and progress.

It never looks inside a state. A chunk is a `scan` of `step` under one donated `jit`. Between chunks, on the
host, the chunk's mean metrics are logged, and from time to time the whole state is saved. Chunks begin at the
same updates and run the same programs however often a run is interrupted, so that its bits do not change.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from mammadai_jax.learning import collectives
from mammadai_jax.training import interruption, launch
from mammadai_jax.training.run import Run
from mammadai_jax.training.sharding import ALONE, Placement

SAVE_SECONDS = 20.0
REPORT_SECONDS = 10.0


class Diverged(ArithmeticError):
    """A number is no longer finite; the message names it and the update. The last checkpoint is earlier."""


class Learner(NamedTuple):
    """A learner, ready to be driven by `train`.

    Attributes:
        name: of its log rows and checkpoints.
        init: () -> state of one shard.
        step: (state, data) -> (state, metrics), one update; metrics are scalars.
        data: pytree of arrays, the second argument of every step.
        updates: number of updates in all.
        chunk: updates in one call of the program.
        notes: notes in an update, for the progress bar.
        shown: the metric that the progress bar shows.
        measure: state -> further numbers for the log, or None; called on the host.
        measure_every: `measure` is called after so many chunks, and after the last.

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


def train(
    learner: Learner, run: Run, save_seconds: float = SAVE_SECONDS, placement: Placement = ALONE
) -> Any:
    """Drive a learner to its end, from its newest checkpoint if it has one -> the final state.

    Args:
        learner: what is driven.
        run: where its log and checkpoints are kept.
        save_seconds: a chunk that ends later than this after the last checkpoint is followed by a new one.
        placement: of its shards.

    Raises:
        Diverged: if a metric is not finite, or a state that is to be saved holds a NaN.
        CheckpointError: if there are checkpoints but none can be used.
        KeyboardInterrupt: if a signal asks the process to end, when the state is saved.

    """
    checkpoints = run.checkpoints(learner.name)
    restored = checkpoints.updates() and checkpoints.restore(placement.template(learner.init), warn=_say)
    update, state = restored or (0, placement.first(learner.init))
    learner = learner._replace(data=placement.replicate(learner.data))
    run.rewind(learner.name, update)
    programs: dict[int, Callable] = {}
    saved = time.monotonic()
    with Progress(learner, update) as progress, interruption.deferred():
        while update < learner.updates:
            length = min(learner.chunk, learner.updates - update)
            if length not in programs:
                with progress.compiling():
                    programs[length] = program(learner, state, length, placement)
            begun = time.monotonic()
            state, means = programs[length](state, learner.data)
            metrics = {name: float(value) for name, value in means.items()}
            update += length
            timing = _timing(time.monotonic() - begun, length * learner.notes)
            _refuse_nonfinite(learner, update, metrics)
            if learner.measure and _is_measured(learner, update):
                metrics |= learner.measure(placement.here(state))
                _refuse_nonfinite(learner, update, metrics)
            run.log(learner.name, update, metrics, timing)
            progress.advance(length, metrics)
            ends = launch.anywhere(interruption.requested())
            if update >= learner.updates or ends or launch.agree(time.monotonic() - saved > save_seconds):
                _refuse_nonfinite(learner, update, {"the state": math.nan if _has_nan(state) else 0.0})
                checkpoints.save(update, state)
                saved = time.monotonic()
            if ends:
                raise KeyboardInterrupt
    return placement.here(state)


def dry_run(learner: Learner) -> None:
    """Trace an update without making it, so that settings that do not fit together are refused at once."""
    state = jax.eval_shape(learner.init)
    jax.eval_shape(learner.step, state, learner.data)


def program(learner: Learner, state: Any, length: int, placement: Placement = ALONE) -> Callable:
    """Compiled (state, data) -> (state after `length` steps, mean metrics), which consumes its state."""

    def advance(state, data):
        state, metrics = jax.lax.scan(lambda s, _: learner.step(s, data), state, length=length)
        return state, collectives.mean(jax.tree.map(lambda x: jnp.mean(x, dtype=jnp.float32), metrics))

    everywhere = placement.everywhere(advance, state)
    return jax.jit(everywhere, donate_argnums=0).lower(state, learner.data).compile()


def _timing(seconds: float, notes: int) -> dict[str, float]:
    return {"seconds": seconds, "notes_per_second": notes / seconds}


def _is_measured(learner: Learner, update: int) -> bool:
    return update >= learner.updates or update // learner.chunk % learner.measure_every == 0


def _has_nan(state: Any) -> bool:
    """Whether any float of a state is NaN; the metrics of an update are computed before its last changes."""
    floats = (leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating))
    parts = (part.data for leaf in floats for part in leaf.addressable_shards if part.replica_id == 0)
    return launch.anywhere(any(np.isnan(part).any() for part in parts))


def _refuse_nonfinite(learner: Learner, update: int, values: Mapping[str, float]) -> None:
    """Diverged if a value is not finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise Diverged(
                f"stage {learner.name}: {name} is {value} by update {update}, and would be so again; the "
                "last checkpoint is from before. Begin anew with a lower learning rate and another --out"
            )


class Progress:
    """A progress bar with notes a second and the time left; without a terminal, a line every few seconds."""

    def __init__(self, learner: Learner, update: int):
        self.learner, self.update = learner, update
        self.begun = self.reported = time.monotonic()
        self.first = update
        self.bar = tqdm.tqdm(
            total=learner.updates * learner.notes,
            initial=update * learner.notes,
            desc=f"{learner.name:>8}",
            unit=" notes",
            unit_scale=True,
            disable=None if launch.leads() else True,
            file=sys.stderr,
            dynamic_ncols=True,
        )

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Say that a program is being compiled, and leave the time out of the rate."""
        _say(f"{self.learner.name}: compiling", self.bar)
        begun = time.monotonic()
        yield
        self.begun += time.monotonic() - begun
        self.bar.unpause()

    def advance(self, updates: int, metrics: Mapping[str, float]) -> None:
        """Count updates that were made and show the learner's main metric."""
        self.update += updates
        shown = f"{self.learner.shown} {metrics[self.learner.shown]:.3f}"
        self.bar.set_postfix_str(shown, refresh=False)
        self.bar.update(updates * self.learner.notes)
        now = time.monotonic()
        if self.bar.disable and (now - self.reported > REPORT_SECONDS or self.update >= self.learner.updates):
            self.reported = now
            rate = (self.update - self.first) / (now - self.begun)
            left = (self.learner.updates - self.update) / rate
            _say(
                f"{self.learner.name}: {self.update}/{self.learner.updates} updates, "
                f"{rate * self.learner.notes:,.0f} notes/s, {left:.0f} s left, {shown}"
            )

    def __enter__(self) -> Progress:
        """The progress itself."""
        return self

    def __exit__(self, *_) -> None:
        """Leave the bar on the terminal."""
        self.bar.close()


def _say(message: str, bar: tqdm.tqdm | None = None) -> None:
    """A line on standard error, or beside a bar if there is one."""
    if not launch.leads():
        return
    if bar is None or bar.disable:
        print(message, file=sys.stderr, flush=True)
    else:
        bar.set_postfix_str(message.split(": ")[-1])
