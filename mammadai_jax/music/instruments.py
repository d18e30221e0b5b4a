"""The 128 instruments of General MIDI (level 1) by name; a program is the number of one, from 0."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

FAMILIES = {
    "piano": "Acoustic Grand Piano, Bright Acoustic Piano, Electric Grand Piano, Honky-tonk Piano, "
    "Electric Piano 1, Electric Piano 2, Harpsichord, Clavinet",
    "chromatic percussion": "Celesta, Glockenspiel, Music Box, Vibraphone, Marimba, Xylophone, "
    "Tubular Bells, Dulcimer",
    "organ": "Drawbar Organ, Percussive Organ, Rock Organ, Church Organ, Reed Organ, Accordion, Harmonica, "
    "Tango Accordion",
    "guitar": "Acoustic Guitar (nylon), Acoustic Guitar (steel), Electric Guitar (jazz), "
    "Electric Guitar (clean), Electric Guitar (muted), Overdriven Guitar, Distortion Guitar, "
    "Guitar Harmonics",
    "bass": "Acoustic Bass, Electric Bass (finger), Electric Bass (pick), Fretless Bass, Slap Bass 1, "
    "Slap Bass 2, Synth Bass 1, Synth Bass 2",
    "strings": "Violin, Viola, Cello, Contrabass, Tremolo Strings, Pizzicato Strings, Orchestral Harp, "
    "Timpani",
    "ensemble": "String Ensemble 1, String Ensemble 2, Synth Strings 1, Synth Strings 2, Choir Aahs, "
    "Voice Oohs, Synth Choir, Orchestra Hit",
    "brass": "Trumpet, Trombone, Tuba, Muted Trumpet, French Horn, Brass Section, Synth Brass 1, "
    "Synth Brass 2",
    "reed": "Soprano Sax, Alto Sax, Tenor Sax, Baritone Sax, Oboe, English Horn, Bassoon, Clarinet",
    "pipe": "Piccolo, Flute, Recorder, Pan Flute, Blown Bottle, Shakuhachi, Whistle, Ocarina",
    "synth lead": "Lead 1 (square), Lead 2 (sawtooth), Lead 3 (calliope), Lead 4 (chiff), Lead 5 (charang), "
    "Lead 6 (voice), Lead 7 (fifths), Lead 8 (bass + lead)",
    "synth pad": "Pad 1 (new age), Pad 2 (warm), Pad 3 (polysynth), Pad 4 (choir), Pad 5 (bowed), "
    "Pad 6 (metallic), Pad 7 (halo), Pad 8 (sweep)",
    "synth effects": "FX 1 (rain), FX 2 (soundtrack), FX 3 (crystal), FX 4 (atmosphere), FX 5 (brightness), "
    "FX 6 (goblins), FX 7 (echoes), FX 8 (sci-fi)",
    "ethnic": "Sitar, Banjo, Shamisen, Koto, Kalimba, Bagpipe, Fiddle, Shanai",
    "percussive": "Tinkle Bell, Agogo, Steel Drums, Woodblock, Taiko Drum, Melodic Tom, Synth Drum, "
    "Reverse Cymbal",
    "sound effects": "Guitar Fret Noise, Breath Noise, Seashore, Bird Tweet, Telephone Ring, Helicopter, "
    "Applause, Gunshot",
}
NAMES = tuple(name for names in FAMILIES.values() for name in names.split(", "))
_ALIASES = {
    **{"electric piano": "Electric Piano 1", "electric guitar": "Electric Guitar (clean)"},
    **{"bass": "Acoustic Bass", "organ": "Church Organ", "harp": "Orchestral Harp", "horn": "French Horn"},
    **{"strings": "String Ensemble 1", "double bass": "Contrabass", "tin whistle": "Whistle"},
    **{"saxophone": "Alto Sax", "sax": "Alto Sax", "choir": "Choir Aahs", "voice": "Choir Aahs"},
    **{"bagpipes": "Bagpipe", "nylon guitar": "Acoustic Guitar (nylon)", "lead": "Lead 1 (square)"},
}
_SUSTAINED = ("organ", "ensemble", "brass", "reed", "pipe", "synth lead", "synth pad")
_BOWED = ("Violin", "Viola", "Cello", "Contrabass", "Tremolo Strings", "Bagpipe", "Fiddle", "Shanai")


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


_MUSICAL = 112  # programs from here on are sound effects and percussion
# As instruments are called in a sentence: their names, with or without what is in brackets, the last words of
# these, and other names.
SPOKEN: Mapping[str, int] = {
    **{_words(name)[-1]: NAMES.index(name) for name in NAMES[:_MUSICAL][::-1] if name[-1].isalpha()},
    **{re.sub(r" [(\d].*", "", name).lower(): NAMES.index(name) for name in NAMES[:_MUSICAL][::-1]},
    **{" ".join(_words(name)): program for program, name in enumerate(NAMES[:_MUSICAL])},
    **{alias: NAMES.index(name) for alias, name in _ALIASES.items()},
}


def program_of(name: str) -> int:
    """The program of an instrument, 0..127; capitals, hyphens and brackets do not matter.

    A part of a name stands for the first instrument that has all its words: "piano" is the acoustic grand
    piano. ValueError, with the most similar names, for another name.
    """
    words = _words(name)
    full = _ALIASES.get(" ".join(words), name)
    exact = [n for n, each in enumerate(NAMES) if _words(each) == _words(full)]
    partial = [n for n, each in enumerate(NAMES) if words and set(words) <= set(_words(each))]
    if exact or partial:
        return (exact or partial)[0]
    raise ValueError(f"no instrument {name!r} in General MIDI{_similar(' '.join(words))}")


def is_sustained(program: int) -> bool:
    """Whether the instrument's tone sounds on, as a flute's does, and is not struck or plucked."""
    family = [*FAMILIES][program // 8]
    return family in _SUSTAINED or NAMES[program] in _BOWED


def _similar(name: str) -> str:
    """The most similar names, as the end of a sentence."""
    names = {part: each for each in NAMES for part in (" ".join(_words(each)), *_words(each)[:1])}
    names |= _ALIASES
    close = dict.fromkeys(names[match] for match in difflib.get_close_matches(name, names, n=3))
    return f": perhaps {' or '.join(close)}" if close else ", such as Flute, Violin or Acoustic Grand Piano"
