"""Melodies, or pieces of several voices, in one .npz file of plain arrays and JSON, without pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from mammadai_jax.music import files
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.transcription import Skipped

# Part of the files' names, so raise it also when what reads the music returns something else.
FORMAT = 4
MAX_BYTES = 256 << 20
_EVENTS = {Melody: "events", Piece: "voices"}  # the field with the events
Music = TypeVar("Music", Melody, Piece)
_log = logging.getLogger(__name__)


class InvalidArchive(ValueError):
    """A file that is damaged, or was written by another version."""


def cached(
    path: Path | None,
    kind: type[Music],
    reader: Callable[[], tuple[list[Music], list[Skipped]]],
    refresh: bool,
) -> tuple[list[Music], list[Skipped]]:
    """What is stored in the file; if it is not there, is damaged or to be refreshed, what `reader` returns.

    That is stored then; a warning is logged if it cannot be, or if the file is damaged.
    """
    if path is None:
        return reader()
    name = path.name.partition("-")[0]
    if path.exists() and not refresh:
        try:
            return load(path, kind)
        except InvalidArchive as error:
            _log.warning("reading the %s corpus again: %s", name, error)
    music, skipped = reader()
    try:
        save(path, music, skipped, kind)
    except OSError as error:
        _log.warning("the %s corpus could not be cached in %s: %s", name, path.parent, error)
    return music, skipped


def save(path: Path, music: Sequence[Music], skipped: Sequence[Skipped], kind: type[Music] = Melody) -> None:
    """Writes the file, atomically and with the folders it needs; OSError if it cannot be written."""
    arrays = [getattr(one, _EVENTS[kind]) for one in music]
    events = np.concatenate([np.zeros(0, np.int16), *(array.ravel() for array in arrays)])
    table = {
        "shapes": [array.shape for array in arrays],
        "music": [[getattr(one, name) for name in _fields(kind)] for one in music],
        "fields": _fields(kind),
        "skipped": skipped,
    }
    text = np.frombuffer(json.dumps(table).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, format=np.array(FORMAT), events=events, table=text, check=_check(events, text))
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, buffer.getvalue())


def load(path: Path, kind: type[Music] = Melody) -> tuple[list[Music], list[Skipped]]:
    """The music and what was skipped; `InvalidArchive` if the file is damaged or of another format."""
    try:
        return _read(files.read(path, MAX_BYTES), path, kind)
    except InvalidArchive:
        raise
    except Exception as error:  # zipfile and NumPy raise all kinds, as forged contents do
        raise InvalidArchive(f"{path} is damaged: {error}") from error


def _fields(kind: type[Music]) -> list[str]:
    """The names of the metadata."""
    return [field.name for field in dataclasses.fields(kind) if field.name != _EVENTS[kind]]


def _read(data: bytes, path: Path, kind: type[Music]) -> tuple[list[Music], list[Skipped]]:
    """See load, for the bytes of a file."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        version, events, text, check = (arrays[name] for name in ("format", "events", "table", "check"))
    if version != FORMAT:
        raise InvalidArchive(f"{path} has format {version}, not {FORMAT}")
    if not np.array_equal(check, _check(events, text)):
        raise InvalidArchive(f"{path} is damaged: its checksum is wrong")
    table = json.loads(text.tobytes())
    if table["fields"] != _fields(kind):
        raise InvalidArchive(f"{path} was written by another version")
    ends = np.cumsum([np.prod(shape) for shape in table["shapes"]], dtype=int)
    parts = zip(np.split(events, ends)[:-1], table["shapes"], table["music"], strict=True)
    music = [
        kind(row.reshape(shape), **dict(zip(table["fields"], values, strict=True)))
        for row, shape, values in parts
    ]
    return music, [Skipped(*row) for row in table["skipped"]]


def _check(*arrays: np.ndarray) -> np.ndarray:
    """SHA-256 of the arrays, uint8 (32,)."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(sha.digest(), dtype=np.uint8)
