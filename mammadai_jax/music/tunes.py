"""Ten old tunes and five accompaniments, embedded in the package.

The notation is `pitch:steps`, bar by bar: `F#4:4 R:2 Bb3:2 | ...`, where R is silence, C4 is MIDI 60
and a step is a 16th note. All compositions are in the public domain; each was checked by its bar sums.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from mammadai_jax.music.notes import HOLD, OFF, Melody

STEPS_PER_BAR = 16
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"": 0, "#": 1, "b": -1}
_NOTE = re.compile(r"(?:(R)|([A-G])([#b]?)(-?\d)):([1-9]\d*)")


@dataclasses.dataclass(frozen=True, eq=False)
class Accompaniment:
    """One bar that is repeated under a melody.

    Attributes:
        name: as users give it.
        events: int16 (16,) of a monophonic line in C.
        drums: steps (0..15) at which each General MIDI drum note is struck.

    """

    name: str
    events: np.ndarray
    drums: Mapping[int, tuple[int, ...]]


def parse(text: str, steps_per_bar: int = STEPS_PER_BAR, pickup: int = 0) -> np.ndarray:
    """Events int16 (bars * steps_per_bar,) of the notation above.

    With a `pickup` the first bar has only that many steps, after silence. ValueError names the note that
    cannot be parsed or the bar (counted from 1) of the wrong length.
    """
    events = [OFF] + [HOLD] * (steps_per_bar - pickup - 1) if pickup else []
    for number, bar in enumerate(text.split("|"), start=1):
        notes = [_parse_note(note, number) for note in bar.split()]
        expected = pickup if pickup and number == 1 else steps_per_bar
        total = sum(len(note) for note in notes)
        if total != expected:
            raise ValueError(f"bar {number} ({bar.strip()!r}) has {total} steps instead of {expected}")
        events += [event for note in notes for event in note]
    return np.array(events, dtype=np.int16)


def _parse_note(text: str, bar: int) -> list[int]:
    """The events of one `pitch:steps`."""
    match = _NOTE.fullmatch(text)
    if match is None:
        raise ValueError(f"bar {bar}: cannot read {text!r}; a note is written like F#4:4, silence like R:4")
    rest, letter, accidental, octave, steps = match.groups()
    first = OFF if rest else 12 * (int(octave) + 1) + _LETTERS[letter] + _ACCIDENTALS[accidental]
    return [first] + [HOLD] * (int(steps) - 1)


def _tune(
    title: str, tonic: str, mode: str, tempo: float, origin: str, text: str, *, pickup: int = 0
) -> Melody:
    return Melody(
        parse(text, pickup=pickup),
        title=title,
        tonic=_LETTERS[tonic],
        mode=mode,
        tempo=tempo,
        pickup=pickup,
        source=f"tunes:{title}",
        collection="embedded",
        origin=origin,
    )


def _accompaniment(name: str, line: str, drums: dict[int, tuple[int, ...]]) -> Accompaniment:
    return Accompaniment(name, parse(line), MappingProxyType(drums))


# fmt: off
TUNES: tuple[Melody, ...] = (
    _tune(
        "Ode to Joy", "D", "major", 120, "Beethoven, Symphony 9, 1824",
        """
        F#4:4 F#4:4 G4:4 A4:4 | A4:4 G4:4 F#4:4 E4:4 | D4:4 D4:4 E4:4 F#4:4 | F#4:6 E4:2 E4:8 |
        F#4:4 F#4:4 G4:4 A4:4 | A4:4 G4:4 F#4:4 E4:4 | D4:4 D4:4 E4:4 F#4:4 | E4:6 D4:2 D4:8 |
        E4:4 E4:4 F#4:4 D4:4 | E4:4 F#4:2 G4:2 F#4:4 D4:4 | E4:4 F#4:2 G4:2 F#4:4 E4:4 |
        D4:4 E4:4 A3:8 | F#4:4 F#4:4 G4:4 A4:4 | A4:4 G4:4 F#4:4 E4:4 | D4:4 D4:4 E4:4 F#4:4 |
        E4:6 D4:2 D4:8
        """,
    ),
    _tune(
        "Twinkle, Twinkle, Little Star", "C", "major", 100, "Ah! vous dirai-je, maman, French, 1761",
        """
        C4:4 C4:4 G4:4 G4:4 | A4:4 A4:4 G4:8 | F4:4 F4:4 E4:4 E4:4 | D4:4 D4:4 C4:8 |
        G4:4 G4:4 F4:4 F4:4 | E4:4 E4:4 D4:8 | G4:4 G4:4 F4:4 F4:4 | E4:4 E4:4 D4:8 |
        C4:4 C4:4 G4:4 G4:4 | A4:4 A4:4 G4:8 | F4:4 F4:4 E4:4 E4:4 | D4:4 D4:4 C4:8
        """,
    ),
    _tune(
        "Frere Jacques", "F", "major", 110, "French, c. 1780",
        """
        F4:4 G4:4 A4:4 F4:4 | F4:4 G4:4 A4:4 F4:4 | A4:4 Bb4:4 C5:8 | A4:4 Bb4:4 C5:8 |
        C5:2 D5:2 C5:2 Bb4:2 A4:4 F4:4 | C5:2 D5:2 C5:2 Bb4:2 A4:4 F4:4 | F4:4 C4:4 F4:8 |
        F4:4 C4:4 F4:8
        """,
    ),
    _tune(
        "Yankee Doodle", "D", "major", 120, "Aird, Airs vol. 1, 1782",
        """
        D5:4 D5:4 E5:4 F#5:4 | D5:4 D5:4 E5:4 C#5:4 | D5:4 D5:4 E5:4 F#5:4 | D5:8 C#5:8 |
        D5:4 D5:4 E5:4 F#5:4 | D5:4 D5:4 E5:4 C#5:4 | A4:4 A4:4 B4:4 C#5:4 | D5:8 D5:8 |
        D5:8 B4:4 G4:4 | B4:4 G4:4 B4:8 | C5:8 A4:4 G4:4 | F#4:4 G4:4 A4:8 | D5:8 B4:4 G4:4 |
        B4:4 G4:4 C5:8 | A4:4 B4:4 C#5:4 A4:4 | D5:8 D5:8
        """,
    ),
    _tune(
        "The White Cockade", "G", "major", 112, "Aird, Airs vol. 1, 1782",
        """
        A4:2 G4:2 | B4:4 B4:4 B4:4 A4:2 G4:2 | B4:4 B4:4 B4:4 G5:4 | B4:4 B4:4 B4:4 A4:2 G4:2 |
        A4:2 G4:2 A4:2 B4:2 A4:4 G4:2 A4:2 | B4:4 B4:4 C5:2 B4:2 A4:2 G4:2 | A4:4 B4:4 G5:4 F#5:2 G5:2 |
        A5:4 G5:2 F#5:2 G5:4 F#5:2 E5:2 | D5:4 B4:4 B4:4 B4:2 C5:2 | D5:4 B4:4 G5:4 B4:4 |
        D5:4 D5:4 D5:4 E5:4 | D5:4 C5:2 B4:2 G5:4 F#5:2 G5:2 | A5:4 A4:4 A4:4 G4:2 A4:2 |
        B4:4 B4:4 C5:2 B4:2 A4:2 G4:2 | A4:4 B4:4 G5:4 F#5:2 G5:2 | A5:4 G5:2 F#5:2 G5:4 F#5:2 E5:2 |
        D5:4 B4:4 B4:4 R:4
        """,
        pickup=4,
    ),
    _tune(
        "Soldier's Joy", "D", "major", 104, "reel, 18th century",
        """
        F#4:2 G4:2 | A4:2 F#4:2 D4:2 F#4:2 A4:2 F#4:2 D4:2 F#4:2 | A4:4 D5:4 D5:4 C#5:2 B4:2 |
        A4:2 F#4:2 D4:2 F#4:2 A4:2 F#4:2 D4:2 F#4:2 | G4:4 E4:4 E4:4 F#4:2 G4:2 |
        A4:2 F#4:2 D4:2 F#4:2 A4:2 F#4:2 D4:2 F#4:2 | A4:4 D5:4 D5:4 D5:2 E5:2 |
        F#5:2 A5:2 F#5:2 D5:2 E5:2 G5:2 E5:2 C#5:2 | D5:4 D5:4 D5:4 D5:2 E5:2 |
        F#5:2 D5:2 F#5:2 D5:2 F#5:2 A5:2 G5:2 F#5:2 | E5:2 D5:2 C#5:2 D5:2 E5:2 F#5:2 G5:2 E5:2 |
        F#5:2 D5:2 F#5:2 D5:2 F#5:2 A5:2 G5:2 F#5:2 | E5:2 D5:2 C#5:2 B4:2 A4:4 D5:2 E5:2 |
        F#5:2 D5:2 F#5:2 D5:2 F#5:2 A5:2 G5:2 F#5:2 | E5:2 C#5:2 A4:2 C#5:2 E5:2 F#5:2 G5:2 E5:2 |
        F#5:2 A5:2 F#5:2 D5:2 E5:2 G5:2 E5:2 C#5:2 | D5:4 D5:4 D5:4 R:4
        """,
        pickup=4,
    ),
    _tune(
        "Miss McLeod's Reel", "G", "major", 104, "reel, c. 1780",
        """
        B4:2 A4:2 | G4:4 B4:2 G4:2 D4:2 G4:2 B4:2 G4:2 | B4:4 B4:2 A4:2 B4:2 C5:2 B4:2 A4:2 |
        G4:4 B4:2 G4:2 D4:2 G4:2 B4:2 G4:2 | A4:4 A4:2 G4:2 A4:2 C5:2 B4:2 A4:2 |
        G4:4 B4:2 G4:2 D4:2 G4:2 B4:2 G4:2 | B4:4 B4:2 A4:2 B4:4 D5:4 |
        E5:6 F#5:2 E5:2 D5:2 E5:2 F#5:2 | G5:2 E5:2 D5:2 B4:2 A4:2 C5:2 B4:2 A4:2 |
        G4:4 G5:2 F#5:2 E5:2 D5:2 E5:2 G5:2 | B4:4 B4:2 A4:2 B4:2 C5:2 B4:2 A4:2 |
        G4:4 G5:2 F#5:2 E5:2 D5:2 E5:2 G5:2 | A5:4 A5:2 G5:2 A5:2 C6:2 B5:2 A5:2 |
        G5:4 G5:2 F#5:2 E5:2 D5:2 E5:2 G5:2 | B4:2 C5:2 B4:2 A4:2 B4:4 D5:4 |
        E5:2 F#5:2 E5:2 D5:2 C5:2 D5:2 E5:2 F#5:2 | G5:2 E5:2 D5:2 B4:2 A4:4 R:4
        """,
        pickup=4,
    ),
    _tune(
        "Lightly Row (Alles neu macht der Mai)", "A", "major", 110, "German, 18th century",
        """
        E5:4 C#5:4 C#5:8 | D5:4 B4:4 B4:8 | A4:4 B4:4 C#5:4 D5:4 | E5:4 E5:4 E5:8 | E5:4 C#5:4 C#5:8 |
        D5:4 B4:4 B4:8 | A4:4 C#5:4 E5:4 E5:4 | C#5:8 R:8 | B4:4 B4:4 B4:4 B4:4 | B4:4 C#5:4 D5:8 |
        C#5:4 C#5:4 C#5:4 C#5:4 | C#5:4 D5:4 E5:8 | E5:4 C#5:4 C#5:8 | D5:4 B4:4 B4:8 |
        A4:4 C#5:4 E5:4 E5:4 | A4:8 R:8
        """,
    ),
    _tune(
        "O Sanctissima (O du froehliche)", "F", "major", 90, "Sicilian, printed 1792",
        """
        C5:8 D5:8 | C5:6 Bb4:2 A4:4 Bb4:4 | C5:8 D5:8 | C5:6 Bb4:2 A4:4 Bb4:4 | C5:8 C5:8 |
        D5:8 E5:4 F5:4 | E5:8 D5:8 | E5:8 R:8 | G4:6 A4:2 G4:4 A4:4 | Bb4:6 C5:2 Bb4:8 |
        A4:6 Bb4:2 A4:4 Bb4:4 | C5:6 D5:2 C5:8 | F5:4 E5:4 D5:4 C5:4 | F5:4 D5:4 C5:4 Bb4:4 |
        A4:8 G4:8 | F4:8 R:8
        """,
    ),
    _tune(
        "Jesu, meine Freude", "E", "minor", 76, "Crueger 1653; Bach BWV 64.8",
        """
        B4:4 B4:4 A4:4 G4:4 | F#4:8 E4:8 | B4:4 B4:4 C#5:4 D#5:4 | E5:8 D#5:8 | E5:4 G5:4 F#5:6 F#5:2 |
        E5:16 | B4:4 B4:4 C5:4 B4:4 | A4:6 G4:2 G4:8 | B4:4 C#5:4 D5:4 B4:4 | E5:4 D5:4 C#5:8 |
        B4:8 B4:4 B4:4 | A4:4 G4:4 F#4:8 | E4:16
        """,
    ),
)
# fmt: on

KICK, SNARE, HAT, CLAVES, HIGH_BLOCK, LOW_BLOCK = 36, 38, 42, 75, 76, 77
_EIGHTHS = tuple(range(0, STEPS_PER_BAR, 2))

ACCOMPANIMENTS: tuple[Accompaniment, ...] = (
    _accompaniment(
        "march with oom-pah",
        "C3:2 R:2 G3:2 R:2 G2:2 R:2 G3:2 R:2",
        {KICK: (0, 8), SNARE: (4, 12, 14, 15)},
    ),
    _accompaniment(
        "rock with Alberti bass",
        "C3:2 G3:2 E3:2 G3:2 C3:2 G3:2 E3:2 G3:2",
        {KICK: (0, 8), SNARE: (4, 12), HAT: _EIGHTHS},
    ),
    _accompaniment(
        "habanera",
        "C2:3 G2:1 C3:2 G2:2 C2:3 G2:1 C3:2 G2:2",
        {KICK: (0, 8), LOW_BLOCK: (3, 11), HIGH_BLOCK: (4, 6, 12, 14)},
    ),
    _accompaniment(
        "bossa nova",
        "C2:6 G2:2 G2:6 C2:2",
        {CLAVES: (0, 3, 6, 10, 13), KICK: (0, 3, 8, 11), HAT: _EIGHTHS},
    ),
    _accompaniment(
        "son with tumbao",
        "C2:3 R:3 G2:6 C3:4",
        {CLAVES: (0, 3, 6, 10, 12), KICK: (0, 8)},
    ),
)
