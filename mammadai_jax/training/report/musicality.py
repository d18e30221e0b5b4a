"""The musicality of every stage on the page: a table, and a sentence on what each gained and lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mammadai_jax.music.statistics.musicality import BARS, MEASURES, OF_BARS
from mammadai_jax.music.statistics.musicality.distance import Estimate, Musicality
from mammadai_jax.training.report.table import Cell, Numbers, Row, Table, nearest
from mammadai_jax.training.report.words import words

DISTANCE = "musicality_distance"
MOST = 2  # measures that a sentence names of each kind
LEAST = 0.1  # deviations that a measure moves by, to be mentioned
# Shown in a table of their own: the kinds of repetition, and the distances in bars.
DETAILS = tuple(name for name in MEASURES if name.startswith("bars_") or name.endswith("_sequence"))


def by_stage(stages: Mapping[str, Musicality], title: str, tunes: Musicality) -> Numbers:
    """Tables of all measures: the real tunes first, then every stage by its title.

    The stage nearest to the tunes is marked in each row. Kinds and distances of repetition have a table of
    their own.
    """
    columns = [tunes, *stages.values()]
    names = [name for name in MEASURES if not all(math.isnan(each.means[name]) for each in columns)]
    summary = (
        "How far each stage is from real tunes in meter, form, cadences, key and rhythm. Nothing learns from "
        "these measures. Marked: the stage nearest to the tunes. Small print: 95 % intervals, and what the "
        "tunes have in as few bars as a stage composes."
    )
    parts: dict[str, list[Row]] = {
        "Musicality by stage": [_distance_row(stages, tunes)],
        "Repetition, kind by kind": [],
    }
    for name in names:
        part = "Repetition, kind by kind" if name in DETAILS else "Musicality by stage"
        parts[part].append(_row(name, stages, tunes))
    tables = [
        Table(caption, ["Measure", title, *stages], [], rows) for caption, rows in parts.items() if rows
    ]
    return Numbers("Musicality by stage", summary, tables, [DISTANCE, *names])


def change(before: Musicality, after: Musicality, title: str) -> str:
    """A sentence on what melodies gained and lost against those of the stage of this title.

    A measure is nearer to the tunes, or further away, where the intervals of its deviations do not overlap,
    and it moved by a tenth of a deviation or more. What was measured in different numbers of bars is left
    out.
    """
    names = [name for name in MEASURES if before.bars == after.bars or name not in OF_BARS]
    moved = {name: before.deviations[name].value - after.deviations[name].value for name in names}
    moved = {name: value for name, value in moved.items() if not math.isnan(value)}
    clear = {
        name: value
        for name, value in moved.items()
        if abs(value) >= LEAST and not before.deviations[name].overlaps(after.deviations[name])
    }
    gained = sorted((name for name in clear if clear[name] > 0), key=lambda name: -clear[name])
    lost = sorted((name for name in clear if clear[name] < 0), key=lambda name: clear[name])
    parts = [
        f"{kind} in {_listed(names, before, after)}"
        for kind, names in (("nearer to real tunes", gained), ("further from them", lost))
        if names
    ]
    rest = len(moved) - len(clear)
    said = "; ".join([*parts, f"{rest} {'measure is' if rest == 1 else 'measures are'} unchanged"])
    return f"Against {title}: {said}; {_distances(before.distance, after.distance)}."


def _listed(names: Sequence[str], before: Musicality, after: Musicality) -> str:
    """The first names with both figures, and how many more there are."""
    each = [
        f"\N{LEFT DOUBLE QUOTATION MARK}{words(name)[0].lower()}\N{RIGHT DOUBLE QUOTATION MARK} "
        f"({_cell(before.means[name], False).text} to {_cell(after.means[name], False).text})"
        for name in names[:MOST]
    ]
    more = [f"{len(names) - MOST} more"] if len(names) > MOST else []
    *others, last = [*each, *more]
    return f"{', '.join(others)} and {last}" if others else last


def _distances(before: Estimate, after: Estimate) -> str:
    """Both distances with their intervals, and which is smaller."""
    moved = "falls" if after.value < before.value else "grows"
    verdict = "is unchanged" if before.overlaps(after) else moved
    return f"the distance to real tunes {verdict}: {spelled(before)} before, {spelled(after)} now"


def spelled(estimate: Estimate) -> str:
    """A value with its interval."""
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _distance_row(stages: Mapping[str, Musicality], tunes: Musicality) -> Row:
    """The distances with their intervals; the tunes' is that of one half of them from the other."""
    columns = [tunes, *stages.values()]
    chosen = {1 + index for index in nearest([each.distance.value for each in stages.values()], 0.0)}
    cells = [
        _cell(each.distance.value, index in chosen, f"{each.distance.low:.2f} to {each.distance.high:.2f}")
        for index, each in enumerate(columns)
    ]
    return Row(*words(DISTANCE), cells)


def _row(name: str, stages: Mapping[str, Musicality], tunes: Musicality) -> Row:
    """A measure of the tunes and of all stages.

    Of measures that depend on the number of bars, the nearest is one of the stages with most bars.
    """
    columns, most = list(stages.values()), max((each.bars for each in stages.values()), default=BARS)
    comparable = [name not in OF_BARS or each.bars == most for each in columns]
    chosen = nearest(
        [
            each.deviations[name].value if same else math.nan
            for each, same in zip(columns, comparable, strict=True)
        ],
        0.0,
    )
    own = [_cell(each.means[name], index in chosen, _fewer(name, each)) for index, each in enumerate(columns)]
    return Row(*words(name), [_cell(tunes.means[name], False), *own])


def _fewer(name: str, each: Musicality) -> str:
    """What the tunes have of a measure in as few bars as the melodies have."""
    if name not in OF_BARS or each.bars >= BARS or math.isnan(each.real.mean[name]):
        return ""
    return f"tunes {each.real.mean[name]:.2f} in {each.bars} bars"


def _cell(value: float, is_nearest: bool, note: str = "") -> Cell:
    if math.isnan(value):
        return Cell("-")
    shown = f"{round(value, 2) + 0.0:.2f}"  # no -0.00
    return Cell(shown, mark="nearest to the tunes" if is_nearest else "", note=note)
