"""Melodies, and pieces of several voices, as images: sheet music and piano rolls, both SVG.

Titles are untrusted: every text is escaped by an XML writer.
"""

from __future__ import annotations

import dataclasses
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mammadai_jax.music.chords import Symbol
from mammadai_jax.music.heading import printable
from mammadai_jax.music.midi import Line, voice_lines
from mammadai_jax.music.musicxml import musicxml
from mammadai_jax.music.notes import Melody, Note, notes_from_events
from mammadai_jax.music.piece import Piece

# Legible on white and on black; a page's style may override them.
_INK = "var(--roll-ink, #7b818a)"
_NOTE = "var(--roll-note, #3b82f6)"
_LINE = "var(--roll-line, #d9822b)"
_VOICES = ("#3b82f6", "#e0559a", "#16a37f", "#d9822b", "#8b5cf6", "#0ea5b7", "#98971a", "#ef5350")


class ScoreUnavailable(ImportError):
    """Sheet music needs verovio, which is not installed."""


def sheet_svg(music: Melody | Piece, chords: Sequence[Symbol] = (), program: int | None = None) -> str:
    """The music as sheet music, one SVG page of the height it needs, drawn by verovio.

    It has chord symbols, and the name of the General MIDI instrument. Raises ScoreUnavailable without
    verovio, ValueError if it fills more than one page (some hundred lines).
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
            "header": "auto" if printable(music.title) else "none",
            "footer": "none",
            "svgViewBox": True,
            "svgRemoveXlink": True,
            "xmlIdSeed": 1,
        }
    )
    if not toolkit.loadData(musicxml(music, chords, program)):
        raise ValueError("verovio cannot read the MusicXML")
    if toolkit.getPageCount() != 1:
        raise ValueError(f"music of {len(music)} steps does not fit a page")
    # In the colour of the surrounding text, because verovio's black is invisible on a dark page.
    return toolkit.renderToSVG(1).replace(' color="black"', ' color="currentColor" fill="currentColor"')


def piano_roll_svg(
    music: Melody | Piece, lines: Sequence[Line] = (), width: int = 960, height: int = 240, title: str = ""
) -> str:
    """The music as a piano roll, a self-contained SVG of `width` x `height` pixels.

    Bars are numbered, the Cs are labelled (C4 is MIDI 60), `lines` lie behind the melody or the voices. The
    colours suit light and dark pages; a page may set --roll-note, --roll-line, --roll-ink, and for a piece
    --roll-voice-1 to --roll-voice-8 from the highest. `title` (the music's own by default) is for screen
    readers.
    """
    if music.steps_per_bar < 1:
        raise ValueError(f"a bar should have 1 step or more, got {music.steps_per_bar}")
    left, right, top, bottom = 34, 6, 6, 18
    if width < 100 or height < 60:
        raise ValueError(f"a piano roll should be at least 100 x 60 pixels, got {width} x {height}")
    groups = [*_groups(music, lines)]
    low, high = _pitch_range([note.pitch for group in groups for note in group.notes])
    box = _Box(left, top, width - left - right, height - top - bottom, max(len(music), 1), low, high)
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "piano-roll", "role": "img"})
    root.attrib |= {"width": str(width), "height": str(height), "viewBox": f"0 0 {width} {height}"}
    bars = -(-len(music) // music.steps_per_bar)
    name = printable(title or music.title) or ("Piece" if isinstance(music, Piece) else "Melody")
    ET.SubElement(root, "title").text = f"{name}: {len(music.notes)} notes in {bars} bars"
    ink = ET.SubElement(root, "g", {"fill": _INK, "font-family": "system-ui, sans-serif", "font-size": "11"})
    _add_keys(ink, box)
    _add_bar_lines(ink, box, music.steps_per_bar)
    for group in groups:
        parent = ET.SubElement(root, "g", {"class": group.kind, "fill": group.fill})
        if group.name:
            ET.SubElement(parent, "title").text = group.name
        _add_notes(parent, group.notes, box)
    return ET.tostring(root, encoding="unicode")


class _Group(NamedTuple):
    """The notes of a line or a voice: their class and their colour, and the name of the voice."""

    kind: str
    fill: str
    notes: list[Note]
    name: str = ""


def _groups(music: Melody | Piece, lines: Sequence[Line]) -> Iterator[_Group]:
    """The notes from the back to the front: the lines, and the melody or the voices, the highest last."""
    for line in lines:
        yield _Group("line", _LINE, notes_from_events(line.events))
    if isinstance(music, Melody):
        yield _Group("melody", _NOTE, music.notes)
        return
    for number, line in reversed(list(enumerate(voice_lines(music), start=1))):
        colour = f"var(--roll-voice-{number}, {_VOICES[number - 1]})"
        yield _Group("voice", colour, notes_from_events(line.events), printable(line.name))


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
