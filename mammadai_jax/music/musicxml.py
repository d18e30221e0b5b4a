"""Melodies as MusicXML, on a grid of 16th notes (4 steps a quarter).

Titles are untrusted: every text is escaped by an XML writer.
"""

from __future__ import annotations

import dataclasses
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from mammadai_jax.music.heading import key_fifths, meter_of, printable
from mammadai_jax.music.notes import Melody

_ACCIDENTALS = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}


def musicxml(melody: Melody) -> str:
    """The melody as a MusicXML 4.0 document of one part.

    The upbeat (`melody.pickup`) is a short first bar, and the last bar is padded with rests. Notes that
    cross bars or beats are split and tied. An unknown key has no accidentals in its signature.
    """
    root = ET.Element("score-partwise", version="4.0")
    title = printable(melody.title)
    ET.SubElement(ET.SubElement(root, "work"), "work-title").text = title
    part = ET.SubElement(ET.SubElement(root, "part-list"), "score-part", id="P1")
    ET.SubElement(part, "part-name")
    part = ET.SubElement(root, "part", id="P1")
    beats, unit = meter_of(melody)
    fifths = key_fifths(melody) or 0
    bars = list(_bars(melody))
    for number, symbols in enumerate(bars, start=0 if melody.fill else 1):
        measure = ET.SubElement(part, "measure", number=str(number))
        if number == 0:
            measure.set("implicit", "yes")
        if symbols is bars[0]:
            _add_attributes(measure, melody, beats, unit, fifths)
        _add_bar(measure, symbols, fifths, _beat(beats, unit))
        if symbols is bars[-1]:
            barline = ET.SubElement(measure, "barline", location="right")
            ET.SubElement(barline, "bar-style").text = "light-heavy"
    return ET.tostring(root, encoding="utf-8", xml_declaration=True).decode()


def _add_attributes(measure: ET.Element, melody: Melody, beats: int, unit: int, fifths: int) -> None:
    """Divisions, key, meter, clef and tempo of the first bar."""
    attributes = ET.SubElement(measure, "attributes")
    ET.SubElement(attributes, "divisions").text = "4"
    key = ET.SubElement(attributes, "key")
    ET.SubElement(key, "fifths").text = str(fifths)
    if melody.mode and key_fifths(melody) is not None:
        ET.SubElement(key, "mode").text = melody.mode
    time = ET.SubElement(attributes, "time")
    ET.SubElement(time, "beats").text = str(beats)
    ET.SubElement(time, "beat-type").text = str(unit)
    bass = statistics.median(melody.pitches.tolist() or [60]) < 55
    clef = ET.SubElement(attributes, "clef")
    ET.SubElement(clef, "sign").text = "F" if bass else "G"
    ET.SubElement(clef, "line").text = "4" if bass else "2"
    direction = ET.SubElement(measure, "direction", placement="above")
    metronome = ET.SubElement(ET.SubElement(direction, "direction-type"), "metronome")
    ET.SubElement(metronome, "beat-unit").text = "quarter"
    ET.SubElement(metronome, "per-minute").text = f"{melody.tempo:g}"
    ET.SubElement(direction, "sound", tempo=f"{melody.tempo:g}")


def _add_bar(measure: ET.Element, symbols: list[_Symbol], fifths: int, beat: int) -> None:
    """Write the symbols of a bar; an accidental holds for its line to the end of the bar."""
    altered: dict[tuple[str, int], int] = {}
    beams = _beams(symbols, beat)
    for index, symbol in enumerate(symbols):
        note = ET.SubElement(measure, "note")
        if symbol.pitch is None:
            rest = ET.SubElement(note, "rest")
            if len(symbols) == 1 and symbol.start == 0:
                rest.set("measure", "yes")
            letter, alter, octave = "", 0, 0
        else:
            letter, alter, octave = _add_pitch(note, symbol.pitch, fifths)
        ET.SubElement(note, "duration").text = str(symbol.steps)
        for tied, kind in ((symbol.tied_from, "stop"), (symbol.tied_to, "start")):
            if tied:
                ET.SubElement(note, "tie", type=kind)
        ET.SubElement(note, "voice").text = "1"
        if symbol.steps in _VALUES:
            value, dots = _VALUES[symbol.steps]
            ET.SubElement(note, "type").text = value
            for _ in range(dots):
                ET.SubElement(note, "dot")
        if symbol.pitch is not None and not symbol.tied_from:
            if altered.get((letter, octave), _signature(letter, fifths)) != alter:
                ET.SubElement(note, "accidental").text = _ACCIDENTALS[alter]
            altered[letter, octave] = alter
        for level, beam in enumerate(beams[index], start=1):
            ET.SubElement(note, "beam", number=str(level)).text = beam
        _add_ties(note, symbol)


def _add_ties(note: ET.Element, symbol: _Symbol) -> None:
    """The notation of the ties."""
    if symbol.tied_from or symbol.tied_to:
        notations = ET.SubElement(note, "notations")
        for tied, kind in ((symbol.tied_from, "stop"), (symbol.tied_to, "start")):
            if tied:
                ET.SubElement(notations, "tied", type=kind)


def _add_pitch(note: ET.Element, pitch: int, fifths: int) -> tuple[str, int, int]:
    """Write the pitch; its letter, alteration and octave."""
    letter, alter, octave = spelling(pitch, fifths)
    element = ET.SubElement(note, "pitch")
    ET.SubElement(element, "step").text = letter
    if alter:
        ET.SubElement(element, "alter").text = str(alter)
    ET.SubElement(element, "octave").text = str(octave)
    return letter, alter, octave


