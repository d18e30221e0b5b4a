"""Reads the melody of a chorale, its soprano, from compressed MusicXML (.mxl).

It reads pitches, lengths, ties, measures, key and meter. Repeats are played once, with their last ending; of
a chord the highest note is kept, grace notes and other voices are left out (`Tune.left_out` counts them).
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from mammadai_jax.music.grid import CHORD
from mammadai_jax.music.notes import Note
from mammadai_jax.music.transcription import WHOLE, Tune

_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ABOVE_MAJOR = {"major": 0, "minor": 9}


class InvalidChorale(ValueError):
    """A file that is not MusicXML, or has no soprano part; the message says which."""


def read(path: str | Path) -> Tune:
    """The soprano of an .mxl file; `InvalidChorale` if there is none."""
    path = Path(path)
    root = _root(path)
    soprano = _soprano(root)
    if soprano is None:
        raise InvalidChorale("it has no part named Soprano among four or more")
    reader = _Reader()
    for measure in soprano.iterfind("measure"):
        try:
            reader.measure(measure)
        except (ValueError, KeyError) as error:
            raise InvalidChorale(f"unreadable: measure {measure.get('number')}: {error}") from error
    if not reader.bar:
        raise InvalidChorale("no time signature")
    return Tune(
        reader.notes,
        [start for start, length in reader.measures if length == reader.bar],
        reader.now,
        reader.bar,
        reader.meter,
        title=path.stem.upper().replace("BWV", "BWV "),
        origin="J. S. Bach",
        rhythm="chorale",
        tonic=reader.tonic,
        mode=reader.mode,
        left_out=dict(+reader.left_out),
    )


def _root(path: Path) -> Element:
    """The score inside the archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            scores = [name for name in archive.namelist() if name.endswith((".xml", ".musicxml"))]
            scores = [name for name in scores if not name.startswith("META-INF")]
            return ElementTree.fromstring(archive.read(scores[0]))
    except (zipfile.BadZipFile, ElementTree.ParseError, IndexError) as error:
        raise InvalidChorale(f"no compressed MusicXML: {error}") from error


def _soprano(root: Element) -> Element | None:
    """The first part called Soprano of a score of four or more parts."""
    names = {
        part.get("id"): part.findtext("part-name") or "" for part in root.iterfind("part-list/score-part")
    }
    parts = [p for p in root.iterfind("part") if names.get(p.get("id"), "").startswith("Soprano")]
    return parts[0] if parts and len(names) >= 4 else None


@dataclasses.dataclass
class _Reader:
    """Reads measures one after another; times in ticks."""

    notes: list[Note] = dataclasses.field(default_factory=list)
    measures: list[tuple[int, int]] = dataclasses.field(default_factory=list)  # onset and length
    now: int = 0
    bar: int = 0
    meter: str = ""
    tonic: int = -1
    mode: str = ""
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)
    _division: int = WHOLE // 4  # ticks of MusicXML's unit of duration
    _tied: bool = False
    _first_ending: tuple[int, int, int] | None = (
        None  # numbers of notes and measures, and the time, before it
    )
    _voice: str | None = None

    def measure(self, element: Element) -> None:
        """Reads one measure."""
        self._endings(element)
        start = self.now
        for child in element:
            if child.tag == "attributes":
                self._attributes(child)
            elif child.tag == "note":
                self._note(child)
        self.measures.append((start, self.now - start))

    def _endings(self, element: Element) -> None:
        """Removes the first ending when the second begins."""
        for ending in element.iterfind("barline/ending[@type='start']"):
            if self._first_ending is not None and not ending.get("number", "").startswith("1"):
                notes, measures, self.now = self._first_ending
                self.left_out["in an ending before the last"] += len(self.notes) - notes
                del self.notes[notes:], self.measures[measures:]
            self._first_ending = (len(self.notes), len(self.measures), self.now)

    def _attributes(self, element: Element) -> None:
        divisions = element.findtext("divisions")
        if divisions:
            self._division = WHOLE // 4 // int(divisions) if WHOLE // 4 % int(divisions) == 0 else 0
            if not self._division:
                raise InvalidChorale(f"{divisions} divisions of a quarter note are too fine")
        fifths = element.findtext("key/fifths")
        if fifths is not None and self.tonic < 0:
            self.mode = element.findtext("key/mode") or ""
            if self.mode in _ABOVE_MAJOR:
                self.tonic = (7 * int(fifths) + _ABOVE_MAJOR[self.mode]) % 12
        beats, unit = element.findtext("time/beats"), element.findtext("time/beat-type")
        if beats and unit and not self.bar:
            self.meter, self.bar = f"{beats}/{unit}", WHOLE * int(beats) // int(unit)

    def _note(self, element: Element) -> None:
        """One note or rest of the first voice; of a chord the highest note."""
        voice, pitch = element.findtext("voice"), self._pitch(element)
        self._voice = self._voice or voice
        duration = int(element.findtext("duration") or 0) * self._division
        if voice != self._voice:
            self.left_out["of other voices"] += pitch is not None
            return
        if pitch is not None and (not duration or element.find("grace") is not None):
            self.left_out["grace notes"] += 1
            return
        if pitch is not None and self.notes and element.find("chord") is not None:
            self.left_out[CHORD] += 1
            self.notes[-1] = self.notes[-1]._replace(pitch=max(pitch, self.notes[-1].pitch))
            return
        if pitch is not None:
            if self._tied and self.notes[-1].pitch == pitch:
                self.notes[-1] = self.notes[-1]._replace(duration=self.now + duration - self.notes[-1].onset)
            else:
                self.notes.append(Note(self.now, duration, pitch))
        self._tied = element.find("tie[@type='start']") is not None
        self.now += duration

    @staticmethod
    def _pitch(element: Element) -> int | None:
        step, octave = element.findtext("pitch/step"), element.findtext("pitch/octave")
        if step is None or octave is None:
            return None
        return 12 * (int(octave) + 1) + _SEMITONES[step] + int(element.findtext("pitch/alter") or 0)
