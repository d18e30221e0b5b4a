"""Prompts and answers of MIREX's Symbolic Music Generation (2025) as JSON: bars of a tune, and what follows.

    {"prompt": [{"start": 16, "pitch": 72, "duration": 6}, ...]}

Times are in 16th notes, the meter is 4/4. A prompt is five bars long, the first of which is that of the
upbeat; the answer, {"generation": [...]}, begins in the sixth, at step 80.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mammadai_jax.music import files
from mammadai_jax.music.grid import quantised
from mammadai_jax.music.keys import ESTIMATED, key_of
from mammadai_jax.music.notes import Melody, Note, events_from_notes
from mammadai_jax.music.smf import TickNote

SUFFIXES = (".json",)
BAR, PROMPT = 16, 80  # steps
COVERED = "below a note that sounds"
MAX_BYTES = 1 << 20
FORM = '{"prompt": [{"start": 16, "pitch": 72, "duration": 6}, ...]}'
_RANGES = {"start": range(PROMPT), "pitch": range(128), "duration": range(1, 16 * PROMPT)}


def read(path: Path) -> Melody:
    """The melody of a prompt in a file; errors as of `files.read` and `parse`."""
    return parse(files.read(path, MAX_BYTES), str(path))


def parse(data: bytes, name: str = "JSON data") -> Melody:
    """The melody of a prompt called `name`: its highest voice; ValueError if it is none.

    The bar of the upbeat is left out where it is empty. `Melody.left_out` counts notes of other voices.
    """
    try:
        tree = json.loads(data)
        given = [TickNote(*_note(note)) for note in tree["prompt"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{name} is no prompt of MIREX, {FORM}: {error!r}") from None
    melody, left_out = quantised(given, 4, 4)
    highest = [note for note in melody if not _covered(note, melody)]
    if not highest:
        raise ValueError(f"{name}: the prompt has no notes")
    left_out[COVERED] += len(melody) - len(highest)
    before = BAR if highest[0].onset >= BAR else 0
    notes = [note._replace(onset=note.onset - before) for note in highest]
    of_all_voices = [Note(note.start, note.end - note.start, note.pitch) for note in given]
    tonic, mode, estimated = key_of(of_all_voices, -1, "")
    return Melody(
        events_from_notes(notes, PROMPT - before),
        title=Path(name).stem,
        source=name,
        tonic=tonic,
        mode=mode,
        pickup=0 if before else BAR - notes[0].onset,
        left_out=dict(+left_out),
        remarks=(ESTIMATED,) if estimated else (),
    )


def _note(note: Any) -> Iterable[int]:
    """Start, end, pitch of a note as a `TickNote` has them; ValueError or KeyError for what is none."""
    for name, allowed in _RANGES.items():
        if type(note[name]) is not int or note[name] not in allowed:
            raise ValueError(f"{name} is {allowed.start} to {allowed.stop - 1}, not {note[name]!r}")
    return note["start"], note["start"] + note["duration"], note["pitch"]


def _covered(note: Note, notes: Iterable[Note]) -> bool:
    """Whether a higher note, struck earlier, still sounds when a note begins."""
    return any(
        other.onset < note.onset < other.onset + other.duration and other.pitch > note.pitch
        for other in notes
    )


def generation(melody: Melody, begin: int) -> bytes:
    """The answer to a prompt: the notes of a melody from the step on at which the prompt ended."""
    notes = [note for note in melody.notes if note.onset >= begin]
    rows = [
        {"start": note.onset - begin + PROMPT, "pitch": note.pitch, "duration": note.duration}
        for note in notes
    ]
    return json.dumps({"generation": rows}).encode() + b"\n"
