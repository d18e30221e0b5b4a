"""Reading files of bounded size and text of unknown encoding, atomic writing, and the cache directory."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from pathlib import Path


def read(path: str | os.PathLike, limit: int) -> bytes:
    """The bytes of a regular file.

    Args:
        path: of the file.
        limit: most bytes that it may have.

    Raises:
        OSError: if it cannot be read or is larger, or if it is a pipe or a device, which might never end.

    """
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit >> 20} MiB", os.fspath(path))
    return data


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path`; a crash leaves the old file or none, never a partial one.

    Raises:
        OSError: which names the path, if it cannot be written.

    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.unlink(missing_ok=True)
        with part.open("xb") as file:  # never through a link that lies there
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def decoded(data: bytes) -> str:
    """Text in UTF-16 with a byte order mark, in UTF-8, or else in the encodings of Western Europe."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def user_cache() -> Path:
    """The user's cache directory for this package; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mammadai_jax"
