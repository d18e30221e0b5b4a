"""Tempo, meter and key that the meta events of a MIDI file state; of several at one tick the last holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from mammadai_jax.music import smf
from mammadai_jax.music.files import decoded
from mammadai_jax.music.heading import FIFTHS_ABOVE_MAJOR
from mammadai_jax.music.smf import Event, InvalidMidi, Meta

TEMPI = (5.0, 2000.0)
_MODE_TEXT = "mode: {}"


class Meter(NamedTuple):
    """A meter as written, the steps of its bar, and how often the file departs from it.

    Attributes:
        name: such as "4/4".
        steps_per_bar: in steps.
        origin: tick of a bar line.
        changes: later signatures with other bars, or with bars that begin elsewhere.

    """

    name: str
    steps_per_bar: int
    origin: int = 0
    changes: int = 0


def in_force(metas: Sequence[Meta], kind: int) -> list[Meta]:
    """The events of a kind in order of time, of those at one tick the last."""
    return list({event.tick: event for event in metas if event.kind == kind}.values())


def tempo(metas: Sequence[Meta]) -> float:
    """Quarter notes a minute: the file's first tempo, 120 without one."""
    tempi = in_force(metas, smf.TEMPO)
    if not tempi:
        return 120.0
    microseconds = int.from_bytes(tempi[0].data, "big")
    if len(tempi[0].data) != 3 or not TEMPI[0] <= 60e6 / max(microseconds, 1) <= TEMPI[1]:
        raise InvalidMidi(f"a tempo of {microseconds} microseconds a quarter note")
    # Files store whole microseconds: of the tempi that round to them take the one with the fewest digits.
    rounded = (round(60e6 / microseconds, digits) for digits in range(6))
    return next((t for t in rounded if t and round(60e6 / t) == microseconds), 60e6 / microseconds)


def key(metas: Sequence[Meta]) -> tuple[int, str]:
    """Tonic and mode of the file's first key signature; (-1, "") without a usable one.

    The mode is major or minor, or the one that our own files name in a text beside the signature.
    """
    texts = [decoded(event.data) for event in metas if event.kind == smf.TEXT and event.tick == 0]
    named = [m for m in FIFTHS_ABOVE_MAJOR if m and _MODE_TEXT.format(m) in texts]
    for event in in_force(metas, smf.KEY_SIGNATURE):
        fifths, minor = int.from_bytes(event.data[:1], "big", signed=True), event.data[1:]
        if abs(fifths) <= 7 and minor in (b"\0", b"\1"):
            mode = named[0] if named else ("major", "minor")[minor[0]]
            return (fifths - FIFTHS_ABOVE_MAJOR[mode]) * 7 % 12, mode
    return -1, ""


def key_events(fifths: int, mode: str) -> list[Event]:
    """The signature of a key of so many sharps (flats below 0), and its mode in a text where that is needed.

    MIDI knows major and minor: the signature of another mode says which third it has.
    """
    minor = mode in ("minor", "aeolian", "dorian", "phrygian", "locrian")
    signature = smf.meta(0, smf.KEY_SIGNATURE, fifths.to_bytes(1, "big", signed=True) + bytes([minor]))
    text = [smf.meta(0, smf.TEXT, _MODE_TEXT.format(mode).encode())] if mode not in ("major", "minor") else []
    return [signature, *text]


def meter(metas: Sequence[Meta], end: int, ticks_per_quarter: int, steps_per_quarter: int) -> Meter:
    """The meter that holds for most of the ticks before `end`, 4/4 without any.

    Its bars are counted from where it first stands: a shorter bar before it, of another signature, is an
    upbeat, as notation programs write it.
    """
    stated = [(event.tick, *_signature(event)) for event in in_force(metas, smf.TIME_SIGNATURE)]
    if not stated:
        return Meter("4/4", 4 * steps_per_quarter)
    spans: Counter[tuple[int, int]] = Counter()
    ends = [*(tick for tick, *_ in stated[1:]), end]
    for (tick, beats, unit), until in zip(stated, ends, strict=True):
        spans[beats, unit] += max(min(until, end) - tick, 0)
    beats, unit = max(spans, key=spans.__getitem__)  # the first of equals
    steps, rest = divmod(beats * 4 * steps_per_quarter, unit)
    if rest:
        raise InvalidMidi(
            f"a bar of {beats}/{unit} is no whole number of steps, {steps_per_quarter} a quarter"
        )
    origin = next(tick for tick, *signature in stated if signature == [beats, unit])
    bar = Fraction(steps * ticks_per_quarter, steps_per_quarter)
    others = [
        tick
        for tick, *signature in stated
        if tick < end and (Fraction(*signature) != Fraction(beats, unit) or (tick - origin) % bar)
    ]
    upbeat = bool(others) and others[0] < origin <= others[0] + bar
    return Meter(f"{beats}/{unit}", steps, origin, len(others) - upbeat)


def _signature(event: Meta) -> tuple[int, int]:
    """Beats and beat unit of a time signature."""
    beats, unit = event.data[0] if event.data else 0, 1 << event.data[1] if len(event.data) > 1 else 0
    if not beats or not unit:
        raise InvalidMidi(f"a meter of {beats}/{unit}")
    return beats, unit
