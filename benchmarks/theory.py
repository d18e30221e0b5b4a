# pyright: reportAttributeAccessIssue=false
# (flax adds `replace` to its dataclasses)
"""How fast theory is: rules a second, paper mode's steps a second, and how soon whole melodies overtake it.

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
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import learning, playing
from benchmarks.measure import gflops, in_turn
from experiments.theory import Model, begin, load_note_rnn, measure
from mammadai_jax.agents import tuner
from mammadai_jax.music import theory
from mammadai_jax.networks.note_rnn import NoteRNN


def race(network: NoteRNN, params: Any, reward: float, log_prior: float, seed: int) -> float | None:
    """Seconds until modern mode reaches a reward at that log p or a higher one; None if it never does."""
    model = Model("race", network, params, RACER, theory.Config(), 0)
    state, program = begin(model, seed, 2)
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


# Modern mode with the rules as they weigh in the paper, and updates so small that a hundred fit in seconds.
RACER = tuner.MODERN.replace(
    melodies=128,
    batch=32,
    minibatches=4,
    scale=1.0,
    temperature=0.8,
    weights={},
    early={},
    echo=0,
    copying=0.0,
    effective=0.25,
    learning_rate=8e-3,
    annealing=200,
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--note-rnn", type=Path, help="weights of the published Note RNN")
    parser.add_argument("--magenta", type=float, nargs=2, default=(650.0, 5000.0), metavar=("STEPS", "NOTES"))
    parser.add_argument("--reward", type=float, default=2.20, help="to reach: that of Q in paper mode")
    parser.add_argument("--log-prior", type=float, default=-2.53, help="to reach: that of Q in paper mode")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    steps, notes = args.magenta
    network, params = load_note_rnn(args.note_rnn) if args.note_rnn else learning.note_rnn()
    paper = tuner.PAPER.replace(any_primer=True)
    contests = {
        "rules_32": playing.rules(4096, 32),
        "rules_1024": playing.rules(128, 1024),
        "paper_mode": learning.rl_tuner(paper, network, params, updates=10),
    }
    jobs = {name: contest.ours for name, contest in contests.items()}
    taken = in_turn({name: job.clock for name, job in jobs.items()}, args.repeats)
    found: dict[str, Any] = {name: job.units / float(np.median(taken[name])) for name, job in jobs.items()}
    found |= {"gflops": gflops(args.repeats), "compilation": jobs["paper_mode"].compiling}
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
