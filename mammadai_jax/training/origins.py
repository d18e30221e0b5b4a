"""Where the first value that is not finite arose in a computation: the operation and its line.

The computation is traced to jax's intermediate form and computed with all its intermediate values. From a
result that is not finite the search goes back along operands that are not finite either, into loops and
functions, to an operation whose operands are all finite, or to an input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import eval_jaxpr
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, DropVar, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

FRAMES = 3  # lines that are named: the innermost, and those that called it
# Operations that are functions of their own, and where their program is.
CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
    "checkpoint": "jaxpr", "remat": "jaxpr", "remat2": "jaxpr", "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr", "custom_vmap_call": "call",
}  # fmt: skip


class Origin(NamedTuple):
    """Where a value that is not finite arose.

    Attributes:
        value: "nan", "inf" or "-inf".
        operation: jax's name of it; "input" if the value was given to the computation.
        place: the lines of the operation, innermost first, or the path of the input.
        result: the path of the result in which the value was found.

    """

    value: str
    operation: str
    place: tuple[str, ...]
    result: str


def origin(function: Callable, **arguments: Any) -> Origin | None:
    """Where the first value that is not finite arose in `function(**arguments)`; None if all are finite."""
    program, shape = jax.make_jaxpr(lambda given: function(**given), return_shape=True)(arguments)
    inputs = [*program.consts, *jax.tree.leaves(arguments)]
    names = [*["a constant"] * len(program.consts), *_paths(arguments)]
    level = _Level(program.jaxpr, inputs)
    for name, out in zip(_paths(shape), program.jaxpr.outvars, strict=True):
        if kind := _kind(level.value(out)):
            found = level.search(out)
            if isinstance(found, int):
                return Origin(_kind(inputs[found]), "input", (names[found],), name)
            return found._replace(result=name) if found else Origin(kind, "unknown", (), name)
    return None


class _Level:
    """A program with the values of all its variables.

    Args:
        jaxpr: the program.
        inputs: values of its constants and inputs.

    """

    def __init__(self, jaxpr: Jaxpr, inputs: Sequence[Any]):
        self.inputs = [*jaxpr.constvars, *jaxpr.invars]
        self.maker = {var: eqn for eqn in jaxpr.eqns for var in eqn.outvars}
        made = [var for var in self.maker if not isinstance(var, DropVar)]
        whole, consts = (
            jaxpr.replace(outvars=made, debug_info=jaxpr.debug_info._replace(result_paths=None)),
            len(jaxpr.constvars),
        )
        values = jax.jit(lambda *given: eval_jaxpr(whole, given[:consts], *given[consts:]))(*inputs)
        self.values = dict(zip([*self.inputs, *made], [*inputs, *values], strict=True))

    def value(self, atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else self.values[atom]

    def search(self, var: Any) -> Origin | int:
        """Where a variable's value arose: in this program, or in its input of that index."""
        while (eqn := self.maker.get(var)) is not None:
            found = self._enter(eqn, eqn.outvars.index(var))
            if isinstance(found, Origin):
                return found
            source = eqn.invars[found]
            if isinstance(source, Literal):
                return _origin(eqn, source.val)
            var = source
        return self.inputs.index(var)

    def _enter(self, eqn: JaxprEqn, out: int) -> Origin | int:
        """Where a result of an operation arose: in it, or in its operand of that index."""
        operands = [self.value(atom) for atom in eqn.invars]
        name = eqn.primitive.name
        if name in CALLS:
            program = eqn.params[CALLS[name]]
            found = _of_call(program, operands, out)
            inside = isinstance(found, Origin) and not _is_of_jax(program)
            return found if isinstance(found, int) or inside else found._replace(place=_lines(eqn))
        if name == "cond":
            branch = eqn.params["branches"][int(operands[0])]
            found = _of_call(branch, operands[1:], out)
            return found if isinstance(found, Origin) else found + 1
        if name in ("scan", "while"):
            return (_of_scan if name == "scan" else _of_while)(eqn, operands, out)
        result = self.values[eqn.outvars[out]]
        if name == "select_n":
            return _selected(operands, result)
        kinds = [_kind(operand) for operand in operands]
        for kind in dict.fromkeys((_kind(result), "inf", "-inf", "nan")):
            if kind in kinds:
                return kinds.index(kind)
        return _origin(eqn, result)


def _selected(operands: list[Any], result: Any) -> int:
    """Of a selection the operand that gave a number which is not finite."""
    bad = ~np.isfinite(np.asarray(result, np.float64))
    return 1 + int(np.broadcast_to(np.asarray(operands[0]), bad.shape)[bad][0])


def _of_call(program: Any, operands: Sequence[Any], out: int) -> Origin | int:
    """Where a result of a function arose: in it, or in its operand of that index."""
    jaxpr, consts = (program.jaxpr, program.consts) if isinstance(program, ClosedJaxpr) else (program, ())
    var = jaxpr.outvars[out]
    if isinstance(var, Literal):
        return Origin(_kind(var.val), "constant", (), "")
    found = _Level(jaxpr, [*consts, *operands]).search(var)
    if isinstance(found, Origin) or found >= len(consts):
        return found if isinstance(found, Origin) else found - len(consts)
    return Origin(_kind(consts[found]), "constant", (), "")


class _Turn(NamedTuple):
    """An iteration of a loop: the inputs and the results of its body."""

    inputs: list[Any]
    results: list[Any]


def _of_scan(eqn: JaxprEqn, operands: list[Any], out: int) -> Origin | int:
    """As `_enter`, of a scan."""
    params, body = eqn.params, eqn.params["jaxpr"]
    fixed, end = params["num_consts"], params["num_consts"] + params["num_carry"]
    run, carry, turns = jax.jit(jaxpr_as_fun(body)), operands[fixed:end], []
    order = range(params["length"])
    for place in reversed(order) if params["reverse"] else order:
        inputs = [*operands[:fixed], *carry, *(rows[place] for rows in operands[end:])]
        turns.append(_Turn(inputs, run(*inputs)))
        carry = turns[-1].results[: end - fixed]
    return _of_turns(body, turns, out, range(fixed, end))


def _of_while(eqn: JaxprEqn, operands: list[Any], out: int) -> Origin | int:
    """As `_enter`, of a while loop."""
    cond, body = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
    asked, fixed = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    goes_on, run = jax.jit(jaxpr_as_fun(cond)), jax.jit(jaxpr_as_fun(body))
    consts, carry, turns = operands[asked : asked + fixed], operands[asked + fixed :], []
    while goes_on(*operands[:asked], *carry)[0]:
        turns.append(_Turn([*consts, *carry], run(*consts, *carry)))
        carry = turns[-1].results
    found = _of_turns(body, turns, out, range(fixed, fixed + len(carry)))
    return found if isinstance(found, Origin) else found + asked


def _of_turns(body: Any, turns: Sequence[_Turn], out: int, carried: range) -> Origin | int:
    """Where a result of a loop arose: in its body, or in the body's input of that index.

    Of the inputs those in the range `carried` are the first results of the turn before.
    """
    while turns:
        turn = next(number for number, turn in enumerate(turns) if _kind(turn.results[out]))
        found = _of_call(body, turns[turn].inputs, out)
        if isinstance(found, Origin) or found not in carried:
            return found
        out, turns = found - carried.start, turns[:turn]
    return carried.start + out


def _origin(eqn: JaxprEqn, value: Any) -> Origin:
    name = eqn.primitive.name
    return Origin(_kind(value), eqn.params["name"] if name in ("jit", "pjit") else name, _lines(eqn), "")


def _lines(eqn: JaxprEqn) -> tuple[str, ...]:
    """The lines of an operation outside of jax, innermost first."""
    lines = source_info_util.summarize(eqn.source_info, FRAMES).splitlines()
    return tuple(line.strip() for line in reversed(lines))


def _is_of_jax(program: Any) -> bool:
    """Whether a function is jax's own: its operations are those of the line that calls it."""
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return str(Path(jax.__file__).parent) in jaxpr.debug_info.func_src_info


def _kind(value: Any) -> str:
    """What an array has, "nan", "inf" or "-inf", the first of these; "" if all of it is finite."""
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        return ""
    array = np.asarray(value, np.float64)
    of = {"nan": np.isnan, "inf": np.isposinf, "-inf": np.isneginf}
    return next((name for name, has in of.items() if has(array).any()), "")


def _paths(tree: Any) -> list[str]:
    """The path of every leaf, its names with points between them."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in flat]
