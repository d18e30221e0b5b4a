"""The page of a report: data classes in, one self-contained HTML file out.

Nothing on the page asks for anything outside it, and its content security policy forbids to: audio and
sheet music are data: URIs, and only the page's own script, known by its hash, may run.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import count

from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.midi import Line
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.score import ScoreUnavailable, piano_roll_svg, sheet_svg
from mammadai_jax.training.report.audio import Audio, Sample, data_uri, seconds_of
from mammadai_jax.training.report.charts import line_chart, number
from mammadai_jax.training.report.markup import Html, join, tag, text
from mammadai_jax.training.report.table import Comparison, comparison, statistics, words

_ROLL = {"width": 360, "height": 210}
_ROLL_EDGES = (34 / 360, 354 / 360)  # where `piano_roll_svg` begins and ends, as a share of its width


@dataclasses.dataclass(frozen=True, eq=False)
class StageReport:
    """What one stage of the training came to.

    Attributes:
        name: short name, as on the command line ("gail").
        title: name for readers.
        summary: a sentence or two on what was learned from what.
        samples: melodies of the agent after the stage; the first represents it on the journey.
        table: statistics by name, see `mammadai_jax.music.statistics.table`.
        curves: points (update, value) of each metric.

    """

    name: str
    title: str
    summary: str
    samples: Sequence[Sample] = ()
    table: Mapping[str, float] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[float, float]]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """A whole training.

    Attributes:
        title: heading of the page.
        stages: in the order of training.
        reference: statistics of the tunes that everything is compared with.
        reference_samples: some of them.
        facts: whatever else readers should know (configuration, versions, licence), by name.
        beside: further columns of statistics by title, of what else was learned from.
        comparisons: further tables.

    """

    title: str
    stages: Sequence[StageReport]
    reference: Mapping[str, float] = dataclasses.field(default_factory=dict)
    reference_samples: Sequence[Sample] = ()
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    beside: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    comparisons: Sequence[Comparison] = ()


def write(path: str | os.PathLike, report: Report) -> None:
    """Write the report to `path`, whole or not at all; equal reports give equal bytes.

    Missing sheet music or audio is explained on the page. Raises OSError if the file cannot be written.
    """
    write_atomically(path, html_page(report).encode())


def html_page(report: Report) -> str:
    """The report as one HTML document that needs nothing but a browser.

    All audio together takes some 9 MB: the sample rate is the highest that keeps to it, and if none does,
    each sample is cut to its first bars.
    """
    chapters = _chapters(report)
    audio = Audio.that_fits([sample for chapter in chapters for sample in chapter.samples])
    chapters = [
        dataclasses.replace(chapter, samples=[audio.excerpt(sample) for sample in chapter.samples])
        for chapter in chapters
    ]
    script, style = _resource("page.js"), _resource("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; media-src data:; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", report.title),
        tag("style", Html(style)),
    )
    body = tag(
        "body",
        tag("a", "Skip to the stages", class_="skip", href="#stages"),
        _header(report, chapters),
        tag("main", *(_section(chapter, audio) for chapter in chapters), id="stages"),
        _numbers(report),
        *map(_comparison, report.comparisons, count()),
        _facts(report, audio),
        tag("script", Html(script)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _resource(name: str) -> str:
    return resources.files("mammadai_jax.training.report").joinpath(name).read_text(encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class _Chapter:
    """A stage, or at the end the corpus, with its place and colour on the page."""

    key: str
    label: str
    stage: StageReport
    samples: Sequence[Sample]
    hue: int
    saturation: int

    @property
    def style(self) -> str:
        return f"--hue: {self.hue}; --saturation: {self.saturation}%"


def _chapters(report: Report) -> list[_Chapter]:
    """Grey for the first stage, then from blue to red; teal for the corpus."""
    colours = max(len(report.stages) - 2, 1)
    chapters = [
        _Chapter(
            f"stage{i}", str(i), stage, stage.samples, 225 + 125 * max(i - 1, 0) // colours, 70 if i else 8
        )
        for i, stage in enumerate(report.stages)
    ]
    if report.reference_samples:
        corpus = StageReport("corpus", "The tunes", "Some of the melodies that imitation learned from.")
        chapters.append(_Chapter("corpus", "\N{EIGHTH NOTE}", corpus, report.reference_samples, 172, 65))
    return chapters


def _header(report: Report, chapters: Sequence[_Chapter]) -> Html:
    """Title, one sentence, the button and the journey at a glance."""
    count = len(report.stages)
    sentence = (
        f"An agent learns to compose: what it plays before, between and after {count} "
        f"{'stage' if count == 1 else 'stages'}, to hear, to see and in numbers."
    )
    controls = tag(
        "p",
        tag("button", "Play the journey", id="journey", type="button"),
        tag("span", id="status", role="status"),
        class_="controls",
    )
    return tag(
        "header",
        tag("p", "mammadai: from noise to melody", class_="eyebrow"),
        tag("h1", report.title),
        tag("p", sentence, class_="lead"),
        controls if any(chapter.samples for chapter in chapters) else None,
        tag("ol", *map(_card, chapters), class_="journey", aria_label="The journey"),
    )


def _card(chapter: _Chapter) -> Html:
    """A stage in the journey: its name, its first sample in small, its likeness to the corpus."""
    stage, first = chapter.stage, f"{chapter.key}-0"
    likeness = float(stage.table.get("overlap_area", math.nan))
    return tag(
        "li",
        tag(
            "h2",
            tag("span", chapter.label, class_="badge", aria_hidden="true"),
            tag("a", stage.title, href=f"#{chapter.key}"),
        ),
        _thumbnail(chapter.samples[0].melody, first) if chapter.samples else None,
        _meter(likeness) if math.isfinite(likeness) else None,
        tag("button", "Listen", type="button", data_plays=first, aria_label=f"Listen to: {stage.title}")
        if chapter.samples
        else None,
        style=chapter.style,
        class_="stop" if chapter.key != "corpus" else "stop corpus",
        data_stage=chapter.key,
    )


def _meter(likeness: float) -> Html:
    name = words("overlap_area")[0]
    bar = tag("span", tag("span", style=f"width: {100 * min(max(likeness, 0), 1):.1f}%"), class_="bar")
    return tag("p", tag("span", name), tag("strong", f"{likeness:.2f}"), bar, class_="meter")


def _thumbnail(melody: Melody, audio_id: str) -> Html:
    """The notes alone, as wide as there is room."""
    notes = melody.notes
    low, high = (f([note.pitch for note in notes], default=60) for f in (min, max))
    rows = max(high - low + 1, 13)
    bars = [
        tag(
            "rect",
            x=onset,
            y=(rows + high - low + 1) / 2 - 1 - pitch + low,
            width=round(0.9 * duration, 2),
            height=1,
        )
        for onset, duration, pitch in notes
    ]
    drawing = tag(
        "svg",
        tag("g", *bars, class_="melody"),
        viewBox=f"0 0 {max(len(melody), 1)} {rows}",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    return tag("div", drawing, class_="roll thumbnail", data_audio=audio_id, data_left=0, data_right=1)


def _section(chapter: _Chapter, audio: Audio) -> Html:
    """A stage in full: samples, sheet music, learning curves."""
    stage = chapter.stage
    articles = [_sample(sample, f"{chapter.key}-{i}", audio) for i, sample in enumerate(chapter.samples)]
    heading = tag(
        "h2",
        tag("span", chapter.label, class_="badge", aria_hidden="true"),
        stage.title,
        tag("code", stage.name),
        id=f"{chapter.key}-title",
        data_title=stage.title,
    )
    return tag(
        "section",
        heading,
        tag("p", stage.summary, class_="summary") if stage.summary else None,
        tag("div", *articles, class_="samples") if articles else tag("p", "No samples.", class_="empty"),
        _sheets(chapter.samples) if articles else None,
        _curves(stage) if stage.curves else None,
        id=chapter.key,
        class_="stage",
        style=chapter.style,
        aria_labelledby=f"{chapter.key}-title",
    )


def _sample(sample: Sample, audio_id: str, audio: Audio) -> Html:
    """One melody: its title, a piano roll for the script to play along, and the player."""
    lines = [] if sample.line is None else [Line("accompaniment", sample.line)]
    roll = Html(piano_roll_svg(sample.melody, lines, title=sample.title, **_ROLL))
    left, right = _ROLL_EDGES
    count, seconds = len(sample.melody.notes), seconds_of(sample.melody)
    return tag(
        "article",
        tag("h3", tag("bdi", sample.title or "Untitled")),
        tag(
            "div",
            roll,
            class_="roll",
            data_audio=audio_id,
            data_left=f"{left:.5f}",
            data_right=f"{right:.5f}",
        ),
        audio.player(sample, audio_id),
        tag("p", f"{count} {'note' if count == 1 else 'notes'}, {seconds:.0f} seconds", class_="note"),
        class_="sample",
    )


def _sheets(samples: Sequence[Sample]) -> Html:
    """Sheet music as images, so that the drawings' ids and styles cannot meet; a hint if it is missing."""
    figures = []
    for sample in samples:
        melody = dataclasses.replace(sample.melody, title=sample.title)
        try:
            drawing = re.sub(r">\s+<", "><", sheet_svg(melody))
        except ScoreUnavailable as error:
            figures = [tag("p", f"{error}", class_="empty")]
            break
        except ValueError as error:
            figures.append(tag("p", f"{sample.title}: no sheet music, {error}", class_="empty"))
        else:
            source = data_uri("image/svg+xml", drawing.encode())
            figures.append(tag("img", src=source, alt=f"Sheet music of {sample.title}", loading="lazy"))
    return tag("details", tag("summary", "Sheet music"), *figures, class_="sheets")


def _curves(stage: StageReport) -> Html:
    """A figure for each metric; those with names like "rules/key" are folded, one fold for each prefix."""
    folds: dict[str, list[Html]] = {"": []}
    for name, points in stage.curves.items():
        prefix, _, feature = name.rpartition("/")
        folds.setdefault(prefix, []).append(_figure(words(feature)[0], points))
    main = tag("div", *folds.pop(""), class_="curves")
    folded = [
        tag(
            "details",
            tag("summary", f"{words(prefix)[0]}, one by one"),
            tag("div", *figures, class_="curves"),
        )
        for prefix, figures in folds.items()
    ]
    return tag("div", tag("h3", "Learning curves"), main, *folded)


def _figure(title: str, points: Sequence[tuple[float, float]]) -> Html:
    last = next((value for _, value in reversed(points) if math.isfinite(value)), math.nan)
    caption = tag("figcaption", tag("span", title), tag("small", f"last {number(last)}"))
    return tag("figure", caption, line_chart(points, title))


def _comparison(given: Comparison, index: int) -> Html:
    return tag(
        "section",
        tag("h2", given.title, id=f"comparison{index}-title"),
        tag("p", given.summary, class_="summary"),
        comparison(given),
        class_="numbers",
        id=f"comparison{index}",
        aria_labelledby=f"comparison{index}-title",
    )


def _numbers(report: Report) -> Html:
    columns: dict[str, Mapping[str, float]] = {}
    for index, stage in enumerate(report.stages):
        title = stage.title if stage.title not in columns else f"{stage.title} ({index})"
        columns[title] = stage.table
    return tag(
        "section",
        tag("h2", "The numbers", id="numbers-title"),
        tag("p", "Marked in each row: the stage nearest to the tunes.", class_="summary"),
        statistics(columns, report.reference, report.beside),
        class_="numbers",
        id="numbers",
        aria_labelledby="numbers-title",
    )


def _facts(report: Report, audio: Audio) -> Html:
    cut = "" if math.isinf(audio.seconds) else f", at most {number(audio.seconds)} seconds of each sample"
    facts = {**report.facts, "Audio": f"synthesised, 16-bit mono at {audio.rate} Hz{cut}"}
    entries = [part for name, fact in facts.items() for part in (tag("dt", name), _lines(fact))]
    return tag(
        "footer",
        tag("details", tag("summary", "How this was made"), tag("dl", *entries, class_="facts")),
        id="facts",
    )


def _lines(fact: str) -> Html:
    return tag("dd", join([text(line) for line in str(fact).splitlines()], "<br>"))
