# pyright: reportAttributeAccessIssue=false
# (flax adds `replace` to its dataclasses)
"""How soon whole melodies reach what the published tuner does with 1,000,000 steps.

    taskset -c 0 python -m benchmarks.theory NOTE_RNN [--peers] [--seeds 5] [--json FILE]

NOTE_RNN holds the weights of the published Note RNN. Paper mode's speed and that of the rules are among the
workloads of `python -m benchmarks`. Compilation is not counted. With --peers Magenta's program is timed too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax

from benchmarks import magenta_peer
from experiments.theory import Model, begin, load_note_rnn, measure
from mammadai_jax.agents import projection, tuner
from mammadai_jax.music import theory
from mammadai_jax.networks.note_rnn import NoteRNN

STEPS = 1_000_000  # of the published run
LONGEST = 60.0  # seconds of a race


def race(network: NoteRNN, params: Any, reward: float, log_prior: float, seed: int) -> float | None:
    """Seconds until modern mode reaches a reward at that log p or a higher one; None if it never does."""
    model = Model("race", network, params, RACER, theory.Config(), 0)
    state, program = begin(model, seed, 2)
    measure(model, state, 1000, seed=0)
    seconds = 0.0
    while seconds < LONGEST:
        begun = time.perf_counter()
        state = jax.block_until_ready(program(state))
        seconds += time.perf_counter() - begun
        heard = measure(model, state, 1000, seed=int(state.update))[1]
        if heard["theory"] >= reward and heard["log_prior"] >= log_prior:
            return seconds
    return None


# Modern mode with the rules as they weigh in the paper, and updates so small that a hundred fit in seconds.
RACER = projection.SHORT.replace(
    num_envs=128,
    batch_size=32,
    num_minibatches=4,
    reward_scale=1.0,
    temperature=0.8,
    rule_weights={},
    rule_targets={},
    variety=0.0,
    copy_lag=0,
    ess_fraction=0.25,
    learning_rate=8e-3,
    lr_decay_steps=200,
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("note_rnn", type=Path, metavar="NOTE_RNN")
    parser.add_argument("--reward", type=float, default=2.20, help="to reach: that of Q in paper mode")
    parser.add_argument("--log-prior", type=float, default=-2.53, help="to reach: that of Q in paper mode")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peers", action="store_true", help="time Magenta's program too")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    try:
        network, params = load_note_rnn(args.note_rnn)
        peer = magenta_peer.learning(tuner.PAPER, theory.Config().length) if args.peers else None
    except (ValueError, ImportError) as error:
        parser.error(str(error))
    times = [race(network, params, args.reward, args.log_prior, seed) for seed in range(args.seeds)]
    found: dict[str, Any] = {"race": times}
    middle = statistics.median(float("inf") if t is None else t for t in times)
    told = ", ".join("never" if t is None else f"{t:.1f}" for t in times)
    print(f"modern mode reaches paper mode's Q after {told} s; median {middle:.1f} s")
    if peer:
        found["magenta"] = peer.units / statistics.median(peer.clock() for _ in range(5))
        print(
            f"Magenta's program makes {found['magenta']:.0f} steps/s: its {STEPS:,} take "
            f"{STEPS / found['magenta'] / middle:.0f} times as long"
        )
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
