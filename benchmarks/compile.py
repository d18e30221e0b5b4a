"""Compile all programs for TPUs that are not there, and report what their compiler says of them.

    pip install -e '.[aot]'
    python -m benchmarks.compile --target v5e:2x2 [--only NAME...] [--list] [--markdown FILE]

Nothing is run, and nothing is measured but "compiled in": all other figures are counted in the program, or
are its compiler's estimates. Of several chips each has a shard with the whole batch of one (weak scaling),
placed as a run is, and only learners are compiled. The columns, all of one chip and one run or update:

notes       that are learned from or played; steps of an environment
products    operations of matrix products, counted as the program is traced
moved       bytes to and from the chip's memory, as the instructions' shapes say
estimate    the compiler's estimate of all instructions one after another, without waiting for other chips
least       the time of the products at the chip's peak in bfloat16, or of the bytes at its bandwidth
in loops    the share of the estimate within loops
memory      what the program occupies, arguments included, and its share of the chip's
sent        bytes to other chips, and collectives run; only with several chips
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import estimates, measure
from benchmarks.chips import CHIPS, Abroad, Chip, placed, stay_at_home
from benchmarks.measure import Program
from benchmarks.programs import programs
from benchmarks.table import human

HEADINGS = ("program", "notes", "compiled in", "products", "moved", "estimate", "least", "in loops", "memory")
SENT = ("sent", "collectives")


class Report(NamedTuple):
    """What is known of a compiled program, see the columns; or why it could not be compiled."""

    name: str
    notes: float
    seconds: float = 0.0
    products: float = 0.0
    cost: estimates.Cost = estimates.Cost()
    memory: int = 0
    failure: str = ""

    def cells(self, chip: Chip, chips: int) -> list[str]:
        """A row of the table."""
        if self.failure:
            return [self.name, f"{self.notes:,.0f}", f"fails: {self.failure}"]
        cost = self.cost
        spent = cost.cycles / chip.clock
        least = max(self.products / chip.flops, cost.moved / chip.bandwidth)
        limit = "products" if self.products / chip.flops >= least else "memory"
        loops = f"{cost.looped / max(cost.cycles, 1):.0%}" + ", some counted once" * bool(cost.unbounded)
        told = [f"{count} {kind}" for kind, count in sorted(cost.collectives.items())]
        occupied = f"{human(self.memory, 'B')}, {self.memory / chip.memory:.1%}"
        return [
            *(self.name, f"{self.notes:,.0f}", human(self.seconds, "s")),
            *(human(self.products, "FLOP"), human(cost.moved, "B")),
            *(f"{1e3 * spent:.3g} ms", f"{1e3 * least:.3g} ms, {limit}", loops, occupied),
            *((human(cost.sent, "B"), ", ".join(told)) if chips > 1 else ()),
        ]


def report(name: str, program: Program, placement: Abroad) -> Report:
    """Compile a program; what its compiler refuses is reported too."""
    traced = trace(program, placement)
    lowered = traced.lower()
    begun = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        return Report(name, program.units, failure=str(error).splitlines()[0][:200].replace("|", "/"))
    seconds = time.perf_counter() - begun
    cost = estimates.cost(compiled.as_text(), placement.devices)
    return Report(
        name, program.units, seconds, products(traced.jaxpr.jaxpr), cost, measure.occupied(compiled) or 0
    )


def trace(program: Program, placement: Abroad) -> Any:
    """A program traced for the devices of a placement, with a shard on each; a learner's state is donated."""
    first, *data = jax.eval_shape(lambda *arguments: arguments, *program.arguments)
    advance = lambda first, data: (program.function(first, *data), ())
    where = NamedSharding(placement.mesh, PartitionSpec())
    put = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    if program.updates and placement.shards > 1:
        state = placement.template(lambda: jax.tree.map(blank, first))
        step = placement.everywhere(advance, state)
    else:
        state, step = jax.tree.map(put, first), advance
    return jax.jit(step, donate_argnums=0 if program.updates else ()).trace(state, jax.tree.map(put, data))


def blank(like: Any) -> jax.Array:
    """Zeros, or equal keys, of a shape."""
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), like.shape)
    return jnp.zeros(like.shape, like.dtype)


def products(jaxpr: Any) -> float:
    """Operations of the matrix products and convolutions of a traced program, as often as its scans run.

    Of branches the one with the most counts; a loop without a given number of passes counts once.
    """
    return sum(_products(equation) for equation in jaxpr.eqns)


def _products(equation: Any) -> float:
    """Of one equation."""
    params, kind = equation.params, equation.primitive.name
    if kind == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    if kind == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * equation.outvars[0].aval.size * kernel.size / outputs
    inner = [products(jaxpr) for jaxpr in _inner(params.values())]
    return params.get("length", 1) * (max(inner, default=0.0) if kind == "cond" else sum(inner))


def _inner(values: Any) -> Iterator[Any]:
    """The programs within the parameters of an equation."""
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _inner(value)
        elif hasattr(value, "eqns"):
            yield value
        elif hasattr(value, "jaxpr"):
            yield value.jaxpr


def chosen(names: Sequence[str] | None) -> dict[str, Callable[[], Program]]:
    """The programs of such names or families, or all.

    Raises:
        ValueError: for a name that none has.

    """
    found = programs()
    known = {*found, *(name.split("/")[0] for name in found)}
    if unknown := sorted(set(names or ()) - known):
        raise ValueError(f"no program is called {', '.join(unknown)}; --list names them")
    wanted = set(names or known)
    return {name: make for name, make in found.items() if {name, name.split("/")[0]} & wanted}


def main(argv: Sequence[str] | None = None) -> int:
    """Compile what was asked for, and print the table as it grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="v5e:1", help=f"{', '.join(CHIPS)}, a colon, and 1 or a shape")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="such programs or families of programs")
    parser.add_argument("--list", action="store_true", help="name the programs and leave")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="append the table")
    args = parser.parse_args(argv)
    stay_at_home()
    if args.list:
        print("\n".join(programs()))
        return 0
    try:
        chip, placement = placed(args.target)
        found = chosen(args.only)
    except (ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    show(found, chip, placement, args.markdown)
    return 0


def show(found: dict, chip: Chip, placement: Abroad, markdown: Path | None) -> None:
    """Print a table of programs, row after row, and append it where asked."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "jaxlib", "libtpu"))
    headings = HEADINGS + (SENT if placement.devices > 1 else ())
    lines = [f"{placement.devices} x {placement.chips[0].device_kind}, {versions}", ""]
    lines += [_line(headings), _line(["---"] * len(headings))]
    print("\n".join(lines), flush=True)
    for name, make in found.items():
        program = make()
        if program.updates or placement.devices == 1:
            lines.append(_line(report(name, program, placement).cells(chip, placement.devices)))
            print(lines[-1], flush=True)
        jax.clear_caches()
    if markdown:
        with markdown.open("a") as file:
            file.write("\n".join(lines) + "\n")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
