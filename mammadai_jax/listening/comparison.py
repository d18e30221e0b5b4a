"""One listener's choice between two melodies: a record whose fields are checked."""

from __future__ import annotations

import dataclasses
import datetime
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from mammadai_jax.music.notes import MAGENTA

CHOICES = ("a", "b", "tie", "both_bad")
SIDES = ("", "a", "b")
MAX_TOKENS = 4096  # of a melody: 256 bars of 4/4
MAX_RATIO = 4  # of two lengths: 4 and 16 bars can be compared; beyond that one melody must have been cut off


class PairsError(ValueError):
    """A comparison, or a file of them, that cannot be used; the message says what, where and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """One listener's choice between two melodies; PairsError if a field is out of its range.

    Attributes:
        prompt: the text that the melodies were composed for; empty without one.
        a: tokens of the first melody, a row of integers 0..37 (stored as a tuple).
        b: tokens of the second.
        choice: "a", "b", "tie" or "both_bad".
        simulated: whether a program chose. It has no default, so that it is always stated.
        system_a: the system that composed a ("base", "R"); empty if unknown.
        system_b: likewise for b.
        listener: identifier of who chose; empty if unknown.
        shown_left: "a" or "b", empty if unknown.
        played_first: "a" or "b", empty if unknown.
        seconds_a: how long a was listened to.
        seconds_b: how long b was.
        propensity: probability with which this pair was selected for comparison, in (0, 1].
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
        if max(len(self.a), len(self.b)) > MAX_RATIO * min(len(self.a), len(self.b)):
            lengths = f"{len(self.a)} and {len(self.b)} tokens"
            raise PairsError(
                f"melodies of {lengths} cannot be compared: one is more than {MAX_RATIO} times as long"
            )
        for name in ("prompt", "system_a", "system_b", "listener", "timestamp"):
            _check_text(name, getattr(self, name))
        _check_member("choice", self.choice, CHOICES)
        _check_member("shown_left", self.shown_left, SIDES)
        _check_member("played_first", self.played_first, SIDES)
        if not isinstance(self.simulated, bool):
            raise PairsError(f"simulated should be true or false, got {self.simulated!r}")
        for name in ("seconds_a", "seconds_b", "propensity"):
            _check_number(name, getattr(self, name), 1.0 if name == "propensity" else math.inf)
        if self.propensity == 0:
            raise PairsError("propensity should be above 0: a pair never selected cannot have been compared")
        _check_time(self.timestamp)
        if not (isinstance(self.extra, dict) and all(isinstance(key, str) for key in self.extra)):
            raise PairsError(f"extra should be a dictionary with text keys, got {type(self.extra).__name__}")

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


def _melody(name: str, tokens: Any) -> tuple[int, ...]:
    try:
        row = tuple(map(operator.index, np.asarray(tokens).tolist()))
    except (TypeError, ValueError):
        raise PairsError(f"melody {name} should be one row of integers, got {short(tokens)}") from None
    if not row or len(row) > MAX_TOKENS:
        raise PairsError(f"melody {name} has {len(row)} tokens, it should have 1 to {MAX_TOKENS}")
    if min(row) < 0 or max(row) >= MAGENTA.size:
        invalid = next(token for token in row if not 0 <= token < MAGENTA.size)
        raise PairsError(f"melody {name} has the token {short(invalid)}, tokens are 0..{MAGENTA.size - 1}")
    return row


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise PairsError(f"{name} should be text, got {short(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PairsError(f"{name} has a lone surrogate, which UTF-8 cannot encode: {short(value)}") from None


def _check_member(name: str, value: Any, members: Sequence[str]) -> None:
    if not (isinstance(value, str) and value in members):
        allowed = ", ".join(member or "(empty)" for member in members)
        raise PairsError(f"{name} should be one of {allowed}, got {short(value)}")


def _check_number(name: str, value: Any, highest: float) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and 0 <= value <= highest):
        limit = f" to {highest:g}" if highest < math.inf else " or more"
        raise PairsError(f"{name} should be a number, 0{limit}, or null, got {short(value)}")


def _check_time(timestamp: str) -> None:
    try:
        if timestamp:
            datetime.datetime.fromisoformat(timestamp)
    except ValueError:
        raise PairsError(f"timestamp should be like 2026-01-31T12:00:00Z, got {short(timestamp)}") from None


def short(value: Any) -> str:
    """A value in at most 60 characters, for error messages."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
