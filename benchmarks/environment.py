"""How fast the environments are: steps a second, and the cost of a late note against an early one.

    python -m benchmarks.environment [--json FILE] [--quick]

Random policies under `jax.jit(scan(vmap))`; every observation is summed, so that none is optimised away.
Compilation is timed apart, the first run is thrown away, and the median of the repeats is reported.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import measure, table
from mammadai_jax import environments

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "rl_tuner": ("rl_tuner", {}),
    "snapshot of accompaniment": ("accompanied", {}),
    "counts of both": ("accompanied", {"representation": "counts", "source": "both"}),
    "decayed of both": ("accompanied", {"representation": "decayed", "source": "both"}),
}
BATCHES = (1, 64, 1024, 8192)
EARLY, LATE, SEGMENT = 10, 10_000, 512


def plain(env, steps: int) -> Callable:
    """Scan what the agents scan: `advance` and `observe`, no keys spent on resets."""

    def step(carry, key, params):
        state, total = carry
        action = jax.random.randint(key, (), 0, env.num_actions)
        state = env.advance(state, action, params)
        return (state, total + env.observe(state, params).sum()), None

    def run(state, key, params):
        keys = jax.random.split(key, steps)
        return jax.lax.scan(lambda carry, k: step(carry, k, params), (state, 0.0), keys)[0]

    return run


def contract(env, steps: int) -> Callable:
    """Scan gymnax's `step`, automatic reset included."""

    def step(carry, key, params):
        state, total = carry
        key_action, key_step = jax.random.split(key)
        action = jax.random.randint(key_action, (), 0, env.num_actions)
        obs, state, reward, terminated, _, _ = env.step(key_step, state, action, params)
        return (state, total + obs.sum() + reward + terminated), None

    def run(state, key, params):
        keys = jax.random.split(key, steps)
        return jax.lax.scan(lambda carry, k: step(carry, k, params), (state, 0.0), keys)[0]

    return run


def batched(env, run: Callable, params, batch: int):
    """A program over a batch, and its arguments."""
    keys = jax.random.split(jax.random.key(1), batch)
    state = jax.jit(jax.vmap(env.initial, in_axes=(0, None)))(keys, params)
    return jax.vmap(run, in_axes=(0, 0, None)), (state, keys, params)


def throughput(repeats: int, batches: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Steps a second of every variant, of the plain functions and of the full contract."""
    for variant, (name, kwargs) in VARIANTS.items():
        env, params = environments.make(name, **kwargs)
        yield {
            "variant": variant,
            "what": "NumPy loop",
            "batch": 1,
            "steps_per_second": numpy_loop(env, params),
        }
        for what, make_run in (("plain", plain), ("contract", contract)):
            for batch in batches:
                steps = min(256, max(32, 131_072 // batch))
                program, arguments = batched(env, make_run(env, steps), params, batch)
                job = measure.job(program, *arguments, units=batch * steps)
                median = np.median(measure.in_turn({what: job.clock}, repeats)[what])
                yield {
                    "variant": variant,
                    "what": what,
                    "batch": batch,
                    "steps_per_second": job.units / float(median),
                    "compile_seconds": job.compiling,
                }


def numpy_loop(env, params, steps: int = 3000) -> float:
    """Steps a second of the same observations in a plain loop over NumPy arrays, one melody at a time."""
    rng = np.random.default_rng(0)
    size, observe = env.num_actions, numpy_observer(env, params)
    start, total = time.perf_counter(), 0.0
    for step in range(steps):
        total += float(observe(step % int(params.max_steps_in_episode), int(rng.integers(size))).sum())
    return steps / (time.perf_counter() - start)


def numpy_observer(env, params) -> Callable[[int, int], np.ndarray]:
    """A function of time and action that gives the observation after the action, and keeps what it needs."""
    if env.name == "rl_tuner":

        def observe_last(time: int, action: int) -> np.ndarray:
            row = np.zeros(env.observation_size, np.float32)
            row[[action, 39 + (time + 1) % 16, 55 + (time + 1) // 16 % 8]] = 1
            return row

        return observe_last
    backing, memory = np.asarray(params.backing[0]), np.zeros(128, np.float32)

    def observe_notes(time: int, action: int) -> np.ndarray:
        if env.source == "accompaniment":
            return backing[time + 1]
        if time == 0:
            memory[:] = 0
        if env.representation == "decayed":
            memory[:] *= 255 / 256
        if action:
            memory[action + 20] = 1 if env.representation == "decayed" else memory[action + 20] + 1
        scale = max(memory.max(), 1) if env.representation == "counts" else 1
        return np.concatenate([backing[time + 1], memory / scale])

    return observe_notes


def late_notes(repeats: int, batch: int = 64) -> Iterator[dict[str, Any]]:
    """The cost of a step at note 10 and at note 10,000, of one program; the ratio is the median of pairs."""
    for variant, (name, kwargs) in VARIANTS.items():
        if name == "accompanied":
            frames = environments.default_accompaniments(LATE + 2 * SEGMENT)[:1]
            kwargs = {**kwargs, "accompaniments": frames}
        env, params = environments.make(name, **kwargs)
        params = params.replace(max_steps_in_episode=1 << 30)
        for what, make_run in (("plain", plain), ("contract", contract)):
            program, (_, keys, _) = batched(env, make_run(env, SEGMENT), params, batch)
            jobs = {
                note: measure.job(program, played(env, params, batch, note), keys, params, units=1)
                for note in (EARLY, LATE)
            }
            taken = measure.in_turn({str(note): job.clock for note, job in jobs.items()}, repeats)
            early, late = (taken[str(note)] / SEGMENT / batch for note in (EARLY, LATE))
            yield {
                "variant": variant,
                "what": what,
                "batch": batch,
                "early_ns": float(np.median(early)) * 1e9,
                "late_ns": float(np.median(late)) * 1e9,
                "ratio": float(np.median(late / early)),
            }


def played(env, params, batch: int, steps: int):
    """States after `steps` random notes, a batch of them."""
    program, arguments = batched(env, plain(env, steps), params, batch)
    return jax.jit(program)(*arguments)[0]


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--quick", action="store_true", help="few repeats and small batches")
    options = parser.parse_args()
    repeats, batches = (3, BATCHES[:2]) if options.quick else (9, BATCHES)
    rows: dict[str, Any] = {"machine": measure.machine(), "throughput": [], "late_notes": []}
    print(table.told(rows["machine"]))
    print(f"\n{'environment':28}{'what':12}{'batch':>6}{'steps/s':>14}{'compile s':>11}")
    for row in throughput(repeats, batches):
        rows["throughput"].append(row)
        compilation = f"{row['compile_seconds']:11.2f}" if "compile_seconds" in row else ""
        print(
            f"{row['variant']:28}{row['what']:12}{row['batch']:6}{row['steps_per_second']:14,.0f}{compilation}"
        )
    print(f"\n{'environment':28}{'what':12}{f'ns, note {EARLY}':>16}{f'ns, note {LATE:,}':>18}{'ratio':>8}")
    for row in late_notes(3 * repeats):
        rows["late_notes"].append(row)
        numbers = f"{row['early_ns']:16.1f}{row['late_ns']:18.1f}{row['ratio']:8.3f}"
        print(f"{row['variant']:28}{row['what']:12}{numbers}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
