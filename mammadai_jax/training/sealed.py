"""JSON files of a run that hold the SHA-256 of their own contents: no flipped bit is read as a value.

The digest is that of the values and not of the bytes: white space may change, values may not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mammadai_jax.music import files

SEAL = "sha256"  # the name of the digest in a file
MAX_BYTES = 2 << 20  # of run.json and of manifests; ours have some kilobytes


MAX_PARTS = 10_000  # lists and objects in a file; an embedding with all codebooks has 783


class DamagedFile(ValueError):
    """A file that cannot be read, or whose contents are not those that were written."""


def write(path: Path, form: int, contents: Mapping[str, Any]) -> None:
    """Write a JSON object with the number of its format and its digest, whole or not at all."""
    plain = json.loads(json.dumps({"format": form, **contents}))
    files.write_atomically(path, json.dumps({**plain, SEAL: digest(plain)}, indent=1).encode() + b"\n")


def read(path: Path, form: int, limit: int = MAX_BYTES) -> dict[str, Any]:
    """The contents of a file that `write` wrote, with its format and digest.

    Args:
        path: of the file.
        form: the number of the format that is read.
        limit: most bytes that the file may have.

    Raises:
        FileNotFoundError: if there is no file.
        DamagedFile: if it cannot be read, has another format, or its contents are not those of the digest.

    """
    try:
        contents = _parse(files.read(path, limit))
        named = contents.get("format") if isinstance(contents, dict) else None
        sound = named == form and contents.get(SEAL) == digest(contents)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFile(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}: put back a copy of it") from None
    if named != form:
        raise DamagedFile(
            f"{path} has format {named!r:.20}, not {form}, the only one that this version of mammadai_jax "
            "reads: train again with another --out, or use the version that wrote it"
        )
    if not sound:
        raise DamagedFile(
            f"{path} was damaged or edited: its values are not those of its {SEAL}. Put back a copy of it"
        )
    return contents


def _parse(data: bytes) -> Any:
    """The values of JSON; ValueError if there are so many lists that they would fill the memory."""
    if data.count(b"[") + data.count(b"{") > MAX_PARTS:
        raise ValueError(f"it has more than {MAX_PARTS:,} lists and objects")
    return json.loads(data)


def digest(contents: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object's values, in hexadecimal, its own digest left out."""
    plain = {name: value for name, value in contents.items() if name != SEAL}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
