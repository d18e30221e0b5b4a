"""How fast everything is, and what fraction of this machine's limits that is.

    python -m benchmarks [--quick] [--only NAME ...] [--peers] [--cold RUN] [--json FILE] [--markdown FILE]

Each workload runs in turn with whatever it is held against: the machine's matrix product and memory
bandwidth, a hand-written scan, peers. Speeds are medians, fractions and ratios the medians of the rounds'
own. Compilation is timed apart. For the figures of one core, give the process one: `taskset -c 0 python -m
benchmarks`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import cold, measure, table
from benchmarks.measure import Contest
from benchmarks.workloads import Workload, workloads

CEILINGS = {measure.PRODUCTS: "FLOP/s", measure.BFLOAT16: "FLOP/s", measure.MEMORY: "B/s"}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table; what was measured before an interruption is printed too."""
    args = parse(argv)
    with tempfile.TemporaryDirectory() as scratch:
        found = workloads() + (cold_starts(args.cold, Path(scratch)) if args.cold else [])
        try:
            chosen = choose(found, args.only, args.quick)
        except ValueError as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 2
        if args.list:
            print("\n".join(workload.name for workload in chosen))
            return 0
        rows = []
        try:
            with contextlib.suppress(KeyboardInterrupt):
                run(chosen, 3 if args.quick else 7, args.peers, rows)
        finally:
            show(rows, args.json, args.markdown)
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="workloads or families, see --list")
    parser.add_argument("--quick", action="store_true", help="a few of each family, in fewer rounds")
    parser.add_argument("--peers", action="store_true", help="in turn with the peers that are installed")
    parser.add_argument("--cold", type=Path, metavar="RUN", help="also start `mammadai compose RUN` afresh")
    parser.add_argument("--list", action="store_true", help="name the workloads and leave")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table")
    return parser.parse_args(argv)


def cold_starts(run: Path, scratch: Path) -> list[Workload]:
    """What begins with a fresh process."""
    makes = {
        "import": cold.importing,
        "compose-cached": functools.partial(cold.composing, run, scratch, True),
        "compose-uncached": functools.partial(cold.composing, run, scratch, False),
    }
    return [Workload(f"cold/{name}", "s", make, quick=True) for name, make in makes.items()]


def choose(found: Sequence[Workload], names: Sequence[str] | None, quick: bool) -> list[Workload]:
    """The workloads of such names or families, or all; ValueError for a name that none has."""
    known = {workload.name for workload in found} | {workload.name.split("/")[0] for workload in found}
    if unknown := sorted(set(names or ()) - known):
        raise ValueError(f"no workload is called {', '.join(unknown)}; --list names them")
    wanted = set(names or known)
    named = [w for w in found if {w.name, w.name.split("/")[0]} & wanted]
    # who names a workload in full wants it, quick or not
    return [w for w in named if not quick or w.quick or w.name in (names or ())]


def run(chosen: Sequence[Workload], rounds: int, peers: bool, rows: list[table.Row]) -> None:
    """Measure workload after workload, and put rows in a list as they come; last the machine's ceilings."""
    most = measure.ceilings()
    reached: dict[str, list[np.ndarray]] = {name: [] for name in most}
    try:
        for number, workload in enumerate(chosen, start=1):
            begun = time.perf_counter()
            print(f"[{number}/{len(chosen)}] {workload.name} ...", end=" ", file=sys.stderr, flush=True)
            contest = with_optional(workload.make()) if peers else workload.make()
            more, ceilings = table.contest_rows(workload.name, workload.unit, contest, most, rounds)
            rows += more
            for name, seconds in ceilings.items():
                reached[name].append(seconds)
            speed = table.human(more[0].value, more[0].unit)
            print(f"{speed} ({time.perf_counter() - begun:.0f} s)", file=sys.stderr)
    finally:
        for name, seconds in reached.items():
            if seconds:
                row = table.of_job(f"limit/{name}", CEILINGS[name], most[name], np.concatenate(seconds))
                rows.append(row._replace(compiling=None))


def with_optional(contest: Contest) -> Contest:
    """A contest with those of its optional peers that are installed."""
    peers = dict(contest.peers)
    for name, make in contest.optional.items():
        try:
            peers[name] = make()
        except ImportError as error:
            print(f"without {name} ({error})", end=" ", file=sys.stderr, flush=True)
    return contest._replace(peers=peers)


def show(rows: Sequence[table.Row], json: Path | None, markdown: Path | None) -> None:
    """Print rows, and write them where asked."""
    about = measure.machine()
    print(f"{table.told(about)}\npeak memory {table.human(measure.peak_memory(), 'B')}\n\n{table.text(rows)}")
    if json:
        json.write_text(table.as_json(rows, about))
    if markdown:
        markdown.write_text(table.markdown(rows, about))


if __name__ == "__main__":
    sys.exit(main())
