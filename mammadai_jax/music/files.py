"""Reading and writing of files, names for the terminal, and the cache directory."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import stat
from collections.abc import Iterator
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
    with _part(Path(path)) as part:
        with part.open("xb") as file:  # never through a link that lies there
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


@contextlib.contextmanager
def _part(path: Path) -> Iterator[Path]:
    """The name of a temporary file beside `path`, of which nothing is left; errors name `path`."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.unlink(missing_ok=True)
        yield part
    except OSError as error:  # which names the other file, or none
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
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


def check_output(path: str | os.PathLike) -> None:
    """OSError if nothing can be written to what a user named: to be asked before long work."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not path.exists():
        with _part(path.resolve()) as part:
            part.touch()


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

    OSError as `read`; ValueError, which says what to do, for one in another encoding.
    """
    try:
        return read(path, limit).decode("utf-8-sig")
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
