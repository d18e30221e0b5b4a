"""Dumps: what one update began with, its state with its keys and its data, in one file of a run directory.

The file is NumPy's `.npz`, an array for each leaf, named by its path; nothing in it is code.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from mammadai_jax.music.files import write_atomically

FOLDER = "nonfinite"  # in a run directory
FORMAT = 1
LARGEST = 8 * 2**30  # bytes of all arrays of a dump that is read


class DumpError(ValueError):
    """A file that is no dump, or not one of this run; the message says what to do."""


class Dump(NamedTuple):
    """What an update began with: the stage, the number of the update, and arrays by their path."""

    stage: str
    update: int
    arrays: dict[str, np.ndarray]

    def path(self, run: Path) -> Path:
        """Its file in a run directory."""
        return run / FOLDER / f"{self.stage}-{self.update:09d}.npz"

    def fill(self, part: str, template: Any, any_length: bool = False) -> Any:
        """A tree like a template, of the arrays of a part: "state" or "data".

        DumpError if a leaf is missing, or is of another type or shape; with `any_length` of another rank.
        """

        def leaf(path, like):
            name, expected = _name(part, path), jax.eval_shape(_numbers, like)
            found = self.arrays.get(name)
            shape = lambda x: x.ndim if any_length else x.shape
            if found is None or (found.dtype, shape(found)) != (expected.dtype, shape(expected)):
                raise DumpError(
                    f"the dump of stage {self.stage} has no {name} of {expected.dtype}{expected.shape}: it "
                    "was written under other settings, or by another version"
                )
            numbers = jnp.asarray(found)
            return jax.random.wrap_key_data(numbers) if _is_key(like) else numbers

        return jax.tree_util.tree_map_with_path(leaf, template)


def write(path: Path, dump: Dump) -> None:
    """Write a dump, whole or not at all."""
    about = json.dumps({"format": FORMAT, "stage": dump.stage, "update": dump.update})
    file = io.BytesIO()
    arrays: dict[str, Any] = {"about": np.array(about), **dump.arrays}
    np.savez_compressed(file, **arrays)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, file.getvalue())


def arrays_of(**parts: Any) -> dict[str, np.ndarray]:
    """The leaves of trees, also of those on the devices of other processes, by part and path."""
    numbers = jax.tree.map(_numbers, parts)
    if jax.process_count() > 1:
        numbers = multihost_utils.process_allgather(numbers, tiled=True)
    flat, _ = jax.tree_util.tree_flatten_with_path(numbers)
    return {_name(path[0].key, path[1:]): np.asarray(leaf) for path, leaf in flat}


def read(path: Path) -> Dump:
    """The dump in a file; DumpError if it holds none, or was damaged."""
    if not path.is_file():
        raise DumpError(f"{path} is no file: name a dump, RUN/{FOLDER}/STAGE-UPDATE.npz")
    try:
        arrays = _arrays(path)
        about = json.loads(str(arrays.pop("about")))
        stage, update, form = about["stage"], about["update"], about["format"]
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DumpError(f"{path} is no dump of an update, or was damaged: {error}") from None
    if form != FORMAT or not isinstance(stage, str) or type(update) is not int:
        raise DumpError(f"{path} is no dump of format {FORMAT}, the only one that this version reads")
    return Dump(stage, update, arrays)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in an archive; ValueError if they are larger than any dump."""
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        if sum(member.file_size for member in file.zip.infolist()) > LARGEST:
            raise ValueError(f"its arrays are larger than {LARGEST >> 30} GiB")
        return {name: file[name] for name in file.files}


def _name(part: str, path: tuple) -> str:
    return part + jax.tree_util.keystr(path)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers(leaf: Any) -> Any:
    """An array; of a key its numbers."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf
