"""Clips: what is heard and seen of one piece of music, made once and found by its digest."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json

import numpy as np

from mammadai_jax.music import midi, soundbank
from mammadai_jax.music.loudness import at_loudness, loudness
from mammadai_jax.music.notes import MAGENTA, Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.sample import Sample
from mammadai_jax.music.score import ScoreUnavailable, sheet_svg
from mammadai_jax.music.sound import render, wav_bytes
from mammadai_jax.music.soundbank import SoundBank

RATE = 22_050
LOUDNESS = -20.0  # LUFS of every clip, so that none is preferred for being louder
MAX_SECONDS = 180.0


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """One piece of music as raters have it.

    Attributes:
        tokens: its melody, or highest voice, in the alphabet MAGENTA, moved there by octaves.
        midi: the music as a MIDI file.
        wav: its sound.
        roll: its notes for the piano roll, see `roll_of`.
        seconds: how long it lasts.
        loudness: of the sound, LUFS.
        sheet: sheet music as SVG; empty without verovio.

    """

    tokens: tuple[int, ...]
    midi: bytes
    wav: bytes
    roll: dict
    seconds: float
    loudness: float
    sheet: str = ""

    @functools.cached_property
    def id(self) -> str:
        """SHA-256 of the MIDI file: equal music is one clip."""
        return hashlib.sha256(self.midi).hexdigest()

    @functools.cached_property
    def audio(self) -> str:
        """SHA-256 of the sound, which is its name: it says nothing about who made it."""
        return hashlib.sha256(self.wav).hexdigest()

    def row(self) -> dict[str, str | float | bytes]:
        """The columns of the table of clips."""
        return {
            "id": self.id,
            "audio": self.audio,
            "tokens": " ".join(map(str, self.tokens)),
            "roll": json.dumps(self.roll),
            "midi": self.midi,
            "sheet": self.sheet,
            "seconds": self.seconds,
            "loudness": self.loudness,
        }


def clip_of(sample: Sample, *, sheet: bool = True, bank: SoundBank | None = None) -> Clip:
    """The clip of a sample, at the loudness of all others; ValueError for music that cannot be compared.

    The title is left out of everything, since it may name the system. A sound bank plays it if one is given,
    else a small synthesiser.
    """
    music = dataclasses.replace(sample.music, title="")
    if not len(music.pitches):
        raise ValueError(f"{sample.title or 'a melody'} has no notes to compare")
    audio = at_loudness(_played(sample, music, bank), RATE, LOUDNESS)
    if len(audio) > MAX_SECONDS * RATE:
        raise ValueError(f"{sample.title} lasts longer than {MAX_SECONDS:g} seconds: give an excerpt")
    return Clip(
        tokens=tokens_of(sample.melody),
        midi=midi.write(None, music, sample.lines, sample.drums, sample.program),
        wav=wav_bytes(audio, RATE),
        roll=roll_of(music),
        seconds=len(audio) / RATE,
        loudness=loudness(audio, RATE),
        sheet=_sheet(sample, music) if sheet else "",
    )


def _played(sample: Sample, music: Melody | Piece, bank: SoundBank | None) -> np.ndarray:
    """The sound of music, (samples,) at RATE."""
    if bank is None:
        return render(music, RATE, lines=sample.lines, drums=sample.drums)
    from scipy import signal  # slow to import

    audio, rate = soundbank.render(bank, music, sample.lines, sample.drums, sample.program)
    return signal.resample_poly(audio.mean(axis=1), RATE, rate).astype(np.float32)


def tokens_of(melody: Melody) -> tuple[int, ...]:
    """A melody in the alphabet MAGENTA; pitches outside are moved by octaves."""
    events = melody.events
    lowest, highest = MAGENTA.lowest, MAGENTA.highest
    below, above = lowest + (events - lowest) % 12, highest - (highest - events) % 12
    moved = np.where((events >= 0) & (events < lowest), below, np.where(events > highest, above, events))
    return tuple(MAGENTA.encode(moved).tolist())


def roll_of(music: Melody | Piece) -> dict:
    """What a piano roll needs: notes (onset, duration, pitch, voice) in steps, and the grid."""
    voices = (
        [music.melody(number) for number in range(len(music.voices))] if isinstance(music, Piece) else [music]
    )
    quarter = music.steps_per_quarter if isinstance(music, Piece) else 4
    return {
        "notes": [[*map(int, note), voice] for voice, part in enumerate(voices) for note in part.notes],
        "steps": len(music),
        "bar": music.steps_per_bar,
        "seconds": 60 / music.tempo / quarter,
    }


def _sheet(sample: Sample, music: Melody | Piece) -> str:
    try:
        return sheet_svg(music, sample.chords)
    except (ScoreUnavailable, ValueError):  # the piano roll remains
        return ""
