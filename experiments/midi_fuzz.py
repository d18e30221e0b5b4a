"""Reads thousands of damaged MIDI files and counts what happens.

    python -m experiments.midi_fuzz --count 3000

Every file is made from a seed, read in a worker process that may take 1 GiB more than it had after its
imports and some seconds, and must either load or raise InvalidMidi: anything else is a failure (exit
code 1), named by the seed and number that make the file again.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

from mammadai_jax.music import midi
from mammadai_jax.music.notes import HOLD, OFF, Melody

GIB = 1 << 30
EXPECTED = ("loaded", "InvalidMidi")
_LENGTHS = (0, 1, 5, 7, 255, 65_535, 0x7FFFFFFF, 0xFFFFFFFF)
_END = b"\0\xff/\0"

Mutation = Callable[[np.random.Generator, bytearray], bytearray]


class Reading(NamedTuple):
    """What became of one file: its number, "loaded" or an error, seconds, and the peak memory so far."""

    number: int
    outcome: str
    seconds: float
    peak: int


def mutant(seed: int, number: int) -> bytes:
    """The damaged file `number`: a sound one after one to three mutations.

    Half have the lengths of their tracks put right again: else little gets past the first check.
    """
    rng = np.random.default_rng([seed, number])
    data = bytearray(_sound_file(rng))
    for _ in range(rng.integers(1, 4)):
        data = _MUTATIONS[rng.integers(len(_MUTATIONS))](rng, data)
    return _with_true_lengths(data) if rng.random() < 0.5 else bytes(data)


def outcome(data: bytes) -> str:
    """What `midi.parse` does with the bytes: "loaded", or the name of the exception.

    `midi.parse_piece` may refuse more, by the same exception.
    """
    try:
        melody = midi.parse(data, "mutant.mid")
        assert len(melody) <= midi.MAX_STEPS
        with contextlib.suppress(midi.InvalidMidi):
            assert midi.parse_piece(data, "mutant.mid").voices.shape[1] <= midi.MAX_STEPS
    except Exception as error:  # the whole point is to see which
        return type(error).__name__
    return "loaded"


def readings(count: int, seed: int, seconds: float) -> Iterator[Reading]:
    """One reading per file; after a crash or a hang a new worker goes on behind it."""
    context = multiprocessing.get_context("spawn")
    number = 0
    while number < count:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(theirs, number, count, seed, seconds))
        worker.start()
        theirs.close()
        try:
            while True:
                reading = ours.recv()
                number = reading.number + 1
                yield reading
        except EOFError:
            worker.join()
        if number < count:
            end = "hang" if worker.exitcode == -signal.SIGALRM else f"crash ({worker.exitcode})"
            yield Reading(number, end, seconds, 0)
            number += 1


def main(count: int = 3000, seed: int = 0, seconds: float = 10.0) -> None:
    """Read `count` files, `seconds` for each at most, and print the table."""
    found = list(readings(count, seed, seconds))
    outcomes = Counter(reading.outcome for reading in found)
    for name, number in outcomes.most_common():
        print(f"{name:24}{number:6}{number / count:8.1%}")
    times = np.array([reading.seconds for reading in found]) * 1e3
    median, most, worst = np.quantile(times, (0.5, 0.99, 1))
    print(f"ms a file: median {median:.2f}, 99 % {most:.1f}, max {worst:.0f}")
    print(f"peak memory above the imports: {max(reading.peak for reading in found) / 2**20:.0f} MiB")
    bad = [reading for reading in found if reading.outcome not in EXPECTED]
    for reading in bad[:20]:
        print(f"FAILED: {reading.outcome}: mutant(seed={seed}, number={reading.number})")
    raise SystemExit(bool(bad))


def _work(pipe: Connection, first: int, count: int, seed: int, seconds: float) -> None:
    """Read the files first..count-1 under the limits. SIGALRM has no handler, so it ends even C code."""
    baseline = _peak_memory()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + GIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in range(first, count):
        data = mutant(seed, number)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        start = time.perf_counter()
        result = outcome(data)
        elapsed = time.perf_counter() - start
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send(Reading(number, result, elapsed, _peak_memory() - baseline))


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _sound_file(rng: np.random.Generator) -> bytes:
    """A file without fault: ours with lines and drums, or one track with running status."""
    length = int(rng.integers(1, 200))
    events = rng.choice([HOLD] * 40 + [OFF] * 5 + list(range(40, 90)), (3, length))
    if rng.random() < 0.3:
        notes = b"".join(
            bytes((1, pitch, 64, 60, pitch, 0)) for pitch in rng.integers(128, size=length).tolist()
        )
        return _file(b"\0\xff\3\5Piano\0\xffQ\3\7\xa1\x20\0\x90\x3c\x40" + notes + _END)
    lines = [midi.Line("Bass", events[1], 33), midi.Line("", events[2])][: rng.integers(3)]
    drums = {36: range(0, length, 4)} if rng.random() < 0.5 else {}
    melody = Melody(events[0], title="Tune", tonic=2, mode="major", tempo=float(rng.integers(40, 200)))
    return midi.write(None, melody, lines, drums)


def _file(*tracks: bytes, division: int = 480) -> bytes:
    chunks = b"".join(b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks)
    return b"MThd" + struct.pack(">IHHH", 6, 1, min(len(tracks), 65_535), division) + chunks


def _with_true_lengths(data: bytearray) -> bytes:
    header, *tracks = bytes(data).split(b"MTrk")
    return header + b"".join(b"MTrk" + struct.pack(">I", len(t[4:])) + t[4:] for t in tracks)


def _place(rng: np.random.Generator, data: bytearray) -> int:
    return int(rng.integers(len(data) + 1))


def _flip_bytes(rng: np.random.Generator, data: bytearray) -> bytearray:
    for _ in range(rng.integers(1, 20)):
        if data:
            data[rng.integers(len(data))] = rng.integers(256)
    return data


def _truncate(rng: np.random.Generator, data: bytearray) -> bytearray:
    return data[: _place(rng, data)]


def _insert_bytes(rng: np.random.Generator, data: bytearray) -> bytearray:
    at = _place(rng, data)
    return data[:at] + bytearray(rng.bytes(int(rng.integers(1, 50)))) + data[at:]


def _delete_bytes(rng: np.random.Generator, data: bytearray) -> bytearray:
    at = _place(rng, data)
    return data[:at] + data[at + int(rng.integers(1, 30)) :]


def _lie_about_length(rng: np.random.Generator, data: bytearray) -> bytearray:
    """Some chunk, the header's included, claims another length: up to 4 GB."""
    kinds = [kind for kind in (b"MThd", b"MTrk") if kind in data]
    if kinds:
        at = data.index(kinds[rng.integers(len(kinds))]) + 4
        data[at : at + 4] = struct.pack(">I", _LENGTHS[rng.integers(len(_LENGTHS))])
    return data


def _lie_in_header(rng: np.random.Generator, data: bytearray) -> bytearray:
    """Another form, number of tracks, or ticks a quarter note (0, 1, SMPTE...)."""
    field = 8 + 2 * int(rng.integers(3))
    data[field : field + 2] = struct.pack(">H", rng.choice([0, 1, 2, 3, 0x7FFF, 0x8000, 0xE728, 0xFFFF]))
    return data


def _splice(rng: np.random.Generator, data: bytearray) -> bytearray:
    other = _sound_file(rng)
    return data[: _place(rng, data)] + other[rng.integers(len(other)) :]


def _insert_event(rng: np.random.Generator, data: bytearray) -> bytearray:
    """A well-formed event that makes no sense, at the start of the first track."""
    event = _EVENTS[rng.integers(len(_EVENTS))]
    at = data.find(b"MTrk")
    if at < 0 or len(data) < at + 8:
        return data
    length = struct.unpack(">I", data[at + 4 : at + 8])[0] + len(event)
    return data[: at + 4] + struct.pack(">I", length & 0xFFFFFFFF) + event + data[at + 8 :]


def _stretch_deltas(rng: np.random.Generator, data: bytearray) -> bytearray:
    """Some zero bytes, most of them times between events, become the largest there is."""
    zeros = [at for at in range(14, len(data)) if data[at] == 0]
    for at in sorted(rng.permutation(zeros)[: rng.integers(1, 20)].tolist(), reverse=True):
        data[at : at + 1] = b"\xff\xff\xff\x7f"
    return data


def _lose_status(rng: np.random.Generator, data: bytearray) -> bytearray:
    """Status bytes vanish, so that running status begins early or with nothing."""
    for status in (0x80, 0x90, 0xC0, 0xFF):
        if rng.random() < 0.5 and status in data:
            del data[data.index(status)]
    return data


def _bomb(rng: np.random.Generator, data: bytearray) -> bytearray:
    """One time in ten, up to 4 MiB of one event, or of empty tracks."""
    if rng.random() < 0.9:
        return _insert_event(rng, data)
    size = int(rng.integers(1, midi.MAX_BYTES - 100))
    event = _BOMBS[rng.integers(len(_BOMBS))]
    if rng.random() < 0.2:
        return bytearray(_file(*[_END] * (size // 12)))
    return bytearray(_file(b"\0\x90<@" + event * (size // len(event)) + _END))


_EVENTS = (
    b"\0\xffQ\3\0\0\0",  # no time a quarter note
    b"\0\xffQ\3\xff\xff\xff",
    b"\0\xffQ\x00",
    b"\0\xffX\4\0\xff\0\0",  # a meter of 0/2^255
    b"\0\xffX\4\xff\x02\0\0",
    b"\0\xffX\1\4",
    b"\0\xffY\2\x7f\x09",  # 127 sharps
    b"\0\xff\1\xff\xff\xff\x7f",  # 256 MB of text
    b"\0\xf0\xff\xff\xff\x7f",
    b"\0\xff\3\4\xff\xfe\0\x80",  # a name that is not UTF-8
    b"\xff\xff\xff\x7f\xff\x06\x0dend of melody",
    b"\xff\xff\xff\x7f\x90\x3c\x40\xff\xff\xff\x7f\x3c\x00",
    b"\0\x3c\x40",  # running status of nothing
    b"\0\xff\x2f\0",  # the end, at the start
    b"\xff\xff\xff\xff\xff\xff\x7f\x90\x3c\x40",  # a time of seven bytes
    b"\0\xf7\0\0\xf4\0\xf5\0\xfd",
)
_BOMBS = (
    b"\0\x3c\x40",
    b"\0\x3c\x40\1\x3c\0",
    b"\xff\xff\xff\x7f\x3c\x40",
    b"\0\xffQ\3\7\xa1\x20",
    b"\0\xff\6\0",
    b"\0\xff\3\0",
    b"\0\xb0\x40\x7f\0\x40\0",
    b"\0\xc0\1\0\x90\x3c\x40\1\x3c\0",
    b"\0\xf0\1\xf7",
)
_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bytes,
    _truncate,
    _insert_bytes,
    _delete_bytes,
    _lie_about_length,
    _lie_in_header,
    _splice,
    _insert_event,
    _stretch_deltas,
    _lose_status,
    _bomb,
)


if __name__ == "__main__":
    tyro.cli(main)
