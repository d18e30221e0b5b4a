"""What is asked of music besides its notes: key, tempo, meter, length, range and instrument.

It is given by options (`parse_key("F# minor")`), or stands in a prompt (`of_prompt("a waltz in D dorian")`).
"""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple

from mammadai_jax.music.captions.parsing import QUOTED, parse
from mammadai_jax.music.corpus import DEGREES
from mammadai_jax.music.engraving import tonic_name
from mammadai_jax.music.heading import Heading
from mammadai_jax.music.instruments import SPOKEN

BARS = {"4/4": 16, "2/2": 16, "2/4": 8, "3/4": 12, "6/8": 12}
TEMPI = (20.0, 400.0)
NARROWEST = 5  # semitones of a range
DENSITIES = {"low": "with few notes", "medium": "at a moderate pace", "high": "with many notes"}
_MODES = {**{mode: mode for mode in DEGREES}, "ionian": "major", "aeolian": "minor"}
_SHORT = {"maj": "major", "min": "minor", "m": "minor", "": "major"}
_NATURAL = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_SIGNS = {"#": 1, "♯": 1, "sharp": 1, "b": -1, "♭": -1, "flat": -1, "": 0}
_TONIC = r"([A-Ga-g])(?:\s*-?\s*(sharp|flat)(?![a-z])|\s?([#♯b♭])(?![a-z]))?"
_KEY = re.compile(
    rf"([A-G])\s*-?\s*(sharp|flat)?\s?([#♯b♭])?\s*-?\s*({'|'.join(_MODES)}|maj|min|m)?", re.IGNORECASE
)
_PITCH = r"([A-Ga-g])([#♯b♭]?)(-?\d{1,2})"
_RANGE = re.compile(rf"\s*{_PITCH}\s*(?:-|–|\.\.+|to)\s*{_PITCH}\s*", re.IGNORECASE)

_NAMED = "|".join(_MODES)
_KEY_IN_PROMPT = re.compile(rf"\b(?:in|in the key of|key:)\s+{_TONIC}(?:[\s-]+({_NAMED}))?(?![\w#♯♭-])", re.I)
_KEY_ALONE = re.compile(rf"(?<![\w.])([B-G])(?:[\s-]*(sharp|flat)|([#♯b♭]))?[\s-]+({_NAMED})(?![\w-])")
_METER = re.compile(r"(?<![\w/])(?:4/4|2/2|2/4|3/4|6/8)(?![\w/])")
_METER_NAMES = (
    ("6/8", r"(?:six-eight|(?<!slip )jigs?)"),
    ("3/4", r"(?:three-four|waltz|waltzes|minuet)"),
    ("2/4", r"(?:two-four|polka)"),
    ("4/4", r"(?:four-four|common time)"),
    ("2/2", r"(?:two-two|cut time|alla breve)"),
)
_BEATS = re.compile(r"(\d{2,3})\s*(?:beats\s+(?:a|per)\s+minute|bpm)\b")
# Italian terms and plain words, in quarter notes a minute; of several words the first in the text counts.
_TEMPO_WORDS = {
    50: "very slow|very slowly|largo|grave",
    63: "adagio|lento|larghetto",
    72: "slow|slowly",
    84: "andante|relaxed",
    104: "moderato|moderate|moderately",
    116: "allegretto",
    138: "fast|quick|quickly|lively|allegro|rapid|up-tempo",
    160: "very fast|very quick|vivace|vivo",
    184: "presto|prestissimo",
}
_BARS = re.compile(r"\b(\d{1,3})[\s-](?:bars?|measures?)\b")
_SPOKEN = "|".join(sorted(SPOKEN, key=len, reverse=True))
_PLAYED = re.compile(rf"\b(?:for|on|played by)\s+(?:an?\s+|the\s+|solo\s+)*({_SPOKEN})s?\b")
_WITHIN = rf"\b(?:from|between)\s+{_PITCH}\s+(?:to|and)\s+{_PITCH}"
_FORM = re.compile(r"\b(?:in\s+)?(?:(?:the\s+)?form\s+(A[A-H]{1,15})|(A[A-H]{1,15})[\s-]+form)\b")
_WORDLESS = re.compile(
    rf"{_WITHIN}|{_PLAYED.pattern}|{_BARS.pattern}|\b(?:at\s+)?\d{{2,3}}\s*bpm\b|(?-i:{_FORM.pattern})",
    re.IGNORECASE,
)


class Range(NamedTuple):
    """The lowest and the highest MIDI pitch that are allowed."""

    low: int
    high: int


@dataclasses.dataclass(frozen=True)
class Controls:
    """What is asked of music; None for what is free.

    Attributes:
        tonic: pitch class, with `mode` ("major", "minor", "dorian", ...).
        tempo: quarter notes a minute.
        meter: one of `BARS`.
        bars: of that meter.
        range: of all notes.
        program: of General MIDI.
        density: one of `DENSITIES`; followed as far as the stage has learned it.
        form: sections in letters, "AABA".

    """

    tonic: int | None = None
    mode: str | None = None
    tempo: float | None = None
    meter: str | None = None
    bars: int | None = None
    range: Range | None = None
    program: int | None = None
    density: str | None = None
    form: str | None = None

    def over(self, other: Controls) -> Controls:
        """These, and where they are free the others; tonic and mode belong together."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        if self.tonic is not None:
            given["mode"] = self.mode
        return dataclasses.replace(other, **given)

    @property
    def relative(self) -> int:
        """The tonic, a pitch class, in the scale of C."""
        return DEGREES[self.mode or "major"]

    def in_words(self) -> str:
        """What of it captions have words for, such as "in minor, in triple time, with few notes"."""
        third = {"dorian": "minor", "phrygian": "minor", "locrian": "minor", "minor": "minor"}
        words = [f"in {third.get(self.mode, 'major')}"] if self.mode else []
        words += [f"in {'triple' if BARS[self.meter] == 12 else 'duple'} time"] if self.meter else []
        return ", ".join(words + ([DENSITIES[self.density]] if self.density else []))


def parse_key(text: str) -> tuple[int, str]:
    """Tonic and mode of a key such as "F# minor", "Bb", "d dorian" or "Ebm"; ValueError for other texts."""
    match = _KEY.fullmatch(text.strip())
    if not match:
        raise ValueError(f"no key {text!r}: write one such as G, 'F# minor', Bbm or 'D dorian'")
    letter, word, sign, mode = match.groups()
    mode = (mode or "").lower()
    return _tonic(letter, word or sign), _SHORT.get(mode) or _MODES[mode]


def _tonic(letter: str, sign: str | None) -> int:
    return (_NATURAL[letter.lower()] + _SIGNS[(sign or "").lower()]) % 12


def key_name(heading: Heading) -> str:
    """The key such as "Bb major"; empty if it is unknown."""
    name = tonic_name(heading)
    return f"{name} {heading.mode}" if name else ""


def parse_range(text: str) -> Range:
    """A range such as "C4-A5", where C4 is MIDI pitch 60; ValueError for other texts and narrow ranges."""
    match = _RANGE.fullmatch(text)
    if not match:
        raise ValueError(f"no range {text!r}: write the lowest and the highest note, such as C4-A5")
    low, high = _midi(*match.groups()[:3]), _midi(*match.groups()[3:])
    if not (0 <= low <= 127 and 0 <= high <= 127):
        raise ValueError(f"the range {text!r} leaves MIDI's pitches C-1 to G9")
    if low > high:
        raise ValueError(f"the range {text!r} is upside down: write the lowest note first")
    if high - low < NARROWEST:
        raise ValueError(f"the range {text!r} has {high - low} semitones: give it {NARROWEST} or more")
    return Range(low, high)


def _midi(letter: str, sign: str, octave: str) -> int:
    return 12 * (int(octave) + 1) + _NATURAL[letter.lower()] + _SIGNS[sign.lower()]


def parse_meter(text: str) -> str:
    """One of `BARS`; ValueError for other texts."""
    if text not in BARS:
        raise ValueError(f"no meter {text!r}: there are {', '.join(BARS)}")
    return text


def of_prompt(prompt: str) -> Controls:
    """What a prompt asks for; text in double quotes is a name and asks for nothing."""
    text = QUOTED.sub(" ", prompt)
    key, lower = _key_in(text), text.lower()
    bars = next((int(count) for count in _BARS.findall(lower) if int(count)), None)
    within = re.search(_WITHIN, text, re.I)
    return Controls(
        *(key if key else (None, None)),
        tempo=_tempo_in(lower),
        meter=_meter_in(lower, parse(prompt).get("meter")),
        bars=bars,
        range=parse_range("{}{}{}-{}{}{}".format(*within.groups())) if within else None,
        program=SPOKEN[played[1]] if (played := _PLAYED.search(lower)) else None,
        form=(form[1] or form[2]).upper() if (form := _FORM.search(text)) else None,
    )


def for_captions(prompt: str) -> str:
    """A prompt without what captions have no words for; of a key major or minor stays."""
    parts = re.split(f"({QUOTED.pattern})", prompt)
    for place in range(0, len(parts), 2):
        part = _KEY_IN_PROMPT.sub(_mode_only, parts[place])
        part = _KEY_ALONE.sub(lambda m: _of_mode(m[4].lower()), part)
        parts[place] = _WORDLESS.sub("", part)
    text = " ".join("".join(parts).split())
    return text if re.search(r"\w", text) else "a tune"


def _mode_only(match: re.Match[str]) -> str:
    return f"in {_of_mode((match[4] or 'major').lower())}" if _is_key(match) else match[0]


def _of_mode(mode: str) -> str:
    return Controls(0, _MODES[mode]).in_words().removeprefix("in ")


def _is_key(match: re.Match[str]) -> bool:
    """Whether it is no article, as in "in a minor key"; a lone letter is a key if it is a capital."""
    return match[1].isupper() or bool(match[1] != "a" and match[4]) or bool(match[2] or match[3])


def _key_in(text: str) -> tuple[int, str] | None:
    """The first key that a text names."""
    found = [match for match in _KEY_IN_PROMPT.finditer(text) if _is_key(match)] or [
        *_KEY_ALONE.finditer(text)
    ]
    if not found:
        return None
    letter, word, sign, mode = found[0].groups()
    return _tonic(letter, word or sign), _MODES[(mode or "major").lower()]


def _tempo_in(text: str) -> float | None:
    beats = [float(match) for match in _BEATS.findall(text) if TEMPI[0] <= float(match) <= TEMPI[1]]
    if beats:
        return beats[0]
    tempo_of = {word: tempo for tempo, words in _TEMPO_WORDS.items() for word in words.split("|")}
    longest_first = sorted(tempo_of, key=len, reverse=True)
    match = re.search(rf"(?<![\w-])(?:{'|'.join(longest_first)})(?![\w-])", text)
    return float(tempo_of[match[0]]) if match else None


def _meter_in(text: str, claim: str | None) -> str | None:
    """The meter that a text names, or else that of its `claim`, "duple" or "triple"."""
    named = [match[0] for match in _METER.finditer(text)]
    named += [meter for meter, names in _METER_NAMES if re.search(rf"\b{names}\b", text)]
    return named[0] if named else {"triple": "3/4", "duple": "4/4"}.get(claim or "")
