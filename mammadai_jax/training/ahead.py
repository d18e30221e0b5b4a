"""Programs of later stages, compiled in a thread while earlier ones learn.

Most of a short training is compiling, which leaves a second core idle. What is compiled here goes into jax's
cache of programs, under what the program says and not under a name: a stage finds it there when its turn
comes, and compiles whatever turns out to be another program itself. So nothing here can change a result.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax

from mammadai_jax.training import loop
from mammadai_jax.training.loop import Learner

PRECISION = "jax_default_matmul_precision"


class Ahead:
    """A thread that does jobs in their order, but for those that have become needless.

    It is a context: at its end the job at hand is waited for, unless somebody interrupts.
    """

    def __init__(self) -> None:
        self._free: dict[str, threading.Lock] = {}
        self._thread: threading.Thread | None = None
        self._ended = False

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        self._ended = True
        if self._thread and kind is not KeyboardInterrupt:
            self._thread.join()

    def start(self, jobs: Mapping[str, Callable[[], object]]) -> None:
        """Do jobs, by name. What they raise is not heard: whoever needs the result meets the same error."""
        self._free = {name: threading.Lock() for name in jobs}
        self._thread = threading.Thread(target=self._work, args=(jobs,), daemon=True, name="compiling ahead")
        self._thread.start()

    def begins(self, name: str) -> None:
        """Make a job needless, or wait for its end if it is at hand. Call it once for each."""
        if name in self._free:
            self._free[name].acquire()

    def _work(self, jobs: Mapping[str, Callable[[], object]]) -> None:
        for name, job in jobs.items():
            if not self._ended and self._free[name].acquire(blocking=False):
                with contextlib.suppress(Exception):
                    job()
                self._free[name].release()


def can_be_kept() -> bool:
    """Whether there is a cache that compiled programs go into."""
    return bool(jax.config.values["jax_compilation_cache_dir"]) and jax.process_count() == 1


def compiling(make: Callable[[], Learner], state: Any) -> Callable[[], None]:
    """A job: the programs of a learner that starts with a state of these shapes."""
    precision = getattr(jax.config, PRECISION)  # of this thread, which is not that of the job

    def job() -> None:
        learner = make()
        lengths = {min(learner.chunk, learner.updates), learner.updates % learner.chunk} - {0}
        with jax.default_matmul_precision(precision):
            for length in sorted(lengths, reverse=True):
                loop.program(learner, state, length)

    return job
