"""Reads melodies in ABC notation: pitches, lengths and bars, without words, ornaments or chords.

It follows ABC 2.1 (https://abcnotation.com/wiki/abc:standard:v2.1), with these choices: an accidental holds
to the end of its bar in every octave; repeats are played once, with their last ending; of a chord the highest
note is kept, grace notes and overlays are left out (`Tune.left_out` counts them), decorations are ignored. Of
several meters, keys or tempi before the first note the last holds. A tune in several voices is an error.
"""

from __future__ import annotations

import dataclasses
import functools
import quopri
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from mammadai_jax.music.abc_fields import (
    ANNOTATION,
    FIELD,
    SEMITONES,
    alteration_of,
    header,
    is_compound,
    meter_of,
    signature_of,
    split,
    tempo_of,
    tonic_and_mode,
    transposition_of,
    unit_length,
)
from mammadai_jax.music.files import decoded
from mammadai_jax.music.grid import CHORD
from mammadai_jax.music.keys import guess_mode
from mammadai_jax.music.notes import Note
from mammadai_jax.music.transcription import Tune

_PITCH = r"([\^_=]*)([A-Ga-g])([,']*)"
_LENGTH = r"(\d*(?:/\d*)*)"
_NOTE = re.compile(_PITCH + _LENGTH)
_DECORATION = re.compile(r"![^!\s]*!|\+[^+\s]*\+")
_TOKEN = re.compile(
    rf"""(?P<note>{_PITCH}{_LENGTH})
    |(?P<bar>(?::*\|[|\]:]*|::+|\[\|[|\]:]*)(?:\s*\[?(?P<ending>\d[\d,-]*))?)
    |(?P<rest>[zx]{_LENGTH})
    |(?P<bars_rest>[ZX](?P<count>\d*))
    |(?P<broken><+|>+)
    |(?P<tie>-)
    |(?P<tuplet>\((?P<p>\d)(?::(?P<q>\d*))?(?::(?P<r>\d*))?)
    |(?P<field>\[(?P<name>[A-Za-z]):(?P<value>[^\]]*)\])
    |(?P<alone>\[(?P<label>\d[\d,-]*))
    |(?P<chord>\[(?P<inside>[^\]|:\d][^\]|]*)\]{_LENGTH})
    |(?P<ignored>\{{[^}}]*\}}|![^!\s]*!|\+[^+\s]*\+)
    |(?P<overlay>&)
    |(?P<unclosed>["{{\[])
    """,
    re.VERBOSE,
)


class InvalidAbc(ValueError):
    """A tune that cannot be read; the message says why."""


def read(path: str | Path) -> Iterator[Tune]:
    """The tunes of an ABC file, in its order; `InvalidAbc` at one that cannot be read."""
    for text in split(decode(Path(path).read_bytes())):
        yield parse(text)


def decode(data: bytes) -> str:
    """Text of a file in any of the usual encodings, also quoted-printable, with any kind of line ends."""
    if b"=3D" in data:
        data = quopri.decodestring(data)
    return decoded(data).replace("\r\n", "\n").replace("\r", "\n")


def parse(text: str) -> Tune:
    """One tune, from its `X:` line on. `InvalidAbc` if it has no key, several voices, or is unreadable."""
    fields, music = header(text)
    if "K" not in fields:
        raise InvalidAbc("no K: field, so no music")
    reader = _Reader(fields)
    for line in music:
        reader.line(line)
    notes, bar_lines, length = _join(_once(reader.bars, reader.left_out), reader.left_out)
    tonic, mode = tonic_and_mode(reader.key)
    return Tune(
        notes,
        bar_lines,
        length,
        reader.bar,
        reader.meter,
        number=fields.get("X", ""),
        title=fields.get("T", ""),
        origin=fields.get("O", ""),
        rhythm=fields.get("R", ""),
        tonic=tonic,
        mode=mode or guess_mode(tonic, notes),
        tempo=reader.tempo,
        left_out=dict(+reader.left_out),
    )


def _notes_in(text: str) -> list[tuple[str, str, str, str]]:
    """Accidental, letter, octave and length of the notes of a chord or of grace notes."""
    return _NOTE.findall(_DECORATION.sub("", text))


@functools.lru_cache(maxsize=1024)
def _length(text: str) -> tuple[int, int]:
    """Numerator and denominator of a length such as "3", "/", "3/2" or "//"."""
    numerator, *denominators = text.split("/")
    below = 1
    for denominator in denominators:
        below *= int(denominator or 2) or 1
    return int(numerator or 1), below


@dataclasses.dataclass
class _Item:
    """A note, or a rest (`pitch` -1), of `duration` ticks."""

    pitch: int
    duration: int
    tied: bool = False


@dataclasses.dataclass
class _Bar:
    """The notes between two bar lines; `line` is the right one, `ending` the number over a new ending."""

    items: list[_Item]
    line: str = ""
    ending: str = ""


class _Reader:
    """Reads lines of music into bars; each kind of token has its method `on_...`."""

    def __init__(self, fields: Mapping[str, str]):
        self.bars = [_Bar([])]
        self.left_out: Counter[str] = Counter()
        self.key = fields["K"]
        self.meter, self.bar = meter_of(fields.get("M", ""))
        self._unit = unit_length(fields.get("L", ""), self.bar)
        self.tempo = tempo_of(fields.get("Q", ""), self._unit)
        self._beats = self.meter, self.bar  # in force; `meter` and `bar` are those of the beginning
        self._signature, self._shift = signature_of(self.key), transposition_of(self.key) or 0
        self._accidentals: dict[str, int] = {}
        self._last = _Item(-1, 0)
        self._spelling = self._tied = ("", "", 0)  # letter, octave and pitch of the last and of a tied note
        self._factor = (1, 1)  # multiplies the next length, after broken rhythm
        self._tuplet = (0, 1, 1)  # how many notes remain in it, and the factor of their lengths
        self._overlay = False
        self._voices: set[str] = set()

    def line(self, text: str) -> None:
        """Reads one line: a field or music."""
        field = FIELD.match(text)
        if field:
            self._change(field[1], field[2].strip())
            return
        for token in _TOKEN.finditer(ANNOTATION.sub("", text)):
            kind = token.lastgroup
            if not self._overlay or kind in ("bar", "ignored"):
                getattr(self, f"on_{kind}")(token)
            elif kind in ("note", "chord"):
                self.left_out["in an overlay"] += len(_notes_in(token[0]))

    def _change(self, name: str, value: str) -> None:
        begun = bool(self.bars[0].items)
        if name == "K":
            self._signature = signature_of(value)
            self.key = self.key if begun else value
        elif name == "L":
            self._unit = unit_length(value, self.bar)
        elif name == "M":
            self._beats = meter_of(value)
            self.meter, self.bar = (self.meter, self.bar) if begun else self._beats
        elif name == "Q" and not begun:
            self.tempo = tempo_of(value, self._unit)
        elif name == "V":
            self._voices.add(value.partition(" ")[0])
            if len(self._voices) > 1:
                raise InvalidAbc("more than one voice")
        if name in ("K", "V"):
            shift = transposition_of(value)
            self._shift = self._shift if shift is None else shift

    def on_field(self, token: re.Match) -> None:
        self._change(token["name"], token["value"].strip())

    def on_note(self, token: re.Match) -> None:
        sign, letter, octave, length = token.group(2, 3, 4, 5)
        self._add(self._pitch(sign, letter, octave), *_length(length))

    def on_chord(self, token: re.Match) -> None:
        notes = _notes_in(token["inside"])
        if notes:
            pitches = [self._pitch(sign, letter, octave) for sign, letter, octave, _ in notes]
            inner, outer = _length(notes[0][3]), _length(token[0].rpartition("]")[2])
            self._add(max(pitches), inner[0] * outer[0], inner[1] * outer[1])
            self.left_out[CHORD] += len(notes) - 1

    def on_rest(self, token: re.Match) -> None:
        self._add(-1, *_length(token[0][1:]))

    def on_bars_rest(self, token: re.Match) -> None:
        self._append(-1, self._beats[1] * int(token["count"] or 1))

    def on_broken(self, token: re.Match) -> None:
        dots = len(token["broken"])
        long, short = (2 ** (dots + 1) - 1, 2**dots), (1, 2**dots)
        first, self._factor = (long, short) if token["broken"][0] == ">" else (short, long)
        self._last.duration = self._last.duration * first[0] // first[1]

    def on_tie(self, token: re.Match) -> None:
        self._last.tied = self._last.pitch >= 0
        self._tied = self._spelling

    def on_tuplet(self, token: re.Match) -> None:
        notes = int(token["p"])
        usual = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(notes, 3 if is_compound(self._beats[0]) else 2)
        self._tuplet = (int(token["r"] or notes), int(token["q"] or usual), max(notes, 1))

    def on_bar(self, token: re.Match) -> None:
        self._accidentals = {}
        self._overlay = False
        sign = token[0].removesuffix(token["ending"] or "").rstrip(" [")
        self._close(sign)
        self._end(token["ending"])

    def on_alone(self, token: re.Match) -> None:
        self._close("")
        self._end(token["label"])

    def on_overlay(self, token: re.Match) -> None:
        self._overlay = True

    def on_unclosed(self, token: re.Match) -> None:
        raise InvalidAbc(f"a {token[0]} is not closed on its line: {token.string.strip()[:60]!r}")

    def on_ignored(self, token: re.Match) -> None:
        """Grace notes and named decorations."""
        if token[0].startswith("{"):
            self.left_out["grace notes"] += len(_notes_in(token[0]))

    def _pitch(self, sign: str, letter: str, octave: str) -> int:
        """MIDI pitch. An accidental holds for its letter until the bar ends, and over a bar line by a tie."""
        tied, self._tied = self._tied, ("", "", 0)
        name = letter.upper()
        if sign:
            self._accidentals[name] = alteration_of(sign)
        octaves = (5 if letter == name else 6) + octave.count("'") - octave.count(",")
        alteration = self._accidentals.get(name, self._signature.get(name, 0))
        pitch = SEMITONES[name] + alteration + 12 * octaves + self._shift
        if not 0 <= pitch <= 127:
            raise InvalidAbc(f"a note beyond MIDI's pitches: {letter}{octave}")
        if not sign and tied[:2] == (letter, octave):
            pitch = tied[2]
        self._spelling = (letter, octave, pitch)
        return pitch

    def _add(self, pitch: int, numerator: int, denominator: int) -> None:
        times, over = self._factor
        self._factor = (1, 1)
        remaining, q, p = self._tuplet
        if remaining:
            times, over, self._tuplet = times * q, over * p, (remaining - 1, q, p)
        self._append(pitch, self._unit * numerator * times // (denominator * over))

    def _append(self, pitch: int, duration: int) -> None:
        self._last = _Item(pitch, duration)
        self.bars[-1].items.append(self._last)

    def _close(self, line: str) -> None:
        """Ends the bar; of adjacent bar lines, one that ends a section takes precedence."""
        if self.bars[-1].items:
            self.bars[-1].line = line
            self.bars.append(_Bar([]))
        elif len(self.bars) > 1 and len(line) > 1:
            self.bars[-2].line = line

    def _end(self, label: str | None) -> None:
        if label:
            self.bars[-1].ending = label


def _once(bars: list[_Bar], left_out: Counter[str]) -> list[_Bar]:
    """The bars with every repeat played once: an ending is removed when the next one follows it."""
    kept: list[_Bar] = []
    start: int | None = None  # of the ending that is open, or that has just closed
    closed = False
    for bar in bars:
        if bar.ending:
            if start is not None and not bar.ending.startswith("1"):
                left_out["in an ending before the last"] += len(_join(kept[start:], Counter())[0])
                del kept[start:]
            start = len(kept)
        elif closed:
            start = None
        kept.append(bar)
        closed = len(bar.line) > 1
    return kept


def _join(bars: list[_Bar], left_out: Counter[str]) -> tuple[list[Note], list[int], int]:
    """Notes with ties joined, ticks of the single bar lines, and the total length in ticks."""
    notes: list[Note] = []
    lines: list[int] = []
    now, tied = 0, False
    for bar in bars:
        for item in bar.items:
            if item.pitch >= 0 and not item.duration:
                left_out["without length"] += 1
                continue
            if item.pitch >= 0:
                if tied and notes[-1].pitch == item.pitch:
                    notes[-1] = notes[-1]._replace(duration=now + item.duration - notes[-1].onset)
                else:
                    notes.append(Note(now, item.duration, item.pitch))
            tied = item.tied
            now += item.duration
        if bar.line == "|":
            lines.append(now)
    return notes, lines, now
