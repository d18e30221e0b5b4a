"""Melodies, and pieces of several voices, as MusicXML on a grid of 16th notes: written here, and read.

Titles are untrusted: every text is escaped by an XML writer. `mxl` and `partwise` read what others wrote.
"""

from __future__ import annotations

import dataclasses
import os
import re
import statistics
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mammadai_jax.music import files, mxl, partwise
from mammadai_jax.music.chords import Symbol as ChordSymbol
from mammadai_jax.music.chords import insert, places_of
from mammadai_jax.music.engraving import VALUES, Symbol, bars_of, beams_of, beat_of, signature
from mammadai_jax.music.grid import CHORD, layers
from mammadai_jax.music.heading import key_fifths, meter_of, printable
from mammadai_jax.music.mxl import InvalidMusicXML
from mammadai_jax.music.notes import Melody, Note
from mammadai_jax.music.part_list import add_part_list
from mammadai_jax.music.partwise import Score, highest
from mammadai_jax.music.piece import MAX_VOICES, SATB, Piece, choir_place, distinct
from mammadai_jax.music.smf import TickNote
from mammadai_jax.music.transcription import Unsuitable, to_melody, to_piece

_ACCIDENTALS = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}

_SEPARATOR = re.compile(r"\s*[/,&+\n]\s*")


class _Staff(NamedTuple):
    """A staff: its name, and one voice, or two with stems up and down.

    `places` has for each voice where its pitches lie on the line of fifths by step; none by the key.
    """

    name: str
    short: str
    voices: Sequence[Melody]
    places: Sequence[Sequence[int]]

    @property
    def is_bass(self) -> bool:
        """Whether it has a bass clef: where half of the notes are below G3, and for tenor and bass."""
        pitches = [pitch for voice in self.voices for pitch in voice.pitches.tolist()]
        return statistics.median(pitches or [60]) < 55 or self.name.startswith(SATB[2])


def musicxml(music: Melody | Piece, chords: Sequence[ChordSymbol] = (), program: int | None = None) -> str:
    """The melody or the piece as a MusicXML 4.0 document, with chord symbols above the highest staff.

    A melody is one part. A piece has a part with one staff for every voice; soprano and alto, and tenor and
    bass, share one each, as in hymnals. The upbeat (`pickup`) is a short first bar, and the last bar is
    padded with rests. Notes that cross bars or beats are split and tied. An unknown key has no accidentals in
    its signature. `program` is of General MIDI, None for no instrument. ValueError for a
    piece on a grid that 16ths do not divide.
    """
    if isinstance(music, Piece):
        factor = 4 / music.steps_per_quarter
        chords = [ChordSymbol(int(step * factor), chord) for step, chord in chords]
        music = music.on_grid(4)
    root = ET.Element("score-partwise", version="4.0")
    ET.SubElement(ET.SubElement(root, "work"), "work-title").text = printable(music.title)
    staves = list(_staves(music))
    add_part_list(root, [(staff.name, staff.short) for staff in staves], program)
    for number, staff in enumerate(staves, start=1):
        _add_part(ET.SubElement(root, "part", id=f"P{number}"), music, staff, None if number > 1 else chords)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True).decode()


def _staves(music: Melody | Piece) -> Iterator[_Staff]:
    """The staves from the top."""
    if isinstance(music, Melody):
        yield _Staff("", "", [music], [()])
        return
    voices, places = [music.melody(number) for number in range(len(music.voices))], places_of(music).tolist()
    if music.names == SATB:
        yield _Staff("Soprano\nAlto", "S\nA", voices[:2], places[:2])
        yield _Staff("Tenor\nBass", "T\nB", voices[2:], places[2:])
        return
    for name, voice, own in zip(music.names, voices, places, strict=True):
        short = "".join(word[0] for word in printable(name).split())
        yield _Staff(printable(name), short, [voice], [own])


def _add_part(
    part: ET.Element, music: Melody | Piece, staff: _Staff, chords: Sequence[ChordSymbol] | None
) -> None:
    """Write the bars of a staff; of the first one with the tempo and chord symbols."""
    beat = beat_of(*meter_of(music))
    fifths = key_fifths(music) or 0
    written = (bars_of(voice, music.fill, own) for voice, own in zip(staff.voices, staff.places, strict=True))
    bars = list(zip(*written, strict=True))
    for number, voices in enumerate(bars, start=0 if music.fill else 1):
        measure = ET.SubElement(part, "measure", number=str(number))
        if number == 0:
            measure.set("implicit", "yes")
        if voices is bars[0]:
            _add_attributes(measure, music, staff.is_bass)
        if voices is bars[0] and chords is not None:
            _add_tempo(measure, music.tempo)
        _add_bar(measure, voices, fifths, beat, "D3" if staff.is_bass else "B4")
        first = music.steps_per_bar * (number if music.fill else number - 1)
        insert(measure, music, [first + symbol.start for symbol in voices[0]], chords or ())
        if voices is bars[-1]:
            barline = ET.SubElement(measure, "barline", location="right")
            ET.SubElement(barline, "bar-style").text = "light-heavy"


def _add_attributes(measure: ET.Element, music: Melody | Piece, is_bass: bool) -> None:
    """Divisions, key, meter and clef of the first bar."""
    attributes = ET.SubElement(measure, "attributes")
    ET.SubElement(attributes, "divisions").text = "4"
    key = ET.SubElement(attributes, "key")
    fifths = key_fifths(music)
    ET.SubElement(key, "fifths").text = str(fifths or 0)
    if music.mode and fifths is not None:
        ET.SubElement(key, "mode").text = music.mode
    beats, unit = meter_of(music)
    time = ET.SubElement(attributes, "time")
    ET.SubElement(time, "beats").text = str(beats)
    ET.SubElement(time, "beat-type").text = str(unit)
    clef = ET.SubElement(attributes, "clef")
    ET.SubElement(clef, "sign").text = "F" if is_bass else "G"
    ET.SubElement(clef, "line").text = "4" if is_bass else "2"


def _add_tempo(measure: ET.Element, tempo: float) -> None:
    direction = ET.SubElement(measure, "direction", placement="above")
    metronome = ET.SubElement(ET.SubElement(direction, "direction-type"), "metronome")
    ET.SubElement(metronome, "beat-unit").text = "quarter"
    ET.SubElement(metronome, "per-minute").text = f"{tempo:g}"
    ET.SubElement(direction, "sound", tempo=f"{tempo:g}")


def _add_bar(
    measure: ET.Element, voices: Sequence[list[Symbol]], fifths: int, beat: int, middle: str
) -> None:
    """Write the symbols of a staff's voices in a bar; `middle` is the note on the middle line."""
    shown = _accidentals(voices, fifths)
    rests = [{(s.start, s.steps) for s in symbols if s.pitch is None} for symbols in voices]
    shared = set.intersection(*rests) if len(voices) > 1 else set()
    for number, symbols in enumerate(voices, start=1):
        if number > 1:
            backup = ET.SubElement(measure, "backup")
            ET.SubElement(backup, "duration").text = str(sum(symbol.steps for symbol in symbols))
        beams = beams_of(symbols, beat)
        for place, symbol in enumerate(symbols):
            note = ET.SubElement(measure, "note")
            is_shared = symbol.pitch is None and (symbol.start, symbol.steps) in shared
            if symbol.pitch is not None:
                _add_pitch(note, *symbol.name)
            else:
                _add_rest(
                    note, is_bar=len(symbols) == 1 and not symbol.start, middle=middle if is_shared else ""
                )
            if is_shared and number > 1:  # one rest is enough for both
                note.set("print-object", "no")
            ET.SubElement(note, "duration").text = str(symbol.steps)
            _add_ties(note, "tie", symbol)
            ET.SubElement(note, "voice").text = str(number)
            _add_value(note, symbol.steps)
            if (number, place) in shown:
                ET.SubElement(note, "accidental").text = shown[number, place]
            if len(voices) > 1 and symbol.pitch is not None:
                ET.SubElement(note, "stem").text = "up" if number == 1 else "down"
            for level, beam in enumerate(beams[place], start=1):
                ET.SubElement(note, "beam", number=str(level)).text = beam
            if symbol.tied_from or symbol.tied_to:
                _add_ties(ET.SubElement(note, "notations"), "tied", symbol)


def _accidentals(voices: Sequence[list[Symbol]], fifths: int) -> dict[tuple[int, int], str]:
    """The accidentals that a bar shows, by voice from 1 and place; each holds for its line in the bar."""
    altered: dict[tuple[str, int], int] = {}
    shown = {}
    ordered = sorted(
        (symbol.start, number, place, symbol)
        for number, symbols in enumerate(voices, start=1)
        for place, symbol in enumerate(symbols)
    )
    for _, number, place, symbol in ordered:
        if symbol.pitch is None or symbol.tied_from:
            continue
        letter, alter, octave = symbol.name
        if altered.get((letter, octave), signature(letter, fifths)) != alter:
            shown[number, place] = _ACCIDENTALS[alter]
        altered[letter, octave] = alter
    return shown


def _add_pitch(note: ET.Element, letter: str, alter: int, octave: int) -> None:
    element = ET.SubElement(note, "pitch")
    ET.SubElement(element, "step").text = letter
    if alter:
        ET.SubElement(element, "alter").text = str(alter)
    ET.SubElement(element, "octave").text = str(octave)


def _add_rest(note: ET.Element, is_bar: bool, middle: str) -> None:
    """A rest, maybe of a whole bar; at the height of a note such as "B4", if that is not empty."""
    rest = ET.SubElement(note, "rest")
    if is_bar:
        rest.set("measure", "yes")
    if middle:
        ET.SubElement(rest, "display-step").text = middle[0]
        ET.SubElement(rest, "display-octave").text = middle[1]


def _add_value(note: ET.Element, steps: int) -> None:
    """The note value and its dots, if the steps are one."""
    if steps in VALUES:
        value, dots = VALUES[steps]
        ET.SubElement(note, "type").text = value
        for _ in range(dots):
            ET.SubElement(note, "dot")


def _add_ties(element: ET.Element, tag: str, symbol: Symbol) -> None:
    """Where the ties of a note end and begin."""
    for tied, kind in ((symbol.tied_from, "stop"), (symbol.tied_to, "start")):
        if tied:
            ET.SubElement(element, tag, type=kind)


def read(path: str | os.PathLike) -> Melody:
    """The melody of a MusicXML file; see `parse`.

    OSError if the file cannot be read, is larger than 16 MiB, or is a pipe or a device.
    """
    return parse(files.read(path, mxl.MAX_BYTES), str(path))


def read_piece(path: str | os.PathLike) -> Piece:
    """All voices of a MusicXML file; see `parse_piece`, and for OSError `read`."""
    return parse_piece(files.read(path, mxl.MAX_BYTES), str(path))


def parse(data: bytes, name: str = "MusicXML") -> Melody:
    """The melody in the bytes of a plain or compressed file called `name`; raises only `InvalidMusicXML`.

    It is the first voice with notes of the part that is called Soprano, else of the first part, and of its
    chords the highest note; `Melody.left_out` counts the others. Repeats are played once.
    """
    try:
        root, score, names = _score(data)
        voices = [voice for voice in score.voices if voice.notes]
        if not voices:
            raise InvalidMusicXML("no notes")
        voice = min(voices, key=lambda voice: choir_place(names[voice.part]) > 0)
        notes = highest(voice.notes)
        left_out = Counter(score.left_out)
        left_out[CHORD] += len(voice.notes) - len(notes)
        left_out["of other voices"] += sum(len(other.notes) for other in voices if other is not voice)
        tune = score.tune(notes, title=_title(root, name), left_out=dict(+left_out))
        return _remarked(to_melody(tune, name, ""), score)
    except (InvalidMusicXML, Unsuitable) as error:
        raise InvalidMusicXML(f"{name}: {error}") from None


def parse_piece(data: bytes, name: str = "MusicXML") -> Piece:
    """The piece in the bytes of a file called `name`, up to 8 voices; raises only `InvalidMusicXML`.

    Every voice of every part is a voice; chords are divided into voices if all are at most 8, else their
    highest notes stay. The order is that of the score, or that of the names Soprano, Alto, Tenor and Bass.
    Repeats are played once; notes between 16ths are moved (`transcription.to_piece`). What `musicxml` wrote
    comes back note for note, in whole bars.
    """
    try:
        root, score, names = _score(data)
        voices, left_out = _voices(score, names)
        tune = score.tune([], title=_title(root, name), left_out=left_out)
        piece = to_piece(tune, [notes for _, notes in voices], [each for each, _ in voices], name, "")
        return _remarked(dataclasses.replace(piece, names=distinct(piece.names)), score)
    except (InvalidMusicXML, Unsuitable) as error:
        raise InvalidMusicXML(f"{name}: {error}") from None


def _score(data: bytes) -> tuple[ET.Element, Score, list[str]]:
    """The document, its score, and the names of its parts."""
    root = mxl.parse(data)
    parts = partwise.parts_of(root)
    if not parts:
        raise InvalidMusicXML("no parts with measures")
    return root, partwise.score_of([part for _, part in parts]), [name for name, _ in parts]


def _title(root: ET.Element, name: str) -> str:
    """The title of the work or the movement; without one, the stem of the file's name."""
    work = root.find("work/work-title")
    title = root.findtext("movement-title") if work is None else work.text or ""
    return Path(name).stem if title is None else printable(title)


def _remarked(music: Melody | Piece, score: Score) -> Any:
    """The music with a remark if the meter changes."""
    changes = ("the meter changes",) if score.changes else ()
    return dataclasses.replace(music, remarks=music.remarks + changes)


def _voices(score: Score, names: Sequence[str]) -> tuple[list[tuple[str, list[Note]]], dict[str, int]]:
    """The voices with their names and notes, highest first, and the notes that are left out by reason."""
    if not 1 <= len(score.voices) <= MAX_VOICES:
        raise InvalidMusicXML(f"{len(score.voices)} voices; a piece has 1 to {MAX_VOICES}")
    divided = [_divided(voice.notes) for voice in score.voices]
    if None in divided or sum(len(rows or ()) for rows in divided) > MAX_VOICES:
        divided = [[highest(voice.notes)] for voice in score.voices]
    voices = [
        (voice.part, row) for voice, rows in zip(score.voices, divided, strict=True) for row in rows or ()
    ]
    chords = sum(len(voice.notes) for voice in score.voices) - sum(len(row) for _, row in voices)
    left_out = dict(+(Counter(score.left_out) + Counter({CHORD: chords})))
    named = _named(voices, names)
    if all(choir_place(name) < len(SATB) for name, _ in named):
        named.sort(key=lambda voice: choir_place(voice[0]))
    return named, left_out


def _divided(notes: Sequence[Note]) -> list[list[Note]] | None:
    """The notes of a voice as one voice for every note of its chords; None for more than 8."""
    rows = layers([TickNote(n.onset, n.onset + n.duration, n.pitch) for n in notes], MAX_VOICES)
    return None if rows is None else [[Note(n.start, n.end - n.start, n.pitch) for n in row] for row in rows]


def _named(voices: Sequence[tuple[int, list[Note]]], names: Sequence[str]) -> list[tuple[str, list[Note]]]:
    """Voices with their names in place of their parts' numbers; the name of a part may have one for each."""
    each = {}
    for part, count in Counter(part for part, _ in voices).items():
        split = _SEPARATOR.split(names[part].strip())
        each[part] = iter(split if len(split) == count else [names[part]] * count)
    return [(printable(next(each[part])), notes) for part, notes in voices]
