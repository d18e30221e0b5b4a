"""Melodies as images: sheet music and piano rolls, both SVG.

Titles are untrusted: every text is escaped by an XML writer.
"""

from __future__ import annotations

import dataclasses
import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from mammadai_jax.music.heading import printable
from mammadai_jax.music.midi import Line
from mammadai_jax.music.musicxml import musicxml
from mammadai_jax.music.notes import Melody, Note, notes_from_events

# Legible on white and on black; a page's style may override them.
_INK = "var(--roll-ink, #7b818a)"
_NOTE = "var(--roll-note, #3b82f6)"
_LINE = "var(--roll-line, #d9822b)"


class ScoreUnavailable(ImportError):
    """Sheet music needs verovio, which is not installed."""


def sheet_svg(melody: Melody) -> str:
    """The melody as sheet music, one SVG page of the height it needs, drawn by verovio.

    Raises ScoreUnavailable without verovio, ValueError if the melody fills more than one page (some
    hundred lines).
    """
    try:
        import verovio
    except ImportError as error:
        message = "sheet music needs verovio: pip install 'mammadai-jax[score]'"
        raise ScoreUnavailable(message) from error
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions(
        {
            "adjustPageHeight": True,
            "pageHeight": 60_000,
            "pageWidth": 2000,
            "scale": 50,
            "header": "auto" if printable(melody.title) else "none",
            "footer": "none",
            "svgViewBox": True,
            "svgRemoveXlink": True,
            "xmlIdSeed": 1,
        }
    )
    if not toolkit.loadData(musicxml(melody)):
        raise ValueError("verovio cannot read the melody's MusicXML")
    if toolkit.getPageCount() != 1:
        raise ValueError(f"a melody of {len(melody)} steps does not fit a page")
    # In the colour of the surrounding text, because verovio's black is invisible on a dark page.
    return toolkit.renderToSVG(1).replace(' color="black"', ' color="currentColor" fill="currentColor"')


def piano_roll_svg(
    melody: Melody, lines: Sequence[Line] = (), width: int = 960, height: int = 240, title: str = ""
) -> str:
    """The melody as a piano roll, a self-contained SVG of `width` x `height` pixels.

    Bars are numbered, the Cs are labelled (C4 is MIDI 60), `lines` lie behind the melody. The colours
    suit light and dark pages; a page may set --roll-note, --roll-line and --roll-ink. `title` (the
    melody's own by default) is for screen readers.
    """
    if melody.steps_per_bar < 1:
        raise ValueError(f"a bar should have 1 step or more, got {melody.steps_per_bar}")
    left, right, top, bottom = 34, 6, 6, 18
    if width < 100 or height < 60:
        raise ValueError(f"a piano roll should be at least 100 x 60 pixels, got {width} x {height}")
    voices = [notes_from_events(line.events) for line in lines] + [melody.notes]
    low, high = _pitch_range([note.pitch for notes in voices for note in notes])
    box = _Box(left, top, width - left - right, height - top - bottom, max(len(melody), 1), low, high)
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "piano-roll", "role": "img"})
    root.attrib |= {"width": str(width), "height": str(height), "viewBox": f"0 0 {width} {height}"}
    bars = -(-len(melody) // melody.steps_per_bar)
    name = printable(title or melody.title) or "Melody"
    ET.SubElement(root, "title").text = f"{name}: {len(melody.notes)} notes in {bars} bars"
    ink = ET.SubElement(root, "g", {"fill": _INK, "font-family": "system-ui, sans-serif", "font-size": "11"})
    _add_keys(ink, box)
    _add_bar_lines(ink, box, melody.steps_per_bar)
    for notes in voices[:-1]:
        _add_notes(ET.SubElement(root, "g", {"class": "line", "fill": _LINE}), notes, box)
    _add_notes(ET.SubElement(root, "g", {"class": "melody", "fill": _NOTE}), voices[-1], box)
    return ET.tostring(root, encoding="unicode")


@dataclasses.dataclass(frozen=True)
class _Box:
    """The area of the notes, in pixels, and its range of steps and pitches."""

    left: float
    top: float
    width: float
    height: float
    steps: int
    low: int
    high: int

    def x(self, step: float) -> float:
        return self.left + self.width * step / self.steps

    def y(self, pitch: float) -> float:
        """Upper edge of a pitch's row."""
        return self.top + self.height * (self.high - pitch) / (self.high - self.low + 1)


def _pitch_range(pitches: list[int]) -> tuple[int, int]:
    """Lowest and highest row: all pitches with a margin, at least 18 rows."""
    low, high = min(pitches, default=60), max(pitches, default=72)
    margin = max(2, (18 - (high - low)) // 2)
    return low - margin, high + margin


def _add_keys(parent: ET.Element, box: _Box) -> None:
    """Shade the rows of the black keys; a line under every C, and its name."""
    for pitch in range(box.low, box.high + 1):
        if pitch % 12 in (1, 3, 6, 8, 10):
            height = box.y(pitch - 1) - box.y(pitch)
            _add_rectangle(parent, box.left, box.y(pitch), box.width, height, opacity="0.1")
        if pitch % 12 == 0:
            _add_rectangle(parent, box.left, box.y(pitch - 1) - 0.5, box.width, 1, opacity="0.55")
            middle = f"{(box.y(pitch) + box.y(pitch - 1)) / 2 + 4:.1f}"
            text = ET.SubElement(parent, "text", {"x": f"{box.left - 6}", "y": middle, "text-anchor": "end"})
            text.text = f"C{pitch // 12 - 1}"


def _add_bar_lines(parent: ET.Element, box: _Box, steps_per_bar: int) -> None:
    """Bar lines and bar numbers, thinned out where there is no room."""
    bar = box.width * steps_per_bar / box.steps
    line_every, number_every = (2 ** max(0, math.ceil(math.log2(room / bar))) for room in (8, 32))
    for number, step in enumerate(range(0, box.steps + 1, steps_per_bar)):
        if number % line_every == 0:
            _add_rectangle(parent, box.x(step) - 0.5, box.top, 1, box.height, opacity="0.4")
        if number % number_every == 0 and step < box.steps:
            place = {"x": f"{box.x(step) + 2:.1f}", "y": f"{box.top + box.height + 13:.1f}"}
            ET.SubElement(parent, "text", place).text = str(number + 1)


def _add_notes(parent: ET.Element, notes: list[Note], box: _Box) -> None:
    """A rounded bar for every note, with a gap before the next."""
    for onset, duration, pitch in notes:
        width = box.width * duration / box.steps
        height = box.y(pitch - 1) - box.y(pitch)
        _add_rectangle(parent, box.x(onset), box.y(pitch), max(0.85 * width, width - 1.5), height, rx="2")


def _add_rectangle(
    parent: ET.Element, x: float, y: float, width: float, height: float, **attributes: str
) -> None:
    place = {"x": x, "y": y, "width": width, "height": height}
    ET.SubElement(parent, "rect", {**{k: f"{v:.2f}" for k, v in place.items()}, **attributes})
