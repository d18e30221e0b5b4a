"""Fields of configs: static or traced, with their range and unit.

A static field is part of the compiled program: another value compiles another program. A traced field is data
of the program: its value may be an array, and it can be swept under `jax.vmap`. `out_of_range` checks the
numbers that users give; arrays are not checked.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flax import struct

LARGEST_INT = 2**31 - 1  # an int32's
MAX_WIDTH = 2**16  # units of a layer
MAX_LAYERS = 64  # which are traced one by one


def static(
    default: Any = dataclasses.MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    default_factory: Callable[[], Any] | None = None,
) -> Any:
    """A field that is part of the program.

    Args:
        default: the default value.
        low: the smallest allowed number; None for no bound.
        high: the largest allowed number; None for no bound.
        unit: the unit of the number.
        default_factory: makes the default value, in place of a mutable `default`.

    """
    return _field(False, default, default_factory, low, high, unit)


def traced(
    default: Any = dataclasses.MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    default_factory: Callable[[], Any] | None = None,
) -> Any:
    """A field that is data of the program; arguments as for `static`."""
    return _field(True, default, default_factory, low, high, unit)


def _field(pytree_node, default, default_factory, low, high, unit):
    initial = {"default": default} if default_factory is None else {"default_factory": default_factory}
    return struct.field(pytree_node=pytree_node, metadata={"low": low, "high": high, "unit": unit}, **initial)


def out_of_range(config: Any, place: str = "") -> Iterator[str]:
    """A sentence for each number in a tree of dataclasses that is out of its field's range, or not finite.

    Args:
        config: the tree.
        place: the path of the tree, which the sentences begin with.

    """
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{place}.{field.name}".lstrip(".")
        if dataclasses.is_dataclass(value):
            yield from out_of_range(value, name)
            continue
        low, high = field.metadata.get("low"), field.metadata.get("high")
        for number in _numbers(value):
            most = LARGEST_INT if isinstance(number, int) else math.inf
            least, largest = -most if low is None else low, most if high is None else high
            if not (math.isfinite(number) and least <= number <= largest):
                yield f"{name} is between {least:.16g} and {largest:.16g}, not {number}"


def _numbers(value: Any) -> Iterator[float]:
    """The numbers in the value of a field: itself, or the members of a mapping or a tuple."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, int | float) and not isinstance(part, bool):
            yield part
