"""Chord progressions of four bars, and those that suit a melody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mammadai_jax.music.chords import QUALITIES, Chord, Symbol
from mammadai_jax.music.notes import Melody, sounding

BAR, BEAT, STRONG = 16, 4, 8  # steps: of a bar of 4/4, between its beats, and between its strong beats
PHRASE = 4  # bars
DISSONANT = (1, 2, 6, 10, 11)  # semitones between pitch classes: seconds, sevenths and the tritone

# Semitones of a chord's root above the tonic, and its quality, by mode and Roman numeral.
DEGREES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "major": {
        "I": (0, "major"),
        "ii": (2, "minor"),
        "IV": (5, "major"),
        "V": (7, "major"),
        "vi": (9, "minor"),
    },
    "minor": {
        "i": (0, "minor"),
        "III": (3, "major"),
        "iv": (5, "minor"),
        "V": (7, "major"),
        "VI": (8, "major"),
        "VII": (10, "major"),
    },
}
# One chord a bar; of those that suit a melody equally well the first is taken.
PROGRESSIONS: Mapping[str, tuple[str, ...]] = {
    "major": (
        *("I IV V I", "I vi IV V", "I V vi IV", "I I V I", "I IV I V", "I V I V"),
        *("I V I I", "I I IV V", "I I I V", "IV I V I", "I vi ii V", "IV V I I"),
        *("I ii V I", "I IV I I", "I V V I", "IV I I V", "vi IV I V"),
    ),
    "minor": (
        *("i iv V i", "i VI III VII", "i VII VI V", "i V i V", "i iv i V", "i i V i"),
        *("i VI iv V", "i V V i", "iv i V i", "i iv VII III", "III VII i V"),
    ),
}


def chords_of(progression: str, mode: str, tonic: int) -> list[Chord]:
    """The chords of numerals such as "I IV V I", in root position, above a tonic (a pitch class)."""
    degrees = [DEGREES[mode][numeral] for numeral in progression.split()]
    return [Chord((tonic + root) % 12, quality, (tonic + root) % 12) for root, quality in degrees]


def nearest(events: np.ndarray, semitones: int) -> np.ndarray:
    """Events (T,) transposed by `semitones` modulo an octave, in the direction that is nearer."""
    return np.where(events >= 0, events + (semitones + 6) % 12 - 6, events)


def moved(events: np.ndarray, chord: Chord) -> np.ndarray:
    """Events (T,) on a chord of C major, moved the nearer way to a triad, with its third."""
    third = QUALITIES[chord.quality][0][1]
    return nearest(np.where((events >= 0) & (events % 12 == 4), events - 4 + third, events), chord.root)


def clashes(upper: np.ndarray, lower: np.ndarray) -> int:
    """Beats at which two lines of events (T,) sound a second, a seventh or a tritone; two for a strong one.

    These are the dissonant interval classes of Huron 1994; strong are the first and the third beat of a bar.
    """
    steps = np.arange(0, min(len(upper), len(lower)), BEAT)
    high, low = sounding(upper)[steps], sounding(lower)[steps]
    clash = (high >= 0) & (low >= 0) & np.isin((high - low) % 12, DISSONANT)
    return int(clash @ (1 + (steps % STRONG == 0)))


def classes(chords: Sequence[Symbol], length: int) -> np.ndarray:
    """Which pitch classes the chord of each step has, bool (length, 12); none before the first chord."""
    held = np.zeros((length, 12), bool)
    for symbol in chords:
        held[symbol.step :] = [pitch in symbol.chord.classes for pitch in range(12)]
    return held


def strangers(melody: np.ndarray, chords: Sequence[Chord]) -> int:
    """Strong beats at which events (T,) sound a pitch that is not of the chord of their bar."""
    sounds = sounding(melody)
    return sum(
        sounds[step] >= 0 and int(sounds[step]) % 12 not in chords[step // BAR].classes
        for step in range(0, len(sounds), STRONG)
    )


def harmonised(melody: Melody, bar: np.ndarray) -> list[Chord]:
    """The chord of each bar of a melody in 4/4: for each four bars the progression that suits them best.

    Best is the one with the fewest `clashes` of the melody and a bar, events (16,) on the chord of C major,
    that is moved to the progression's chords; of equal ones that with the fewest `strangers`, then the first.
    The progressions are those of the melody's mode: of "major" for all but "minor". The last phrase may be
    shorter than a progression.
    """
    mode = "minor" if melody.mode == "minor" else "major"
    choices = [chords_of(each, mode, melody.tonic) for each in PROGRESSIONS[mode]]
    lines = [np.concatenate([moved(bar, chord) for chord in chords]) for chords in choices]
    events, chosen = sounding(melody.events), []
    for start in range(0, len(events), PHRASE * BAR):
        phrase = events[start : start + PHRASE * BAR]
        costs = [
            (clashes(phrase, line), strangers(phrase, chords))
            for chords, line in zip(choices, lines, strict=True)
        ]
        chosen += choices[costs.index(min(costs))][: -(-len(phrase) // BAR)]
    return chosen


def symbols(chords: Sequence[Chord]) -> tuple[Symbol, ...]:
    """The symbols of a chord a bar, one where the chord is another than in the bar before."""
    changes = [0, *(i for i in range(1, len(chords)) if chords[i] != chords[i - 1])]
    return tuple(Symbol(i * BAR, chords[i]) for i in changes if chords)
