"""The outer loop: any learner's `init` and `step`, in jitted chunks, with a log, checkpoints and progress.

It never looks inside a state. A chunk is a `scan` of `step` under one `jit`. Between chunks, on the host, the
chunk's mean metrics are logged, and from time to time the whole state is saved. Chunks begin at the same
updates and run the same programs however often a run is interrupted, so that its bits do not change. A chunk
that ends with a number that is not finite is made again from its first state, without the updates that gave
such numbers (nonfinite.py).
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import tqdm

from mammadai_jax.learning import collectives
from mammadai_jax.training import dumps, interruption, launch, nonfinite
from mammadai_jax.training.host_copy import back_on_devices, host_copy
from mammadai_jax.training.nonfinite import Guarded
from mammadai_jax.training.run import Run
from mammadai_jax.training.sharding import ALONE, Placement

SAVE_SECONDS = 20.0
REPORT_SECONDS = 10.0
LARGEST = 1e12  # of a metric of a training that has not diverged


class Diverged(ArithmeticError):
    """Nothing more can be learned; the message names the update and why. The last checkpoint is earlier."""


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
        worst: size of the shown metric beyond which the training has diverged.

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
    worst: float = LARGEST


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
        Diverged: if too many updates in a row are not finite, which a dump then holds (dumps.py), or a
            metric is so large that nothing can have been learned.
        CheckpointError: if there are checkpoints but none can be used.
        KeyboardInterrupt: if a signal asks the process to end, when the state is saved.

    """
    checkpoints = run.checkpoints(learner.name)
    restored = checkpoints.restore(placement.template(learner.init), warn=_say)
    update, state = restored or (0, placement.first(learner.init))
    learner = learner._replace(data=placement.replicate(learner.data))
    run.rewind(learner.name, update, checkpoints.logged(update))
    saved, in_a_row = time.monotonic(), 0
    with Progress(learner, update) as progress, interruption.deferred():
        chunks = Chunks(learner, placement, progress.compiling)
        while update < learner.updates:
            length = min(learner.chunk, learner.updates - update)
            chunks.program(learner, state, length)
            begun = time.monotonic()
            guarded, metrics = chunks.make(state, length, in_a_row)
            state, in_a_row = guarded.state, int(guarded.in_a_row)
            if in_a_row == nonfinite.LIMIT:
                _stop(learner, run, update + int(guarded.made), state)
            update += length
            timing = _timing(time.monotonic() - begun, length * learner.notes)
            if learner.measure and _is_measured(learner, update):
                metrics |= learner.measure(placement.here(state))
            _refuse_diverged(learner, update, metrics)
            run.log(learner.name, update, metrics, timing)
            progress.advance(length, metrics)
            ends = launch.anywhere(interruption.requested())
            is_due = not in_a_row and time.monotonic() - saved > save_seconds
            if update >= learner.updates or ends or launch.agree(is_due):
                checkpoints.save(update, state, run.logged())
                saved = time.monotonic()
            if ends:
                raise KeyboardInterrupt
    return placement.here(state)


class Chunks:
    """The programs of a learner's chunks, compiled when they are first needed.

    Args:
        learner: the learner.
        placement: of its shards.
        compiling: a context while a program is compiled.

    """

    def __init__(self, learner: Learner, placement: Placement, compiling: Callable):
        self.learner, self.placement, self.compiling = learner, placement, compiling
        self.guarded = learner._replace(step=nonfinite.skipping(learner.step))
        self.programs: dict[tuple[bool, int], Callable] = {}

    def make(self, state: Any, length: int, in_a_row: int) -> tuple[Guarded, dict[str, float]]:
        """Make so many updates -> Guarded, mean metrics of the updates that were not skipped.

        Only if a number is not finite in the end are they made again one by one from a copy of the state,
        which waits in the host's memory, because the program takes over the buffers of the state itself.
        `in_a_row` updates were skipped before.
        """
        copy = host_copy(state)
        after, metrics = self._run(self.learner, state, length)
        if metrics.pop(nonfinite.FINITE) == 1:
            return Guarded(after, 0, length), metrics
        del after
        begin = Guarded(back_on_devices(copy), jnp.int32(in_a_row), jnp.int32(0))
        guarded, metrics = self._run(self.guarded, begin, length)
        del metrics[nonfinite.FINITE]
        return guarded, nonfinite.of_those_made(metrics, length)

    def _run(self, learner: Learner, state: Any, length: int) -> tuple[Any, dict[str, float]]:
        after, means = self.program(learner, state, length)(state, learner.data)
        return after, {name: float(value) for name, value in means.items()}

    def program(self, learner: Learner, state: Any, length: int) -> Callable:
        """The program of so many steps of a learner."""
        name = learner is self.guarded, length
        if name not in self.programs:
            with self.compiling():
                self.programs[name] = program(learner, state, length, self.placement)
        return self.programs[name]


def dry_run(learner: Learner) -> None:
    """Trace an update without making it, so that settings that do not fit together are refused at once."""
    state = jax.eval_shape(learner.init)
    jax.eval_shape(learner.step, state, learner.data)


def program(learner: Learner, state: Any, length: int, placement: Placement = ALONE) -> Callable:
    """Compiled (state, data) -> (state after `length` steps, mean metrics).

    nonfinite.FINITE among the metrics is 1 if that state and all metrics are finite. The given state is
    donated: its buffers become those of the state that is returned.
    """

    def advance(state, data):
        state, metrics = jax.lax.scan(lambda s, _: learner.step(s, data), state, length=length)
        means = jax.tree.map(lambda x: jnp.mean(x, dtype=jnp.float32), metrics)
        sound = 1.0 * nonfinite.finite_here((state, means))
        return state, collectives.mean({**means, nonfinite.FINITE: sound})

    everywhere = placement.everywhere(advance, state)
    return jax.jit(everywhere, donate_argnums=0).lower(state, learner.data).compile()


def _timing(seconds: float, notes: int) -> dict[str, float]:
    return {"seconds": seconds, "notes_per_second": notes / seconds}


def _is_measured(learner: Learner, update: int) -> bool:
    return update >= learner.updates or update // learner.chunk % learner.measure_every == 0


def _stop(learner: Learner, run: Run, update: int, state: Any) -> NoReturn:
    """Write out what an update began with that is the last of too many, and raise Diverged."""
    dump = dumps.Dump(learner.name, update, dumps.arrays_of(state=state, data=learner.data))
    path = dump.path(run.path)
    launch.first(lambda: dumps.write(path, dump))
    raise Diverged(
        f"stage {learner.name}: {nonfinite.LIMIT} updates in a row, the last of them update {update}, gave "
        f"numbers that are not finite. `mammadai replay-nan {path}` names where the first arose. The last "
        "checkpoint is from before. Begin anew with a lower learning rate and another --out"
    )


def _refuse_diverged(learner: Learner, update: int, values: Mapping[str, float]) -> None:
    """Diverged if a value is not finite, or so large that nothing was learned."""
    for name, value in values.items():
        most = learner.worst if name == learner.shown else LARGEST
        if not abs(value) <= most:
            raise Diverged(
                f"stage {learner.name}: {name} is {value:.4g} by update {update}, beyond {most:.4g}: the "
                "training has diverged, and would do so again. The last checkpoint is from before. Begin "
                "anew with a lower learning rate and another --out"
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
        shown = f"{self.learner.shown} {metrics.get(self.learner.shown, math.nan):.3f}"
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
