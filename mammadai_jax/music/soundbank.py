"""Music played by a sound bank: the sampled instruments of a SoundFont 2 file, by way of midirenderer.

What is played is the MIDI file that is written of the same music: its program, tempo, velocities and drums
count. The same music and bank give the same samples with the same version on the same machine.
"""

from __future__ import annotations

import importlib.util
import io
import struct
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mammadai_jax.music import files, midi, smf
from mammadai_jax.music.loudness import at_loudness
from mammadai_jax.music.midi import Line
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.sound import MAX_SECONDS

LIBRARY = "midirenderer"
FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/soundfonts", "/usr/local/share/soundfonts")
MAX_BYTES = 2 << 30
LOUDNESS = -20.0  # LUFS
TAIL = 1.0  # seconds in which the last notes fade away
_HEADER = 14  # bytes of a MIDI file before its tracks
_COUNT = slice(10, 12)  # where the header says how many they are


class BankError(ValueError):
    """A sound bank that cannot be played; the message says why and what to do."""


class SoundBank(NamedTuple):
    """A sound bank: where it lies, and its bytes."""

    path: Path
    data: bytes


def open_bank(place: str) -> SoundBank:
    """The sound bank at a path, or one of the system's for `auto`; it has been read whole once.

    Raises:
        BankError: if there is none, if it cannot be played, or if the library is missing.
        OSError: if the file cannot be read.

    """
    if importlib.util.find_spec(LIBRARY) is None:
        raise BankError(f"a sound bank needs {LIBRARY}: pip install 'mammadai-jax[sound]'")
    if place == "auto" and not banks():
        raise BankError(
            f"no sound bank is in {', '.join(FOLDERS)}: install one, such as Debian's timgm6mb-soundfont, "
            "or name a file"
        )
    path = banks()[0] if place == "auto" else files.expanded(place)
    bank = SoundBank(path, files.read(path, MAX_BYTES))
    if bank.data[:4] != b"RIFF" or bank.data[8:12] != b"sfbk":
        raise BankError(f"{path} is not a sound bank (SF2)")
    version = bank.data.find(b"ifil", 12, 4096)
    if version < 0 or bank.data[version + 8 : version + 10] != b"\2\0":
        raise BankError(f"{path} is not of version 2: of an SF3, whose samples are compressed, take the SF2")
    _played(bank, smf.dump(1, [[]]))
    return bank


def banks() -> list[Path]:
    """The sound banks in the usual places of the system, its default first."""
    paths = [path for folder in FOLDERS for path in sorted(Path(folder).glob("*.sf2"))]
    by_default = sorted(paths, key=lambda path: "default" not in path.stem)
    return [*dict.fromkeys(path.resolve() for path in by_default)]


def render(
    bank: SoundBank,
    music: Melody | Piece,
    lines: Sequence[Line] = (),
    drums: Mapping[int, Sequence[int]] | None = None,
    program: int | None = None,
) -> tuple[np.ndarray, int]:
    """The music as float32 (samples, 2) and their rate, at LOUDNESS; silence stays silence.

    Args:
        bank: whose instruments play.
        music: a melody or a piece.
        lines: further voices, as long as the music.
        drums: steps at which each General MIDI percussion note is struck.
        program: General MIDI's; by default a melody's piano or a piece's organ.

    Raises:
        BankError: if the bank cannot be played.
        ValueError: for values that a MIDI file cannot represent, or more than half an hour of music.

    """
    data = midi.write(None, music, lines, drums, program)
    per_quarter = music.steps_per_quarter if isinstance(music, Piece) else 4
    if len(music) * 60 / per_quarter / music.tempo > MAX_SECONDS:
        raise ValueError(
            f"{len(music)} steps at tempo {music.tempo:g} last longer than {MAX_SECONDS} seconds"
        )
    tail = round(TAIL * music.tempo / 60 * per_quarter * midi.TICKS_PER_STEP)
    audio, rate = _played(bank, _until(data, len(music) * midi.TICKS_PER_STEP + tail))
    fading = min(round(TAIL * rate), len(audio))
    audio[len(audio) - fading :] *= np.linspace(1, 0, fading, dtype=np.float32)[:, None]
    return at_loudness(audio, rate, LOUDNESS), rate


def _until(data: bytes, tick: int) -> bytes:
    """A MIDI file that lasts until a tick: with one more track, which is empty and ends there."""
    (count,) = struct.unpack(">H", data[_COUNT])
    empty = smf.dump(1, [[smf.meta(tick, smf.TEXT, b"")]])[_HEADER:]
    return data[: _COUNT.start] + struct.pack(">H", count + 1) + data[_COUNT.stop :] + empty


def _played(bank: SoundBank, data: bytes) -> tuple[np.ndarray, int]:
    """A MIDI file as float32 (samples, 2) and their rate; BankError if the bank cannot be played."""
    from midirenderer import render_wave_from  # pyright: ignore

    try:
        sound = render_wave_from(bank.data, data)
    except BaseException as error:  # a panic of the library is no Exception
        if not isinstance(error, RuntimeError) and type(error).__name__ != "PanicException":
            raise
        raise BankError(f"{bank.path} cannot be played, it may be damaged: {error}") from None
    with wave.open(io.BytesIO(sound)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        return samples.astype(np.float32) / 32768, file.getframerate()
