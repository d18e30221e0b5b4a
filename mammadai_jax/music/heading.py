"""What a melody, and a piece of several voices, state beside their notes: meter, key, tempo, source."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

_MEASURES = {"C": "4/4", "C|": "2/2"}
FIFTHS_ABOVE_MAJOR = {
    **dict.fromkeys(("major", "ionian", ""), 0),
    **dict.fromkeys(("minor", "aeolian"), -3),
    "dorian": -2,
    "phrygian": -4,
    "lydian": 1,
    "mixolydian": -1,
    "locrian": -5,
}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Heading:
    """The metadata of a `Melody` or a `Piece`.

    Attributes:
        title: empty if unknown.
        steps_per_bar: 16 for 4/4 in 16ths.
        tonic: pitch class of the tonic, 0..11, or -1 if unknown.
        mode: "major", "minor", "dorian", ...; empty if unknown.
        tempo: quarter notes a minute.
        pickup: steps of the upbeat at the end of the (silently filled) first bar; 0 without one.
        source: the file it was read from, as "file:number".
        collection: name of the collection, e.g. "essenFolksong".
        origin: place of origin, as in the source.
        rhythm: type of tune ("reel", "hornpipe", ...), as in the source.
        meter: as written, e.g. "4/4".
        left_out: how many notes of the source are not in it, by reason.
        remarks: what else was decided when it was read, e.g. "key estimated from the notes".

    """

    title: str = ""
    steps_per_bar: int = 16
    tonic: int = -1
    mode: str = ""
    tempo: float = 120.0
    pickup: int = 0
    source: str = ""
    collection: str = ""
    origin: str = ""
    rhythm: str = ""
    meter: str = "4/4"
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "remarks", tuple(self.remarks))

    @property
    def heading(self) -> dict[str, Any]:
        """The fields of this class by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Heading)}


def meter_of(heading: Heading, steps_per_quarter: int = 4) -> tuple[int, int]:
    """The meter (beats, beat unit): as notated if it agrees with `steps_per_bar`, else derived from it."""
    notated = re.fullmatch(r"(\d{1,2})/(1|2|4|8|16|32)", _MEASURES.get(heading.meter, heading.meter))
    if notated:
        beats, unit = map(int, notated.groups())
        if beats and beats * 4 * steps_per_quarter == heading.steps_per_bar * unit:
            return beats, unit
    for unit in (4, 8, 16, 32):
        beats, rest = divmod(heading.steps_per_bar * unit, 4 * steps_per_quarter)
        if rest == 0 and 0 < beats < 256:
            return beats, unit
    raise ValueError(f"a bar of {heading.steps_per_bar} steps, {steps_per_quarter} a quarter, is no meter")


def key_fifths(heading: Heading) -> int | None:
    """The key signature: sharps (flats below 0), -5..6; None if tonic or mode are unknown."""
    if heading.tonic < 0 or heading.mode not in FIFTHS_ABOVE_MAJOR:
        return None
    fifths = heading.tonic * 7 + FIFTHS_ABOVE_MAJOR[heading.mode]
    return (fifths + 5) % 12 - 5


def printable(text: str) -> str:
    """The text in one line, without control characters and others that XML or UTF-8 cannot encode."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
