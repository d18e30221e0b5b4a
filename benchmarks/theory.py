# pyright: reportAttributeAccessIssue=false
# (flax adds `replace` to its dataclasses)
"""How fast theory is: rules a second, paper mode's steps a second, and how soon modern mode overtakes it.

    taskset -c 0 python -m benchmarks.theory [--note-rnn FILE] [--json FILE]

Meant for one core, as are the figures of Magenta's program it is compared with: 650 steps a second of its
training loop (so 1,000,000 take 1,540 s) and 5,000 notes a second of its nine rules, measured beside this
(magenta 2.1.4 under TensorFlow 2.15, on one core at 90 GFLOP/s; give your own with --magenta). Without the
weights of the published Note RNN a random network of its size stands in, and the race is left out.
Compilation is timed apart, the first run is thrown away, and the median of the repeats is reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.theory import Model, begin, load_note_rnn, measure
from mammadai_jax.agents import tuner
from mammadai_jax.music import theory
from mammadai_jax.networks.note_rnn import NoteRNN


def median(run: Callable[[], Any], repeats: int) -> float:
    """Median seconds of a run, after one that is not counted."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def gflops(repeats: int) -> float:
    """What a float32 matrix product reaches here, 1e9 operations a second."""
    matrix = jax.random.normal(jax.random.key(0), (1024, 1024))
    product = jax.jit(lambda m: m @ m)
    return 2 * 1024**3 / median(lambda: product(matrix), repeats) / 1e9


def rules(length: int, melodies: int, repeats: int) -> float:
    """Notes a second that all nine rules judge."""
    tokens = jax.random.randint(jax.random.key(0), (melodies, length), 0, 38)
    score = jax.jit(lambda rows: theory.score(rows, theory.Config(length=length)))
    return melodies * length / median(lambda: score(tokens), repeats)


def paper_mode(network: NoteRNN, params: Any, updates: int, repeats: int) -> tuple[float, float]:
    """Steps a second of paper mode's loop, Q, one update of 32 for 5 notes; seconds of compilation."""
    config, piece = tuner.PAPER.replace(any_primer=True), theory.Config()
    before = time.perf_counter()
    state, program = begin(Model("paper", network, params, config, piece, 0), 0, updates)
    compiling, seconds = time.perf_counter() - before, []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        state = jax.block_until_ready(program(state))
        seconds.append(time.perf_counter() - begun)
    notes = updates * config.melodies * piece.length
    return notes / statistics.median(seconds[1:]), compiling


def race(network: NoteRNN, params: Any, reward: float, log_prior: float, seed: int) -> float | None:
    """Seconds until modern mode reaches a reward at that log p or a higher one; None if it never does."""
    model = Model("race", network, params, RACER, theory.Config(), 0)
    state, program = begin(model, seed, 10)
    measure(model, state, 1000, seed=0)
    seconds = 0.0
    while seconds < 60:
        begun = time.perf_counter()
        state = jax.block_until_ready(program(state))
        seconds += time.perf_counter() - begun
        heard = measure(model, state, 1000, seed=int(state.update))[1]
        if heard["theory"] >= reward and heard["log_prior"] >= log_prior:
            return seconds
    return None


# For speed alone: the rules as they weigh in the paper, but for repetition, which drowns the others; by large
# updates, one for every 32 melodies.
RACER = tuner.Config(
    any_primer=True,
    melodies=32,
    minibatches=1,
    batch=32,
    capacity=64,
    scale=1.5,
    temperature=0.8,
    weights={"penalize_repeating": 0.2},
    discount=0.9,
    trace=0.3,
    follow=0.05,
    learning_rate=1.5e-2,
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--note-rnn", type=Path, help="weights of the published Note RNN")
    parser.add_argument("--magenta", type=float, nargs=2, default=(650.0, 5000.0), metavar=("STEPS", "NOTES"))
    parser.add_argument("--reward", type=float, default=2.09, help="to reach: that of Q in paper mode")
    parser.add_argument("--log-prior", type=float, default=-2.51, help="to reach: that of Q in paper mode")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    steps, notes = args.magenta
    found: dict[str, Any] = {"gflops": gflops(args.repeats)}
    found["rules_32"] = rules(32, 4096, args.repeats)
    found["rules_1024"] = rules(1024, 128, args.repeats)
    network = NoteRNN(38)
    blank = jnp.zeros((1, 1), jnp.int32)
    params = network.init(jax.random.key(0), blank, blank)
    if args.note_rnn:
        network, params = load_note_rnn(args.note_rnn)
    found["paper_mode"], found["compilation"] = paper_mode(network, params, 10, args.repeats)
    if args.note_rnn:
        times = [race(network, params, args.reward, args.log_prior, seed) for seed in range(5)]
        found["race"] = times
    print(f"matrix product: {found['gflops']:.0f} GFLOP/s")
    for length in (32, 1024):
        rate = found[f"rules_{length}"]
        print(f"nine rules at {length} steps: {rate:,.0f} notes/s, {rate / notes:,.0f} x Magenta's")
    print(f"a note at 1024 steps costs {found['rules_32'] / found['rules_1024']:.2f} of one at 32")
    rate = found["paper_mode"]
    print(f"paper mode: {rate:,.0f} steps/s, {rate / steps:.1f} x Magenta's", end=" ")
    print(f"(compiled in {found['compilation']:.0f} s)")
    if args.note_rnn:
        told = ", ".join("never" if t is None else f"{t:.1f}" for t in found["race"])
        middle = statistics.median(float("inf") if t is None else t for t in found["race"])
        print(f"modern mode reaches paper mode's Q after {told} s: {1e6 / steps / middle:.0f} x faster")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
