"""The information fields of ABC notation: meter, unit note length, tempo, key and mode."""

from __future__ import annotations

import re

from mammadai_jax.music.transcription import WHOLE

SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SHARPS = "FCGDAEB"
_MODES = {  # the mode's name, and how many fifths it lies below the major key on the same tonic
    "": ("", 0), "maj": ("major", 0), "ion": ("major", 0), "m": ("minor", 3), "min": ("minor", 3),
    "aeo": ("minor", 3), "dor": ("dorian", 2), "phr": ("phrygian", 4), "lyd": ("lydian", -1),
    "mix": ("mixolydian", 1), "loc": ("locrian", 5),
}  # fmt: skip
ANNOTATION = re.compile(r'"[^"]*"')  # and chord symbols
FIELD = re.compile(r"([A-Za-z]):(?![|:])(.*)")


def header(text: str) -> tuple[dict[str, str], list[str]]:
    """The first field of each letter up to the key, and the lines of music after it, to the blank line."""
    fields: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        match = FIELD.match(line.partition("%")[0].strip())
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


def meter_of(text: str) -> tuple[str, int]:
    """The meter as written and the ticks of its bar; ("", 0) if there is none."""
    match = re.match(r"C\||C|(\d+)/(\d+)", text)
    if match is None:
        return "", 0
    if match[1] is None:
        return match[0], WHOLE
    return match[0], WHOLE * int(match[1]) // max(int(match[2]), 1)


def unit_length(text: str, bar: int) -> int:
    """Ticks of the unit note length; by default a 16th in meters shorter than 3/4, else an eighth."""
    match = re.match(r"(\d+)/(\d+)", text)
    if match and int(match[2]):
        return WHOLE * int(match[1]) // int(match[2])
    return WHOLE // 16 if 0 < bar < WHOLE * 3 // 4 else WHOLE // 8


def tempo_of(text: str) -> float:
    """Quarter notes a minute of a Q: field such as 1/2=104, "Slow" 1/4=60 or 120; 120 without a number."""
    text = ANNOTATION.sub("", text)
    match = re.search(r"(?:(\d+)/(\d+)\s*=\s*)?(\d+)", text)
    if match is None or not int(match[3]):
        return 120.0
    beat = int(match[1]) / int(match[2]) if match[1] and int(match[2]) else 0.25
    return float(match[3]) * beat * 4


def _key(text: str) -> tuple[str, int, str, str] | None:
    """Letter, alteration and mode of a K: field and its explicit accidentals; None if it has no tonic."""
    # Files contain German names too: H is B, Es is E flat.
    match = re.match(r"([A-Ha-g])(#|b|s(?![a-z]))?\s*([A-Za-z]*)\s*(.*)", text)
    if match is None or text.lower().startswith("hp"):
        return None
    letter = match[1].upper().replace("H", "B")
    word = "maj" if match[3] == "M" else match[3].lower()[:3]
    alteration = {"#": 1, "b": -1, "s": -1}.get(match[2], 0)
    return letter, alteration, word if word in _MODES else "", match[4]


def signature_of(text: str) -> dict[str, int]:
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
        signature[altered.upper()] = alteration_of(sign)
    return signature


def tonic_and_mode(text: str) -> tuple[int, str]:
    """Pitch class of the tonic (-1 if unknown) and the mode as written (empty if it is not)."""
    key = _key(text)
    if key is None:
        return (9, "mixolydian") if text.lower().startswith("hp") else (-1, "")
    return (SEMITONES[key[0]] + key[1]) % 12, _MODES[key[2]][0]


def alteration_of(sign: str) -> int:
    """Semitones of an accidental such as "^", "__" or "="."""
    return sign.count("^") - sign.count("_")
