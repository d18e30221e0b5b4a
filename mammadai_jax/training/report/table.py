"""The statistics of all stages side by side, in plain words, with what each of them means."""

from __future__ import annotations

import dataclasses
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
# The rules of music theory, RL Tuner's measures, and metrics of learning from rules.
_THEORY = {
    "theory": ("All rules together", "The rules' rewards, each times its weight, summed."),
    "key": ("Stays in the key", "A penalty of 1 for each note outside the key."),
    "tonic": (
        "Begins and ends on the tonic",
        "3 where a piece begins on middle C, and where it closes on it.",
    ),
    "penalize_repeating": ("No endless repetition", "A penalty of 100 for one repetition too many."),
    "penalize_autocorrelation": (
        "Not correlated with itself",
        "A penalty for a melody that resembles itself one, two or three steps later.",
    ),
    "motif": ("Motifs", "3 and more where half a bar has three different pitches or more."),
    "repeated_motif": ("Motifs that return", "4 and more where a motif came before, note for note."),
    "preferred_intervals": (
        "Preferred intervals",
        "Small rewards for steps, thirds, fourths, fifths and rests.",
    ),
    "leap_up_back": ("Leaps that come back", "5 where a leap is answered, -5 where it is doubled."),
    "high_low_unique": ("One highest, one lowest note", "3 each at the end, if they came only once."),
    "log_prior": ("Log-probability under the prior", "Mean over the steps, in nats: 0 is certain."),
    "rules": ("Rewards", ""),
    "entropy": ("Entropy", "In nats: how much is left to chance."),
    "num_repeated_notes": ("Steps repeated too often", "Share of the steps."),
    "autocorrelation1": ("Autocorrelation, one step later", "Mean over the melodies."),
    "autocorrelation2": ("Autocorrelation, two steps later", "Mean over the melodies."),
    "autocorrelation3": ("Autocorrelation, three steps later", "Mean over the melodies."),
    "notes_not_in_key": ("Steps not in the key", "Share of the steps, C major."),
    "num_starting_tonic": ("Start with the tonic", "Share of the melodies that begin on middle C."),
    "leaps_resolved": ("Leaps resolved", "Share of the leaps that are resolved or doubled."),
    "num_high_unique": ("Unique highest note", "Share of the melodies."),
    "num_low_unique": ("Unique lowest note", "Share of the melodies."),
    "notes_in_motif": ("Steps in a motif", "Share of the steps that end a motif of eight."),
    "notes_in_repeated_motif": ("Steps in a repeated motif", "Share of the steps that end one heard before."),
}
# What listeners say, and what the prompt has to say to it.
_LISTENING = {
    "preferred": ("Preferred", "Share of the pairs with a preference in which this one's melody was taken."),
    "gold": ("What they are worth to listeners", "Mean utility to the simulated listeners held out."),
    "claims": ("What the prompt says, holds", "Share of a prompt's claims that the notes bear out; mean."),
    "likeness": (
        "Likeness to the prompt",
        "Mean cosine of text and music in the space that captions and melodies share; 1 is the nearest.",
    ),
}
# What a copy of the corpus would have, for measures that a corpus alone has not.
_IDEALS = {"overlap_area": 1.0, "kl": 0.0}


def words(name: str) -> tuple[str, str]:
    """Plain name and explanation of a statistic or a feature; unknown names are only made readable."""
    readable = name.replace("_", " ").replace("/", ": ")
    return (_WORDS | _THEORY | _LISTENING).get(name, (readable[:1].upper() + readable[1:], ""))


Columns = Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Numbers side by side.

    Attributes:
        title: heading; summary: a sentence below it.
        columns: values by name, for each column's title.
        beside: further columns, in which nothing is marked.
        goals: what is best in a row, inf for the more the better; rows without are not marked.

    """

    title: str
    summary: str
    columns: Columns
    beside: Columns = dataclasses.field(default_factory=dict)
    goals: Mapping[str, float] = dataclasses.field(default_factory=dict)


def comparison(given: Comparison) -> Html:
    """A comparison's table, in each row the best marked, and what its rows mean."""
    columns = {**given.columns, **given.beside}
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    head = [_head(title) for title in ("Measure", *given.columns)]
    head += [_head(title, "corpus") for title in given.beside]
    body = []
    for name in names:
        title, meaning = words(name)
        values = [float(column.get(name, math.nan)) for column in columns.values()]
        goal = given.goals.get(name)
        chosen = set() if goal is None else nearest(values[: len(given.columns)], goal)
        cells = _cells(values[: len(given.columns)], chosen, "best")
        cells += [tag("td", _cell(value), class_="corpus") for value in values[len(given.columns) :]]
        body.append(tag("tr", tag("th", tag("span", title, title=meaning or None), scope="row"), *cells))
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    scroll = tag("div", table, class_="scroll", role="region", aria_label=given.title, tabindex=0)
    return tag("div", scroll, _glossary(names))


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
    """Indices of the values nearest to the target, of the greatest for inf; none if there is no choice."""
    off = (lambda value: -value) if target == math.inf else (lambda value: abs(value - target))
    distances = [off(value) if math.isfinite(value) else math.inf for value in values]
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
    head = [*(_head(title) for title in ("Statistic", *columns, *beside)), _head("Tunes", "corpus")]
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
    cells = _cells(values, chosen, "nearest to the tunes")
    cells += [tag("td", _cell(float(column.get(name, math.nan)))) for column in beside]
    corpus = tag("td", _cell(target), tag("small", "if alike") if ideal else None, class_="corpus")
    return tag("tr", tag("th", tag("span", title, title=meaning or None), scope="row"), *cells, corpus)


def _head(title: str, class_: str | None = None) -> Html:
    return tag("th", title, scope="col", class_=class_)


def _cells(values: Sequence[float], chosen: set[int], why: str) -> list[Html]:
    """A row's cells, some of them marked."""
    marked = tag("span", why, class_="unseen")
    return [
        tag("td", _cell(value), marked, class_="nearest") if index in chosen else tag("td", _cell(value))
        for index, value in enumerate(values)
    ]


def _cell(value: float) -> str:
    """A number without the digits nobody compares: three decimals below 1."""
    if -0.0005 < value < 0:
        return ">-0.001"
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
