"""Reads melodies in ABC notation: pitches, lengths and bars, without words, ornaments or chords.

It follows ABC 2.1 (https://abcnotation.com/wiki/abc:standard:v2.1), with these choices: an accidental holds
to the end of its bar in every octave; repeats are played once, with their last ending; of a chord the highest
note is kept; grace notes and decorations are ignored. A tune in several voices is an error.
"""

from __future__ import annotations

import dataclasses
import functools
import quopri
import re
from collections.abc import Iterator
from pathlib import Path

from mammadai_jax.music.abc_fields import (
    ANNOTATION,
    FIELD,
    SEMITONES,
    alteration_of,
    header,
    meter_of,
    signature_of,
    tempo_of,
    tonic_and_mode,
    unit_length,
)
from mammadai_jax.music.notes import Note
from mammadai_jax.music.transcription import WHOLE, Tune, guess_mode

_PITCH = r"([\^_=]*)([A-Ga-g])([,']*)"
_LENGTH = r"(\d*(?:/\d*)*)"
_NOTE = re.compile(_PITCH + _LENGTH)
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
    """Text of a file in UTF-8 or Latin-1, also quoted-printable, with any kind of line ends."""
    if b"=3D" in data:
        data = quopri.decodestring(data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def split(text: str) -> list[str]:
    """The tunes of a file's text: each begins at its `X:` line."""
    return re.split(r"^(?=X:)", text, flags=re.MULTILINE)[1:]


def parse(text: str) -> Tune:
    """One tune, from its `X:` line on. `InvalidAbc` if it has no key, several voices, or is unreadable."""
    fields, music = header(text)
    if "K" not in fields:
        raise InvalidAbc("no K: field, so no music")
    meter, bar = meter_of(fields.get("M", ""))
    reader = _Reader(bar, unit_length(fields.get("L", ""), bar), signature_of(fields["K"]))
    for line in music:
        reader.line(line)
    notes, bar_lines, length = _join(_once(reader.bars))
    tonic, mode = tonic_and_mode(fields["K"])
    return Tune(
        notes,
        bar_lines,
        length,
        bar,
        meter,
        number=fields.get("X", ""),
        title=fields.get("T", ""),
        origin=fields.get("O", ""),
        rhythm=fields.get("R", ""),
        tonic=tonic,
        mode=mode or guess_mode(tonic, notes),
        tempo=tempo_of(fields.get("Q", "")),
    )


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

    def __init__(self, bar: int, unit: int, signature: dict[str, int]):
        self.bars = [_Bar([])]
        self._bar, self._unit, self._signature = bar, unit, signature
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
            if not self._overlay or kind == "bar":
                getattr(self, f"on_{kind}")(token)

    def _change(self, name: str, value: str) -> None:
        if name == "K":
            self._signature = signature_of(value)
        elif name == "L":
            self._unit = unit_length(value, self._bar)
        elif name == "M":
            self._bar = meter_of(value)[1]
        elif name == "V":
            self._voices.add(value.partition(" ")[0])
            if len(self._voices) > 1:
                raise InvalidAbc("more than one voice")

    def on_field(self, token: re.Match) -> None:
        self._change(token["name"], token["value"].strip())

    def on_note(self, token: re.Match) -> None:
        sign, letter, octave, length = token.group(2, 3, 4, 5)
        self._add(self._pitch(sign, letter, octave), *_length(length))

    def on_chord(self, token: re.Match) -> None:
        notes = _NOTE.findall(token["inside"])
        if notes:
            pitches = [self._pitch(sign, letter, octave) for sign, letter, octave, _ in notes]
            inner, outer = _length(notes[0][3]), _length(token[0].rpartition("]")[2])
            self._add(max(pitches), inner[0] * outer[0], inner[1] * outer[1])

    def on_rest(self, token: re.Match) -> None:
        self._add(-1, *_length(token[0][1:]))

    def on_bars_rest(self, token: re.Match) -> None:
        self._append(-1, self._bar * int(token["count"] or 1))

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
        compound = self._bar and (self._bar * 8 // WHOLE) % 3 == 0 and self._bar * 8 % WHOLE == 0
        usual = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(notes, 3 if compound else 2)
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

    def _pitch(self, sign: str, letter: str, octave: str) -> int:
        """MIDI pitch. An accidental holds for its letter until the bar ends, and over a bar line by a tie."""
        tied, self._tied = self._tied, ("", "", 0)
        name = letter.upper()
        if sign:
            self._accidentals[name] = alteration_of(sign)
        octaves = (5 if letter == name else 6) + octave.count("'") - octave.count(",")
        alteration = self._accidentals.get(name, self._signature.get(name, 0))
        pitch = SEMITONES[name] + alteration + 12 * octaves
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


def _once(bars: list[_Bar]) -> list[_Bar]:
    """The bars with every repeat played once: an ending is removed when the next one follows it."""
    kept: list[_Bar] = []
    start: int | None = None  # of the ending that is open, or that has just closed
    closed = False
    for bar in bars:
        if bar.ending:
            if start is not None and not bar.ending.startswith("1"):
                del kept[start:]
            start = len(kept)
        elif closed:
            start = None
        kept.append(bar)
        closed = len(bar.line) > 1
    return kept


def _join(bars: list[_Bar]) -> tuple[list[Note], list[int], int]:
    """Notes with ties joined, ticks of the single bar lines, and the total length in ticks."""
    notes: list[Note] = []
    lines: list[int] = []
    now, tied = 0, False
    for bar in bars:
        for item in bar.items:
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
