"""Checkpoints of a learner's whole state: complete, verified, or refused with a reason.

Orbax writes the arrays. Beside each step there is a manifest, written last, with the SHA-256 of every file
and the shape and type of every leaf, because orbax restores a flipped bit or another type without an error.
The manifest also says of which run, stage and update the step is, so that it cannot pass for another one. A
step without a manifest was interrupted and is not used. Files that no manifest names are left alone.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import hashlib
import logging
import math
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax

from mammadai_jax.music import files
from mammadai_jax.training import interruption, launch, sealed

Result = TypeVar("Result")

FORMAT = 2
STEP = re.compile(r"[0-9]{9}")
# what an interrupted save leaves: a step, orbax's unfinished step, an unfinished manifest
UNFINISHED = re.compile(r"[0-9]{9}(\.orbax-checkpoint-tmp.*)?|\.[0-9]{9}\.json\.[0-9]+\.part")
# A state takes at most so many times the bytes of its files, and they of it, beyond the allowance: more is no
# state that a learner wrote, and would fill the memory.
RATIO, ALLOWANCE = 64, 128 << 20
MAX_BYTES = 1 << 33  # of a file
SPARE = 256 << 10  # bytes that a checkpoint takes besides its state


class CheckpointError(ValueError):
    """A checkpoint that cannot be used or written; the message says which, why, and what to do."""


class Checkpoints:
    """The checkpoints of one stage in a directory: `000000120/` and `000000120.json` for update 120.

    Args:
        directory: of the stage's name; made if missing.
        keep: how many of the newest are kept.
        run: the identity of the run that they belong to.

    Raises:
        CheckpointError: if the directory is a symbolic link, whose target may hold another's files.

    """

    def __init__(self, directory: Path, keep: int = 2, run: str = ""):
        self.directory, self.keep, self.run = Path(directory).absolute(), keep, run
        if self.directory.is_symlink():
            raise CheckpointError(f"{directory} is a symbolic link: move the checkpoints themselves there")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory = self.directory.resolve()

    def save(self, update: int, state: Any, logged: Mapping[str, str] | None = None) -> None:
        """Write the state after `update` updates; older ones than the newest `keep` are removed.

        Of several processes each writes what is on its own devices, and the first one everything else.

        Args:
            update: how many were made.
            state: of the learner.
            logged: digests of what was logged so far, which `logged` gives back.

        Raises:
            CheckpointError: if it cannot be written; those before are still there.

        """
        step = self._step(update)
        advice = ". Make room for it, or allow writing there, and go on with --resume"
        with _uninterrupted():
            _explained(lambda: self._save(update, state, logged or {}), f"{step} cannot be saved", advice)

    def updates(self) -> list[int]:
        """Updates with a finished checkpoint, oldest first."""
        return sorted(int(path.stem) for path in self.directory.glob("*.json") if STEP.fullmatch(path.stem))

    def logged(self, update: int) -> dict[str, str]:
        """What `save` was given as `logged` for an update; empty before the first."""
        return self._read_manifest(update)["logged"] if update else {}

    def restore(self, template: Any, warn: Callable[[str], None] = print) -> tuple[int, Any] | None:
        """The newest checkpoint that verifies, as (update, state), or None if there is none at all.

        Args:
            template: a state, or `jax.eval_shape` of one, with the leaves that are expected.
            warn: called with a message for each checkpoint that cannot be used.

        Raises:
            CheckpointError: if checkpoints are there and none can be used.

        """
        for step in self._without_manifest():
            warn(
                f"passed over: {step} has no manifest: its save was interrupted, or the manifest was removed"
            )
        reasons = []
        for update in reversed(self.updates()):
            try:
                self._verify(update, template)
                step = self._step(update)
                load = functools.partial(_load, step, template)
                return update, _explained(load, f"{step} cannot be restored")
            except CheckpointError as error:
                reasons.append(str(error))
                warn(f"passed over: {error}")
        if reasons:
            raise CheckpointError(
                f"no checkpoint can be used: {'; '.join(reasons)}. "
                f"Put back a copy of {self.directory}, or remove it to begin this stage anew"
            )
        return None

    def _save(self, update: int, state: Any, logged: Mapping[str, str]) -> None:
        """See save."""
        if launch.leads():
            _remove(self._manifest(update))
            self._remove_unfinished()
        _write(self._step(update), state)
        if not launch.leads():
            return
        about = {"update": update, **self._identity(), "logged": dict(logged)}
        contents = {**about, "leaves": _leaves(state), "files": _digests(self._step(update))}
        sealed.write(self._manifest(update), FORMAT, contents)
        for old in self.updates()[: -self.keep]:
            _remove(self._manifest(old))
            _remove(self._step(old))

    def _identity(self) -> dict[str, str]:
        """What the manifests of this run and stage have in common."""
        return {"run": self.run, "stage": self.directory.name}

    def _without_manifest(self) -> list[Path]:
        """Steps that were not finished, or have lost their manifest."""
        finished = {self._step(update).name for update in self.updates()}
        steps = sorted(path for path in self.directory.iterdir() if STEP.fullmatch(path.name))
        return [path for path in steps if path.name not in finished]

    def _remove_unfinished(self) -> None:
        """Remove steps without a manifest, and the temporary files of an interrupted save; nothing else."""
        finished = {self._step(update).name for update in self.updates()}
        for path in list(self.directory.iterdir()):
            if UNFINISHED.fullmatch(path.name) and path.name not in finished:
                _remove(path)

    def _step(self, update: int) -> Path:
        return self.directory / f"{update:09d}"

    def _manifest(self, update: int) -> Path:
        return self.directory / f"{update:09d}.json"

    def _verify(self, update: int, template: Any) -> None:
        """CheckpointError unless the files are those of the manifest and the leaves those of the template."""
        step, manifest = self._step(update), self._read_manifest(update)
        leaves, expected = manifest["leaves"], _leaves(template)
        if leaves != expected:
            name = min(name for name, _ in leaves.items() ^ expected.items())
            before, here = leaves.get(name, "absent"), expected.get(name, "absent")
            raise CheckpointError(
                f"{step} was written under another configuration: {name} is {before} there and {here} here; "
                "use the configuration of run.json or a new directory"
            )
        try:
            stored = sum((step / name).lstat().st_size for name in manifest["files"])
            _refuse_absurd(step, stored, template)
            damaged = [name for name, digest in manifest["files"].items() if _digest(step / name) != digest]
        except CheckpointError:
            raise
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{step} is damaged: a file of it cannot be read: {error}") from None
        if damaged:
            raise CheckpointError(f"{step} is damaged: {damaged[0]} is not as it was written")

    def _read_manifest(self, update: int) -> dict[str, Any]:
        """The manifest of an update; CheckpointError if it is none, or of another run, stage or update."""
        path = self._manifest(update)
        try:
            manifest = sealed.read(path, FORMAT)
        except (OSError, sealed.DamagedFile) as error:
            raise CheckpointError(f"no manifest of a checkpoint: {error}") from None
        for name, value in {"update": update, **self._identity()}.items():
            if manifest.get(name) != value:
                raise CheckpointError(
                    f"{path} is of another {name}: {manifest.get(name)!r:.20}, not {value!r:.20}"
                )
        if not all(_is_table(manifest.get(name)) for name in ("leaves", "files", "logged")):
            raise CheckpointError(
                f"no manifest of a checkpoint: {path} lacks leaves, files or digests of logs"
            )
        return manifest


def _is_table(value: Any) -> bool:
    """Whether a value of JSON is an object of texts."""
    return isinstance(value, dict) and all(isinstance(part, str) for part in value.values())


def _write(step: Path, state: Any) -> None:
    """Let orbax write a state; OSError beforehand if there is no room for it."""
    import orbax.checkpoint as ocp  # slow to import

    needed, free = _size(state) + SPARE, shutil.disk_usage(step.parent).free
    if free < needed:
        raise OSError(
            errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({needed:,} bytes are needed, {free:,} free)"
        )
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(step, state)


def _load(step: Path, template: Any) -> Any:
    """The state that orbax reads."""
    import orbax.checkpoint as ocp  # slow to import

    with _uninterrupted(), ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(step, jax.tree.map(_abstract, template))


def _explained(action: Callable[[], Result], failure: str, advice: str = "") -> Result:
    """What an action of orbax's gives; its error becomes a CheckpointError of one line."""
    with _silent():
        try:
            return action()
        except Exception as error:  # orbax, tensorstore and protobuf raise all kinds
            reason = _first_line(error)
        # its threads and tasks fail too, and say so when they are collected: here, where nobody hears it
        time.sleep(0.2)
        gc.collect()
    raise CheckpointError(f"{failure}: {reason}{advice}")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what orbax's threads and tasks log from the terminal."""
    logs, hook = [logging.getLogger(name) for name in ("absl", "asyncio")], sys.unraisablehook
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.CRITICAL)
        sys.unraisablehook = lambda _: None
        yield
    finally:
        sys.unraisablehook = hook
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _first_line(error: Exception) -> str:
    """What an error says first, shortened."""
    return f"{(str(error).strip() or type(error).__name__).splitlines()[0]:.200}"


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay signals until the end: orbax's threads would answer them with tracebacks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: held.append(number))
        for number in (*interruption.ENDING, signal.SIGALRM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """The leaf to restore: without a sharding orbax would need the device that it was saved from."""
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _remove(path: Path) -> None:
    """Remove a file, link or directory, also an incomplete one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _leaves(tree: Any) -> dict[str, str]:
    """Type and shape of every leaf, by its path."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{tuple(leaf.shape)}" for path, leaf in flat}


def _digests(step: Path) -> dict[str, str]:
    """SHA-256 of every file in a step's directory, by its relative path."""
    return {str(path.relative_to(step)): _digest(path) for path in sorted(step.rglob("*")) if path.is_file()}


def _digest(path: Path) -> str:
    """SHA-256 of a file; OSError if it is not a regular file, or lies behind a symbolic link."""
    if path.resolve() != path:
        raise OSError(errno.ELOOP, "a symbolic link, which a checkpoint never holds", str(path))
    return hashlib.sha256(files.read(path, MAX_BYTES)).hexdigest()


def _size(state: Any) -> int:
    """Bytes of a state, or of what a template describes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _refuse_absurd(step: Path, stored: int, template: Any) -> None:
    """CheckpointError if a step's files have far more or fewer bytes than the state that they should hold."""
    state = _size(template)
    if max(state, stored) > RATIO * min(state, stored) + ALLOWANCE:
        raise CheckpointError(f"{step} has {stored:,} bytes for a state of {state:,}: no learner wrote that")
