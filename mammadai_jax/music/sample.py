"""A melody to hear: with its title, and the accompaniment and drums that it is played over.

Rows of tokens become samples here, and samples become files.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mammadai_jax.music import midi, score, sound
from mammadai_jax.music.arrangements import KEYS, arrange
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.notation import notations
from mammadai_jax.music.notes import MAGENTA, PIANO, Melody
from mammadai_jax.music.tunes import ACCOMPANIMENTS

STEPS_PER_BAR = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """A melody to hear.

    Attributes:
        melody: what is played, at its own tempo.
        title: for readers.
        line: events int16 (T,) of an accompaniment as long as the melody.
        drums: steps, counted from the melody's beginning, at which each General MIDI drum note is struck.

    """

    melody: Melody
    title: str
    line: np.ndarray | None = None
    drums: Mapping[int, Sequence[int]] | None = None


def unaccompanied(rows: np.ndarray, name: str, prompts: Sequence[str] = ()) -> list[Sample]:
    """Rows (N, T) of the alphabet MAGENTA as melodies, titled "NAME 1" and so on.

    They are on C or A, in the meter, key and tempo in which they are heard or that their prompts ask for.
    """
    events = [MAGENTA.decode(row) for row in rows]
    titles = [f"{name} {number}" for number in range(1, len(rows) + 1)]
    return [
        Sample(Melody(row, title=title, **notation._asdict()), title=title)
        for row, title, notation in zip(events, titles, notations(events, prompts), strict=True)
    ]


def accompanied(rows: np.ndarray, name: str) -> list[Sample]:
    """Rows (N, T) of the alphabet PIANO over the embedded accompaniments in C, one after another.

    Their meter is that of the accompaniments, 4/4; their key is A minor where they are heard in minor.
    """
    length = rows.shape[1]
    samples = []
    events = [PIANO.decode(row) for row in rows]
    for number, (row, notation) in enumerate(zip(events, notations(events), strict=True)):
        backing = ACCOMPANIMENTS[number % len(ACCOMPANIMENTS)]
        title = f"{name} {number + 1} over {backing.name}"
        melody = Melody(row, title=title, tonic=notation.tonic, mode=notation.mode)
        line = np.resize(backing.events, length)
        samples.append(Sample(melody, title, line, _in_every_bar(backing.drums, length)))
    return samples


def tunes() -> list[Sample]:
    """The ten embedded tunes over their accompaniments, in C."""
    return [
        Sample(
            a.melody, f"{a.melody.title} over {a.accompaniment}", a.line, _in_every_bar(a.drums, len(a.line))
        )
        for a in arrange(keys=KEYS[:1])
    ]


def _in_every_bar(drums: Mapping[int, Sequence[int]], length: int) -> dict[int, list[int]]:
    """The strokes of one bar, repeated in every bar of a length in steps."""
    bars = range(0, length, STEPS_PER_BAR)
    return {
        drum: [bar + step for bar in bars for step in steps if bar + step < length]
        for drum, steps in drums.items()
    }


def save(sample: Sample, stem: Path) -> list[Path]:
    """Write a sample as MIDI, WAV, piano roll and, if verovio is installed, sheet music -> the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    lines = [] if sample.line is None else [midi.Line("accompaniment", sample.line, 32)]
    contents = {
        ".mid": midi.write(None, sample.melody, lines, sample.drums),
        ".wav": sound.wav_bytes(sound.render(sample.melody, lines=lines, drums=sample.drums)),
        ".roll.svg": score.piano_roll_svg(sample.melody, lines, title=sample.title).encode(),
    }
    with contextlib.suppress(score.ScoreUnavailable):
        contents[".sheet.svg"] = score.sheet_svg(sample.melody).encode()
    for suffix, data in contents.items():
        write_atomically(stem.with_name(stem.name + suffix), data)
    return [stem.with_name(stem.name + suffix) for suffix in contents]
