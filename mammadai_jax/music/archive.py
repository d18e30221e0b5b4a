"""Melodies in one file: an .npz of plain arrays and JSON, without pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mammadai_jax.music.notes import Melody
from mammadai_jax.music.transcription import Skipped

FORMAT = 1
_FIELDS = [field.name for field in dataclasses.fields(Melody) if field.name != "events"]


class InvalidArchive(ValueError):
    """A file that is damaged, or was written by another version."""


def save(path: Path, melodies: Sequence[Melody], skipped: Sequence[Skipped]) -> None:
    """Writes the file in one go, so that nobody ever sees half of it; OSError if it cannot be written."""
    events = np.concatenate([m.events for m in melodies]).astype(np.int16)
    table = {
        "lengths": [len(m) for m in melodies],
        "melodies": [[getattr(m, name) for name in _FIELDS] for m in melodies],
        "fields": _FIELDS,
        "skipped": skipped,
    }
    text = np.frombuffer(json.dumps(table).encode(), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        try:
            np.savez(file, format=FORMAT, events=events, table=text, check=_check(events, text))
            file.close()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def load(path: Path) -> tuple[list[Melody], list[Skipped]]:
    """The melodies and what was skipped; `InvalidArchive` if the file is damaged or of another format."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if arrays["format"] != FORMAT:
                raise InvalidArchive(f"{path} has format {arrays['format']}, not {FORMAT}")
            events, text = arrays["events"], arrays["table"]
            if (arrays["check"] != _check(events, text)).any():
                raise InvalidArchive(f"{path} is damaged: its checksum is wrong")
    except (OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidArchive(f"{path} is damaged: {error}") from error
    table = json.loads(text.tobytes())
    if table["fields"] != _FIELDS:
        raise InvalidArchive(f"{path} was written by another version")
    rows = np.split(events, np.cumsum(table["lengths"])[:-1])
    melodies = [Melody(row, *values) for row, values in zip(rows, table["melodies"], strict=True)]
    return melodies, [Skipped(*row) for row in table["skipped"]]


def _check(*arrays: np.ndarray) -> np.ndarray:
    """SHA-256 of the arrays, uint8 (32,)."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(sha.digest(), dtype=np.uint8)
