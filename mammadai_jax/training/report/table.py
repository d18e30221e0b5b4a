"""The statistics of all stages side by side, in plain words, with what each of them means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mammadai_jax.training.report.charts import number
from mammadai_jax.training.report.markup import Html, tag

# Name in `mammadai_jax.music.statistics.table`: (name for people, what it means).
_WORDS = {
    "melodies": ("Melodies measured", "How many melodies the column is computed from."),
    "note_count": ("Notes in a melody", "How many notes are struck in a melody, on average."),
    "note_density": ("Notes in a bar", "How many notes are struck in a bar, on average."),
    "rest_rate": ("Silence", "Share of the time in which nothing sounds: 0 never, 1 always."),
    "pitch_count": ("Different pitches", "How many different pitches a melody uses, on average."),
    "pitch_range": ("Range", "Semitones from the lowest to the highest note; 12 are an octave."),
    "average_interval": ("Size of the moves", "Mean semitones between neighbouring notes: 1 or 2 is a step."),
    "average_inter_onset": ("Time between notes", "Mean steps (16th notes) from one onset to the next."),
    "out_of_scale_rate": ("Notes outside the key", "Share of the notes outside the key that suits best."),
    "distinct": ("Different melodies", "Share of the melodies that are no copies of another."),
    "self_overlap": ("Turns shared within the set", "Share of three-note runs that another melody has, too."),
    "copied_notes": ("Longest copied run", "Notes copied in a row from the tunes, in any key; mean."),
    "copied_notes_max": ("Longest copied run of all", "Most notes in a row that any melody copied."),
    "copied_share": ("Copied share", "The longest copied run as a share of its melody; mean."),
    "ngram_overlap": ("Turns from the tunes", "Share of three-note runs that occur in the tunes."),
    "overlap_area": (
        "Likeness to the tunes",
        "Mean overlap area over all features (Yang & Lerch 2018): 1 if distances to the tunes are spread "
        "as the distances within it, 0 if not at all.",
    ),
    "kl": (
        "Distance from the tunes",
        "Kullback-Leibler divergence in nats (Yang & Lerch 2018) of the distances within the tunes from "
        "the distances to it: 0 is alike.",
    ),
    "pitch_class_histogram": ("Notes used", "Share of the sounding time of C, C sharp, D..."),
    "pitch_class_transitions": ("Moves between notes", "Shares of the moves from one note name to another."),
    "note_length_histogram": ("Note lengths", "Shares of whole notes, halves, quarters..."),
    "note_length_transitions": (
        "Moves between lengths",
        "Shares of the moves from one note length to another.",
    ),
}
# What a copy of the corpus would have, for measures that a corpus alone has not.
_IDEALS = {"overlap_area": 1.0, "kl": 0.0}


def words(name: str) -> tuple[str, str]:
    """Plain name and explanation of a statistic or a feature; unknown names are only made readable."""
    readable = name.replace("_", " ").replace("/", ": ")
    return _WORDS.get(name, (readable[:1].upper() + readable[1:], ""))


Columns = Mapping[str, Mapping[str, float]]


def statistics(columns: Columns, reference: Mapping[str, float], beside: Columns | None = None) -> Html:
    """Tables of statistics: a column for each stage title, further ones `beside` them, one for the tunes.

    Names like "kl/pitch_range" go into one folded table for each prefix. In each row the values nearest
    to the tunes' (or to a copy's, where the tunes have none) are marked, unless all are equally near.
    """
    beside = beside or {}
    names = list(dict.fromkeys(name for rows in (*columns.values(), reference) for name in rows))
    if not names:
        return tag("p", "Nothing was measured.", class_="empty")
    prefixes = list(dict.fromkeys(name.partition("/")[0] for name in names if "/" in name))
    main = _table(
        "Statistics of each stage and of the tunes",
        [n for n in names if "/" not in n],
        columns,
        reference,
        beside,
    )
    folded = []
    for prefix in prefixes:
        title = f"{words(prefix)[0]}, feature by feature"
        rows = [name for name in names if name.startswith(f"{prefix}/")]
        folded.append(tag("details", tag("summary", title), _table(title, rows, columns, reference, beside)))
    return tag("div", main, *folded, _glossary(names))


def nearest(values: Sequence[float], target: float) -> set[int]:
    """Indices of the values nearest to the target; none if there is nothing to choose between."""
    distances = [abs(value - target) if math.isfinite(value) else math.inf for value in values]
    finite = [distance for distance in distances if distance < math.inf]
    if not finite or min(finite) == max(finite):
        return set()
    return {index for index, distance in enumerate(distances) if distance == min(finite)}


def _table(
    caption: str,
    names: Sequence[str],
    columns: Columns,
    reference: Mapping[str, float],
    beside: Columns,
) -> Html:
    """One table that scrolls sideways where it must."""
    head = [tag("th", title, scope="col") for title in ("Statistic", *columns, *beside, "Tunes")]
    body = [_row(name, list(columns.values()), reference, list(beside.values())) for name in names]
    table = tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", tag("tr", *head)),
        tag("tbody", *body),
    )
    return tag("div", table, class_="scroll", role="region", aria_label=caption, tabindex=0)


def _row(
    name: str,
    columns: Sequence[Mapping[str, float]],
    reference: Mapping[str, float],
    beside: Sequence[Mapping[str, float]],
) -> Html:
    """A statistic's values, the nearest marked by weight, sign and words."""
    prefix, _, feature = name.partition("/")
    title, meaning = words(feature or name)
    values = [float(column.get(name, math.nan)) for column in columns]
    target = float(reference.get(name, math.nan))
    ideal = not math.isfinite(target) and prefix in _IDEALS
    target = _IDEALS[prefix] if ideal else target
    chosen = nearest(values, target) if name != "melodies" and math.isfinite(target) else set()
    marked = tag("span", "nearest to the tunes", class_="unseen")
    cells = [
        tag(
            "td",
            _cell(value),
            marked if index in chosen else None,
            class_="nearest" if index in chosen else None,
        )
        for index, value in enumerate(values)
    ]
    cells += [tag("td", _cell(float(column.get(name, math.nan)))) for column in beside]
    corpus = tag("td", _cell(target), tag("small", "if alike") if ideal else None, class_="corpus")
    return tag("tr", tag("th", tag("span", title, title=meaning or None), scope="row"), *cells, corpus)


def _cell(value: float) -> str:
    """A number without the digits nobody compares: three decimals below 1."""
    if 0 < value < 0.0005:
        return "<0.001"
    return f"{value:.3f}" if abs(value) < 1 and not float(value).is_integer() else number(value)


def _glossary(names: Sequence[str]) -> Html:
    """What the rows mean, for those who cannot hover."""
    parts = list(dict.fromkeys(part for name in names for part in name.split("/")))
    entries = []
    for part in parts:
        title, meaning = words(part)
        if meaning:
            entries += [tag("dt", title, tag("code", part)), tag("dd", meaning)]
    return tag("details", tag("summary", "What the rows mean"), tag("dl", *entries, class_="glossary"))
