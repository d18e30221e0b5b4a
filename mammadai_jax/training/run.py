"""The run directory: all files of one training run.

run.json       settings, versions and the digest of the data
log.jsonl      metrics, a line for each chunk of updates: the same bytes however often the run was interrupted
timing.jsonl   seconds, and notes a second, of the same chunks
checkpoints/   the whole state of each stage
samples/       melodies of each stage: MIDI, WAV, SVG
report.html    the report
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import jax

from mammadai_jax.music import files
from mammadai_jax.training import launch
from mammadai_jax.training.checkpoints import Checkpoints
from mammadai_jax.version import __version__

FORMAT = 2
VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "distrax", "rlax", "numpy", "music21")

_log = logging.getLogger(__name__)


class RunError(ValueError):
    """A run directory that cannot be used; the message says why and what to do."""


class Run:
    """An open run directory, locked against other trainings.

    Of several processes that train together the first one writes, and the others only read.

    Args:
        path: the directory.
        about: what identifies the run (settings, digest of the data); kept in run.json.
        resume: continue the run in the directory, which must have the same `about`.

    Raises:
        RunError: if there is a run and `resume` is false, if its `about` differs, or if another process has
            locked it.

    """

    def __init__(self, path: Path, about: Mapping[str, Any], resume: bool = False):
        self.path = Path(path).resolve()
        self._lock = launch.first(lambda: self._open(json.loads(json.dumps(about)), resume))

    def checkpoints(self, stage: str) -> Checkpoints:
        """The checkpoints of a stage."""
        return Checkpoints(self.path / "checkpoints" / stage)

    def log(self, stage: str, update: int, metrics: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Append a line to log.jsonl and one to timing.jsonl; both are on the disk when this returns."""
        if not launch.leads():
            return
        for name, row in (("log.jsonl", metrics), ("timing.jsonl", timing)):
            with (self.path / name).open("ab") as file:
                file.write(json.dumps({"stage": stage, "update": update, **row}).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())

    def rewind(self, stage: str, update: int) -> None:
        """Remove the rows of a stage after an update, which are going to be logged again."""
        if not launch.leads():
            return
        for name in ("log.jsonl", "timing.jsonl"):
            path = self.path / name
            rows = read_rows(path)
            kept = [row for row in rows if row["stage"] != stage or row["update"] <= update]
            files.write_atomically(path, b"".join(json.dumps(row).encode() + b"\n" for row in kept))

    def rows(self, stage: str) -> list[dict[str, Any]]:
        """The log rows of a stage."""
        return [row for row in read_rows(self.path / "log.jsonl") if row["stage"] == stage]

    def close(self) -> None:
        """Unlock the directory."""
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Run:
        """The run itself."""
        return self

    def __exit__(self, *_) -> None:
        """See close."""
        self.close()

    def _open(self, about: dict[str, Any], resume: bool) -> IO[str]:
        """Make or open the directory -> the lock on it."""
        if resume:
            refuse_nothing(self.path)
        _make(self.path)
        lock = self._take_lock()
        try:
            self._begin(about, resume)
        except BaseException:
            lock.close()
            raise
        return lock

    def _take_lock(self) -> IO[str]:
        try:
            file = (self.path / ".lock").open("w")
        except OSError as error:
            raise RunError(f"--out {self.path} cannot be written to: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise RunError(
                f"another process is training in {self.path}: wait for it, or choose another --out"
            ) from None
        return file

    def _begin(self, about: dict[str, Any], resume: bool) -> None:
        """Write run.json; if something was trained already, compare `about` with it instead."""
        here = environment()
        if not resume and not any((self.path / name).exists() for name in ("log.jsonl", "checkpoints")):
            files.write_atomically(
                self.path / "run.json", _json({"format": FORMAT, **about, "environment": here})
            )
            return
        if not resume:
            raise RunError(
                f"{self.path} already holds a run: add --resume to go on with it, or choose another --out"
            )
        record = read(self.path)
        _same(record, about)
        if (before := record.get("environment")) != here:
            _log.warning("this run was begun with %s, now it is %s: its numbers may differ", before, here)


def _make(path: Path) -> None:
    """Make a run directory; RunError if that fails, or if it holds other files."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; --out names a directory")
    try:
        path.mkdir(parents=True, exist_ok=True)
        # a run that was killed at its very beginning has left only hidden files
        holds = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise RunError(f"--out {path} cannot be made or read: {error.strerror}") from None
    if holds and "run.json" not in holds:
        raise RunError(f"{path} is not empty and holds no run: choose another --out")


def refuse_nothing(path: Path) -> None:
    """RunError unless there is a run to go on with."""
    if not (Path(path) / "run.json").exists():
        raise RunError(f"{path} holds no run to go on with: leave --resume out to begin one")


def read(path: Path) -> dict[str, Any]:
    """The contents of run.json; RunError if there is none or it cannot be read."""
    file = Path(path) / "run.json"
    try:
        record = json.loads(file.read_text())
    except FileNotFoundError:
        raise RunError(f"{path} holds no run (no run.json): name the directory given to --out") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{file} cannot be read: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RunError(
            f"{file} is not a run record of format {FORMAT}, the only one that this version of mammadai_jax "
            "reads: train again with another --out, or use the version that wrote it"
        )
    return record


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, without a last line that was cut short; RunError for another damaged line."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(lines := path.read_bytes().splitlines(keepends=True), start=1):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines):
            raise RunError(f"{path}, line {number} cannot be read: put back a copy, or choose another --out")
    return rows


def _row(line: bytes) -> dict[str, Any] | None:
    """The row on a line of a log; None if the line is damaged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(row, dict) and isinstance(row.get("stage"), str) and type(row.get("update")) is int
    return row if sound else None


def environment() -> dict[str, Any]:
    """Versions and devices that a run is trained with."""
    versions = {}
    for name in VERSIONED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    devices = jax.devices()
    return {
        "mammadai_jax": __version__,
        "python": platform.python_version(),
        "versions": versions,
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
    }


def _same(record: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """RunError naming the first difference between a run's record and the `about` of a resumed one."""
    before, now = _flat({name: record.get(name) for name in about}), _flat(about)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise RunError(
                f"the run was begun with {name} = {before.get(name)}, now it is {now.get(name)}: "
                "resume it with the same, or choose another --out"
            )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        name: leaf
        for key, value in tree.items()
        for name, leaf in _flat(value, f"{prefix}.{key}".lstrip(".")).items()
    }


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=1).encode() + b"\n"
