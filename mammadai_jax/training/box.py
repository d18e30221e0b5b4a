"""A box: a run directory in small, whose stages compose at once and learn nothing more.

run.json                     as of a run, and the SHA-256 of each stage's weights
weights/STAGE.safetensors    what the stage's `StageSpec.weights` takes of its last state, in half precision
embedding.json               as of a run

No optimiser's state is in it, no melody of the corpus, and nothing that is executed when it is read. The
package ships one, with which `mammadai compose` plays before anything was trained.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music import files
from mammadai_jax.training import sealed
from mammadai_jax.training.run import BOXED, FORMAT, RunError
from mammadai_jax.training.run import read as read_run

SHIPPED = Path(__file__).parents[1] / "boxed"
FOLDER = "weights"
HALF = np.float16
MIB = 1 << 20


class BoxError(ValueError):
    """A box that cannot be read or written; the message says which file, why, and what to do."""


def digests(path: Path) -> Mapping[str, str]:
    """SHA-256 of the weights of each stage in a box; empty for a run, and where there is neither."""
    try:
        named = read_run(path).get(BOXED, {})
    except RunError:
        return {}
    return named if isinstance(named, Mapping) else {}


def read_weights(path: Path, stage: str, template: Any) -> Any:
    """The weights of a stage, as the types and shapes of a template.

    Args:
        path: of the box.
        stage: its name.
        template: `jax.eval_shape` of the weights.

    Raises:
        RunError: if the box does not have the stage.
        BoxError: if its file is not the one that was written, or holds other arrays than the template.

    """
    named, file = digests(path), path / FOLDER / f"{stage}.safetensors"
    if stage not in named:
        raise RunError(f"{path} holds no weights of stage {stage!r}, but those of {', '.join(named)}")
    expected = _named(template)
    arrays = _parse(file, _verified(file, named[stage], expected))
    for name in sorted(expected.keys() | arrays.keys()):
        before, here = (_kind(tree.get(name)) for tree in (arrays, expected))
        if before != here:
            raise BoxError(
                f"{file} is of another configuration: {name} is {before} there and {here} by run.json"
            )
    leaves, structure = jax.tree.flatten(template)
    numbers = [arrays[name].astype(leaf.dtype) for name, leaf in zip(expected, leaves, strict=True)]
    return structure.unflatten(jax.device_put(numbers))  # which compiles nothing, as jnp.asarray would


def _verified(file: Path, digest: str, expected: Mapping[str, Any]) -> bytes:
    """The bytes of a file of weights; BoxError if they have another SHA-256, or are too many."""
    size = sum(math.prod(leaf.shape) * _stored(leaf.dtype).itemsize for leaf in expected.values())
    try:
        data = files.read(file, (size // MIB + 2) * MIB)  # with room for the names
    except OSError as error:
        raise BoxError(f"{file} cannot be read: {error.strerror}: {_REMEDY}") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise BoxError(f"{file} is damaged or of another box: its SHA-256 is not that of run.json: {_REMEDY}")
    return data


_REMEDY = "put back a copy, or install mammadai_jax anew"


def _parse(file: Path, data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file of weights by their names."""
    import safetensors.numpy  # only where a box is

    try:
        return safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise BoxError(f"{file} holds no weights: {error!s:.200}: {_REMEDY}") from None


def write(path: Path, run: Path, weights: Mapping[str, Any]) -> None:
    """Make a box of a run, or make one anew.

    Args:
        path: of the box: a new or empty directory, or one that holds a box.
        run: the run directory.
        weights: of each stage by its name, what `StageSpec.weights` gave.

    Raises:
        BoxError: if the directory holds something else, or a number has no half precision.

    """
    import safetensors.numpy

    if path.exists() and any(path.iterdir()) and not digests(path):
        raise BoxError(f"{path} is not empty and holds no box: choose another --out")
    (path / FOLDER).mkdir(parents=True, exist_ok=True)
    for old in (path / FOLDER).glob("*.safetensors"):
        old.unlink()
    written = {}
    for stage, tree in weights.items():
        data = safetensors.numpy.save({name: _halved(name, leaf) for name, leaf in _named(tree).items()})
        files.write_atomically(path / FOLDER / f"{stage}.safetensors", data)
        written[stage] = hashlib.sha256(data).hexdigest()
    record = read_run(run)
    about = {name: value for name, value in record.items() if name not in ("format", sealed.SEAL)}
    sealed.write(path / "run.json", FORMAT, {**about, "of_run": record[sealed.SEAL], BOXED: written})


def _halved(name: str, leaf: Any) -> np.ndarray:
    """An array as a box holds it; BoxError if a number is beyond half precision."""
    with np.errstate(over="ignore"):
        stored = np.asarray(leaf).astype(_stored(leaf.dtype), order="C")
    if not np.isfinite(stored).all():
        raise BoxError(f"{name} holds a number that half precision has not, or that is not finite")
    return stored


def _named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree, in its order, by their paths."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in flat}


def _stored(dtype: Any) -> np.dtype:
    """The type in which a box holds numbers of another."""
    return np.dtype(HALF) if jnp.issubdtype(dtype, jnp.floating) else np.dtype(dtype)


def _kind(leaf: Any) -> str:
    """Type and shape in which a box holds an array; "absent" for none."""
    return "absent" if leaf is None else f"{_stored(leaf.dtype)}{tuple(leaf.shape)}"
