"""Melodies of the pieces that people judged, as the learners read melodies: on C, in the alphabet MAGENTA.

Polyphonic music is reduced to its skyline: the highest note at each onset, unless a higher one still sounds
(Uitdenbogerd & Zobel 1999).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mammadai_jax.music import files, smf
from mammadai_jax.music.corpus import DEGREES
from mammadai_jax.music.grid import quantised
from mammadai_jax.music.keys import guess_key
from mammadai_jax.music.notes import MAGENTA, Note, events_from_notes
from mammadai_jax.music.smf import InvalidMidi, TickNote

STEPS_PER_QUARTER = 4
GRIDS = range(60, 242, 2)  # ticks of a step that are tried where a file's tempo is not its beat
NEAR = 12  # ticks from a line of the grid within which an onset is on it


def skyline(path: Path, fit: bool = False) -> np.ndarray:
    """The skyline of a MIDI file without its drums, on C: tokens int32 (T,).

    With `fit` the grid is not that of the file's quarter notes but the one of GRIDS that its onsets fit best.
    InvalidMidi for a file that is none or has no notes; OSError if it cannot be read.
    """
    try:
        file = smf.load(files.read(path, smf.MAX_BYTES + 1))
        notes = [note for track in file.tracks for note in track.notes if note.channel != smf.DRUM_CHANNEL]
        if not notes:
            raise InvalidMidi("no notes (other than drums)")
        start = min(note.start for note in notes)
        notes = [note._replace(start=note.start - start, end=note.end - start) for note in notes]
        quarter = STEPS_PER_QUARTER * grid_of(notes) if fit else file.ticks_per_quarter
        return on_c(quantised(highest(notes), quarter, STEPS_PER_QUARTER)[0])
    except InvalidMidi as error:
        raise InvalidMidi(f"{path}: {error}") from None


def highest(notes: Sequence[TickNote]) -> list[TickNote]:
    """The notes that begin while no higher one sounds, in order of time; one at each onset."""
    kept: list[TickNote] = []
    for note in sorted(notes, key=lambda note: (note.start, -note.pitch)):
        last = kept[-1] if kept else None
        if last and (note.start == last.start or (note.start < last.end and note.pitch < last.pitch)):
            continue
        if last and note.start < last.end:
            kept[-1] = last._replace(end=note.start)
        kept.append(note)
    return kept


def grid_of(notes: Sequence[TickNote]) -> int:
    """Ticks of the step whose lines are near most onsets, beyond the share that would be near by chance."""
    onsets = np.array([note.start for note in notes])
    distance = lambda step: np.abs((onsets + step // 2) % step - step // 2)
    return max(GRIDS, key=lambda step: (distance(step) <= NEAR).mean() - (2 * NEAR + 1) / step)


def on_c(notes: Sequence[Note]) -> np.ndarray:
    """Tokens int32 (T,) of notes, transposed to the scale of C by their estimated key.

    The median pitch is as near to the middle of the alphabet as the key allows; pitches beyond the alphabet
    are moved by octaves.
    """
    tonic, mode = guess_key(notes)
    pitches = np.array([note.pitch for note in notes])
    shift = (DEGREES.get(mode, 0) - tonic) % 12
    middle = (MAGENTA.lowest + MAGENTA.highest) / 2
    shift += 12 * round((middle - float(np.median(pitches)) - shift) / 12)
    moved = pitches + shift
    moved += 12 * np.maximum(-((moved - MAGENTA.lowest) // 12), 0)
    moved -= 12 * np.maximum(-((MAGENTA.highest - moved) // 12), 0)
    placed = [note._replace(pitch=int(pitch)) for note, pitch in zip(notes, moved, strict=True)]
    return MAGENTA.encode(events_from_notes(placed))
