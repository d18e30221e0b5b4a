"""All statistics of a set of melodies as one table, and tables as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mammadai_jax.music.notes import Melody
from mammadai_jax.music.statistics.features import features, mean
from mammadai_jax.music.statistics.novelty import distinct, ngram_overlap, novelty, self_overlap
from mammadai_jax.music.statistics.overlap import overlap

_MEANS = (
    "note_count",
    "note_density",
    "rest_rate",
    "pitch_count",
    "pitch_range",
    "average_interval",
    "average_inter_onset",
    "out_of_scale_rate",
)


def table(melodies: Sequence[Melody], reference: Sequence[Melody] | None = None) -> dict[str, float]:
    """Summary statistics by name, in the order to print them.

    Means over the melodies of the scalar features (see `features.features`), the share of distinct melodies
    and their self overlap. With a reference also the longest copied run (notes: mean and maximum) and its
    share of the melody, the 3-gram overlap, and for every feature the overlap area and the KL in nats.
    Undefined values are NaN.
    """
    measured = features(melodies)
    rows = {"melodies": float(len(melodies))}
    rows |= {name: mean(measured[name]) for name in _MEANS}
    rows |= {"distinct": distinct(melodies), "self_overlap": self_overlap(melodies)}
    return rows if reference is None else rows | _against(melodies, reference)


def _against(melodies: Sequence[Melody], reference: Sequence[Melody]) -> dict[str, float]:
    copied = novelty(melodies, reference)
    results = overlap(melodies, reference)
    return {
        "copied_notes": mean(copied.notes),
        "copied_notes_max": float(copied.notes.max(initial=0)),
        "copied_share": mean(copied.share),
        "ngram_overlap": ngram_overlap(melodies, reference),
        "overlap_area": mean([result.overlap_area for result in results.values()]),
        **{f"overlap_area/{name}": result.overlap_area for name, result in results.items()},
        **{f"kl/{name}": result.kl for name, result in results.items()},
    }


def format_table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """Tables side by side as aligned text: a column for each label, a row for each name in any of them.

    Rows keep the order in which the names first appear; values that are missing or NaN are shown as "-".
    """
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    cells = [["", *columns]]
    cells += [[name, *(_cell(column.get(name, math.nan)) for column in columns.values())] for name in names]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells
    )
    return "\n".join(lines)


def _cell(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"
