"""The information fields of ABC notation: meter, unit note length, tempo, key and mode."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from mammadai_jax.music.signatures import TEMPI
from mammadai_jax.music.transcription import WHOLE

SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SHARPS = "FCGDAEB"
_MODES = {  # the mode's name, and how many fifths it lies below the major key on the same tonic
    "": ("", 0), "maj": ("major", 0), "ion": ("major", 0), "m": ("minor", 3), "min": ("minor", 3),
    "aeo": ("minor", 3), "dor": ("dorian", 2), "phr": ("phrygian", 4), "lyd": ("lydian", -1),
    "mix": ("mixolydian", 1), "loc": ("locrian", 5),
}  # fmt: skip
ANNOTATION = re.compile(r'"[^"]*"')  # and chord symbols
FIELD = re.compile(r"([A-Za-z+]):(?![|:])(.*)")  # "+" continues the field before it
_OF_FILES = "LMOR"  # fields that hold for all tunes of a file if they stand before the first
_LAST_HOLDS = "LMQ"  # of other fields the first
_TEXT = re.compile(r"^%%begin(text|ps|svg)\b.*?^%%end\1\b[^\n]*\n?", re.MULTILINE | re.DOTALL)
_ATTRIBUTE = re.compile(
    r"\b(clef|octave|transpose|t|middle|m|stafflines|staffscale|score|sound|shift|style|cue|map|instrument"
    r'|name|nm|snm|stems)\s*=\s*("[^"]*"|\S+)'
)


class Key(NamedTuple):
    """The key of a K: field: letter and alteration of the tonic, and the mode as in `_MODES`, or "exp"."""

    letter: str
    alteration: int
    mode: str

    @property
    def fifths(self) -> int:
        """Sharps of the signature, flats below 0; none where all accidentals are explicit."""
        if self.mode == "exp":
            return 0
        return _SHARPS.index(self.letter) - 1 + 7 * self.alteration - _MODES[self.mode][1]


def split(text: str) -> list[str]:
    """The tunes of a file's text: each begins at its `X:` line, and has the fields of the file's header."""
    before, *tunes = re.split(r"^(?=X:)", _TEXT.sub("", text), flags=re.MULTILINE)
    fields = (FIELD.match(line) for line in before.partition("\n\n")[0].split("\n"))
    common = "".join(f"{field[0]}\n" for field in fields if field and field[1] in _OF_FILES)
    return [tune.replace("\n", f"\n{common}", 1) for tune in tunes]


def header(text: str) -> tuple[dict[str, str], list[str]]:
    """The field of each letter up to the key, and the lines of music after it to the blank line.

    Of several L:, M: or Q: the last holds, of other fields the first. A K: that is empty has no key.
    """
    fields: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        match = FIELD.match(line.partition("%")[0].strip())
        if match:
            letter, value = match[1], match[2].strip()
            if letter == "K" or (value and (letter in _LAST_HOLDS or letter not in fields)):
                fields[letter] = value
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


def meter_of(text: str) -> tuple[str, int]:
    """The meter as written (C|, 6/8, (2+3)/8) and the ticks of its bar; ("", 0) if there is none."""
    match = re.match(r"C\||C|\(?(\d+(?:\+\d+)*)\)?/(\d+)", text)
    if match is None or match[2] == "0":
        return "", 0
    if match[1] is None:
        return match[0], WHOLE
    return match[0], WHOLE * _beats(match[1]) // int(match[2])


def is_compound(meter: str) -> bool:
    """Whether the beats of a meter are dotted: 6/8, 9/8, 12/8, but not 3/4."""
    beats = _beats(re.sub(r"[^\d+].*", "", meter.lstrip("(")))
    return beats > 3 and beats % 3 == 0


def _beats(text: str) -> int:
    return sum(int(part) for part in text.split("+") if part)


def unit_length(text: str, bar: int) -> int:
    """Ticks of the unit note length; by default a 16th in meters shorter than 3/4, else an eighth."""
    match = re.match(r"(\d+)(?:/(\d+))?", text)
    if match and int(match[2] or 1):
        return WHOLE * int(match[1]) // int(match[2] or 1)
    return WHOLE // 16 if 0 < bar < WHOLE * 3 // 4 else WHOLE // 8


def tempo_of(text: str, unit: int) -> float:
    """Quarter notes a minute of a Q: field; 120 without a number, or with one that no music has.

    The beat is a sum of lengths (1/4 3/8=40), a number of the `unit` note length (C3=40), or else a quarter.
    """
    beats, _, speed = ANNOTATION.sub("", text).rpartition("=")
    if "/" in speed:
        beats, speed = speed, beats  # 90=1/4
    number = re.search(r"\d+(\.\d+)?", speed)
    units = re.match(r"\s*C(\d*)", beats)
    lengths = [Fraction(int(n), int(d)) for n, d in re.findall(r"(\d+)/(\d+)", beats) if int(d)]
    if units:
        lengths = [Fraction(int(units[1] or 1) * unit, WHOLE)]
    tempo = float(number[0]) * float(sum(lengths) or Fraction(1, 4)) * 4 if number else 120.0
    return tempo if TEMPI[0] <= tempo <= TEMPI[1] else 120.0


def _key(text: str) -> Key | None:
    """The key of a K: field; None if it has no tonic."""
    # Files contain German names too: H is B, Es is E flat.
    match = re.match(r"([A-Ha-g])(#|b|s(?![a-z]))?(\s*)([A-Za-z]*)", _ATTRIBUTE.sub(" ", text).strip())
    if match is None or _is_highland(text):
        return None
    letter, sign, gap, word = match.groups()
    mode = "maj" if word == "M" else word.lower()[:3]
    if letter.islower() and not gap and mode not in _MODES:
        return None  # a word such as "bass", or "exp"
    alteration = {"#": 1, "b": -1, "s": -1}.get(sign, 0)
    return Key(letter.upper().replace("H", "B"), alteration, mode if mode in (*_MODES, "exp") else "")


def _is_highland(text: str) -> bool:
    """Whether a K: field is that of highland pipes, HP or Hp."""
    return text.lower().startswith("hp")


def signature_of(text: str) -> dict[str, int]:
    """Alterations of the letters under a K: field; highland pipes (HP) have F and C sharp."""
    key, fifths = _key(text), 0
    if key is not None:
        fifths = key.fifths
    elif _is_highland(text):
        fifths = 2
    names, alteration = (_SHARPS[:fifths], 1) if fifths >= 0 else (_SHARPS[fifths:], -1)
    signature = dict.fromkeys(names, alteration)
    for sign, altered in re.findall(r"([\^_=]+)([A-Ga-g])", _ATTRIBUTE.sub(" ", text)):
        signature[altered.upper()] = alteration_of(sign)
    return signature


def tonic_and_mode(text: str) -> tuple[int, str]:
    """Pitch class of the tonic (-1 if unknown) and the mode as written (empty if it is not)."""
    key = _key(text)
    if key is None:
        return (9, "mixolydian") if _is_highland(text) else (-1, "")
    return (SEMITONES[key.letter] + key.alteration) % 12, _MODES.get(key.mode, ("", 0))[0]


def transposition_of(text: str) -> int | None:
    """Semitones by which notes under a K: or V: field sound higher than written; None if it does not say."""
    shifts = [12 * int(octave) for octave in re.findall(r"\boctave\s*=\s*([+-]?\d+)", text)]
    shifts += [int(shift) for shift in re.findall(r"\b(?:transpose|t)\s*=\s*([+-]?\d+)", text)]
    clefs = re.findall(r"\b(?:treble|alto|tenor|bass|clef=[A-Za-z]+\d?)([+-])(8|15)\b", text)
    shifts += [(1 if sign == "+" else -1) * (12 if size == "8" else 24) for sign, size in clefs]
    return sum(shifts) if shifts else None


def alteration_of(sign: str) -> int:
    """Semitones of an accidental such as "^", "__" or "="."""
    return sign.count("^") - sign.count("_")
