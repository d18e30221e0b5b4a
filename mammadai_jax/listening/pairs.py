"""Comparisons of two melodies for one prompt, and the files they are kept in.

A file is JSON Lines in the preference schema of TRL: every line has `prompt`, `chosen` and `rejected`
(melodies spelled as tokens of `MAGENTA` with spaces between them) and beside them the full record, so that
ties stay: in those `chosen` and `rejected` are null. Files with TRL's three columns only are read too.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import operator
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mammadai_jax.music.notes import MAGENTA

CHOICES = ("a", "b", "tie", "both_bad")
SIDES = ("", "a", "b")
LONGEST = 4096  # tokens: 256 bars of 4/4
RATIO = 4  # melodies of 4 and of 16 bars may be compared, beyond that one of them is surely cut off
MAX_LINE = 1 << 20  # bytes: no record is near it, and a file without line ends must not fill the memory


class PairsError(ValueError):
    """A comparison, or a file of them, that cannot be used: says what, where and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """One listener's choice between two melodies; PairsError if a field is out of its range.

    Attributes:
        prompt: what the melodies were asked to be; empty without one.
        a: tokens of the first melody, any row of integers 0..37 (kept as a tuple).
        b: tokens of the second.
        choice: "a", "b", "tie" or "both_bad".
        simulated: whether a program chose. There is no default: nobody may forget to say.
        system_a: what composed a ("base", "R"); empty if unknown.
        system_b: what composed b.
        listener: who chose, an identifier; empty if unknown.
        shown_left: "a" or "b", empty if unknown.
        played_first: "a" or "b", empty if unknown.
        seconds_a: how long a was listened to.
        seconds_b: how long b was.
        propensity: probability with which this pair was picked to be compared, in (0, 1].
        timestamp: ISO 8601, empty if unknown.
        extra: anything else that JSON can hold.

    """

    prompt: str
    a: tuple[int, ...]
    b: tuple[int, ...]
    choice: str
    simulated: bool
    system_a: str = ""
    system_b: str = ""
    listener: str = ""
    shown_left: str = ""
    played_first: str = ""
    seconds_a: float | None = None
    seconds_b: float | None = None
    propensity: float | None = None
    timestamp: str = ""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self):
        for name in ("a", "b"):
            object.__setattr__(self, name, _melody(name, getattr(self, name)))
        if max(len(self.a), len(self.b)) > RATIO * min(len(self.a), len(self.b)):
            lengths = f"{len(self.a)} and {len(self.b)} tokens"
            raise PairsError(f"melodies of {lengths} are no pair: one is more than {RATIO} times the other")
        for name in ("prompt", "system_a", "system_b", "listener", "timestamp"):
            _check_text(name, getattr(self, name))
        _check_member("choice", self.choice, CHOICES)
        _check_member("shown_left", self.shown_left, SIDES)
        _check_member("played_first", self.played_first, SIDES)
        if not isinstance(self.simulated, bool):
            raise PairsError(f"simulated is true or false, got {self.simulated!r}")
        for name in ("seconds_a", "seconds_b", "propensity"):
            _check_number(name, getattr(self, name), 1.0 if name == "propensity" else math.inf)
        if self.propensity == 0:
            raise PairsError("propensity is above 0: a pair that is never picked cannot have been compared")
        _check_time(self.timestamp)
        if not (isinstance(self.extra, dict) and all(isinstance(key, str) for key in self.extra)):
            raise PairsError(f"extra is a dictionary with text as keys, got {type(self.extra).__name__}")

    @property
    def sign(self) -> int:
        """1 where a is better, -1 where b is, 0 otherwise."""
        return {"a": 1, "b": -1}.get(self.choice, 0)

    def swapped(self) -> Comparison:
        """The same comparison with the names a and b exchanged."""
        other = {"a": "b", "b": "a"}
        sides = {
            n: other.get(getattr(self, n), getattr(self, n)) for n in ("choice", "shown_left", "played_first")
        }
        pairs = {f"{n}a": getattr(self, f"{n}b") for n in ("", "system_", "seconds_")}
        pairs |= {f"{n}b": getattr(self, f"{n}a") for n in ("", "system_", "seconds_")}
        return dataclasses.replace(self, **sides, **pairs)


FIELDS = tuple(field.name for field in dataclasses.fields(Comparison))


def _melody(name: str, tokens: Any) -> tuple[int, ...]:
    try:
        row = tuple(map(operator.index, np.asarray(tokens).tolist()))
    except (TypeError, ValueError):
        raise PairsError(f"melody {name} is one row of whole numbers, got {_short(tokens)}") from None
    if not row or len(row) > LONGEST:
        raise PairsError(f"melody {name} has {len(row)} tokens, it should have 1 to {LONGEST}")
    if min(row) < 0 or max(row) >= MAGENTA.size:
        wrong = next(token for token in row if not 0 <= token < MAGENTA.size)
        raise PairsError(f"melody {name} has the token {_short(wrong)}, tokens are 0..{MAGENTA.size - 1}")
    return row


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise PairsError(f"{name} is text, got {_short(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PairsError(f"{name} has half a character (a lone surrogate): {_short(value)}") from None


def _check_member(name: str, value: Any, members: Sequence[str]) -> None:
    if not (isinstance(value, str) and value in members):
        allowed = ", ".join(member or "(empty)" for member in members)
        raise PairsError(f"{name} is one of {allowed}, got {_short(value)}")


def _check_number(name: str, value: Any, highest: float) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and 0 <= value <= highest):
        limit = f" to {highest:g}" if highest < math.inf else " or more"
        raise PairsError(f"{name} is a number, 0{limit}, or null, got {_short(value)}")


def _check_time(timestamp: str) -> None:
    try:
        if timestamp:
            datetime.datetime.fromisoformat(timestamp)
    except ValueError:
        raise PairsError(f"timestamp is like 2026-01-31T12:00:00+00:00, got {_short(timestamp)}") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def spell(tokens: Sequence[int]) -> str:
    """A melody as text: its tokens with spaces between them."""
    return " ".join(map(str, tokens))


def _unspell(name: str, text: Any) -> tuple[int, ...]:
    """The tokens of a melody's text; PairsError if it is no such text."""
    if not isinstance(text, str):
        raise PairsError(f"{name} is a melody as text (tokens with spaces between), got {_short(text)}")
    try:
        if max(map(len, text.split()), default=0) > 9:  # out of range anyhow, and slow to read
            raise ValueError
        return tuple(map(int, text.split()))
    except ValueError:
        raise PairsError(
            f"{name} is a melody as text (tokens with spaces between), got {_short(text)}"
        ) from None


def write(path: str | os.PathLike, comparisons: Iterable[Comparison]) -> None:
    """Append comparisons to a file, which is made if it is not there, and see it on the disk.

    After a crash the file has whole lines and at most one half line at its end: `read` leaves that out, and
    the next `write` removes it. PairsError if `extra` cannot be written as JSON, before anything is written.
    """
    path = Path(path)
    lines = "".join(_line(comparison) for comparison in comparisons).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    _mend(path)
    with path.open("ab") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def _line(comparison: Comparison) -> str:
    record = {name: getattr(comparison, name) for name in FIELDS}
    record |= {"a": spell(comparison.a), "b": spell(comparison.b)}
    chosen, rejected = _columns(record)
    try:
        ordered = {"prompt": comparison.prompt, "chosen": chosen, "rejected": rejected} | record
        return json.dumps(ordered, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise PairsError(f"extra holds what JSON cannot: {error}") from None


def _columns(record: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """TRL's chosen and rejected of a record."""
    if record["choice"] not in ("a", "b"):
        return None, None
    return record[record["choice"]], record["b" if record["choice"] == "a" else "a"]


def _mend(path: Path) -> None:
    """End the last line of a file, or cut it off if a crash has left but half of it."""
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_LINE))
        tail = file.read().rpartition(b"\n")[2]
        if tail and _is_half(tail):
            warnings.warn(f"{path}: cut off the last line, of which a crash had left but half", stacklevel=3)
            file.truncate(size - len(tail))
        elif tail:
            file.seek(size)
            file.write(b"\n")


def read(path: str | os.PathLike) -> list[Comparison]:
    """The comparisons of a file, in order; of TRL's plain files `chosen` is a, and no program chose.

    A half line at the end, as a crash leaves it, is left out with a warning. Columns that a `Comparison` has
    not are kept in its `extra`. PairsError with file, line number and reason at the first line that cannot be
    used; FileNotFoundError if there is no file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file of comparisons {str(path)!r}: give the path of a JSONL file"
        )
    comparisons = []
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
            if not line.strip():
                continue
            if not line.endswith(b"\n") and len(line) < MAX_LINE and _is_half(line):
                warnings.warn(f"{path}, line {number}: left out, it is only half a line", stacklevel=2)
                break
            try:
                comparisons.append(_comparison(_object(line)))
            except PairsError as error:
                raise PairsError(f"{path}, line {number}: {error}. Correct the line or delete it") from None
    return comparisons


def _is_half(line: bytes) -> bool:
    """Whether a line without an end is the beginning of an object, or the zeros that a power loss leaves."""
    line = line.strip(b"\0 \t\r")
    if line and not line.startswith(b"{"):
        return False
    try:
        return not (line and isinstance(json.loads(line), dict))
    except RecursionError:
        return False
    except ValueError:
        return True


def _object(line: bytes) -> dict[str, Any]:
    """The JSON object of a line; PairsError if it is none."""
    if len(line) >= MAX_LINE:
        raise PairsError(f"the line is longer than {MAX_LINE} bytes, no comparison is")
    try:
        record = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse)
    except UnicodeDecodeError:
        raise PairsError("the line is not text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise PairsError(f"the line is no JSON ({error.msg} at column {error.colno})") from None
    except (RecursionError, ValueError) as error:
        raise PairsError(f"the line is no JSON that can be used ({error})") from None
    if not isinstance(record, dict):
        raise PairsError(f"a line is one JSON object with prompt, chosen and rejected, got {_short(record)}")
    return record


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number that JSON has")


def _comparison(record: dict[str, Any]) -> Comparison:
    """The comparison of a line's object; PairsError if it is none."""
    missing = [name for name in ("prompt", "chosen", "rejected") if name not in record]
    if missing:
        raise PairsError(f"there is no {' and no '.join(missing)}")
    columns = (record.pop("chosen"), record.pop("rejected"))
    full = "choice" in record
    if full:
        missing = [name for name in ("a", "b", "simulated") if name not in record]
        if missing:
            raise PairsError(f"there is a choice, but no {' and no '.join(missing)}")
    else:
        record |= {"a": columns[0], "b": columns[1], "choice": "a"}
        record.setdefault("simulated", False)
    names = ("a", "b") if full else ("chosen", "rejected")
    melodies = {key: _unspell(name, record[key]) for key, name in zip("ab", names, strict=True)}
    extra = record.pop("extra", {})
    if not isinstance(extra, dict):
        raise PairsError(f"extra is a JSON object, got {_short(extra)}")
    extra = extra | {name: record[name] for name in record if name not in FIELDS}
    known: dict[str, Any] = {name: record[name] for name in record if name in FIELDS}
    comparison = Comparison(**{**known, **melodies, "extra": extra})
    if full and columns != _columns(record):
        raise PairsError(f"chosen and rejected are not what the choice {comparison.choice!r} says")
    return comparison


class Arrays(NamedTuple):
    """Comparisons for a network.

    Attributes:
        a: int32 (N, T) tokens.
        b: int32 (N, T) tokens.
        choice: int32 (N,), 1 where a is better, -1 where b is, 0 for a tie or two bad ones.
        prompts: N texts.

    """

    a: np.ndarray
    b: np.ndarray
    choice: np.ndarray
    prompts: list[str]


def to_arrays(comparisons: Sequence[Comparison], length: int) -> Arrays:
    """Comparisons as arrays of `length` steps: longer melodies are cut, behind shorter ones is silence."""
    if length < 1:
        raise ValueError(f"length is 1 step or more, got {length}")
    choice = np.array([comparison.sign for comparison in comparisons], np.int32)
    a, b = (_rows([getattr(one, name) for one in comparisons], length) for name in ("a", "b"))
    return Arrays(a, b, choice, [one.prompt for one in comparisons])


def _rows(melodies: Sequence[tuple[int, ...]], length: int) -> np.ndarray:
    rows = np.full((len(melodies), length), MAGENTA.hold, np.int32)
    for row, melody in zip(rows, melodies, strict=True):
        row[: len(melody)] = melody[:length]
        row[len(melody) : len(melody) + 1] = MAGENTA.silence
    return rows
