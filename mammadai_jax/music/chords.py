"""Chords by name: root, quality and bass of what sounds together, and the chord symbols of a piece.

A quality has the name that MusicXML gives it. Its fifth may be missing if it is perfect.
"""

from __future__ import annotations

import bisect
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mammadai_jax.music.engraving import beat_of, in_letters, lowest_place, place_in_key, spelling
from mammadai_jax.music.heading import Heading, meter_of
from mammadai_jax.music.notes import Melody, sounding
from mammadai_jax.music.piece import Piece

# Semitones above the root, and what a symbol adds to the root's name; earlier ones are preferred.
QUALITIES: dict[str, tuple[tuple[int, ...], str]] = {
    "major": ((0, 4, 7), ""),
    "minor": ((0, 3, 7), "m"),
    "diminished": ((0, 3, 6), "dim"),
    "augmented": ((0, 4, 8), "+"),
    "dominant": ((0, 4, 7, 10), "7"),
    "minor-seventh": ((0, 3, 7, 10), "m7"),
    "half-diminished": ((0, 3, 6, 10), "m7b5"),
    "major-seventh": ((0, 4, 7, 11), "maj7"),
    "diminished-seventh": ((0, 3, 6, 9), "dim7"),
    "major-minor": ((0, 3, 7, 11), "m(maj7)"),
    "suspended-fourth": ((0, 5, 7), "sus4"),
    "power": ((0, 7), "5"),
}
_OPEN = ("suspended-fourth", "power")  # without a third
# an interval above the root, on the line of fifths
_IN_FIFTHS = {0: 0, 3: -3, 4: 4, 5: -1, 7: 1, 10: -2, 11: 5}


class Chord(NamedTuple):
    """A chord: pitch classes of its root and of its bass, and its quality, a name of QUALITIES."""

    root: int
    quality: str
    bass: int

    @property
    def classes(self) -> frozenset[int]:
        """Its pitch classes, those of a missing fifth too."""
        return frozenset((self.root + interval) % 12 for interval in QUALITIES[self.quality][0])

    @property
    def inversion(self) -> int:
        """0 in root position, 1 with the third in the bass, and so on."""
        return QUALITIES[self.quality][0].index((self.bass - self.root) % 12)

    @property
    def has_third(self) -> bool:
        """Whether it is a triad or a seventh chord."""
        return self.quality not in _OPEN


class Symbol(NamedTuple):
    """A chord symbol: the chord that holds from a step on."""

    step: int
    chord: Chord


def name(pitches: Iterable[int]) -> Chord | None:
    """The chord of MIDI pitches; None if they are none, or fewer than two pitch classes.

    Triads are preferred to seventh chords, complete ones to those without a fifth, and among equal ones the
    one whose root is in the bass: augmented triads and diminished sevenths are named after their bass.
    """
    pitches = sorted(pitches)
    classes = frozenset(pitch % 12 for pitch in pitches)
    fits = _FITS.get(classes)
    if not fits:
        return None
    bass = pitches[0] % 12
    root, quality = next((fit for fit in fits if fit[0] == bass), fits[0])
    return Chord(root, quality, bass)


def _fits() -> dict[frozenset[int], list[tuple[int, str]]]:
    """The roots and qualities that sets of pitch classes may have, the preferred first."""
    complete = [(quality, intervals) for quality, (intervals, _) in QUALITIES.items()]
    without = [(q, tuple(i for i in row if i != 7)) for q, row in complete if 7 in row and q not in _OPEN]
    fits: dict[frozenset[int], list[tuple[int, str]]] = {}
    for quality, intervals in complete + without:
        for root in range(12):
            classes = frozenset((root + interval) % 12 for interval in intervals)
            given = fits.setdefault(classes, [])
            if all(other == quality for _, other in given):
                given.append((root, quality))
    return fits


_FITS = _fits()
# whether a set of pitch classes, as an integer with bit c for class c, is a triad or a seventh chord: (4096,)
IS_CHORD = np.zeros(4096, bool)
IS_CHORD[[sum(1 << c for c in classes) for classes, fits in _FITS.items() if fits[0][1] not in _OPEN]] = True


def beat_steps(heading: Heading, steps_per_quarter: int = 4) -> int:
    """Steps of a beat: a dotted quarter in 3/8, 6/8, 9/8 and 12/8, else a quarter."""
    return max(beat_of(*meter_of(heading, steps_per_quarter)) * steps_per_quarter // 4, 1)


def strong_beats(heading: Heading, length: int, steps_per_quarter: int = 4) -> range:
    """The steps of strong beats: of each bar the first, and the middle one of four, six ... beats."""
    bar, beat = heading.steps_per_bar, beat_steps(heading, steps_per_quarter)
    has_middle = bar % (2 * beat) == 0 and bar > 2 * beat
    return range(0, length, bar // 2 if has_middle else bar)


def symbols(piece: Piece) -> tuple[Symbol, ...]:
    """The chord symbols of a piece, one where the chord of a beat is another than before.

    The chord of a beat is the first in it with a third, else the first of any kind; a beat without a chord
    keeps the symbol before.
    """
    return tuple(_changes(piece))


def _changes(piece: Piece) -> Iterator[Symbol]:
    rows, beat = _pitches(piece), beat_steps(piece, piece.steps_per_quarter)
    before = None
    for step in range(0, len(rows), beat):
        chords = [name(row[row >= 0].tolist()) for row in rows[step : step + beat]]
        named = [chord for chord in chords if chord]
        chord = next((chord for chord in named if chord.has_third), named[0] if named else None)
        if chord and chord != before:
            yield Symbol(step, chord)
            before = chord


def in_words(chord: Chord, heading: Heading) -> str:
    """A chord symbol such as "F#m7/A", spelled in the key of a heading."""
    places = places_in(chord, heading)
    root, bass = (in_letters(places[c]) for c in (chord.root, chord.bass))
    return root + QUALITIES[chord.quality][1] + (f"/{bass}" if chord.bass != chord.root else "")


def insert(measure: ET.Element, heading: Heading, starts: Sequence[int], symbols: Iterable[Symbol]) -> None:
    """Write chord symbols into a measure of MusicXML whose first notes begin at such steps."""
    notes = measure.findall("note")[: len(starts)]
    for step, chord in symbols:
        if starts[0] <= step < starts[0] + heading.steps_per_bar - starts[0] % heading.steps_per_bar:
            place = bisect.bisect(starts, step) - 1
            at = list(measure).index(notes[place])
            measure.insert(at, element(chord, heading, step - starts[place]))


def element(chord: Chord, heading: Heading, offset: int = 0) -> ET.Element:
    """A chord symbol as MusicXML's element `harmony`, so many steps (of four a quarter) after its place."""
    harmony = ET.Element("harmony")
    places = places_in(chord, heading)
    _add_place(ET.SubElement(harmony, "root"), "root", places[chord.root])
    kind = ET.SubElement(harmony, "kind", text=QUALITIES[chord.quality][1])
    kind.text = chord.quality
    if chord.bass != chord.root:
        ET.SubElement(harmony, "inversion").text = str(chord.inversion)
        _add_place(ET.SubElement(harmony, "bass"), "bass", places[chord.bass])
    if offset:
        ET.SubElement(harmony, "offset").text = str(offset)
    return harmony


def _add_place(parent: ET.Element, kind: str, place: int) -> None:
    letter, alter, _ = spelling(0, place)
    ET.SubElement(parent, f"{kind}-step").text = letter
    if alter:
        ET.SubElement(parent, f"{kind}-alter").text = str(alter)


def by_bar(music: Melody | Piece, changes: Sequence[Symbol]) -> str:
    """Chord symbols bar by bar: "| C G7 | Am |"; a bar in which the chord stays has a "-"."""
    bars: list[list[str]] = [[] for _ in range(-(-len(music) // music.steps_per_bar))]
    for step, chord in changes:
        bars[step // music.steps_per_bar].append(in_words(chord, music))
    return f"| {' | '.join(' '.join(bar) or '-' for bar in bars)} |"


def places_in(chord: Chord, heading: Heading) -> dict[int, int]:
    """Where the pitch classes of a chord lie on the line of fifths: in thirds above the root, near the key.

    So F minor in C has an A flat, and E major a G sharp. Chords without a perfect fifth are spelled by the
    key alone, as Bach's are best.
    """
    intervals = QUALITIES[chord.quality][0]
    if 7 not in intervals:
        return {pitch: place_in_key(pitch, heading) for pitch in chord.classes}
    middle = lowest_place(heading) + 5.5
    root = place_in_key(chord.root, heading)
    roots = (root - 12, root, root + 12)
    rows = [[place + _IN_FIFTHS[interval] for interval in intervals] for place in roots]
    nearest = min(rows, key=lambda row: max(abs(place - middle) for place in row))
    return {(chord.root + interval) % 12: at for interval, at in zip(intervals, nearest, strict=True)}


def places_of(piece: Piece) -> np.ndarray:
    """Where what sounds lies on the line of fifths, by the chord of the step, else by the key: int (V, T)."""
    places = np.zeros(piece.voices.shape[::-1], int)
    for step, row in enumerate(_pitches(piece)):
        chord = name(row[row >= 0].tolist())
        by_chord = places_in(chord, piece) if chord else {}
        places[step] = [by_chord.get(p % 12, place_in_key(p, piece)) for p in row.tolist()]
    return places.T


def agreement(piece: Piece, voice: int = 0) -> tuple[int, int]:
    """On how many strong beats a voice has a note of the chord that is named, and on how many it sounds."""
    rows, changes = _pitches(piece), symbols(piece)
    agreeing = total = 0
    for step in strong_beats(piece, len(rows), piece.steps_per_quarter):
        pitch = rows[step, voice]
        chord = next((s.chord for s in reversed(changes) if s.step <= step), None)
        if pitch >= 0:
            total += 1
            agreeing += chord is not None and int(pitch) % 12 in chord.classes
    return agreeing, total


def _pitches(piece: Piece) -> np.ndarray:
    """What sounds in each step, -1 for silence: int16 (T, V)."""
    return np.stack([sounding(row) for row in piece.voices], axis=1)
