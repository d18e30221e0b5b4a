"""Reads scores of MusicXML: the voices of their parts in exact time.

Repeats are played once, with their last ending. Grace notes, cue notes and drums are left out and counted.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from mammadai_jax.music import files
from mammadai_jax.music.mxl import InvalidMusicXML
from mammadai_jax.music.notes import Note
from mammadai_jax.music.signatures import TEMPI
from mammadai_jax.music.transcription import WHOLE, Tune

MAX_NOTES = 100_000
MAX_PARTS = 64
MAX_MEASURES = 10_000
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ABOVE_MAJOR = {
    **{"major": 0, "minor": 9, "dorian": 2, "phrygian": 4, "lydian": 5, "mixolydian": 7, "locrian": 11},
    **{"ionian": 0, "aeolian": 9},
}


class Voice(NamedTuple):
    """A voice: the number of its part, its staff and its name there, and its notes in ticks.

    Notes of a chord are side by side; ties are joined.
    """

    part: int
    staff: int
    name: str
    notes: list[Note]


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
    """What parts of a file hold; times in ticks (`WHOLE` to a whole note).

    Attributes:
        voices: in the order of parts, staves and names.
        measures: onset and length of each.
        upbeat: length of a first measure that is marked as incomplete, else 0.
        bar: length of a full bar by the first time signature, 0 without one; `meter` as written.
        changes: how many measures state another meter.
        tonic: pitch class by the first key signature, -1 without one; `mode` as written.
        tempo: quarter notes a minute, the first that is stated, 120 without one.
        left_out: how many notes are not in the voices, by reason.

    """

    voices: list[Voice]
    measures: list[tuple[int, int]]
    upbeat: int
    bar: int
    meter: str
    changes: int
    tonic: int
    mode: str
    tempo: float
    left_out: dict[str, int]

    @property
    def length(self) -> int:
        """Ticks of all measures."""
        return sum(self.measures[-1]) if self.measures else 0

    @property
    def bar_lines(self) -> list[int]:
        """Ticks at which full bars begin, the end of the upbeat among them."""
        full = [start for start, length in self.measures if length == self.bar]
        return sorted({*full, self.upbeat} if self.upbeat else full)

    def tune(self, notes: Sequence[Note], **fields: Any) -> Tune:
        """Notes with the bars, the key and the tempo of the score, and further fields by name."""
        stated = {"meter": self.meter, "tonic": self.tonic, "mode": self.mode, "tempo": self.tempo}
        return Tune(notes, self.bar_lines, self.length, self.bar, **stated, **fields)


def parts_of(root: Element) -> list[tuple[str, Element]]:
    """The parts of a score that have measures, each with its name; `InvalidMusicXML` for too many."""
    names = {
        part.get("id"): part.findtext("part-name") or "" for part in root.iterfind("part-list/score-part")
    }
    parts = [(names.get(part.get("id"), ""), part) for part in root.iterfind("part")]
    parts = [(name, part) for name, part in parts if part.find("measure") is not None]
    if len(parts) > MAX_PARTS:
        raise InvalidMusicXML(f"{len(parts)} parts, more than {MAX_PARTS}")
    if any(len(part) > MAX_MEASURES for _, part in parts):
        raise InvalidMusicXML(f"more than {MAX_MEASURES} measures")
    return parts


def score_of(parts: Sequence[Element], repeats: bool = False) -> Score:
    """The voices of one part or more of a score; with `repeats`, repeated sections are played twice.

    Raises `InvalidMusicXML`, which names the measure, for a fault.
    """
    readers = [_Part(number) for number in range(len(parts))]
    rows = list(itertools.zip_longest(*(part.iterfind("measure") for part in parts)))
    skipped = set() if repeats else _before_the_last_ending(rows)
    now, measures, left_out = 0, [], Counter()
    for index in _in_playing_order(rows) if repeats else range(len(rows)):
        if index in skipped:
            left_out["in an ending before the last"] += _begun(rows[index])
            continue
        end = max(_read(reader, measure, now) for reader, measure in zip(readers, rows[index], strict=True))
        measures.append((now, end - now))
        now = end
    upbeat = bool(measures) and any(m is not None and m.get("implicit") == "yes" for m in rows[0])
    for reader in readers:
        left_out += reader.left_out
    first = next((reader for reader in readers if reader.bar), readers[0])
    keyed = next((reader for reader in readers if reader.tonic >= 0), first)
    return Score(
        voices=[voice for reader in readers for voice in reader.voices()],
        measures=measures,
        upbeat=measures[0][1] if upbeat and measures[0][1] < first.bar else 0,
        bar=first.bar,
        meter=first.meter,
        changes=first.changes,
        tonic=keyed.tonic,
        mode=keyed.mode,
        tempo=next((reader.tempo for reader in readers if reader.tempo), 120.0),
        left_out=dict(+left_out),
    )


def _read(reader: _Part, measure: Element | None, now: int) -> int:
    """Read a part's measure that begins at `now` -> when it ends."""
    if measure is None:
        return now
    try:
        return reader.measure(measure, now)
    except (ValueError, KeyError, OverflowError) as error:
        number = files.visible(measure.get("number", "?"))[:20]
        raise InvalidMusicXML(f"unreadable: measure {number}: {error}") from error


def _begun(row: Sequence[Element | None]) -> int:
    """How many notes begin in a measure."""
    notes = [note for measure in row if measure is not None for note in measure.iterfind("note")]
    return sum(n.find("pitch") is not None and n.find("tie[@type='stop']") is None for n in notes)


def _barlines(row: Sequence[Element | None], path: str) -> Element | None:
    """The first element at a path within the bar lines of a measure."""
    found = (measure.find(f"barline/{path}") for measure in row if measure is not None)
    return next((element for element in found if element is not None), None)


def _before_the_last_ending(rows: Sequence[Sequence[Element | None]]) -> set[int]:
    """The indices of measures in a first ending where another follows."""
    skipped: set[int] = set()
    begun = None
    for index, row in enumerate(rows):
        ending = _barlines(row, "ending[@type='start']")
        if ending is not None:
            if begun is not None and not ending.get("number", "").startswith("1"):
                skipped.update(range(begun, index))
            begun = index
    return skipped


def _in_playing_order(rows: Sequence[Sequence[Element | None]]) -> list[int]:
    """The indices of measures as they are played, repeated sections twice, each time with its ending."""
    order: list[int] = []
    begin, first_ending = 0, None
    for index, row in enumerate(rows):
        if _barlines(row, "repeat[@direction='forward']") is not None:
            begin, first_ending = index, None
        ending = _barlines(row, "ending[@type='start']")
        if first_ending is None and ending is not None and ending.get("number", "").startswith("1"):
            first_ending = index
        order.append(index)
        if _barlines(row, "repeat[@direction='backward']") is not None:
            order += range(begin, index + 1 if first_ending is None else first_ending)
            begin, first_ending = index + 1, None
    return order


class _Voice:
    """The notes of a voice while it is read, and those that are tied to the next."""

    def __init__(self, staff: int):
        self.staff = staff
        self.notes: list[Note] = []
        self._tied: dict[int, int] = {}  # the last note of a pitch, if it is tied

    def add(self, note: Note, ties: Collection[str | None]) -> None:
        """Add a note with its ties, "start" and "stop", or lengthen the one that is tied to it."""
        before = self._tied.pop(note.pitch, None)
        if "stop" in ties and before is not None and sum(self.notes[before][:2]) == note.onset:
            self.notes[before] = self.notes[before]._replace(
                duration=self.notes[before].duration + note.duration
            )
        else:
            before = len(self.notes)
            self.notes.append(note)
        if "start" in ties:
            self._tied[note.pitch] = before


class _Part:
    """Reads the measures of a part one after another."""

    def __init__(self, number: int):
        self.number = number
        self.bar, self.meter, self.changes = 0, "", 0
        self.tonic, self.mode, self.tempo = -1, "", 0.0
        self.left_out: Counter[str] = Counter()
        self._voices: dict[str, _Voice] = {}
        self._divisions = 1  # of a quarter note: the unit of durations
        self._transpose = 0
        self._now = self._chord = 0  # ticks of the next note, and of the last one

    def voices(self) -> Iterator[Voice]:
        """The voices by staff and name, numbers first."""
        key = lambda item: (item[1].staff, not item[0].isdecimal(), item[0].zfill(9))
        for name, voice in sorted(self._voices.items(), key=key):
            yield Voice(self.number, voice.staff, name, sorted(voice.notes))

    def measure(self, element: Element, start: int) -> int:
        """Read a measure that begins at `start` -> when it ends."""
        self._now = end = start
        for child in element:
            if child.tag == "note":
                self._note(child)
            elif child.tag == "attributes":
                self._attributes(child)
            elif child.tag in ("backup", "forward"):
                sign = -1 if child.tag == "backup" else 1
                self._now = max(start, self._now + sign * self._ticks(child))
            elif child.tag in ("sound", "direction"):
                self._sound(child if child.tag == "sound" else child.find("sound"))
            end = max(end, self._now)
        return end

    def _sound(self, element: Element | None) -> None:
        tempo = element.get("tempo") if element is not None else None
        if tempo and not self.tempo and TEMPI[0] <= float(tempo) <= TEMPI[1]:
            self.tempo = float(tempo)

    def _attributes(self, element: Element) -> None:
        divisions = element.findtext("divisions")
        if divisions:
            self._divisions = max(int(divisions), 1)
        octaves = int(element.findtext("transpose/octave-change") or 0)
        if element.find("transpose") is not None:
            self._transpose = int(element.findtext("transpose/chromatic") or 0) + 12 * octaves
        fifths = element.findtext("key/fifths")
        if fifths is not None and self.tonic < 0:
            self.mode = element.findtext("key/mode") or ""
            if self.mode in _ABOVE_MAJOR:
                self.tonic = (7 * int(fifths) + _ABOVE_MAJOR[self.mode] + self._transpose) % 12
        beats, unit = element.findtext("time/beats"), element.findtext("time/beat-type")
        if beats and unit:
            self._time(beats, int(unit))

    def _time(self, beats: str, unit: int) -> None:
        """A time signature; its beats may be a sum."""
        count = sum(map(int, beats.split("+")))
        if not 1 <= count <= 99 or unit not in (1, 2, 4, 8, 16, 32):
            raise ValueError(f"a meter of {beats}/{unit}")
        if not self.bar:
            self.meter, self.bar = f"{count}/{unit}", WHOLE * count // unit
        self.changes += f"{count}/{unit}" != self.meter

    def _ticks(self, element: Element) -> int:
        """The duration of an element."""
        duration = int(element.findtext("duration") or 0)
        if duration < 0:
            raise ValueError(f"a duration of {duration}")
        ticks, rest = divmod(duration * WHOLE // 4, self._divisions)
        if rest:
            raise ValueError(f"a duration of {duration}/{self._divisions} of a quarter note is too fine")
        return ticks

    def _note(self, element: Element) -> None:
        """One note or rest."""
        duration, pitch = self._ticks(element), self._pitch(element)
        reason = _reason(element, duration)
        if element.find("chord") is None and element.find("grace") is None:
            self._chord = self._now
            self._now += duration
        if reason:
            self.left_out[reason] += element.find("rest") is None
            return
        staff = int(element.findtext("staff") or 1)
        voice = self._voices.setdefault(element.findtext("voice") or "1", _Voice(staff))
        if pitch is not None:
            ties = [tie.get("type") for tie in element.iterfind("tie")]
            voice.add(Note(self._chord, duration, pitch), ties)
            if len(voice.notes) > MAX_NOTES:
                raise ValueError(f"more than {MAX_NOTES} notes")

    def _pitch(self, element: Element) -> int | None:
        step, octave = element.findtext("pitch/step"), element.findtext("pitch/octave")
        if step is None or octave is None:
            return None
        alter = float(element.findtext("pitch/alter") or 0)
        pitch = 12 * (int(octave) + 1) + _SEMITONES[step] + self._transpose + alter
        if pitch not in range(128):
            raise ValueError(f"a pitch of {pitch:g} is no semitone of MIDI's 0..127")
        return int(pitch)


def _reason(element: Element, duration: int) -> str:
    """Why a note is left out, "" if it is not."""
    if element.find("unpitched") is not None:
        return "drums"
    if element.find("cue") is not None:
        return "cue notes"
    is_short = element.find("pitch") is not None and not duration
    return "grace notes" if is_short or element.find("grace") is not None else ""


def highest(notes: Sequence[Note]) -> list[Note]:
    """Of notes that begin together the highest."""
    groups = itertools.groupby(notes, key=lambda note: note.onset)
    return [max(group, key=lambda note: note.pitch) for _, group in groups]
