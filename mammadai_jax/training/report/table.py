"""The page's tables: statistics of all stages side by side, and comparisons."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mammadai_jax.training.report.charts import number
from mammadai_jax.training.report.words import words

Columns = Mapping[str, Mapping[str, float]]

# What a copy of the corpus would have, for measures that a corpus alone does not have.
_IDEALS = {"overlap_area": 1.0, "kl": 0.0}


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Numbers side by side.

    Attributes:
        title: heading; summary: a sentence below it.
        columns: values by name, for each column's title.
        beside: further columns, in which nothing is marked.
        goals: the best value of a row, inf if larger is better; rows without one are not marked.

    """

    title: str
    summary: str
    columns: Columns
    beside: Columns = dataclasses.field(default_factory=dict)
    goals: Mapping[str, float] = dataclasses.field(default_factory=dict)


class Cell(NamedTuple):
    """A number as it is shown; `mark` says why it is marked, `note` stands behind it in small print."""

    text: str
    mark: str = ""
    note: str = ""
    corpus: bool = False


class Row(NamedTuple):
    """What is measured, what that means, and the cells."""

    title: str
    meaning: str
    cells: list[Cell]


class Table(NamedTuple):
    """Rows under the titles of the columns, of which those of `corpus` are set apart."""

    caption: str
    columns: list[str]
    corpus: list[str]
    rows: list[Row]


class Numbers(NamedTuple):
    """A section of the page: the first table is open, further ones are folded; `names` of all rows."""

    title: str
    summary: str
    tables: list[Table]
    names: list[str]

    @property
    def glossary(self) -> list[tuple[str, str, str]]:
        """Title, name and meaning of what the rows show, for those who cannot hover."""
        parts = dict.fromkeys(part for name in self.names for part in name.split("/"))
        return [(words(part)[0], part, words(part)[1]) for part in parts if words(part)[1]]


def comparison(given: Comparison) -> Numbers:
    """A comparison's table, the best stage of each row marked."""
    names = list(
        dict.fromkeys(n for column in (*given.columns.values(), *given.beside.values()) for n in column)
    )
    rows = []
    for name in names:
        values = [column.get(name, math.nan) for column in given.columns.values()]
        chosen = nearest(values, given.goals[name]) if name in given.goals else set()
        others = [Cell(shown(column.get(name, math.nan)), corpus=True) for column in given.beside.values()]
        rows.append(Row(*words(name), [*_marked(values, chosen, "best"), *others]))
    table = Table(given.title, ["Measure", *given.columns], list(given.beside), rows)
    return Numbers(given.title, given.summary, [table], names)


def statistics(columns: Columns, reference: Mapping[str, float], beside: Columns | None = None) -> Numbers:
    """Tables of statistics: a column for each stage title, further ones `beside` them, one for the tunes.

    Names like "kl/pitch_range" go into one table for each prefix. In each row the values nearest to the
    tunes' (or to a copy's, where the tunes have none) are marked, unless all are equally near.
    """
    beside = beside or {}
    names = list(dict.fromkeys(name for rows in (*columns.values(), reference) for name in rows))
    groups: dict[str, list[str]] = {"": []} if names else {}
    for name in names:
        groups.setdefault(name.rpartition("/")[0], []).append(name)
    tables = []
    for prefix, group in groups.items():
        rows = [_row(n, list(columns.values()), reference, list(beside.values())) for n in group]
        caption = (
            f"{words(prefix)[0]}, feature by feature"
            if prefix
            else "Statistics of each stage and of the tunes"
        )
        tables.append(Table(caption, ["Statistic", *columns, *beside], ["Tunes"], rows))
    return Numbers("The numbers", "Marked in each row: the stage nearest to the tunes.", tables, names)


def nearest(values: Sequence[float], target: float) -> set[int]:
    """Indices of the values nearest to the target, of the greatest for inf; none if there is no choice."""
    off = (lambda value: -value) if target == math.inf else (lambda value: abs(value - target))
    distances = [off(value) if math.isfinite(value) else math.inf for value in values]
    finite = [distance for distance in distances if distance < math.inf]
    if not finite or min(finite) == max(finite):
        return set()
    return {index for index, distance in enumerate(distances) if distance == min(finite)}


def _row(
    name: str,
    columns: Sequence[Mapping[str, float]],
    reference: Mapping[str, float],
    beside: Sequence[Mapping[str, float]],
) -> Row:
    """A statistic's values, the nearest to the tunes' marked."""
    values = [column.get(name, math.nan) for column in columns]
    target = reference.get(name, math.nan)
    ideal = not math.isfinite(target) and name.partition("/")[0] in _IDEALS
    target = _IDEALS[name.partition("/")[0]] if ideal else target
    chosen = nearest(values, target) if name != "melodies" and math.isfinite(target) else set()
    others = [Cell(shown(column.get(name, math.nan))) for column in beside]
    tunes = Cell(shown(target), note="if alike" if ideal else "", corpus=True)
    return Row(*words(name), [*_marked(values, chosen, "nearest to the tunes"), *others, tunes])


def _marked(values: Sequence[float], chosen: set[int], why: str) -> list[Cell]:
    return [Cell(shown(value), mark=why if index in chosen else "") for index, value in enumerate(values)]


def shown(value: float) -> str:
    """A number without the digits that nobody compares: three decimals below 1."""
    if -0.0005 < value < 0:
        return ">-0.001"
    if 0 < value < 0.0005:
        return "<0.001"
    return f"{value:.3f}" if abs(value) < 1 and not float(value).is_integer() else number(value)
