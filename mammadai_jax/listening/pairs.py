"""Files of comparisons, and comparisons as arrays.

A file is JSON Lines in the preference schema of TRL: every line has `prompt`, `chosen` and `rejected`
(melodies as tokens of `MAGENTA` with spaces between them) and beside them all fields of the comparison, so
that ties are kept: for those `chosen` and `rejected` are null. Files with only TRL's three columns are read
too.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mammadai_jax.listening.comparison import Comparison, PairsError, short
from mammadai_jax.music.files import expanded
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.text.vocabulary import tokenize

MAX_LINE = 1 << 20  # characters: no record is so long, and a file without line ends must not fill the memory
FIELDS = tuple(field.name for field in dataclasses.fields(Comparison))


def spell(tokens: Sequence[int]) -> str:
    """A melody as text: its tokens with spaces between them."""
    return " ".join(map(str, tokens))


def parse_melody(name: str, text: Any) -> tuple[int, ...]:
    """The tokens of a melody's text; PairsError for anything else."""
    try:
        if not isinstance(text, str) or max(map(len, text.split()), default=0) > 9:  # long ones parse slowly
            raise ValueError
        return tuple(map(int, text.split()))
    except ValueError:
        raise PairsError(
            f"{name} should be a melody as text (tokens with spaces between), got {short(text)}"
        ) from None


def write(path: str | os.PathLike, comparisons: Iterable[Comparison]) -> None:
    """Append comparisons to a file, which is created if missing, and flush it to the disk.

    After a crash the file has complete lines and at most one incomplete line at its end: `read` skips it, and
    the next `write` removes it. PairsError if `extra` cannot be written as JSON, before anything is written.
    """
    path = Path(path)
    lines = "".join(line_of(comparison) for comparison in comparisons).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    _repair_end(path)
    with path.open("ab") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def line_of(comparison: Comparison) -> str:
    """A comparison as a line of a file; PairsError if `extra` cannot be written as JSON."""
    record = {name: getattr(comparison, name) for name in FIELDS}
    record |= {"a": spell(comparison.a), "b": spell(comparison.b)}
    chosen, rejected = _columns(record)
    try:
        ordered = {"prompt": comparison.prompt, "chosen": chosen, "rejected": rejected} | record
        return json.dumps(ordered, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise PairsError(f"extra cannot be written as JSON: {error}") from None


def _columns(record: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """TRL's chosen and rejected of a record."""
    if record["choice"] not in ("a", "b"):
        return None, None
    return record[record["choice"]], record["b" if record["choice"] == "a" else "a"]


def _repair_end(path: Path) -> None:
    """Terminate the last line of a file, or remove it if a crash left it incomplete."""
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_LINE))
        tail = re.split(rb"[\r\n]", file.read())[-1]
        if tail and _is_incomplete(tail.decode(errors="replace")):
            warnings.warn(f"{path}: removed the last line, which a crash had left incomplete", stacklevel=3)
            file.truncate(size - len(tail))
        elif tail:
            file.seek(size)
            file.write(b"\n")


def read(path: str | os.PathLike, prompted: bool = False) -> list[Comparison]:
    """The comparisons of a file, in order; its lines may end as on any system.

    In TRL's plain files `chosen` becomes a, and `simulated` false. An incomplete line at the end, as a crash
    leaves it, is skipped with a warning. Columns that are no field of a `Comparison` go to its `extra`. With
    `prompted` every prompt must have words. PairsError with file, line number and reason at the first line
    that cannot be used; FileNotFoundError if there is no file.
    """
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file of comparisons {str(path)!r}: give the path of a JSONL file"
        )
    comparisons = []
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), ""), 1):
            if not line.strip():
                continue
            if not line.endswith("\n") and len(line) < MAX_LINE and _is_incomplete(line):
                warnings.warn(f"{path}, line {number}: skipped, the line is incomplete", stacklevel=2)
                break
            try:
                comparisons.append(_comparison(_object(line), prompted))
            except PairsError as error:
                raise PairsError(f"{path}, line {number}: {error}. Correct the line or delete it") from None
    return comparisons


def _is_incomplete(line: str) -> bool:
    """Whether a line without a line end is the start of an object, or zeros as a power loss leaves them."""
    line = line.strip("\0 \t\ufeff")
    if line and not line.startswith("{"):
        return False
    try:
        return not (line and isinstance(json.loads(line), dict))
    except RecursionError:
        return False
    except ValueError:
        return True


def _object(line: str) -> dict[str, Any]:
    """The JSON object of a line, of which what is not UTF-8 is surrogates; PairsError if there is none."""
    if len(line) >= MAX_LINE:
        raise PairsError(f"the line is longer than {MAX_LINE} characters, so it is no comparison")
    try:
        line.encode()
        record = json.loads(line.lstrip("\ufeff"), parse_constant=_reject_constant)
    except UnicodeEncodeError:
        raise PairsError("the line is not text in UTF-8: save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise PairsError(f"the line is not JSON ({error.msg} at column {error.colno})") from None
    except (RecursionError, ValueError) as error:
        raise PairsError(f"the line is not valid JSON ({error})") from None
    if not isinstance(record, dict):
        raise PairsError(f"the line is not one JSON object with prompt, chosen and rejected: {short(record)}")
    return record


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _comparison(record: dict[str, Any], prompted: bool) -> Comparison:
    """The comparison in a line's object; PairsError if there is none, or none for a prompt if `prompted`."""
    missing = [name for name in ("prompt", "chosen", "rejected") if name not in record]
    if missing:
        raise PairsError(f"the line has no {' and no '.join(missing)}")
    columns = (record.pop("chosen"), record.pop("rejected"))
    full = "choice" in record
    if full:
        missing = [name for name in ("a", "b", "simulated") if name not in record]
        if missing:
            raise PairsError(f"the line has a choice, but no {' and no '.join(missing)}")
    else:
        record |= {"a": columns[0], "b": columns[1], "choice": "a"}
        record.setdefault("simulated", False)
    names = ("a", "b") if full else ("chosen", "rejected")
    melodies = {key: parse_melody(name, record[key]) for key, name in zip("ab", names, strict=True)}
    extra = record.pop("extra", {})
    if not isinstance(extra, dict):
        raise PairsError(f"extra should be a JSON object, got {short(extra)}")
    extra = extra | {name: record[name] for name in record if name not in FIELDS}
    fields: dict[str, Any] = {name: record[name] for name in record if name in FIELDS}
    comparison = Comparison(**{**fields, **melodies, "extra": extra})
    if full and columns != _columns(record):
        raise PairsError(f"chosen and rejected contradict the choice {comparison.choice!r}")
    if not full and comparison.a == comparison.b:
        raise PairsError("chosen and rejected are the same melody, so that there was no choice")
    if prompted and not tokenize(comparison.prompt):
        raise PairsError(f"there are no words in the prompt {short(comparison.prompt)}: describe the music")
    return comparison


class Arrays(NamedTuple):
    """Comparisons as arrays.

    Attributes:
        a: tokens, int32 (N, T).
        b: tokens, int32 (N, T).
        choice: int32 (N,), 1 where a was chosen, -1 where b was, 0 for a tie or "both_bad".
        prompts: N texts.

    """

    a: np.ndarray
    b: np.ndarray
    choice: np.ndarray
    prompts: list[str]


def to_arrays(comparisons: Sequence[Comparison], length: int) -> Arrays:
    """Comparisons as arrays of `length` steps: longer melodies are cut, shorter ones padded with silence."""
    if length < 1:
        raise ValueError(f"length should be 1 step or more, got {length}")
    choice = np.array([comparison.sign for comparison in comparisons], np.int32)
    a, b = (_rows([getattr(one, name) for one in comparisons], length) for name in ("a", "b"))
    return Arrays(a, b, choice, [one.prompt for one in comparisons])


def _rows(melodies: Sequence[tuple[int, ...]], length: int) -> np.ndarray:
    rows = np.full((len(melodies), length), MAGENTA.hold, np.int32)
    for row, melody in zip(rows, melodies, strict=True):
        row[: len(melody)] = melody[:length]
        row[len(melody) : len(melody) + 1] = MAGENTA.silence
    return rows
