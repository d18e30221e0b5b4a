"""What several devices are worth: two processes on two cores, and the cost of the same bits everywhere.

    python -m benchmarks.devices [--rounds 5] [--melodies 256] [--json FILE]

PPO and GAIL share an update's batch, the same for all: one shard in one process on one core; two shards in
two processes on two cores, which talk over gloo; and eight shards on one core, which give the bits that they
would give on eight. The workers begin one after another, round after round, and every figure is
the median of the rounds' ratios. `mean` is the time of a gradient's mean over two processes, in the order of
the shards as we take it, and by jax's pmean, which knows no order.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax import environments
from mammadai_jax.agents import ppo
from mammadai_jax.learning import collectives
from mammadai_jax.stages import divided, gail, preset
from mammadai_jax.training import launch
from mammadai_jax.training.context import context_of
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.settings import overlay, share
from mammadai_jax.training.sharding import Placement

WIDTH = 1 << 17  # floats of the gradient that is averaged


def learner(name: str, melodies: int, count: int) -> Learner:
    """PPO or GAIL on the accompaniments, for one of so many shards."""
    policy = {"num_envs": melodies, "hidden": (128, 128), "num_minibatches": 4, "num_epochs": 3}
    changes = {
        "shards": count,
        "cloning": {"num_updates": 0},
        "gail": {"learner": {"batch_size": 1024, "ppo": policy}},
    }
    settings = overlay(preset("full"), changes, "benchmark")
    context = context_of(*divided(settings), Path())
    imitation = gail.make_learner(settings.gail, context, gail.data(settings.gail, context))
    if name == "gail":
        return imitation
    config = share(settings.gail.learner.ppo, count)
    env, params = environments.make("rl_tuner", reward=lambda state, action, after: (action == 14) * 1.0)
    return imitation._replace(
        init=lambda: ppo.init(jax.random.key(0), config, env),
        step=lambda state, data: ppo.step(state, config, env, data),
        data=params,
    )


def updates(name: str, melodies: int, placement: Placement) -> Callable[[], Any]:
    """An update of all shards, each time of the state that the last one left."""
    stage = learner(name, melodies, placement.shards)

    def advance(state, data):
        state, metrics = stage.step(state, data)
        return state, collectives.mean(jax.tree.map(lambda x: jnp.mean(x, dtype=jnp.float32), metrics))

    held = [placement.first(stage.init)]
    data = placement.replicate(stage.data)
    program = jax.jit(placement.everywhere(advance, held[0]), donate_argnums=0)

    def run():
        held[0], metrics = program(held[0], data)
        return metrics

    return run


def means(name: str, placement: Placement) -> Callable[[], Any]:
    """A hundred means of a gradient over the shards, ours or jax's."""
    ours = lambda x: collectives.mean({"x": x})["x"]
    jaxs = lambda x: jax.lax.pmean(jax.lax.pmean(x, collectives.SHARDS), collectives.DEVICES)
    mean = ours if name == "ordered" else jaxs

    def advance(state, _):
        state = jax.lax.fori_loop(0, 100, lambda _, x: mean(x + collectives.index()), state)
        return state, state[0]

    first = placement.replicate(jnp.zeros(WIDTH))
    program = jax.jit(placement.everywhere(advance, first))
    return lambda: program(first, ())


def work(name: str, melodies: int, count: int, devices: int) -> None:
    """A worker: compile, say so, and run whenever a line comes in; print the seconds."""
    launch.join()
    placement = Placement(count, devices)
    run = means(name, placement) if name in ("ordered", "pmean") else updates(name, melodies, placement)
    jax.block_until_ready(run())
    print("ready", flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        jax.block_until_ready(run())
        print(time.perf_counter() - begun, flush=True)


class Workers:
    """Processes that do one thing together, each on a core of its own."""

    def __init__(self, name: str, melodies: int, count: int, processes: int):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        cores = sorted(os.sched_getaffinity(0))
        command = [sys.executable, "-m", "benchmarks.devices", "--work", name]
        command += [*map(str, (melodies, count, processes))]
        self.each = []
        for rank in range(processes):
            where = {
                "JAX_NUM_PROCESSES": str(processes),
                "JAX_PROCESS_ID": str(rank),
                "JAX_COORDINATOR_ADDRESS": address,
            }
            pinned = ["taskset", "-c", str(cores[rank % len(cores)]), *command]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.each.append(subprocess.Popen(pinned, env={**os.environ, **where}, **pipes))
        for process in self.each:
            self._hear(process)

    def clock(self) -> float:
        """Seconds of a run, of the slowest."""
        for process in self.each:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return max(float(self._hear(process)) for process in self.each)

    def close(self) -> None:
        """Let them go: together, as each waits for the others before it ends."""
        for process in self.each:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.each:
            process.wait()

    @staticmethod
    def _hear(process: subprocess.Popen) -> str:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith("[Gloo]"):  # which says on the same channel that it is connected
                return line
        raise RuntimeError("a worker has failed, and says why")


def compare(kinds: dict[str, tuple[str, int, int]], melodies: int, rounds: int) -> dict[str, np.ndarray]:
    """Seconds (rounds,) of workers (what, shards, processes) by name, taken in turn."""
    workers = {kind: Workers(what, melodies, *count) for kind, (what, *count) in kinds.items()}
    taken = {kind: [] for kind in workers}
    for _ in range(rounds):
        for kind, group in workers.items():
            taken[kind].append(group.clock())
    for group in workers.values():
        group.close()
    return {kind: np.array(seconds) for kind, seconds in taken.items()}


def report(melodies: int, rounds: int) -> list[dict[str, Any]]:
    """Measure everything, print a line for each, and return the rows."""
    rows = []

    def tell(workload: str, value: float, unit: str, ratio: np.ndarray, against: str) -> None:
        low, middle, high = np.percentile(ratio, (25, 50, 75))
        told = f"{workload:44} {value:12,.1f} {unit:9} {middle:5.2f} ({low:.2f} to {high:.2f}) x {against}"
        print(told, flush=True)
        rows.append({"workload": workload, "value": value, "unit": unit, "ratio": middle, "peer": against})

    for name in ("ppo", "gail"):
        notes = learner(name, melodies, 1).notes
        kinds = {"one": (name, 1, 1), "two": (name, 2, 2), "eight": (name, 8, 1)}
        taken = compare(kinds, melodies, rounds)
        speed = lambda kind, notes=notes, taken=taken: float(np.median(notes / taken[kind]))
        told = "one process on one core"
        tell(f"{name}, one process", speed("one"), "notes/s", taken["one"] / taken["one"], told)
        tell(f"{name}, two processes", speed("two"), "notes/s", taken["one"] / taken["two"], told)
        tell(f"{name}, 8 shards on one core", speed("eight"), "notes/s", taken["one"] / taken["eight"], told)
    taken = compare({"ordered": ("ordered", 2, 2), "pmean": ("pmean", 2, 2)}, melodies, rounds)
    each = float(np.median(taken["ordered"])) * 1e4
    tell(f"mean of {WIDTH:,} floats", each, "us", taken["ordered"] / taken["pmean"], "pmean's time")
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--melodies", type=int, default=256, help="played in an update, a multiple of 8")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work[0], *map(int, args.work[1:]))
        return
    rows = report(args.melodies, args.rounds)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
