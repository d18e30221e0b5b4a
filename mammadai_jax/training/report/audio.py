"""The samples of a page and their sound, within a budget of bytes."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Sequence

from markupsafe import Markup

from mammadai_jax.music.notes import Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.sample import Sample
from mammadai_jax.music.sound import render, wav_bytes

AUDIO_BYTES = 9_000_000
RATES = (16_000, 11_025, 8_000)
_BYTES_PER_SAMPLE = 2 * 4 / 3  # 16 bits in base64


@dataclasses.dataclass(frozen=True)
class Audio:
    """The sample rate of a page's audio and how many seconds each sample may last."""

    rate: int
    seconds: float = math.inf

    @classmethod
    def that_fits(cls, samples: Sequence[Sample], expected: int = 0) -> Audio:
        """The highest rate at which all samples fit the budget, else the lowest and equal shares.

        If more are `expected` in the end, room is left for them, as long as these on average.
        """
        count = max(len(samples), expected)
        total = sum(seconds_of(sample.music) for sample in samples) * count / max(len(samples), 1)
        for rate in RATES:
            if total * rate * _BYTES_PER_SAMPLE <= AUDIO_BYTES:
                return cls(rate)
        return cls(RATES[-1], AUDIO_BYTES / (count * RATES[-1] * _BYTES_PER_SAMPLE))

    def excerpt(self, sample: Sample) -> Sample:
        """The whole bars of a sample that fit the seconds, at least one bar; all of it if that fits."""
        seconds = seconds_of(sample.music)
        if seconds <= self.seconds:
            return sample
        bar = max(sample.music.steps_per_bar, 1)
        steps = max(1, int(self.seconds * len(sample.music) / seconds / bar)) * bar
        return dataclasses.replace(sample.first(steps), title=f"{sample.title} (first {steps // bar} bars)")

    def source(self, sample: Sample) -> tuple[str, str]:
        """A data: address of the sample's sound and "", or "" and why there is no sound."""
        if not len(sample.music):
            return "", "An empty melody."
        try:
            audio = render(sample.music, self.rate, lines=sample.lines, drums=sample.drums)
            sound = wav_bytes(audio, self.rate)
        except ValueError as error:
            return "", f"No audio: {error}"
        return data_uri("audio/wav", sound), ""


def seconds_of(music: Melody | Piece) -> float:
    """How long music lasts; 0 if its tempo makes no sense, which `render` explains."""
    steps_per_quarter = music.steps_per_quarter if isinstance(music, Piece) else 4
    return len(music) * 60 / steps_per_quarter / music.tempo if music.tempo > 0 else 0.0


def data_uri(kind: str, data: bytes) -> Markup:
    """The data as an address that holds all of them; base64 needs no escaping."""
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode()}")
