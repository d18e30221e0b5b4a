"""How notes are written: bars, note values, ties, beams and the spelling of pitches, on 16th notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from mammadai_jax.music.heading import Heading, key_fifths, meter_of
from mammadai_jax.music.notes import Melody

# Steps of the note values: their MusicXML name and dots.
VALUES = {
    16: ("whole", 0),
    12: ("half", 1),
    8: ("half", 0),
    6: ("quarter", 1),
    4: ("quarter", 0),
    3: ("eighth", 1),
    2: ("eighth", 0),
    1: ("16th", 0),
}
_BEAMS = {"eighth": 1, "16th": 2}
_LETTERS = "FCGDAEB"


@dataclasses.dataclass
class Symbol:
    """A written note or rest (pitch None): `start` and `steps` within its bar, its ties, and its `name`.

    The name is letter, alteration and octave, as of `spelling`.
    """

    start: int
    steps: int
    pitch: int | None
    name: tuple[str, int, int] = ("", 0, 0)
    tied_from: bool = False
    tied_to: bool = False


def beat_of(beats: int, unit: int) -> int:
    """Steps that share a beam: a dotted quarter in 3/8, 6/8, 9/8 and 12/8, else a quarter."""
    return 6 if unit == 8 and beats % 3 == 0 else 4


def bars_of(melody: Melody, fill: int, places: Sequence[int] = ()) -> Iterator[list[Symbol]]:
    """The symbols of every bar; each bar is full, except an upbeat, which begins after `fill` steps.

    A note is named by the place on the line of fifths that is given for its first step, else by the key.
    """
    size = melody.steps_per_bar
    beat = beat_of(*meter_of(melody))
    segments = list(_segments(melody, fill, max(-(-len(melody) // size), 1) * size))
    position = 0
    for start in range(0, segments[-1][1], size):
        symbols: list[Symbol] = []
        while position < len(segments) and segments[position][0] < start + size:
            onset, end, pitch = segments[position]
            name = ("", 0, 0)
            if pitch is not None:
                name = spelling(pitch, places[onset] if len(places) else place_in_key(pitch, melody))
            symbols += _symbols((onset, end, pitch), name, start, size, beat)
            if end > start + size:
                break
            position += 1
        yield symbols


def _segments(melody: Melody, first: int, last: int) -> Iterator[tuple[int, int, int | None]]:
    """Notes and rests (onset, end, pitch or None) that cover first..last without gaps."""
    now = first
    for onset, duration, pitch in melody.notes:
        if onset > now:
            yield now, onset, None
        yield onset, onset + duration, pitch
        now = onset + duration
    if now < last:
        yield now, last, None


def _symbols(
    segment: tuple[int, int, int | None], name: tuple[str, int, int], start: int, size: int, beat: int
) -> Iterator[Symbol]:
    """The part of a segment that lies in the bar at `start`, as symbols tied to each other."""
    onset, end, pitch = segment
    now, stop = max(onset, start), min(end, start + size)
    if pitch is None and stop - now == size:
        yield Symbol(0, size, None)
        return
    while now < stop:
        steps = _longest_value(now - start, stop - now, beat, pitch is None)
        tied_from = pitch is not None and now > onset
        tied_to = pitch is not None and now + steps < end
        yield Symbol(now - start, steps, pitch, name, tied_from, tied_to)
        now += steps


def _longest_value(start: int, left: int, beat: int, rest: bool) -> int:
    """The longest note value, at most `left`, that does not obscure the beats of the bar at `start`."""
    for steps in VALUES:
        on_beat = start % beat == 0 and (steps <= beat or steps % beat in (0, beat // 2))
        within_beat = start % beat + steps <= beat
        syncopation = not rest and beat == 4 and start % 4 == 2 and steps == 4
        if steps <= left and (on_beat or within_beat or syncopation):
            return steps
    return 1


def tonic_name(heading: Heading) -> str:
    """The tonic as its key spells it, such as "F#" or "Bb"; empty if the key is unknown."""
    if key_fifths(heading) is None:
        return ""
    return in_letters(place_in_key(heading.tonic, heading))


def place_in_key(pitch: int, heading: Heading) -> int:
    """Where a MIDI pitch lies on the line of fifths (F is -1, C 0, G 1) by a heading's key, C if unknown.

    It is from 3 fifths below to 8 above the key: in C from E flat to G sharp. In minor it is one fifth
    higher, in A minor from B flat to D sharp: so named are 99.8 % of the notes of Bach's chorales as they are
    written, in major and in minor.
    """
    lowest = lowest_place(heading)
    return lowest + (pitch * 7 - lowest) % 12


def lowest_place(heading: Heading) -> int:
    """The lowest of the twelve places on the line of fifths by which a key names its pitches."""
    return (key_fifths(heading) or 0) - (2 if heading.mode in ("minor", "aeolian") else 3)


def spelling(pitch: int, place: int) -> tuple[str, int, int]:
    """Letter, alteration and octave of a MIDI pitch with such a place on the line of fifths."""
    alter = (place + 1) // 7
    return _LETTERS[(place + 1) % 7], alter, (pitch - alter) // 12 - 1


def in_letters(place: int) -> str:
    """The name of a place on the line of fifths, such as "F#" or "Bb"."""
    letter, alter, _ = spelling(0, place)
    return letter + "#" * alter + "b" * -alter


def signature(letter: str, fifths: int) -> int:
    """The alteration of a letter by the key signature."""
    return (fifths - _LETTERS.index(letter) + 6) // 7


def beams_of(symbols: list[Symbol], beat: int) -> list[list[str]]:
    """MusicXML's beams of every symbol, outer first; adjacent notes within a beat share them."""
    groups: list[list[int]] = []
    for index, symbol in enumerate(symbols):
        flags = _flags(symbol)
        together = groups and groups[-1][-1] == index - 1
        if flags and together and symbols[index - 1].start // beat == symbol.start // beat:
            groups[-1].append(index)
        elif flags:
            groups.append([index])
    beams: list[list[str]] = [[] for _ in symbols]
    for group in groups:
        if len(group) > 1:
            for level in (1, 2):
                _add_beam(beams, group, [_flags(symbols[i]) >= level for i in group])
    return beams


def _add_beam(beams: list[list[str]], group: list[int], beamed: list[bool]) -> None:
    """One level of beams over a group: begin, continue, end, or a hook where it is alone."""
    for place, index in enumerate(group):
        if not beamed[place]:
            continue
        before = place > 0 and beamed[place - 1]
        after = place + 1 < len(group) and beamed[place + 1]
        alone = "backward hook" if place else "forward hook"
        names = {(True, True): "continue", (True, False): "end", (False, True): "begin"}
        beams[index].append(names.get((before, after), alone))


def _flags(symbol: Symbol) -> int:
    """Flags of a note: 1 for an eighth, 2 for a 16th, 0 for longer ones and rests."""
    if symbol.pitch is None or symbol.steps not in VALUES:
        return 0
    return _BEAMS.get(VALUES[symbol.steps][0], 0)
