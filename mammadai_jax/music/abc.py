"""A light reader of melodies in ABC notation: pitches, lengths and bars; no words, ornaments or chords.

It follows ABC 2.1 (https://abcnotation.com/wiki/abc:standard:v2.1). Of it: an accidental holds to the
end of its bar in every octave; repeats are played once, with their last ending; of a chord the highest
note stays; grace notes and decorations are left out. A tune in several voices is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import quopri
import re
from collections.abc import Iterator
from pathlib import Path

from mammadai_jax.music.notes import Note
from mammadai_jax.music.transcription import WHOLE, Tune, guess_mode

_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SHARPS = "FCGDAEB"
_MODES = {  # name and fifths below the major key on the same tonic
    "": ("", 0), "maj": ("major", 0), "ion": ("major", 0), "m": ("minor", 3), "min": ("minor", 3),
    "aeo": ("minor", 3), "dor": ("dorian", 2), "phr": ("phrygian", 4), "lyd": ("lydian", -1),
    "mix": ("mixolydian", 1), "loc": ("locrian", 5),
}  # fmt: skip

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
_ANNOTATION = re.compile(r'"[^"]*"')  # and chord symbols
_FIELD = re.compile(r"([A-Za-z]):(?![|:])(.*)")


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
    fields, music = _header(text)
    if "K" not in fields:
        raise InvalidAbc("no K: field, so no music")
    meter, bar = _meter(fields.get("M", ""))
    reader = _Reader(bar, _unit(fields.get("L", ""), bar), _signature(fields["K"]))
    for line in music:
        reader.line(line)
    notes, bar_lines, length = _join(_once(reader.bars))
    tonic, mode = _tonic_and_mode(fields["K"])
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
        tempo=_tempo(fields.get("Q", "")),
    )


def _header(text: str) -> tuple[dict[str, str], list[str]]:
    """The first field of each letter up to the key, and the lines of music after it, to the blank line."""
    fields: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        match = _FIELD.match(line.partition("%")[0].strip())
        if match:
            letter, value = match[1], match[2].strip()
            if value:
                fields.setdefault(letter, value)
            if letter == "K":
                break
    music = []
    for line in lines:
        line = line.rstrip()
        if not line and music:
            break
        if line and not line.startswith("%"):
            music.append(line.partition("%")[0])
    return fields, music


def _meter(text: str) -> tuple[str, int]:
    """The meter as written and the ticks of its bar; ("", 0) without one."""
    match = re.match(r"C\||C|(\d+)/(\d+)", text)
    if match is None:
        return "", 0
    if match[1] is None:
        return match[0], WHOLE
    return match[0], WHOLE * int(match[1]) // max(int(match[2]), 1)


def _unit(text: str, bar: int) -> int:
    """Ticks of the unit note length; by default a 16th in meters shorter than 3/4, else an eighth."""
    match = re.match(r"(\d+)/(\d+)", text)
    if match and int(match[2]):
        return WHOLE * int(match[1]) // int(match[2])
    return WHOLE // 16 if 0 < bar < WHOLE * 3 // 4 else WHOLE // 8


def _tempo(text: str) -> float:
    """Quarter notes a minute of a Q: field such as 1/2=104, "Slow" 1/4=60 or 120; 120 if it has no number."""
    text = _ANNOTATION.sub("", text)
    match = re.search(r"(?:(\d+)/(\d+)\s*=\s*)?(\d+)", text)
    if match is None or not int(match[3]):
        return 120.0
    beat = int(match[1]) / int(match[2]) if match[1] and int(match[2]) else 0.25
    return float(match[3]) * beat * 4


def _key(text: str) -> tuple[str, int, str, str] | None:
    """Letter, alteration and mode of a K: field and its explicit accidentals; None if it has no tonic."""
    # German names occur: H is B, Es is E flat.
    match = re.match(r"([A-Ha-g])(#|b|s(?![a-z]))?\s*([A-Za-z]*)\s*(.*)", text)
    if match is None or text.lower().startswith("hp"):
        return None
    letter = match[1].upper().replace("H", "B")
    word = "maj" if match[3] == "M" else match[3].lower()[:3]
    alteration = {"#": 1, "b": -1, "s": -1}.get(match[2], 0)
    return letter, alteration, word if word in _MODES else "", match[4]


def _signature(text: str) -> dict[str, int]:
    """Alterations of the letters under a K: field; highland pipes (HP) have F and C sharp."""
    key = _key(text)
    if key is None:
        return {"F": 1, "C": 1} if text.lower().startswith("hp") else {}
    letter, alteration, mode, explicit = key
    fifths = _SHARPS.index(letter) - 1 + 7 * alteration - _MODES[mode][1]
    signature = dict.fromkeys(_SHARPS[:fifths], 1) if fifths > 0 else dict.fromkeys(_SHARPS[fifths:], -1)
    if not fifths:
        signature = {}
    for sign, altered in re.findall(r"([\^_=]+)([A-Ga-g])", explicit):
        signature[altered.upper()] = _alteration(sign)
    return signature


def _tonic_and_mode(text: str) -> tuple[int, str]:
    """Pitch class of the tonic (-1 if unknown) and the mode as written (empty if it is not)."""
    key = _key(text)
    if key is None:
        return (9, "mixolydian") if text.lower().startswith("hp") else (-1, "")
    return (_SEMITONES[key[0]] + key[1]) % 12, _MODES[key[2]][0]


def _alteration(sign: str) -> int:
    return sign.count("^") - sign.count("_")


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
    """What stands between two bar lines; `line` is the right one, `ending` the number over a new ending."""

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
        self._factor = (1, 1)  # of the next length, after broken rhythm
        self._tuplet = (0, 1, 1)  # how many notes are left in it, and the factor of their lengths
        self._overlay = False
        self._voices: set[str] = set()

    def line(self, text: str) -> None:
        """Reads one line: a field or music."""
        field = _FIELD.match(text)
        if field:
            self._change(field[1], field[2].strip())
            return
        for token in _TOKEN.finditer(_ANNOTATION.sub("", text)):
            kind = token.lastgroup
            if not self._overlay or kind == "bar":
                getattr(self, f"on_{kind}")(token)

    def _change(self, name: str, value: str) -> None:
        if name == "K":
            self._signature = _signature(value)
        elif name == "L":
            self._unit = _unit(value, self._bar)
        elif name == "M":
            self._bar = _meter(value)[1]
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
            self._accidentals[name] = _alteration(sign)
        octaves = (5 if letter == name else 6) + octave.count("'") - octave.count(",")
        alteration = self._accidentals.get(name, self._signature.get(name, 0))
        pitch = _SEMITONES[name] + alteration + 12 * octaves
        if not sign and tied[:2] == (letter, octave):
            pitch = tied[2]
        self._spelling = (letter, octave, pitch)
        return pitch

    def _add(self, pitch: int, numerator: int, denominator: int) -> None:
        times, over = self._factor
        self._factor = (1, 1)
        left, q, p = self._tuplet
        if left:
            times, over, self._tuplet = times * q, over * p, (left - 1, q, p)
        self._append(pitch, self._unit * numerator * times // (denominator * over))

    def _append(self, pitch: int, duration: int) -> None:
        self._last = _Item(pitch, duration)
        self.bars[-1].items.append(self._last)

    def _close(self, line: str) -> None:
        """Ends the bar; of several lines with nothing between them, one that ends a section counts."""
        if self.bars[-1].items:
            self.bars[-1].line = line
            self.bars.append(_Bar([]))
        elif len(self.bars) > 1 and len(line) > 1:
            self.bars[-2].line = line

    def _end(self, label: str | None) -> None:
        if label:
            self.bars[-1].ending = label


def _once(bars: list[_Bar]) -> list[_Bar]:
    """The bars with every repeat played once: an ending is dropped when the next one follows it."""
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
    """Notes with ties joined, ticks of the single bar lines, and the length of it all."""
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
