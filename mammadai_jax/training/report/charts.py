"""Learning curves as small line charts: everything in pixels, for `macros.html.jinja` to draw."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 320, 180
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 8, 34
_BUCKETS = 150
_STRIPES = 40


def number(value: float) -> str:
    """A number as people read it: three digits, whole numbers whole, "-" for NaN and infinities."""
    value = float(value)
    if not math.isfinite(value):
        return "-"
    if abs(value) < 1e6 and (value.is_integer() or abs(value) >= 1000):
        return f"{value:,.0f}"
    return re.sub(r"e(-?)\+?0*", r"e\1", f"{value:.3g}")


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) inside low..high, about `count` of them."""
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    choices = [_multiples(step * power, low, high) for step in (1, 2, 5, 10)]
    return min(choices, key=lambda marks: abs(len(marks) - count))


def _multiples(step: float, low: float, high: float) -> list[float]:
    """The multiples of a step inside low..high."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A learning curve in pixels, which the template draws.

    Attributes:
        title: what the curve shows, from which value to which; screen readers say it.
        rows: (y, label) of each grid line.
        columns: (x, label) of each tick below.
        curves: the points "x,y x,y ..." of each unbroken piece of the curve.
        dots: (x, y) of each piece of a single point.
        stripes: the places that show a point's numbers when the mouse rests on them.

    """

    title: str
    rows: list[tuple[float, str]]
    columns: list[tuple[float, str]]
    curves: list[str]
    dots: list[tuple[float, float]]
    stripes: list[Stripe]


class Stripe(NamedTuple):
    """An upright stripe of a chart, from `left` on, with its point (x, y) and the point's numbers."""

    left: float
    width: float
    x: float
    y: float
    title: str


def line_chart(points: Sequence[tuple[float, float]], label: str) -> Chart | None:
    """A chart of (update, value) points; None without a single finite point.

    Values that are not finite are gaps in the line. Long curves are thinned to the least and the greatest
    value of each of 150 stretches.
    """
    data = np.array([(float(x), float(y)) for x, y in points], float).reshape(-1, 2)
    data = data[np.isfinite(data[:, 0])]
    if not np.isfinite(data[:, 1]).any():
        return None
    data = _thinned(data[np.argsort(data[:, 0], kind="stable")])
    finite = data[np.isfinite(data[:, 1])]
    frame = _Frame(_range(finite[:, 0]), _range(finite[:, 1]))
    last = f"{number(finite[-1, 1])} at update {number(finite[-1, 0])}"
    values, updates = ticks(*frame.values), ticks(*frame.updates)
    curves, dots = _pieces(data, frame)
    return Chart(
        title=f"{label}: from {number(finite[0, 1])} to {last}",
        rows=list(zip(map(frame.y, values), _labels(values), strict=True)),
        columns=list(zip(map(frame.x, updates), _labels(updates), strict=True)),
        curves=curves,
        dots=dots,
        stripes=_stripes(finite, frame),
    )


class _Frame:
    """From updates and values to pixels."""

    def __init__(self, updates: tuple[float, float], values: tuple[float, float]):
        self.updates, self.values = updates, values

    def x(self, update: float) -> float:
        low, high = self.updates
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (update - low) / (high - low), 1)

    def y(self, value: float) -> float:
        low, high = self.values
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)


def _range(values: np.ndarray) -> tuple[float, float]:
    """Least and greatest value, with some room above and below."""
    low, high = float(values.min()), float(values.max())
    # Not wider than what floats can tell apart: a constant with rounding noise is a constant.
    constant = high - low <= 1e-9 * max(abs(low), abs(high))
    room = (abs(low) * 0.1 or 1.0) if constant else 0.04 * (high - low)
    return low - room, high + room


def _thinned(data: np.ndarray) -> np.ndarray:
    """At most two points of each stretch, its extremes: spikes stay visible. Gaps of one point may go."""
    if len(data) <= 2 * _BUCKETS:
        return data
    kept: set[int] = {0, len(data) - 1}
    for stretch in np.array_split(np.arange(len(data)), _BUCKETS):
        values = data[stretch, 1]
        if np.isfinite(values).any():
            finite = np.where(np.isfinite(values), values, np.nan)
            kept |= {int(stretch[np.nanargmin(finite)]), int(stretch[np.nanargmax(finite)])}
        else:
            kept.add(int(stretch[0]))
    return data[sorted(kept)]


def _labels(marks: list[float]) -> list[str]:
    """Ticks with as many digits as tell them apart, where that is not too many."""
    step = min(np.diff(marks), default=1.0)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = digits <= 4 and max(map(abs, marks), default=0) < 1e6
    return [f"{mark:,.{digits}f}" if plain else number(mark) for mark in marks]


def _pieces(data: np.ndarray, frame: _Frame) -> tuple[list[str], list[tuple[float, float]]]:
    """The runs of finite values: points of those that are lines, places of those that are a single point."""
    gaps = np.flatnonzero(~np.isfinite(data[:, 1]))
    runs = [run[np.isfinite(run[:, 1])] for run in np.split(data, gaps)]
    places = [[(frame.x(x), frame.y(y)) for x, y in run] for run in runs]
    curves = [" ".join(f"{x},{y}" for x, y in run) for run in places if len(run) > 1]
    return curves, [run[0] for run in places if len(run) == 1]


def _stripes(finite: np.ndarray, frame: _Frame) -> list[Stripe]:
    """At most 40 stripes side by side, each around a point of the curve."""
    count = min(len(finite), _STRIPES)
    chosen = finite[np.unique(np.linspace(0, len(finite) - 1, count).round().astype(int))]
    xs = np.array([frame.x(x) for x in chosen[:, 0]])
    edges = np.concatenate([[LEFT], (xs[1:] + xs[:-1]) / 2, [WIDTH - RIGHT]]).round(1)
    widths = np.diff(edges).round(1)
    return [
        Stripe(left, width, x, frame.y(value), f"update {number(update)}: {number(value)}")
        for left, width, x, (update, value) in zip(edges[:-1], widths, xs, chosen, strict=True)
    ]
