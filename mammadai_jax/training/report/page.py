"""The page of a report: data classes in, one self-contained HTML file out.

Here is what the page shows; how it is laid out stands in `page.html.jinja` and `macros.html.jinja`, which
escape every text. Nothing on the page asks for anything outside it, and its content security policy forbids
it: audio and sheet music are data: URIs, and only the page's own script, known by its hash, may run.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.heading import printable
from mammadai_jax.music.notation import in_words
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.score import ScoreUnavailable, piano_roll_svg, sheet_svg
from mammadai_jax.training.report import charts
from mammadai_jax.training.report.audio import Audio, Sample, data_uri, seconds_of
from mammadai_jax.training.report.table import Comparison, Numbers, comparison, statistics
from mammadai_jax.training.report.words import curve_title, fold_title, words

_PROGRESS = re.compile(r'<section class="progress".*?</section>', re.DOTALL)
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
        change: a sentence on what the melodies gained and lost against those of an earlier stage.

    """

    name: str
    title: str
    summary: str
    samples: Sequence[Sample] = ()
    table: Mapping[str, float] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[float, float]]] = dataclasses.field(default_factory=dict)
    change: str = ""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training has come that has not ended.

    Attributes:
        ended: titles of the stages that have ended.
        following: titles of the others, of which the first learns now.
        chapters: how many stages the page will show in the end.
        written: when the report was made, ISO 8601 with the offset from UTC.
        stopped: why the training has stopped; "" while it goes on.

    """

    ended: Sequence[str]
    following: Sequence[str]
    chapters: int
    written: str
    stopped: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """A training, whole or so far.

    Attributes:
        title: heading of the page.
        stages: in the order of training.
        reference: statistics of the tunes that everything is compared with.
        reference_samples: some of them.
        facts: whatever else readers should know (configuration, versions, licence), by name.
        beside: further columns of statistics by title, of what else was learned from.
        comparisons: further tables.
        musicality: that of all stages, see `report.musicality`.
        progress: of a training that has not ended; while it goes on the page loads itself again.

    """

    title: str
    stages: Sequence[StageReport]
    reference: Mapping[str, float] = dataclasses.field(default_factory=dict)
    reference_samples: Sequence[Sample] = ()
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    beside: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    comparisons: Sequence[Comparison] = ()
    musicality: Numbers | None = None
    progress: Progress | None = None


class Renderer:
    """Renders samples, each of them once, so that a page can be written again in no time."""

    def __init__(self):
        self.excerpt = functools.cache(Audio.excerpt)
        self.source = functools.cache(Audio.source)
        self.roll = functools.cache(_roll)
        self.sheets = functools.cache(_sheets)


def write(path: str | os.PathLike, report: Report, renderer: Renderer | None = None) -> None:
    """Write the report to `path`, whole or not at all; equal reports give equal bytes.

    Args:
        path: of the page.
        report: what is written.
        renderer: the one that the page was written with before, if it is written again.

    Missing sheet music or audio is explained on the page. Raises OSError if the file cannot be written.

    """
    write_atomically(path, html_page(report, renderer).encode())


def update_progress(path: str | os.PathLike, progress: Progress) -> None:
    """Replace what a page says of its training's progress; the page of one that has ended stays as it is.

    Raises OSError if the page cannot be read or written.
    """
    page = Path(path).read_text(encoding="utf-8")
    section = _template("macros.html.jinja").module.progress_section(progress)
    write_atomically(path, _PROGRESS.sub(lambda _: str(section).strip(), page, count=1).encode())


def html_page(report: Report, renderer: Renderer | None = None) -> str:
    """The report as one HTML document that needs nothing but a browser.

    All audio together takes some 9 MB: the sample rate is the highest that keeps to it, and if none does,
    each sample is cut to its first bars.
    """
    chapters, renderer = _chapters(report), renderer or Renderer()
    samples = [sample for chapter in chapters for sample in chapter.samples]
    audio = Audio.that_fits(samples, _expected(report))
    cut = (
        ""
        if math.isinf(audio.seconds)
        else f", at most {charts.number(audio.seconds)} seconds of each sample"
    )
    script = _resource("page.js")
    return _template("page.html.jinja").render(
        report=report,
        chapters=[
            chapter._replace(samples=tuple(renderer.excerpt(audio, each) for each in chapter.samples))
            for chapter in chapters
        ],
        audio=audio,
        render=renderer,
        numbers=_numbers(report),
        facts={**report.facts, "Audio": f"synthesised, 16-bit mono at {audio.rate} Hz{cut}"},
        policy=_policy(script),
        script=Markup(script),
        style=Markup(_resource("page.css")),
    )


def _expected(report: Report) -> int:
    """How many samples a page will show in the end, with the tunes; 0 if it is the whole report."""
    most = max((len(stage.samples) for stage in report.stages), default=0)
    return most * (report.progress.chapters + 1) if report.progress else 0


def _template(name: str) -> Any:
    """One of the page's templates, which escape texts and leave out characters that no page can hold."""
    import jinja2  # slow to import

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {
        "charts": charts,
        "curves": _curves,
        "isfinite": math.isfinite,
        "roll_edges": _ROLL_EDGES,
        "seconds_of": seconds_of,
        "in_words": in_words,
        "thumbnail": _thumbnail,
        "words": words,
    }
    return environment.get_template(name)


def _resource(name: str) -> str:
    return resources.files("mammadai_jax.training.report").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """What the browser may load and run: nothing but what is in the page."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; media-src data:; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


class _Chapter(NamedTuple):
    """A stage, or at the end the corpus, with its place and colour on the page."""

    key: str
    label: str
    stage: StageReport
    samples: Sequence[Sample]
    hue: int
    saturation: int

    @property
    def likeness(self) -> float:
        return float(self.stage.table.get("overlap_area", math.nan))


def _chapters(report: Report) -> list[_Chapter]:
    """Grey for the first stage, then from blue to red; teal for the corpus."""
    colours = max((report.progress.chapters if report.progress else len(report.stages)) - 2, 1)
    hues = [225 + 125 * max(i - 1, 0) // colours for i in range(len(report.stages))]
    chapters = [
        _Chapter(f"stage{i}", str(i), stage, stage.samples, hues[i], 70 if i else 8)
        for i, stage in enumerate(report.stages)
    ]
    if report.reference_samples:
        corpus = StageReport("corpus", "The tunes", "Some of the melodies that imitation learned from.")
        chapters.append(_Chapter("corpus", "\N{EIGHTH NOTE}", corpus, report.reference_samples, 172, 65))
    return chapters


def _numbers(report: Report) -> dict[str, Numbers]:
    """All sections of tables, by their id."""
    musicality = {"musicality": report.musicality} if report.musicality else {}
    comparisons = {f"comparison{i}": comparison(each) for i, each in enumerate(report.comparisons)}
    numbers = {"numbers": _statistics(report)} if report.stages or not report.progress else {}
    return {**musicality, **numbers, **comparisons}


def _statistics(report: Report) -> Numbers:
    columns: dict[str, Mapping[str, float]] = {}
    for index, stage in enumerate(report.stages):
        title = stage.title if stage.title not in columns else f"{stage.title} ({index})"
        columns[title] = stage.table
    return statistics(columns, report.reference, report.beside)


def _roll(sample: Sample) -> Markup:
    """A piano roll with the accompaniment, for the script to play along."""
    return Markup(piano_roll_svg(sample.music, sample.lines, title=sample.title, **_ROLL))


class _Thumbnail(NamedTuple):
    """The notes alone as rectangles (x, y, width) of height 1, in a box of steps and semitones."""

    steps: int
    semitones: int
    notes: list[tuple[int, float, float]]


def _thumbnail(music: Melody | Piece) -> _Thumbnail:
    low, high = (f((note.pitch for note in music.notes), default=60) for f in (min, max))
    semitones = max(high - low + 1, 13)
    top = high + (semitones - (high - low + 1)) / 2
    notes = [(onset, top - pitch, round(0.9 * duration, 2)) for onset, duration, pitch in music.notes]
    return _Thumbnail(max(len(music), 1), semitones, notes)


class _Sheet(NamedTuple):
    """Sheet music as an image's address, or "" and what is wrong with it."""

    title: str
    source: str
    problem: str = ""


def _sheets(samples: Sequence[Sample]) -> list[_Sheet]:
    """Sheet music as images, so that the drawings' ids and styles cannot meet; a hint if it is missing."""
    try:
        return [_sheet(sample) for sample in samples]
    except ScoreUnavailable as error:
        return [_Sheet("", "", str(error))]


def _sheet(sample: Sample) -> _Sheet:
    try:
        drawing = sheet_svg(dataclasses.replace(sample.music, title=sample.title))
    except ValueError as error:
        return _Sheet(sample.title, "", f"{sample.title}: no sheet music, {error}")
    return _Sheet(sample.title, data_uri("image/svg+xml", re.sub(r">\s+<", "><", drawing).encode()))


class _Curve(NamedTuple):
    """A metric's learning curve: its title, its last finite value, its chart if there is anything to see."""

    title: str
    last: str
    chart: charts.Chart | None


def _curves(stage: StageReport) -> dict[str, list[_Curve]]:
    """Learning curves by the title of the fold that they are in, "" for those that are not folded away."""
    folds: dict[str, list[_Curve]] = {"": []}
    for name, points in stage.curves.items():
        title = curve_title(name)
        last = next((value for _, value in reversed(points) if math.isfinite(value)), math.nan)
        curve = _Curve(title, charts.number(last), charts.line_chart(points, title))
        folds.setdefault(fold_title(name), []).append(curve)
    return folds
