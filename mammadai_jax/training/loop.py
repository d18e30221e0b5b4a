"""The outer loop: any learner's `init` and `step`, in jitted chunks, with a log, checkpoints and progress.

It never looks inside a learner. A chunk is a scan of `step` under one donated jit; between chunks, on the
host, the chunk's mean metrics are logged, and now and then the whole state is saved. Chunks begin at the same
updates and run the same programs however often a run is interrupted, so the bits are the same too.
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
from mammadai_jax.training import launch
from mammadai_jax.training.run import Run
from mammadai_jax.training.sharding import ALONE, Placement

SAVE_SECONDS = 20.0
TELL_SECONDS = 10.0


class Diverged(ArithmeticError):
    """A number is no longer finite: says which and when; the last checkpoint is from before."""


class Learner(NamedTuple):
    """One learner to be driven.

    Attributes:
        name: of its rows, checkpoints and samples.
        init: () -> state of one shard.
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


def train(
    learner: Learner, run: Run, save_seconds: float = SAVE_SECONDS, placement: Placement = ALONE
) -> Any:
    """Drive a learner to its end, going on from its newest checkpoint if it has one -> the final state.

    Args:
        learner: what is driven.
        run: where its log and checkpoints are kept.
        save_seconds: a chunk that ends later than this after the last checkpoint is followed by another.
        placement: of its shards.

    Raises:
        Diverged: when a metric is not finite, or the state that is to be saved is not a number.
        CheckpointError: when there are checkpoints but none can be used.

    """
    checkpoints = run.checkpoints(learner.name)
    restored = checkpoints.updates() and checkpoints.restore(placement.template(learner.init), warn=_tell)
    update, state = restored or (0, placement.first(learner.init))
    learner = learner._replace(data=placement.replicate(learner.data))
    run.rewind(learner.name, update)
    programs: dict[int, Callable] = {}
    saved = time.monotonic()
    with Progress(learner, update) as progress:
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
            _refuse_nonsense(learner, update, metrics)
            if learner.measure and _is_measured(learner, update):
                metrics |= learner.measure(placement.here(state))
                _refuse_nonsense(learner, update, metrics)
            run.log(learner.name, update, metrics, timing)
            progress.advance(length, metrics)
            if update >= learner.updates or launch.agree(time.monotonic() - saved > save_seconds):
                _refuse_nonsense(learner, update, {"the state": math.nan if _has_nan(state) else 0.0})
                checkpoints.save(update, state)
                saved = time.monotonic()
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
    """Whether any float of the state is NaN; the metrics of an update do not tell of what it broke."""
    floats = (leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating))
    parts = (part.data for leaf in floats for part in leaf.addressable_shards if part.replica_id == 0)
    return launch.anywhere(any(np.isnan(part).any() for part in parts))


def _refuse_nonsense(learner: Learner, update: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise Diverged(
                f"stage {learner.name}: {name} is {value} by update {update}, and would be so again; the "
                "last checkpoint is from before. Begin anew with a lower learning rate and another --out"
            )


class Progress:
    """A bar with notes a second and the time left; where there is no terminal, a line now and then."""

    def __init__(self, learner: Learner, update: int):
        self.learner, self.update = learner, update
        self.begun = self.told = time.monotonic()
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
        """While a program is compiled, which is said and not counted in the rate."""
        _tell(f"{self.learner.name}: compiling", self.bar)
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
        if self.bar.disable and (now - self.told > TELL_SECONDS or self.update >= self.learner.updates):
            self.told = now
            rate = (self.update - self.first) / (now - self.begun)
            left = (self.learner.updates - self.update) / rate
            _tell(
                f"{self.learner.name}: {self.update}/{self.learner.updates} updates, "
                f"{rate * self.learner.notes:,.0f} notes/s, {left:.0f} s left, {shown}"
            )

    def __enter__(self) -> Progress:
        """The progress itself."""
        return self

    def __exit__(self, *_) -> None:
        """Leave the bar as it stands."""
        self.bar.close()


def _tell(message: str, bar: tqdm.tqdm | None = None) -> None:
    """A line on standard error that does not break a bar."""
    if not launch.leads():
        return
    if bar is None or bar.disable:
        print(message, file=sys.stderr, flush=True)
    else:
        bar.set_postfix_str(message.split(": ")[-1])
