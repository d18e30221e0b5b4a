"""Checkpoints of a learner's whole state: complete, verified, or refused with a reason.

Orbax writes the arrays. Beside each step there is a manifest, written last, with the SHA-256 of every file
and the shape and type of every leaf, because orbax restores a flipped bit or another type without an error. A
step without a manifest was interrupted and is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from mammadai_jax.music import files
from mammadai_jax.training import interruption, launch

FORMAT = 1
STEP = re.compile(r"[0-9]{9}")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says which, why, and what to do."""


class Checkpoints:
    """The checkpoints of one stage in a directory: `000000120/` and `000000120.json` for update 120.

    Args:
        directory: made if missing.
        keep: how many of the newest are kept.

    """

    def __init__(self, directory: Path, keep: int = 2):
        self.directory = Path(directory).resolve()
        self.keep = keep
        self.directory.mkdir(parents=True, exist_ok=True)

    def save(self, update: int, state: Any) -> None:
        """Write the state after `update` updates; older ones than the newest `keep` are removed.

        Of several processes each writes what is on its own devices, and the first one everything else.
        """
        import orbax.checkpoint as ocp  # slow to import

        step = self._step(update)
        if launch.leads():
            self._manifest(update).unlink(missing_ok=True)
            self._remove_unfinished()
        with _uninterrupted():
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(step, state)
            if not launch.leads():
                return
            manifest = {"format": FORMAT, "update": update, "leaves": _leaves(state), "files": _digests(step)}
            files.write_atomically(self._manifest(update), json.dumps(manifest, indent=1).encode())
        for old in self.updates()[: -self.keep]:
            self._manifest(old).unlink()
            _remove(self._step(old))

    def updates(self) -> list[int]:
        """Updates with a finished checkpoint, oldest first."""
        return sorted(int(path.stem) for path in self.directory.glob("*.json") if STEP.fullmatch(path.stem))

    def restore(self, template: Any, warn: Callable[[str], None] = print) -> tuple[int, Any] | None:
        """The newest checkpoint that verifies, as (update, state), or None if there is none at all.

        Args:
            template: a state, or `jax.eval_shape` of one, with the leaves that are expected.
            warn: called with a message for each checkpoint that cannot be used.

        Raises:
            CheckpointError: if checkpoints are there and none can be used.

        """
        import orbax.checkpoint as ocp  # slow to import

        reasons = []
        for update in reversed(self.updates()):
            try:
                self._verify(update, template)
            except CheckpointError as error:
                reasons.append(str(error))
                warn(f"passed over: {error}")
                continue
            with _uninterrupted(), ocp.StandardCheckpointer() as checkpointer:
                return update, checkpointer.restore(self._step(update), jax.tree.map(_abstract, template))
        if reasons:
            raise CheckpointError(
                f"no checkpoint can be used: {'; '.join(reasons)}. "
                f"Put back a copy of {self.directory}, or remove it to begin this stage anew"
            )
        return None

    def _remove_unfinished(self) -> None:
        """Remove steps without a manifest, and the temporary files of an interrupted save."""
        finished = {self._step(update).name for update in self.updates()}
        for path in list(self.directory.iterdir()):
            if path.suffix != ".json" and path.name not in finished:
                _remove(path)

    def _step(self, update: int) -> Path:
        return self.directory / f"{update:09d}"

    def _manifest(self, update: int) -> Path:
        return self.directory / f"{update:09d}.json"

    def _verify(self, update: int, template: Any) -> None:
        """CheckpointError unless the files are those of the manifest and the leaves those of the template."""
        step = self._step(update)
        form, leaves, digests = self._read_manifest(update)
        if form != FORMAT:
            raise CheckpointError(f"{step} has format {form}, this version reads {FORMAT}")
        links = [path for path in (step, *step.rglob("*")) if path.is_symlink()]
        if links:
            raise CheckpointError(f"{links[0]} is a symbolic link, which a checkpoint never holds")
        try:
            found = _digests(step)
        except OSError as error:
            raise CheckpointError(f"{step} cannot be read: {error}") from None
        if found != digests:
            raise CheckpointError(f"{step} is damaged: its files are not those that were written")
        if leaves != (expected := _leaves(template)):
            name = min(name for name, _ in leaves.items() ^ expected.items())
            found, here = leaves.get(name, "absent"), expected.get(name, "absent")
            raise CheckpointError(
                f"{step} was written under another configuration: {name} is {found} there and {here} here; "
                "use the configuration of run.json or a new directory"
            )

    def _read_manifest(self, update: int) -> tuple[Any, dict[str, str], dict[str, str]]:
        """Format, leaves and files of a manifest; CheckpointError if it is not one."""
        try:
            manifest = json.loads(self._manifest(update).read_text())
            form, leaves, digests = (manifest[name] for name in ("format", "leaves", "files"))
            if all(isinstance(value, str) for table in (leaves, digests) for value in table.values()):
                return form, leaves, digests
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass
        raise CheckpointError(f"{self._manifest(update)} is no manifest of a checkpoint")


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
    found = sorted(path for path in step.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(step)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
