"""Learning curves as small SVG line charts, coloured by the page's CSS variables."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from mammadai_jax.training.report.markup import Html, join, tag

WIDTH, HEIGHT = 320, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 8, 34
_BUCKETS = 150
_HOVERS = 40


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
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def line_chart(points: Sequence[tuple[float, float]], label: str) -> Html:
    """A line through (update, value) points, with axes; undefined values are gaps in the line.

    Long curves are thinned to the least and the greatest value of each of 150 stretches. Resting on the
    line tells the value. Without a single finite point the chart says so.
    """
    data = np.array([(float(x), float(y)) for x, y in points], float).reshape(-1, 2)
    data = data[np.isfinite(data[:, 0])]
    if not np.isfinite(data[:, 1]).any():
        return tag("p", "Nothing was recorded.", class_="empty")
    data = _thinned(data[np.argsort(data[:, 0], kind="stable")])
    known = data[np.isfinite(data[:, 1])]
    frame = _Frame(_range(known[:, 0]), _range(known[:, 1]))
    last = f"{number(known[-1, 1])} at update {number(known[-1, 0])}"
    return tag(
        "svg",
        tag("title", f"{label}: from {number(known[0, 1])} to {last}"),
        *_axes(frame),
        *_lines(data, frame),
        *_hovers(known, frame),
        class_="chart",
        role="img",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
    )


class _Frame:
    """From updates and values to pixels."""

    def __init__(self, updates: tuple[float, float], values: tuple[float, float]):
        self.updates, self.values = updates, values

    def x(self, update: float) -> float:
        low, high = self.updates
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (update - low) / (high - low), 1)

    def y(self, value: float) -> float:
        low, high = self.values
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low), 1)


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


def _axes(frame: _Frame) -> list[Html]:
    """Grid lines with the values beside them, updates below."""
    parts = []
    values, updates = ticks(*frame.values), ticks(*frame.updates)
    for value, label in zip(values, _labels(values), strict=True):
        y = frame.y(value)
        parts.append(tag("line", class_="grid", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y))
        parts.append(tag("text", label, x=_LEFT - 6, y=y + 4, text_anchor="end"))
    base = HEIGHT - _BOTTOM
    for update, label in zip(updates, _labels(updates), strict=True):
        x = frame.x(update)
        parts.append(tag("line", class_="axis", x1=x, x2=x, y1=base, y2=base + 4))
        parts.append(tag("text", label, x=x, y=base + 16, text_anchor="middle"))
    parts.append(tag("line", class_="axis", x1=_LEFT, x2=WIDTH - _RIGHT, y1=base, y2=base))
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    return [*parts, tag("text", "update", x=middle, y=HEIGHT - 4, text_anchor="middle")]


def _labels(marks: list[float]) -> list[str]:
    """Ticks with as many digits as tell them apart, where that is not too many."""
    step = min(np.diff(marks), default=1.0)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = digits <= 4 and max(map(abs, marks), default=0) < 1e6
    return [f"{mark:,.{digits}f}" if plain else number(mark) for mark in marks]


def _lines(data: np.ndarray, frame: _Frame) -> list[Html]:
    """A polyline for every run of defined values, a dot where a run is one point."""
    gaps = np.flatnonzero(~np.isfinite(data[:, 1]))
    parts = []
    for run in np.split(data, gaps):
        run = run[np.isfinite(run[:, 1])]
        if len(run) == 1:
            parts.append(tag("circle", class_="point", cx=frame.x(run[0, 0]), cy=frame.y(run[0, 1]), r=2.5))
        elif len(run):
            places = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in run)
            parts.append(tag("polyline", class_="curve", points=places))
    return parts


def _hovers(known: np.ndarray, frame: _Frame) -> list[Html]:
    """Upright stripes that show the point in their middle and its numbers."""
    chosen = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), _HOVERS)).round().astype(int))]
    xs = np.array([frame.x(x) for x in chosen[:, 0]])
    edges = np.concatenate([[_LEFT], (xs[1:] + xs[:-1]) / 2, [WIDTH - _RIGHT]]).round(1)
    parts = []
    for (update, value), left, right in zip(chosen, edges[:-1], edges[1:], strict=True):
        stripe = {"x": left, "y": _TOP, "width": round(right - left, 1), "height": HEIGHT - _TOP - _BOTTOM}
        point = tag("circle", class_="point", cx=frame.x(update), cy=frame.y(value), r=3.5)
        title = tag("title", f"update {number(update)}: {number(value)}")
        parts.append(tag("g", title, tag("rect", **stripe), point, class_="hover"))
    return [join(parts, "")]
