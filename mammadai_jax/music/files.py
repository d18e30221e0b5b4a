"""Reading and writing of files, names for the terminal, and the cache directory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path`; a crash leaves the old file or none, never a partial one.

    OSError, which names `path`, if that fails.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:  # which names the other file, or none
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        part.unlink(missing_ok=True)


def write_output(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to what a user named: a file, a link to one, a device or a pipe.

    Only a regular file is replaced, where the link leads; anything else is written to and stays what it is,
    and so does the file that this process prints to.
    """
    path = Path(path)
    if not path.exists() or (path.is_file() and not _is_printed_to(path)):
        write_atomically(path.resolve(), data)
        return
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "wb") as stream:
        stream.write(data)


def _is_printed_to(path: Path) -> bool:
    """Whether standard output or standard error leads to this file."""
    for number in (1, 2):
        with contextlib.suppress(OSError):  # a closed one
            if os.path.samestat(path.stat(), os.fstat(number)):
                return True
    return False


def refuse_to_replace(path: Path, data: bytes) -> None:
    """FileExistsError if there is anything else at `path` than a file, no link, with this data."""
    is_same = path.is_file() and not path.is_symlink() and path.read_bytes() == data
    if os.path.lexists(path) and not is_same:
        raise FileExistsError(f"{path} is there and holds something else: move it, or choose another folder")


def read_text(path: str | os.PathLike, limit: int) -> str:
    """The text of a file of at most `limit` bytes in UTF-8, with or without a byte order mark.

    ValueError, which says what to do, for a longer one and for one in another encoding.
    """
    with Path(path).open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it is longer than {limit} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8: save it as UTF-8") from None


def expanded(path: str | os.PathLike) -> Path:
    """The path with the home directory in place of a leading `~`; ValueError if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"there is no home directory for {str(path)!r}: give the whole path") from None


def visible(text: object) -> str:
    """Text for the terminal: characters that steer it, or that UTF-8 cannot encode, as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in str(text))


def user_cache() -> Path | None:
    """The user's cache directory for this package, which need not exist; None if there is no home."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(named) if Path(named).is_absolute() else Path.home() / ".cache") / "mammadai_jax"
    except RuntimeError:
        return None
