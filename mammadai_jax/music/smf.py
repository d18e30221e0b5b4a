"""Standard MIDI Files: bytes to tracks of notes and meta events, and back.

The grammar is that of the Standard MIDI File specification 1.1, also within a RIFF container (.rmi). Every
note that is switched on is in its track, in the file's order, whatever its channel and program.

Of the libraries that were tried, symusic divides tracks by program and drops notes that are never released,
and mido refuses a whole file for a chunk or a key signature that it does not know.
"""

from __future__ import annotations

import dataclasses
import struct
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAX_BYTES = 4 << 20
MAX_TRACKS = 256
MAX_NOTES = 100_000
MAX_EVENTS = 250_000  # of a track

META = 0xFF
TEXT, NAME, INSTRUMENT, MARKER = 0x01, 0x03, 0x04, 0x06
END_OF_TRACK, TEMPO, TIME_SIGNATURE, KEY_SIGNATURE = 0x2F, 0x51, 0x58, 0x59
DRUM_CHANNEL = 9
_OFF, _ON, _PROGRAM, _PRESSURE, _SYSTEM = 0x80, 0x90, 0xC0, 0xD0, 0xF0


class InvalidMidi(ValueError):
    """A file that is not a MIDI file, or has no usable melody; the message says which and why."""


class Event(NamedTuple):
    """An event at a tick: status byte and data; the data of a meta event (0xFF) begin with its kind."""

    tick: int
    status: int
    data: bytes


class Meta(NamedTuple):
    """A meta event: its tick, its kind (NAME, TEMPO, ...) and its data."""

    tick: int
    kind: int
    data: bytes


class TickNote(NamedTuple):
    """A note from tick `start` to `end`, on a channel 0..15 with the program at its start."""

    start: int
    end: int
    pitch: int
    channel: int = 0
    program: int = 0


@dataclasses.dataclass(frozen=True)
class Track:
    """The notes and the meta events of a track, and the tick at which it ends."""

    notes: list[TickNote]
    metas: list[Meta]
    end: int


class File(NamedTuple):
    """A file of format 0 (one track), 1 (tracks that sound together) or 2 (tracks that do not)."""

    form: int
    ticks_per_quarter: int
    tracks: list[Track]


def load(data: bytes) -> File:
    """The file in the bytes; `InvalidMidi` if it is damaged or beyond the limits above."""
    if len(data) > MAX_BYTES:
        raise InvalidMidi(f"larger than {MAX_BYTES >> 20} MiB")
    chunks = _chunks(_without_container(data))
    kind, header = next(chunks, (b"", b""))
    if kind != b"MThd":
        raise InvalidMidi("not a Standard MIDI file (it does not begin with MThd)")
    if len(header) < 6:
        raise InvalidMidi("broken MIDI file: its header is too short")
    form, count, division = struct.unpack(">HHH", header[:6])
    if division == 0:
        raise InvalidMidi("0 ticks a quarter note")
    if division & 0x8000:
        raise InvalidMidi("time in seconds (SMPTE) instead of ticks a quarter note")
    if count > MAX_TRACKS:
        raise InvalidMidi(f"{count} tracks, more than {MAX_TRACKS}")
    tracks = _tracks(chunks)
    if len(tracks) < count:
        raise InvalidMidi(f"broken MIDI file: {len(tracks)} of its {count} tracks")
    return File(form, division, tracks)


def dump(ticks_per_quarter: int, tracks: Sequence[Sequence[Event]]) -> bytes:
    """The bytes of a file of format 1; the events of a track that share a tick keep their order."""
    header = b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), ticks_per_quarter)
    bodies = [_body(sorted(events, key=lambda event: event.tick)) for events in tracks]
    return header + b"".join(b"MTrk" + struct.pack(">I", len(body)) + body for body in bodies)


def meta(tick: int, kind: int, data: bytes) -> Event:
    """A meta event to be written."""
    return Event(tick, META, bytes([kind]) + data)


def note(start: int, end: int, pitch: int, channel: int, velocity: int) -> list[Event]:
    """The two events of a note to be written."""
    on, off = bytes([pitch, velocity]), bytes([pitch, 0])
    return [Event(start, _ON | channel, on), Event(end, _OFF | channel, off)]


def program(number: int, channel: int) -> Event:
    """The choice of a General MIDI program, to be written at tick 0."""
    return Event(0, _PROGRAM | channel, bytes([number]))


def _without_container(data: bytes) -> bytes:
    """The MIDI file in a RIFF container; other bytes as they are."""
    if data[:4] != b"RIFF" or data[8:12] != b"RMID":
        return data
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            return data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return data


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and the contents of every chunk; what follows the last whole one must not be a track."""
    at = 0
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "big")
        if at + 8 + size > len(data) and kind in (b"MThd", b"MTrk"):
            raise InvalidMidi(f"broken MIDI file: {len(data) - at - 8} bytes of a chunk of {size}")
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size


def _tracks(chunks: Iterator[tuple[bytes, bytes]]) -> list[Track]:
    """The tracks of the chunks, within the limits; unknown chunks are no part of the music."""
    tracks: list[Track] = []
    notes = 0
    for kind, data in chunks:
        if kind != b"MTrk":
            continue
        if len(tracks) == MAX_TRACKS:
            raise InvalidMidi(f"more than {MAX_TRACKS} tracks")
        try:
            tracks.append(_track(data))
        except IndexError:
            raise InvalidMidi(f"broken MIDI file: track {len(tracks)} ends within an event") from None
        notes += len(tracks[-1].notes)
        if notes > MAX_NOTES:
            raise InvalidMidi(f"more than {MAX_NOTES} notes")
    return tracks


def _track(data: bytes) -> Track:
    """A track's notes and meta events; a note that is never released ends with the track."""
    metas, notes, end = [], _Notes(), 0
    for end, status, payload in _events(data):
        if status == META:
            metas.append(Meta(end, payload[0], payload[1:]))
        else:
            notes.message(end, status, payload)
    return Track(notes.ended(end), metas, end)


class _Notes:
    """Pairs the events of a track to notes: of one pitch on one channel, the first on is the first off."""

    def __init__(self):
        self._starts: list[tuple[int, int, int, int]] = []  # tick, pitch, channel, program
        self._ends: list[int | None] = []
        self._sounding: dict[tuple[int, int], deque[int]] = defaultdict(deque)
        self._released: dict[tuple[int, int], int] = {}  # when the last off was
        self._programs = [0] * 16

    def message(self, tick: int, status: int, data: bytes) -> None:
        """One channel message."""
        kind, channel = status & 0xF0, status & 0x0F
        if kind == _PROGRAM:
            self._programs[channel] = data[0]
        elif kind == _ON and data[1]:
            self._sounding[channel, data[0]].append(len(self._starts))
            self._starts.append((tick, data[0], channel, self._programs[channel]))
            self._ends.append(None)
            if len(self._starts) > MAX_NOTES:
                raise InvalidMidi(f"more than {MAX_NOTES} notes")
        elif kind in (_ON, _OFF):
            self._released[channel, data[0]] = tick
            if waiting := self._sounding[channel, data[0]]:
                self._ends[waiting.popleft()] = tick

    def ended(self, end: int) -> list[TickNote]:
        """All notes, at the end of the track."""
        notes = []
        for (start, pitch, channel, number), stop in zip(self._starts, self._ends, strict=True):
            if stop is None:
                released = self._released.get((channel, pitch), start)
                stop = released if released > start else end
            notes.append(TickNote(start, stop, pitch, channel, number))
        return notes


def _events(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(tick, status, data) of a track's notes, programs and meta events; IndexError if they end too early."""
    at = tick = running = count = 0
    while at < len(data):
        if (count := count + 1) > MAX_EVENTS:
            raise InvalidMidi(f"more than {MAX_EVENTS} events in a track")
        delta = data[at]
        delta, at = (delta, at + 1) if delta < 0x80 else _number(data, at)
        tick += delta
        status = data[at]
        if status >= 0x80:
            at += 1
        elif running:
            status = running
        else:
            raise InvalidMidi("broken MIDI file: data without a status byte")
        if status < _SYSTEM:
            running, size = status, 1 if _PROGRAM <= status < _PRESSURE + 16 else 2
            payload = data[at : at + size]
            if payload and max(payload) > 127:
                raise InvalidMidi("broken MIDI file: a status byte within a message")
        elif status in (_SYSTEM, 0xF7, META):
            at += status == META
            size, start = _number(data, at)
            payload = data[at - 1 : at] + data[start : start + size]
            size += start - at
        else:
            raise InvalidMidi(f"broken MIDI file: a message {status:#x}")
        at += size
        if at > len(data):
            raise IndexError
        if status & 0xF0 in (_OFF, _ON, _PROGRAM) or status == META:
            yield tick, status, payload
        if status == META and payload[0] == END_OF_TRACK:
            break
    if any(data[at:]):
        raise InvalidMidi("broken MIDI file: events after the end of a track")


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, at most four bytes, and the place after it."""
    value = 0
    for place in range(at, at + 4):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    raise InvalidMidi("broken MIDI file: a number of more than four bytes")


def _body(events: Sequence[Event]) -> bytes:
    """The bytes of a track: events in order of time, and its end."""
    parts, now = [], 0
    for tick, status, data in [*events, meta(events[-1].tick if events else 0, END_OF_TRACK, b"")]:
        content = data[:1] + _digits(len(data) - 1) + data[1:] if status == META else data
        parts += [_digits(tick - now), bytes([status]), content]
        now = tick
    return b"".join(parts)


def _digits(value: int) -> bytes:
    """A number of variable length."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))
