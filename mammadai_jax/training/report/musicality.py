"""The musicality of every stage on the page: a table, and a sentence on what each gained and lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mammadai_jax.music.statistics.musicality import BARS, FORM, MEASURES
from mammadai_jax.music.statistics.musicality.distance import Estimate, Musicality
from mammadai_jax.training.report.table import Cell, Numbers, Row, Table, nearest
from mammadai_jax.training.report.words import words

DISTANCE = "musicality_distance"
MOST = 3  # measures that a sentence names of each kind


def by_stage(stages: Mapping[str, Musicality], title: str, tunes: Musicality) -> Numbers:
    """A table of all measures: the real tunes first, then every stage by its title.

    The stage nearest to the tunes is marked in each row.
    """
    rows = [_distance_row(stages, tunes), *(_row(name, stages, tunes) for name in _names(stages, tunes))]
    summary = (
        "How far each stage is from real tunes in meter, form, cadences, key and rhythm. Nothing learns from "
        "these measures. Marked: the stage nearest to the tunes. Small print: 95 % intervals, and what the "
        "tunes have in as few bars as a stage composes."
    )
    table = Table("Musicality by stage", ["Measure", title, *stages], [], rows)
    return Numbers("Musicality by stage", summary, [table], [DISTANCE, *_names(stages, tunes)])


def change(before: Musicality, after: Musicality, title: str) -> str:
    """A sentence on what melodies gained and lost against those of the stage of this title.

    A measure is nearer to the tunes, or further away, where the intervals of its deviations do not overlap.
    """
    pairs = {name: (before.deviations[name], after.deviations[name]) for name in MEASURES}
    pairs = {name: pair for name, pair in pairs.items() if not math.isnan(pair[0].value + pair[1].value)}
    moved = {name: b.value - a.value for name, (b, a) in pairs.items() if not b.overlaps(a)}
    gained = sorted((name for name in moved if moved[name] > 0), key=lambda name: -moved[name])
    lost = sorted((name for name in moved if moved[name] < 0), key=lambda name: moved[name])
    parts = [
        f"{kind} in {_listed(names, before, after)}"
        for kind, names in (("nearer to real tunes", gained), ("further from them", lost))
        if names
    ]
    rest = len(pairs) - len(moved)
    said = "; ".join([*parts, f"{rest} {'measure is' if rest == 1 else 'measures are'} unchanged"])
    return f"Against {title}: {said}; {_distances(before.distance, after.distance)}."


def _listed(names: Sequence[str], before: Musicality, after: Musicality) -> str:
    """The first names with both figures, and how many more there are."""
    each = [
        f"\N{LEFT DOUBLE QUOTATION MARK}{words(name)[0].lower()}\N{RIGHT DOUBLE QUOTATION MARK} "
        f"({before.means[name]:.2f} to {after.means[name]:.2f})"
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


def _names(stages: Mapping[str, Musicality], tunes: Musicality) -> list[str]:
    """The measures that any column has."""
    columns = [tunes, *stages.values()]
    return [name for name in MEASURES if not all(math.isnan(each.means[name]) for each in columns)]


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
    """A measure of the tunes and of all stages, the nearest marked."""
    chosen = nearest([each.deviations[name].value for each in stages.values()], 0.0)
    own = [
        _cell(each.means[name], index in chosen, _fewer(name, each))
        for index, each in enumerate(stages.values())
    ]
    return Row(*words(name), [_cell(tunes.means[name], False), *own])


def _fewer(name: str, each: Musicality) -> str:
    """What the tunes have of a measure of form in as few bars as the melodies have."""
    if name not in FORM or each.bars >= BARS or math.isnan(each.real.mean[name]):
        return ""
    return f"tunes {each.real.mean[name]:.2f} in {each.bars} bars"


def _cell(value: float, is_nearest: bool, note: str = "") -> Cell:
    if math.isnan(value):
        return Cell("-")
    return Cell(f"{value:.2f}", mark="nearest to the tunes" if is_nearest else "", note=note)
