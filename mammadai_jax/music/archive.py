"""Melodies in one .npz file of plain arrays and JSON, without pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mammadai_jax.music import files
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.transcription import Skipped

# Part of the file name of the folk corpus, so raise it also when `folk.read` returns other melodies.
FORMAT = 3
MAX_BYTES = 256 << 20
_FIELDS = [field.name for field in dataclasses.fields(Melody) if field.name != "events"]


class InvalidArchive(ValueError):
    """A file that is damaged, or was written by another version."""


def save(path: Path, melodies: Sequence[Melody], skipped: Sequence[Skipped]) -> None:
    """Writes the file, atomically and with the folders it needs; OSError if it cannot be written."""
    events = np.concatenate([np.zeros(0, np.int16), *(m.events for m in melodies)])
    table = {
        "lengths": [len(m) for m in melodies],
        "melodies": [[getattr(m, name) for name in _FIELDS] for m in melodies],
        "fields": _FIELDS,
        "skipped": skipped,
    }
    text = np.frombuffer(json.dumps(table).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, format=np.array(FORMAT), events=events, table=text, check=_check(events, text))
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, buffer.getvalue())


def load(path: Path) -> tuple[list[Melody], list[Skipped]]:
    """The melodies and what was skipped; `InvalidArchive` if the file is damaged or of another format."""
    try:
        return _read(files.read(path, MAX_BYTES), path)
    except InvalidArchive:
        raise
    except Exception as error:  # zipfile and NumPy raise all kinds, as forged contents do
        raise InvalidArchive(f"{path} is damaged: {error}") from error


def _read(data: bytes, path: Path) -> tuple[list[Melody], list[Skipped]]:
    """See load, for the bytes of a file."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        version, events, text, check = (arrays[name] for name in ("format", "events", "table", "check"))
    if version != FORMAT:
        raise InvalidArchive(f"{path} has format {version}, not {FORMAT}")
    if not np.array_equal(check, _check(events, text)):
        raise InvalidArchive(f"{path} is damaged: its checksum is wrong")
    table = json.loads(text.tobytes())
    if table["fields"] != _FIELDS:
        raise InvalidArchive(f"{path} was written by another version")
    rows = np.split(events, np.cumsum(table["lengths"]))[:-1]
    melodies = [Melody(row, *values) for row, values in zip(rows, table["melodies"], strict=True)]
    return melodies, [Skipped(*row) for row in table["skipped"]]


def _check(*arrays: np.ndarray) -> np.ndarray:
    """SHA-256 of the arrays, uint8 (32,)."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(sha.digest(), dtype=np.uint8)
