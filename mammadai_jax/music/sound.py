"""A small synthesiser: melodies, and pieces of several voices, as audio, without sound fonts.

Every note is a sum of sine partials under an envelope that begins and ends at zero (no clicks). The
same music gives the same samples on the same machine.
"""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.instruments import is_sustained
from mammadai_jax.music.midi import TEMPI, Line, voice_lines
from mammadai_jax.music.notes import Melody, notes_from_events
from mammadai_jax.music.piece import Piece

RATE = 22_050
PEAK = 10 ** (-3 / 20)
MAX_SECONDS = 1800


class _Timbre(NamedTuple):
    """Amplitude and decay (seconds to 1/e) of the partials 1, 2, 3..., and the seconds of rise and fall."""

    partials: tuple[tuple[float, float], ...]
    attack: float
    release: float


# On strings higher partials decay faster; the pipes of an organ sound on.
_STRING = _Timbre(((1.0, 0.9), (0.4, 0.5), (0.2, 0.35), (0.1, 0.25), (0.05, 0.2)), 0.008, 0.03)
_ORGAN = _Timbre(tuple((amplitude, np.inf) for amplitude in (1.0, 0.6, 0.25, 0.3, 0.1, 0.1)), 0.03, 0.05)
_LINE_LEVEL, _DRUM_LEVEL = 0.4, 0.6
_STROKE = 0.25
_KICKS, _SNARES = (35, 36), (37, 38, 39, 40)


def frequency(pitch: int) -> float:
    """Hertz of a MIDI pitch, equal temperament with A4 = 440."""
    return 440.0 * 2 ** ((pitch - 69) / 12)


def render(
    music: Melody | Piece,
    rate: int = RATE,
    tempo: float | None = None,
    lines: Sequence[Line] = (),
    drums: Mapping[int, Sequence[int]] | None = None,
    steps_per_quarter: int | None = None,
    *,
    program: int | None = None,
) -> np.ndarray:
    """The music as float32 (samples,), peak at -3 dBFS; silence stays silence.

    Args:
        music: a melody, which is plucked, or a piece: its voices sound like an organ and are equally loud.
        rate: samples a second.
        tempo: quarter notes a minute; the music's own if None.
        lines: further voices, softer, as long as the music.
        drums: steps at which each General MIDI percussion note is struck.
        steps_per_quarter: of the grid; 4, or that of the piece, if None.
        program: General MIDI's; with an instrument that sounds on, a melody sounds like an organ too.

    Raises ValueError for a tempo or rate out of range, or more than half an hour of music.

    """
    if steps_per_quarter is None:
        steps_per_quarter = music.steps_per_quarter if isinstance(music, Piece) else 4
    tempo = music.tempo if tempo is None else tempo
    if not TEMPI[0] <= tempo <= TEMPI[1]:
        raise ValueError(f"tempo is {TEMPI[0]:g} to {TEMPI[1]:g} quarter notes a minute, not {tempo}")
    if not 4_000 <= rate <= 192_000:
        raise ValueError(f"rate is 4000 to 192000 samples a second, not {rate}")
    if steps_per_quarter < 1:
        raise ValueError(f"steps_per_quarter is 1 or more, not {steps_per_quarter}")
    step = 60 / tempo / steps_per_quarter * rate
    if len(music) * step > MAX_SECONDS * rate:
        raise ValueError(f"{len(music)} steps at tempo {tempo:g} last longer than {MAX_SECONDS} seconds")
    audio = np.zeros(round(len(music) * step), dtype=np.float32)
    sustained = isinstance(music, Piece) if program is None else is_sustained(program)
    timbre = _ORGAN if sustained else _STRING
    for line in voice_lines(music):
        _add_line(audio, line.events, step, rate, timbre)
    for line in lines:
        _add_line(audio, line.events, step, rate, _STRING, _LINE_LEVEL)
    for pitch, steps in (drums or {}).items():
        _add_drum(audio, pitch, steps, step, rate)
    peak = np.abs(audio).max(initial=0.0)
    return audio * np.float32(PEAK / peak) if peak > 0 else audio


def wav_bytes(audio: np.ndarray, rate: int = RATE) -> bytes:
    """The bytes of a 16-bit WAV file of float audio (samples,), or stereo (samples, 2), clipped to -1..1."""
    audio = np.asarray(audio)
    if (audio.ndim != 1 and audio.shape[1:] != (2,)) or not np.isfinite(audio).all():
        raise ValueError(f"audio is finite, (samples,) or (samples, 2), got shape {audio.shape}")
    samples = np.round(np.clip(audio, -1, 1) * 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(audio.ndim)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def write_wav(path: str | os.PathLike, audio: np.ndarray, rate: int = RATE) -> None:
    """Write `wav_bytes` to `path`, whole or not at all."""
    write_atomically(path, wav_bytes(audio, rate))


def _add_line(
    audio: np.ndarray, events: np.ndarray, step: float, rate: int, timbre: _Timbre, level: float = 1.0
) -> None:
    """Mix the notes of a line into the audio, in place."""
    for onset, duration, pitch in notes_from_events(events):
        first = round(onset * step)
        part = audio[first : round((onset + duration) * step)]
        gain = level * (_equal_loudness(pitch, timbre) if timbre is _ORGAN else 1.0)
        part += np.float32(gain) * _tone(pitch, len(part), rate, timbre)


def _tone(pitch: int, length: int, rate: int, timbre: _Timbre) -> np.ndarray:
    """One note, float32 (length,); partials at or above half the rate are left out."""
    seconds = np.arange(length) / rate
    tone = np.zeros(length)
    for number, (amplitude, decay) in enumerate(timbre.partials, start=1):
        hertz = number * frequency(pitch)
        if 2 * hertz < rate:
            tone += amplitude * np.exp(-seconds / decay) * np.sin(2 * np.pi * hertz * seconds)
    return (tone * _fades(length, rate, timbre)).astype(np.float32)


def a_weighting(hertz: np.ndarray | float) -> np.ndarray | float:
    """Gain at frequencies (...,) by the A curve of IEC 61672, 1 at 1000 Hz: how sensitive hearing is."""
    squared = np.square(hertz)
    poles = np.sqrt((squared + 107.7**2) * (squared + 737.9**2))
    return 1.2589 * 12194**2 * squared**2 / ((squared + 20.6**2) * poles * (squared + 12194**2))


def _equal_loudness(pitch: int, timbre: _Timbre) -> float:
    """Gain that makes a note as loud, by its A-weighted power, as A4 is; at most 4."""
    powers = [
        sum((amplitude * a_weighting(n * hertz)) ** 2 for n, (amplitude, _) in enumerate(timbre.partials, 1))
        for hertz in (440.0, frequency(pitch))
    ]
    return float(min(np.sqrt(powers[0] / powers[1]), 4.0))


def _fades(length: int, rate: int, timbre: _Timbre) -> np.ndarray:
    """Gain (length,) that rises from 0 at the start and falls to 0 at the end, as half cosines."""
    gain = np.ones(length)
    attack = min(round(timbre.attack * rate), length // 2)
    release = min(round(timbre.release * rate), length // 2)
    gain[:attack] = 0.5 - 0.5 * np.cos(np.pi * np.arange(attack) / max(attack, 1))
    gain[length - release :] = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, release + 1) / max(release, 1))
    return gain


def _add_drum(audio: np.ndarray, pitch: int, steps: Sequence[int], step: float, rate: int) -> None:
    """Mix the strokes of one drum into the audio, in place."""
    length = round(_STROKE * rate)
    stroke = _stroke(pitch, length, rate)
    for onset in steps:
        part = audio[round(onset * step) :][:length]
        # A stroke that lasts beyond the end of the music is faded out.
        part += (
            np.float32(_DRUM_LEVEL) * stroke[: len(part)] * _fades(2 * len(part), rate, _STRING)[len(part) :]
        )


def _stroke(pitch: int, length: int, rate: int) -> np.ndarray:
    """One stroke of a General MIDI drum, float32 (length,): a falling sine, noise, or bright noise."""
    seconds = np.arange(length) / rate
    noise = np.random.default_rng(pitch).uniform(-1, 1, length + 1)
    if pitch in _KICKS:
        phase = 2 * np.pi * (50 * seconds + 80 * 0.03 * (1 - np.exp(-seconds / 0.03)))
        stroke = np.sin(phase) * np.exp(-seconds / 0.08)
    elif pitch in _SNARES:
        tone = np.sin(2 * np.pi * 185 * seconds)
        stroke = (0.6 * noise[1:] + 0.4 * tone) * np.exp(-seconds / 0.06)
    else:
        stroke = 0.5 * np.diff(noise) * np.exp(-seconds / 0.03)
    return stroke.astype(np.float32)
