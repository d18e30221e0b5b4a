"""Plots of experiments as SVG."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammadai_jax.training.report import charts

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 420, 60, 150, 16, 48
COLOURS = ("#2f6fb0", "#c4572b", "#3d8f4f", "#8a4fa3", "#8a7a2c", "#555555", "#b03a6b", "#2c8f8f")


def plot(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    across: str,
    up: str,
    whole: bool = False,
    marks: Mapping[str, float] | None = None,
) -> str:
    """Lines with dots at their points as an SVG; a ring where a line ends, names at the right.

    Unless they are wanted whole, lines begin where they do not flatten what comes later. Marks are places
    across, by name.
    """
    data = {name: np.array(points, float) for name, points in lines.items()}
    every = np.concatenate(list(data.values()))
    low, high = every.min(axis=0), every.max(axis=0)
    if not whole:
        low = np.maximum(low, np.percentile(every, 8, axis=0) - np.array([0.3, 1.0]))
    room = 0.04 * (high - low) + 1e-6
    low, high = low - room, high + room
    size = np.array([WIDTH - LEFT - RIGHT, -(HEIGHT - TOP - BOTTOM)])
    place = lambda p: np.array([LEFT, HEIGHT - BOTTOM]) + size * (np.asarray(p) - low) / (high - low)
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH} {HEIGHT}"})
    root.attrib |= {"font-family": "sans-serif", "font-size": "12"}
    _add(root, "rect", x=0, y=0, width=WIDTH, height=HEIGHT, fill="white")
    _add_axes(root, place, low, high, across, up)
    marks = marks or {}
    for name, x in marks.items():
        at = f"{place([x, low[1]])[0]:.1f}"
        anchor = "end" if x == min(marks.values()) else "start"  # so that near ones do not cover each other
        _add(root, "line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, stroke="#888", stroke_dasharray=4)
        _add(root, "text", name, x=at, y=TOP - 4, text_anchor=anchor, fill="#444")
    for number, (name, points) in enumerate(data.items()):
        colour = COLOURS[number % len(COLOURS)]
        _add_line(root, [place(p) for p in points if (p >= low).all()], colour)
        where = {"x": WIDTH - RIGHT + 14, "y": TOP + 14 + 20 * number}
        _add(root, "text", name, **where, fill=colour, font_weight="bold")
    return ET.tostring(root, encoding="unicode")


def _add(root: ET.Element, kind: str, text: str | None = None, /, **attributes: Any) -> None:
    """Add an element to a drawing; `font_weight` is written font-weight."""
    named = {name.replace("_", "-"): str(value) for name, value in attributes.items()}
    ET.SubElement(root, kind, named).text = text


def _add_line(root: ET.Element, dots: Sequence[np.ndarray], colour: str) -> None:
    """A line through dots (x, y), a ring around the last."""
    places = [{"cx": f"{x:.1f}", "cy": f"{y:.1f}"} for x, y in dots]
    way = " ".join(f"{place['cx']},{place['cy']}" for place in places)
    _add(root, "polyline", points=way, fill="none", stroke=colour, stroke_width=1.5, opacity=0.6)
    for place in places:
        _add(root, "circle", **place, r=2.4, fill=colour)
    _add(root, "circle", **places[-1], r=6, fill="none", stroke=colour, stroke_width=2)


def _add_axes(root: ET.Element, place, low, high, across: str, up: str) -> None:
    bottom, left, right = HEIGHT - BOTTOM, LEFT, WIDTH - RIGHT
    for x in charts.ticks(low[0], high[0], 6):
        at = f"{place([x, low[1]])[0]:.1f}"
        _add(root, "line", x1=at, x2=at, y1=TOP, y2=bottom, stroke="#e4e4e4")
        _add(root, "text", charts.number(x), x=at, y=bottom + 18, text_anchor="middle", fill="#444")
    for y in charts.ticks(low[1], high[1], 6):
        at = place([low[0], y])[1]
        _add(root, "line", x1=left, x2=right, y1=f"{at:.1f}", y2=f"{at:.1f}", stroke="#e4e4e4")
        _add(root, "text", charts.number(y), x=left - 8, y=f"{at + 4:.1f}", text_anchor="end", fill="#444")
    middle = (TOP + bottom) / 2
    _add(root, "text", across, x=(left + right) / 2, y=HEIGHT - 10, text_anchor="middle")
    _add(root, "text", up, x=16, y=middle, text_anchor="middle", transform=f"rotate(-90 16 {middle})")
