"""What a program compiled for a TPU says it costs, read from its text.

The compiler writes beside an instruction how many cycles it estimates. XLA's own `cost_analysis` counts the
body of a loop once; here everything is counted as often as the loops around it run. The text does not say how
often that is: the bound that a loop's condition compares with is taken for it, and a loop without one counts
once and is reported. Of two branches the longer counts.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import re
from typing import NamedTuple

BYTES = {"pred": 1, "bf16": 2, "f16": 2, "s4": 0.5, "u4": 0.5}  # others have their bits in their name
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
SLICES = {"dynamic-slice", "gather", "slice"}
# what moves nothing, or has been counted where it began
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id"),
    *("replica-id", "opt-barrier", "iota", "add-dependency"),
}
HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
LINE = re.compile(r"^ *(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
SHAPE = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\](\{[^{}]*\})?")
CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


class Instruction(NamedTuple):
    """A line of a program: what it makes, by which operation, of which others, and all that follows."""

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    root: bool

    def called(self, *attributes: str) -> list[str]:
        """The computations that it calls by such attributes."""
        pattern = rf"\b(?:{'|'.join(attributes)})=\{{?%?([\w.\-]+(?:, %[\w.\-]+)*)"
        return [name.strip(" %") for found in re.findall(pattern, self.rest) for name in found.split(",")]


Computation = dict[str, Instruction]


@dataclasses.dataclass
class Cost:
    """Of one run on one chip.

    Attributes:
        cycles: estimated, and `looped` those of them that are in loops.
        moved: bytes between the chip and its memory.
        sent: bytes to other chips.
        unbounded: loops of which the text does not say how often they run.
        collectives: how many of each kind are run.

    """

    cycles: float = 0.0
    looped: float = 0.0
    moved: float = 0.0
    sent: float = 0.0
    unbounded: float = 0.0
    collectives: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, other: Cost, times: float = 1) -> None:
        """Count another so many times too."""
        for name in ("cycles", "looped", "moved", "sent", "unbounded"):
            setattr(self, name, getattr(self, name) + times * getattr(other, name))
        for name, count in other.collectives.items():
            self.collectives[name] += int(times * count)


def size(type_: str, far: bool = False) -> float:
    """Bytes of the arrays of a type; `far`: only of those that are not in the chip's fast memory, S(1)."""
    shapes = [shape for shape in SHAPE.findall(type_) if not (far and "S(1)" in shape[2])]
    return sum(width(kind) * math.prod(int(n) for n in dims.split(",") if n) for kind, dims, _ in shapes)


def width(kind: str) -> float:
    """Bytes of a number."""
    digits = re.search(r"\d+", kind)
    return BYTES[kind] if kind in BYTES else int(digits.group()) / 8 if digits else 0.0


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """A program's computations by name, and the name of the one that it begins with."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if head := HEAD.match(line):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif current is not None and (found := LINE.match(line)):
            root, name, type_, opcode, rest = found.groups()
            operands = tuple(re.findall(r"%([\w.\-]+)", rest.split(")")[0]))
            current[name] = Instruction(name, type_, opcode, operands, rest, bool(root))
    return computations, entry


def cost(text: str, chips: int = 1) -> Cost:
    """Of a program's text, compiled for so many chips."""
    return Reading(text, chips).of_entry()


class Reading:
    """A program's text, taken apart, and the cost of its computations."""

    def __init__(self, text: str, chips: int):
        self.computations, self.entry = parse(text)
        self.chips = chips
        self.of = functools.cache(self._of)

    def of_entry(self) -> Cost:
        """The cost of a run."""
        return self.of(self.entry)

    def _of(self, name: str) -> Cost:
        """The cost of a computation."""
        total, computation = Cost(), self.computations[name]
        for row in computation.values():
            if row.opcode == "while":
                self._add_loop(total, row, computation)
            elif row.opcode == "conditional":
                called = row.called("branch_computations", "true_computation", "false_computation")
                total.add(max((self.of(each) for each in called), key=lambda cost: cost.cycles))
            elif kind := self._collective(row):
                total.collectives[kind] += 1
                total.sent += self._sent(kind, sum(size(computation[x].type) for x in row.operands))
            elif row.opcode in ("call", "async-start"):
                for each in row.called("to_apply", "calls"):
                    total.add(self.of(each))
            elif row.opcode not in FREE and not row.opcode.endswith("-done"):
                cycles = CYCLES.search(row.rest)
                total.cycles += int(cycles[1]) if cycles else 0
                total.moved += self._moved(row, computation)
        return total

    def _add_loop(self, total: Cost, row: Instruction, outer: Computation) -> None:
        """Add all passes of a loop."""
        once, times = Cost(), self._passes(row, outer)
        for name in row.called("body", "condition"):
            once.add(self.of(name))
        once.looped = once.cycles
        total.add(once, times or 1)
        total.unbounded += times is None

    def _passes(self, row: Instruction, outer: Computation) -> int | None:
        """The bound that a loop's condition compares with: a constant there, or one given to the loop."""
        condition = self.computations[row.called("condition")[0]]
        inner = [self.computations[name] for each in condition.values() for name in each.called("calls")]
        rows = [each for computation in (condition, *inner) for each in computation.values()]
        bounds = [_number(each) for each in rows if each.opcode == "constant"]
        if not any(bounds) and row.operands:
            given = outer[row.operands[0]].operands
            places = [re.search(r"index=(\d+)", each.rest) for each in rows]
            carried = [given[int(place[1])] for place in places if place and int(place[1]) < len(given)]
            begun = [_source(outer, name) for name in carried]
            bounds = [_number(each) for each in begun if each.opcode == "constant"]
        return max((bound for bound in bounds if bound), default=None)

    def _collective(self, row: Instruction) -> str | None:
        """The kind of collective that an instruction is or begins, by itself or by what it calls."""
        inner = [each for name in row.called("calls") for each in self.computations.get(name, {}).values()]
        if row.opcode not in ("fusion", "async-start"):
            inner = [row]
        kinds = (each.opcode.removesuffix("-start") for each in inner)
        return next((kind for kind in kinds if kind in COLLECTIVES), None)

    def _sent(self, kind: str, operands: float) -> float:
        """Bytes that a chip sends, where all chips take part and each sends on what it received."""
        others = self.chips - 1
        shares = {"all-gather": others, "all-reduce": 2 * others / self.chips, "collective-permute": 1}
        return operands * shares.get(kind, others / self.chips)

    def _moved(self, row: Instruction, computation: Computation) -> float:
        """Bytes that an instruction reads from memory and writes to it; of what it slices, the slice."""
        written = size(row.type, far=True)
        if row.opcode in SLICES:
            return 2 * written
        if row.opcode == "dynamic-update-slice":
            return 2 * size(computation[row.operands[1]].type, far=True)
        if row.opcode.endswith("-start"):  # its type holds operand and result; one of them is in fast memory
            return written
        read = [size(computation[name].type, far=True) for name in row.operands]
        for place, (part, updated) in enumerate(self._parts(row)):
            if part is not None and part < read[place]:
                written -= read[place] - part if updated and written >= read[place] else 0
                read[place] = part
        return sum(read) + written

    def _parts(self, row: Instruction) -> list[tuple[float | None, bool]]:
        """Of each operand of a fusion the bytes that it slices or updates, and whether it updates them."""
        if row.opcode != "fusion":
            return []
        inner = self.computations[row.called("calls")[0]]
        names = {_number(each): each.name for each in inner.values() if each.opcode == "parameter"}
        return [self._part(inner, names[place]) for place in range(len(row.operands))]

    @staticmethod
    def _part(inner: Computation, parameter: str) -> tuple[float | None, bool]:
        """As `_parts`, of one parameter; None if it is used as a whole."""
        users = [row for row in inner.values() if parameter in row.operands]
        whole = any(row.operands.index(parameter) for row in users)
        if users and not whole and all(row.opcode in SLICES for row in users):
            return sum(size(row.type) for row in users), False
        if users and not whole and all(row.opcode == "dynamic-update-slice" for row in users):
            return sum(size(inner[row.operands[1]].type) for row in users), True
        return None, False


def _number(row: Instruction) -> int | None:
    """The whole number of a constant or of a parameter."""
    found = re.match(r"(-?\d+)\)", row.rest)
    return int(found[1]) if found else None


def _source(computation: Computation, name: str) -> Instruction:
    """Where a copied value comes from."""
    row = computation[name]
    while row.opcode in ("copy", "copy-start", "copy-done", "bitcast", "convert"):
        row = computation[row.operands[0]]
    return row
