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

# Steps of the note values: their MusicXML name and dots.
_VALUES = {
    16: ("whole", 0),
    12: ("half", 1),
    8: ("half", 0),
    6: ("quarter", 1),
    4: ("quarter", 0),
    3: ("eighth", 1),
    2: ("eighth", 0),
    1: ("16th", 0),
}
_BEAMS = {"eighth": 1, "16th": 2}
_LETTERS = "FCGDAEB"
_ACCIDENTALS = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}


@dataclasses.dataclass
class _Symbol:
    """A written note or rest (pitch None): `start` and `steps` within its bar, and its ties."""

    start: int
    steps: int
    pitch: int | None
    tied_from: bool = False
    tied_to: bool = False


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


def _beat(beats: int, unit: int) -> int:
    """Steps that share a beam: a dotted quarter in 3/8, 6/8, 9/8 and 12/8, else a quarter."""
    return 6 if unit == 8 and beats % 3 == 0 else 4


def _bars(melody: Melody) -> Iterator[list[_Symbol]]:
    """The symbols of every bar; each bar is full, except an upbeat."""
    size = melody.steps_per_bar
    beat = _beat(*meter_of(melody))
    segments = list(_segments(melody, melody.fill, max(-(-len(melody) // size), 1) * size))
    position = 0
    for start in range(0, segments[-1][1], size):
        symbols: list[_Symbol] = []
        while position < len(segments) and segments[position][0] < start + size:
            onset, end, pitch = segments[position]
            symbols += _symbols(onset, end, pitch, start, size, beat)
            if end > start + size:
                break
            position += 1
        yield symbols


def _segments(melody: Melody, first: int, last: int) -> Iterator[tuple[int, int, int | None]]:
    """Notes and rests (onset, end, pitch or None) that cover first..last without gaps."""
    now = first
    for onset, duration, pitch in melody.notes:
        if onset > now:
            yield now, onset, None
        yield onset, onset + duration, pitch
        now = onset + duration
    if now < last:
        yield now, last, None


def _symbols(onset: int, end: int, pitch: int | None, start: int, size: int, beat: int) -> Iterator[_Symbol]:
    """The part of a segment that lies in the bar at `start`, as symbols tied to each other."""
    now, stop = max(onset, start), min(end, start + size)
    if pitch is None and stop - now == size:
        yield _Symbol(0, size, None)
        return
    while now < stop:
        steps = _longest_value(now - start, stop - now, beat, pitch is None)
        tied_from = pitch is not None and now > onset
        tied_to = pitch is not None and now + steps < end
        yield _Symbol(now - start, steps, pitch, tied_from, tied_to)
        now += steps


def _longest_value(start: int, left: int, beat: int, rest: bool) -> int:
    """The longest note value, at most `left`, that does not obscure the beats of the bar at `start`."""
    for steps in _VALUES:
        on_beat = start % beat == 0 and (steps <= beat or steps % beat in (0, beat // 2))
        within_beat = start % beat + steps <= beat
        syncopation = not rest and beat == 4 and start % 4 == 2 and steps == 4
        if steps <= left and (on_beat or within_beat or syncopation):
            return steps
    return 1


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


def spelling(pitch: int, fifths: int = 0) -> tuple[str, int, int]:
    """Letter, alteration and octave of a MIDI pitch in a key of `fifths` sharps (flats below 0).

    The name of a pitch is the one from 3 fifths below to 8 above the key on the line of fifths: in C from
    E flat to G sharp.
    """
    lowest = fifths - 3
    place = lowest + (pitch * 7 - lowest) % 12
    letter, alter = _LETTERS[(place + 1) % 7], (place + 1) // 7
    return letter, alter, (pitch - alter) // 12 - 1


def _signature(letter: str, fifths: int) -> int:
    """The alteration of a letter by the key signature."""
    return (fifths - _LETTERS.index(letter) + 6) // 7


def _beams(symbols: list[_Symbol], beat: int) -> list[list[str]]:
    """MusicXML's beams of every symbol, outer first; adjacent notes within a beat share them."""
    groups: list[list[int]] = []
    for index, symbol in enumerate(symbols):
        flags = _flags(symbol)
        together = groups and groups[-1][-1] == index - 1
        if flags and together and symbols[index - 1].start // beat == symbol.start // beat:
            groups[-1].append(index)
        elif flags:
            groups.append([index])
    beams: list[list[str]] = [[] for _ in symbols]
    for group in groups:
        if len(group) > 1:
            for level in (1, 2):
                _add_beam(beams, group, [_flags(symbols[i]) >= level for i in group])
    return beams


def _add_beam(beams: list[list[str]], group: list[int], beamed: list[bool]) -> None:
    """One level of beams over a group: begin, continue, end, or a hook where it is alone."""
    for place, index in enumerate(group):
        if not beamed[place]:
            continue
        before = place > 0 and beamed[place - 1]
        after = place + 1 < len(group) and beamed[place + 1]
        alone = "backward hook" if place else "forward hook"
        names = {(True, True): "continue", (True, False): "end", (False, True): "begin"}
        beams[index].append(names.get((before, after), alone))


def _flags(symbol: _Symbol) -> int:
    """Flags of a note: 1 for an eighth, 2 for a 16th, 0 for longer ones and rests."""
    if symbol.pitch is None or symbol.steps not in _VALUES:
        return 0
    return _BEAMS.get(_VALUES[symbol.steps][0], 0)
