"""The run directory: all files of one training run.

run.json       settings, versions and the digest of the data
log.jsonl      metrics, a line for each chunk of updates: the same bytes however often the run was interrupted
timing.jsonl   seconds, and notes a second, of the same chunks
checkpoints/   the whole state of each stage
samples/       melodies of each stage: MIDI, WAV, MusicXML, SVG
report.html    the report
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from mammadai_jax.music import files
from mammadai_jax.training import launch, sealed
from mammadai_jax.training.checkpoints import Checkpoints
from mammadai_jax.version import __version__

FORMAT = 3
VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "distrax", "rlax", "numpy", "music21")
LOGS = ("log.jsonl", "timing.jsonl")
MAX_LOG = 256 << 20  # bytes
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
BOXED = "weights"  # what only the run.json of a box has, see training.box
# in a run directory, what a training writes there
OWN = ("run.json", *LOGS, "checkpoints", "samples", "report.html", "sweep.csv")

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
        self._identity = identity(self.path)
        self._logged = {name: hashlib.sha256() for name in LOGS}

    def checkpoints(self, stage: str) -> Checkpoints:
        """The checkpoints of a stage."""
        return Checkpoints(self.path / "checkpoints" / stage, run=self._identity)

    def log(self, stage: str, update: int, metrics: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Append a line to log.jsonl and one to timing.jsonl; both are on the disk when this returns."""
        if not launch.leads():
            return
        for name, row in zip(LOGS, (metrics, timing), strict=True):
            line = json.dumps({"stage": stage, "update": update, **row}).encode() + b"\n"
            with (self.path / name).open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            self._logged[name].update(line)

    def logged(self) -> dict[str, str]:
        """Digests, by file, of all that was logged of the stage that was rewound last."""
        return {name: sha.hexdigest() for name, sha in self._logged.items()}

    def rewind(self, stage: str, update: int, logged: Mapping[str, str] | None = None) -> None:
        """Remove the rows of a stage after an update, which are going to be logged again.

        The others become the last ones, so that stages that are rewound in turn are logged in their order.

        Args:
            stage: its name.
            update: of its newest checkpoint.
            logged: what `logged` gave when that was saved.

        Raises:
            RunError: if the rows until the checkpoint are not those that were logged.

        """
        launch.first(lambda: [self._rewind(name, stage, update, logged or {}) for name in LOGS])

    def rows(self, stage: str) -> list[dict[str, Any]]:
        """The log rows of a stage."""
        return [row for row in read_rows(self.path / "log.jsonl") if row["stage"] == stage]

    def close(self) -> None:
        """Unlock the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Run:
        """The run itself."""
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        """See close; an error of writing, as on a full disk, becomes a RunError that says how to go on."""
        self.close()
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            place = error.filename or self.path
            raise RunError(
                f"{place} cannot be written: {error.strerror}. Make room for it, and go on with --resume"
            ) from None

    def _rewind(self, name: str, stage: str, update: int, logged: Mapping[str, str]) -> None:
        """See rewind, for one of the logs."""
        path, others, own, last = self.path / name, [], [], 0
        for line, row in _lines(path):
            if row["stage"] != stage:
                others.append(line)
            elif row["update"] <= update:
                own.append(line)
                last = row["update"]
        sha = hashlib.sha256(b"".join(own))
        if logged.get(name, sha.hexdigest()) != sha.hexdigest():
            lost = f"it ends at {last} of {update} updates" if last < update else "it is damaged"
            raise RunError(
                f"{path} is not what was logged of stage {stage}: {lost}. Put back a copy of it, or remove "
                f"{self.path / 'checkpoints' / stage} to train that stage again"
            )
        files.write_atomically(path, b"".join(others + own))
        self._logged[name] = sha

    def _open(self, about: dict[str, Any], resume: bool) -> int:
        """Make or open the directory -> the lock on it."""
        if resume:
            refuse_nothing(self.path)
        _make(self.path)
        lock = _locked(self.path)
        try:
            self._begin(about, resume)
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _begin(self, about: dict[str, Any], resume: bool) -> None:
        """Write run.json; if something was trained already, compare `about` with it instead."""
        here = environment()
        refuse_box(self.path)
        if not resume and not any((self.path / name).exists() for name in ("log.jsonl", "checkpoints")):
            sealed.write(self.path / "run.json", FORMAT, {**about, "environment": here})
            return
        if not resume:
            raise RunError(
                f"{self.path} already holds a run: add --resume to go on with it, or choose another --out"
            )
        record = read(self.path)
        _same(record, about)
        for what in differences(record.get("environment"), here):
            _log.warning("this run was begun with %s = %s, now it is %s: its bits may differ", *what)


def _make(path: Path) -> None:
    """Make a run directory; RunError if that fails, or it holds other files, or links in place of its own."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; --out names a directory")
    try:
        path.mkdir(parents=True, exist_ok=True)
        # a run that was killed at its very beginning has left only hidden files
        holds = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise RunError(f"--out {path} cannot be made or read: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise RunError(f"--out {path} cannot be written to")
    if holds and "run.json" not in holds:
        raise RunError(f"{path} is not empty and holds no run: choose another --out")
    for own in (path / name for name in OWN):
        if own.is_symlink():
            raise RunError(f"{own} is a symbolic link: move its target there, or link all of {path}")
        if own.exists() and not (own.is_file() or own.is_dir()):
            raise RunError(f"{own} is neither a file nor a folder: remove it")


def _locked(path: Path) -> int:
    """A lock on a run directory: an open file, to be closed.

    The directory itself is locked, because a lock file could be removed. Where that cannot be done (NFS), it
    is a file in it.
    """
    reason = ""
    for place, flags in ((path, os.O_RDONLY | os.O_DIRECTORY), (path / ".lock", os.O_RDWR | os.O_CREAT)):
        try:
            return _lock(place, flags)
        except BlockingIOError:
            raise RunError(
                f"another process is training in {path}: wait for it, or choose another --out"
            ) from None
        except OSError as error:
            reason = error.strerror
    raise RunError(
        f"{path} cannot be locked against a second training ({reason}): choose an --out on a file system "
        "that has locks"
    )


def _lock(path: Path, flags: int) -> int:
    """Open and lock a file or directory; BlockingIOError if another process has locked it."""
    opened = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(opened)
        raise
    return opened


def refuse_nothing(path: Path) -> None:
    """RunError unless there is a run to go on with."""
    if not (Path(path) / "run.json").exists():
        raise RunError(f"{path} holds no run to go on with: leave --resume out to begin one")
    refuse_box(path)


def refuse_box(path: Path) -> None:
    """RunError if a directory holds a box of weights, with which no training begins or goes on."""
    if is_box(path):
        raise RunError(f"{path} is a box of weights, which learns no more: choose another --out")


def is_box(path: Path) -> bool:
    """Whether a directory holds a box (training.box) and no run."""
    try:
        return BOXED in read(path)
    except RunError:
        return False


def read(path: Path) -> dict[str, Any]:
    """The contents of run.json; RunError if there is none or it cannot be used."""
    try:
        return sealed.read(Path(path) / "run.json", FORMAT)
    except FileNotFoundError:
        raise RunError(f"{path} holds no run (no run.json): name the directory given to --out") from None
    except sealed.DamagedFile as error:
        raise RunError(str(error)) from None


def identity(path: Path) -> str:
    """What tells a run from all others: the digest of its run.json, which never changes once it has begun."""
    return read(path)[sealed.SEAL]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, without a last line that was cut short; RunError for another damaged line."""
    return [row for _, row in _lines(path)]


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The lines of a log and their rows, see read_rows; none if there is no file."""
    try:
        data = files.read(path, MAX_LOG)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None
    whole, _, _ = data.rpartition(b"\n")
    for number, line in enumerate(whole.splitlines(), start=1):
        row = _row(line)
        if row is None:
            raise RunError(f"{path}, line {number} cannot be read: put back a copy, or choose another --out")
        yield line + b"\n", row


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
        "cores": cores(),
    }


def cores() -> int:
    """How many cores XLA's programs are divided among: their number decides in which order sums are made."""
    given = os.environ.get("NPROC", "")
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return int(given) if given.isdecimal() else len(own)


def _same(record: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """RunError naming the first difference between a run's record and the `about` of a resumed one."""
    for name, before, now in differences({name: record.get(name) for name in about}, about):
        raise RunError(
            f"the run was begun with {name} = {before}, now it is {now}: "
            "resume it with the same, or choose another --out"
        )


def differences(before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """Dotted name and both values of everything in which two trees of plain values differ."""
    one, other = _flat(before), _flat(now)
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            yield name, one.get(name), other.get(name)


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        name: leaf
        for key, value in tree.items()
        for name, leaf in _flat(value, f"{prefix}.{key}".lstrip(".")).items()
    }
