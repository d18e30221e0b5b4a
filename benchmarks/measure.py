"""Measuring: programs compiled apart, run in turn, and held against what the machine can do at most.

A machine's speed drifts, and by more than most improvements are worth. So all that is compared, the
machine's own ceilings included, runs in turn, round after round, and each comparison is the median of the
rounds' ratios. Each first run is thrown away, every result is waited for, and compilation is timed apart.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LEAST = 0.1  # seconds of a measurement; what is quicker is repeated
QUICK = 2.0  # seconds; what takes longer is its own warm-up
PRODUCTS = "matrix products"
BFLOAT16 = "bfloat16 products"
MEMORY = "memory bandwidth"


class Job(NamedTuple):
    """Work whose speed is measured.

    Attributes:
        clock: () -> seconds that one run takes.
        units: steps or notes of a run, whatever unit the speed is reported in.
        operations: floating-point operations of a run's matrix products.
        bytes: that a run must at least read from memory and write to it.
        compiling: seconds.
        memory: bytes that the program occupies while it runs, arguments included.
        products: the ceiling of its operations, by name.

    """

    clock: Callable[[], float]
    units: float
    operations: float = 0.0
    bytes: float = 0.0
    compiling: float | None = None
    memory: int | None = None
    products: str = PRODUCTS


class Contest(NamedTuple):
    """A job and what it is held against.

    Attributes:
        ours: the job.
        by_hand: its limit, where that is not the machine's but the same arithmetic without any framework.
        peers: other people's way of doing it, by name.
        optional: peers that are to be asked for; their makers raise ImportError where they are not installed.

    """

    ours: Job
    by_hand: Job | None = None
    peers: Mapping[str, Job] = {}
    optional: Mapping[str, Callable[[], Job]] = {}


class Program(NamedTuple):
    """What a job runs, before it is compiled.

    Attributes:
        function: of the arguments.
        arguments: arrays, or their shapes.
        units: as a Job's.
        updates: whether the function makes the next first argument, a learner's state.

    """

    function: Callable
    arguments: tuple[Any, ...]
    units: float
    updates: bool = False


_described: contextvars.ContextVar[list[Program] | None] = contextvars.ContextVar("described", default=None)


@contextlib.contextmanager
def described() -> Iterator[list[Program]]:
    """A list of the programs of all jobs that are made within; none is compiled, so none has a clock."""
    programs: list[Program] = []
    token = _described.set(programs)
    try:
        yield programs
    finally:
        _described.reset(token)


def seconds(run: Callable[[], Any]) -> float:
    """Wall clock of one run, waiting for its result."""
    begun = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - begun


def job(
    function: Callable,
    *arguments: Any,
    units: float,
    operations: float = 0.0,
    bytes: float = 0.0,
    updates: bool = False,
) -> Job:
    """The job of calling a function that is compiled for these arguments.

    With `updates` it is a learner's: each run is given, and consumes, the state that the last one returned in
    place of the first argument.
    """
    programs = _described.get()
    if programs is not None:
        programs.append(Program(function, arguments, units, updates))
        return Job(lambda: math.nan, units, operations, bytes)
    begun = time.perf_counter()
    jitted = jax.jit(function, donate_argnums=0 if updates else ())
    program = jitted.lower(*arguments).compile()
    compiling = time.perf_counter() - begun
    held = list(arguments)

    def run():
        result = program(*held)
        if updates:
            held[0] = result
        return result

    return Job(lambda: seconds(run), units, operations, bytes, compiling, occupied(program))


def occupied(program: jax.stages.Compiled) -> int | None:
    """Bytes that a compiled program occupies, or None where the backend does not tell."""
    told = program.memory_analysis()
    if told is None:
        return None
    shared = told.alias_size_in_bytes
    return told.argument_size_in_bytes + told.output_size_in_bytes - shared + told.temp_size_in_bytes


def in_turn(clocks: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of a run of each, float64 (rounds,), taken in turn after a first run of each.

    What is quick has a first run in every round: whatever ran before has taken its memory and cache.
    """
    quick = {name: clock() < QUICK for name, clock in clocks.items()}
    counts = {name: math.ceil(LEAST / clock()) if quick[name] else 1 for name, clock in clocks.items()}
    taken = {name: [] for name in clocks}
    for _ in range(rounds):
        for name, clock in clocks.items():
            if quick[name]:
                clock()
            taken[name].append(sum(clock() for _ in range(counts[name])) / counts[name])
    return {name: np.array(times) for name, times in taken.items()}


def ceilings() -> dict[str, Job]:
    """What the machine can do at most: a large matrix product, and a sum that reads and writes memory.

    The product is of float32, and of bfloat16 with sums of float32.
    """
    accelerated = jax.default_backend() != "cpu"
    size = 8192 if accelerated else 1024
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    numbers = jnp.ones((1 << 28 if accelerated else 1 << 24,), jnp.float32)
    moved, work = 2 * numbers.nbytes, 2 * size**3
    square = lambda m: jnp.matmul(m, m, preferred_element_type=jnp.float32)
    multiply = lambda m: job(square, m, units=work, operations=work)
    return {
        PRODUCTS: multiply(matrix),
        BFLOAT16: multiply(matrix.astype(jnp.bfloat16)),
        # in place: the system takes its time to hand out memory anew
        MEMORY: job(lambda x: x + 1, numbers, units=moved, bytes=moved, updates=True),
    }


def gflops(rounds: int) -> float:
    """What a float32 matrix product reaches here, 1e9 operations a second."""
    product = ceilings()[PRODUCTS]
    return product.operations / float(np.median(in_turn({"": product.clock}, rounds)[""])) / 1e9


def limit(work: Job, taken: Mapping[str, np.ndarray], most: Mapping[str, Job]) -> tuple[str, np.ndarray]:
    """Which ceiling a job meets first, and the seconds (rounds,) that it would take there.

    Args:
        work: the job.
        taken: seconds of the ceilings' jobs (rounds,), by name.
        most: the ceilings.

    """
    needed = {
        work.products: work.operations * taken[work.products] / most[work.products].operations,
        MEMORY: work.bytes * taken[MEMORY] / most[MEMORY].bytes,
    }
    name = max(needed, key=lambda name: float(np.median(needed[name])))
    return name, needed[name]


def machine() -> dict[str, Any]:
    """Where this runs: device, how many there are, cores this process may use, and versions."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    kind = device.device_kind if device.platform != "cpu" else platform.machine()
    return {
        "device": f"{device.platform} {kind}",
        "devices": jax.device_count(),
        "cores": cores,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": metadata.version("jaxlib"),
        "numpy": np.__version__,
    }


def peak_memory() -> int:
    """Bytes that this process, or its device, has held at most."""
    told = jax.devices()[0].memory_stats() or {}
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return told.get("peak_bytes_in_use") or kilobytes * (1 if sys.platform == "darwin" else 1024)
