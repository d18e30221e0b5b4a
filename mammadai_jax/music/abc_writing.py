"""Melodies as ABC notation 2.1, for other programs and for mail; `abc` reads it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from mammadai_jax.music.engraving import Symbol, bars_of, signature, tonic_name
from mammadai_jax.music.heading import key_fifths, meter_of, printable
from mammadai_jax.music.notes import Melody

_SIGNS = {-2: "__", -1: "_", 0: "=", 1: "^", 2: "^^"}
_BARS_A_LINE = 4


def abc(melody: Melody, program: int | None = None) -> str:
    """One tune in ABC, in 16ths: title, meter, tempo, key, upbeat, ties and rests.

    Notes that cross bars or beats are tied, and the last bar is padded with rests, as in `musicxml`. An
    unknown key has no accidentals in its signature. `program` is General MIDI's, None for no instrument.
    """
    beats, unit = meter_of(melody)
    fields = ["X:1", f"T:{_text(melody.title)}", f"M:{beats}/{unit}", "L:1/16", f"Q:1/4={melody.tempo:g}"]
    fields += [] if program is None else [f"%%MIDI program {program}"]
    bars = ["".join(_notes(symbols, melody)) for symbols in bars_of(melody, melody.fill)]
    lines = ["|".join(bars[begin : begin + _BARS_A_LINE]) for begin in range(0, len(bars), _BARS_A_LINE)]
    return "\n".join(["%abc-2.1", *fields, f"K:{_key(melody)}", "|\n".join(lines) + "|]", ""])


def _text(text: str) -> str:
    """A title in one line; a percent sign would begin a comment, and an escape ends in a letter."""
    return textwrap.shorten(printable(text).replace("\\", "").replace("%", "\\%"), 400, placeholder="...")


def _key(melody: Melody) -> str:
    """The key such as "F#min"; C where it is unknown."""
    name = tonic_name(melody)
    return f"{name}{melody.mode[:3]}" if name else "C"


def _notes(symbols: Sequence[Symbol], melody: Melody) -> Iterator[str]:
    """The notes of a bar.

    Programs differ in whether an accidental holds in other octaves and over ties: so from a letter's first
    one on, every note on it has its own.
    """
    fifths = key_fifths(melody) or 0
    altered: set[str] = set()
    for symbol in symbols:
        if symbol.pitch is None:
            yield f"z{symbol.steps}"
            continue
        letter, alteration, octave = symbol.name
        if alteration != signature(letter, fifths):
            altered.add(letter)
        sign = _SIGNS[alteration] if letter in altered else ""
        name = letter + "," * (4 - octave) if octave < 5 else letter.lower() + "'" * (octave - 5)
        yield f"{sign}{name}{symbol.steps}{'-' if symbol.tied_to else ''}"
