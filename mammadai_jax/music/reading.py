"""A melody from a file of any format: MIDI, ABC, MusicXML or a prompt of MIREX, by its suffix."""

from __future__ import annotations

from pathlib import Path

from mammadai_jax.music import abc, files, midi, mirex, musicxml
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.transcription import to_melody

ABC, MUSICXML = (".abc",), (".musicxml", ".xml", ".mxl")
SUFFIXES = (*midi.SUFFIXES, *ABC, *MUSICXML, *mirex.SUFFIXES)
MAX_BYTES = 4 << 20  # of an ABC file


def read(path: Path, number: int = 1) -> Melody:
    """The melody of a file; of one with several tunes, as ABC may have, that of such a number from 1.

    OSError if the file cannot be read; ValueError, which names it, if it has no such melody.
    """
    suffix = path.suffix.lower()
    if suffix in ABC:
        return _abc(path, number)
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} is no file of music that is read: {', '.join(SUFFIXES)}")
    if number != 1:
        raise ValueError(f"{path} has 1 tune, no tune {number}")
    reader = musicxml if suffix in MUSICXML else mirex if suffix in mirex.SUFFIXES else midi
    return reader.read(path)


def _abc(path: Path, number: int) -> Melody:
    texts = abc.split(abc.decode(files.read(path, MAX_BYTES)))
    if not 1 <= number <= len(texts):
        raise ValueError(f"{path} has {len(texts)} tunes in ABC, no tune {number}")
    try:
        return to_melody(abc.parse(texts[number - 1]), str(path), "")
    except ValueError as error:
        raise ValueError(f"{path}: tune {number}: {error}") from None
