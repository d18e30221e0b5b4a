"""Music to hear: a melody with the accompaniment and drums that it is played over, or a piece of voices.

Rows of tokens become samples here, and samples become files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mammadai_jax.music import files, midi, score, sound, soundbank
from mammadai_jax.music.abc_writing import abc
from mammadai_jax.music.arrangements import KEYS, Arrangement, arrange
from mammadai_jax.music.chords import Symbol
from mammadai_jax.music.controls import Controls, of_prompt
from mammadai_jax.music.masks import shift_to
from mammadai_jax.music.musicxml import musicxml
from mammadai_jax.music.notation import Notation, notations
from mammadai_jax.music.notes import MAGENTA, OFF, PIANO, Alphabet, Melody, upbeat
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.soundbank import SoundBank
from mammadai_jax.music.tunes import ACCOMPANIMENTS

STEPS_PER_BAR = 16
CHORALE_TEMPO = 80.0
SUFFIXES = (".mid", ".wav", ".musicxml", ".abc", ".roll.svg", ".sheet.svg")


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Music to hear.

    Attributes:
        music: what is played, at its own tempo.
        title: for readers.
        line: events int16 (T,) of an accompaniment as long as the music.
        drums: steps, counted from the beginning, at which each General MIDI drum note is struck.
        chords: symbols that are written above the music.
        claims: what was asked for, such as "mode: minor", and whether it holds.
        program: the General MIDI program of the music; by default a melody's piano or a piece's organ.

    """

    music: Melody | Piece
    title: str
    line: np.ndarray | None = None
    drums: Mapping[int, Sequence[int]] | None = None
    chords: Sequence[Symbol] = ()
    claims: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    program: int | None = None

    @property
    def melody(self) -> Melody:
        """The melody, or the highest voice of a piece, on a grid of 16th notes."""
        return self.music.on_grid(4).melody(0) if isinstance(self.music, Piece) else self.music

    @property
    def lines(self) -> list[midi.Line]:
        """The accompaniment as what is played beside the music."""
        return [] if self.line is None else [midi.Line("accompaniment", self.line, 32)]

    def played(self, tempo: float | None = None, program: int | None = None) -> Sample:
        """The same at another tempo, by another instrument; None leaves either as it is."""
        music = self.music if tempo is None else dataclasses.replace(self.music, tempo=tempo)
        return dataclasses.replace(self, music=music, program=self.program if program is None else program)

    def first(self, steps: int) -> Sample:
        """The first steps of all that is played."""
        drums = {drum: [s for s in struck if s < steps] for drum, struck in (self.drums or {}).items()}
        line = None if self.line is None else self.line[:steps]
        chords = [symbol for symbol in self.chords if symbol.step < steps]
        return dataclasses.replace(self, music=self.music.first(steps), line=line, drums=drums, chords=chords)


def unaccompanied(
    rows: np.ndarray, name: str, prompts: Sequence[str] = (), controls: Controls | None = None
) -> list[Sample]:
    """Rows (N, T) of the alphabet MAGENTA as melodies, titled "NAME 1", with prompts "NAME 1: PROMPT".

    They are in the scale of C, and are moved to the key and the range that `controls` or their prompts ask
    for. Meter, key and tempo are those, or as the melodies are heard; silence of half a bar or more at the
    start makes an upbeat.
    """
    events = [MAGENTA.decode(row) for row in rows]
    given = controls or Controls()
    asked = [given.over(of_prompt(text)) for text in prompts] or [given] * len(rows)
    titles = [f"{name} {number}" for number in range(1, len(rows) + 1)]
    if prompts:
        titles = [f"{title}: {files.visible(text)}" for title, text in zip(titles, prompts, strict=True)]
    samples = []
    for row, title, each, notation in zip(events, titles, asked, notations(events, asked), strict=True):
        silence = int((row >= 0).argmax())
        melody = Melody(
            row, title=title, pickup=upbeat(silence, notation.steps_per_bar), **notation._asdict()
        )
        samples.append(Sample(melody.transpose(shift_to(each)), title=title))
    return samples


def accompanied(rows: np.ndarray, name: str, over: Sequence[Arrangement] = ()) -> list[Sample]:
    """Rows (N, T) of the alphabet PIANO over accompaniments, one after another.

    The accompaniments are those of arrangements in C; by default the five embedded ones, which stay on one
    chord. Their meter is theirs, 4/4. The key is that of an accompaniment that follows chords, else A minor
    where a melody is heard in minor, or C major.
    """
    over = over or arrange(keys=KEYS[:1])[: len(ACCOMPANIMENTS)]
    events = [PIANO.decode(row) for row in rows]
    return [
        _over(row, f"{name} {number + 1}", over[number % len(over)], notation)
        for number, (row, notation) in enumerate(zip(events, notations(events), strict=True))
    ]


def _over(events: np.ndarray, name: str, backing: Arrangement, notation: Notation) -> Sample:
    """Events (T,) over the accompaniment of an arrangement, repeated or cut to their length."""
    title, heading = f"{name} over {backing.backing}", backing.melody if backing.chords else notation
    melody = Melody(events, title=title, tonic=heading.tonic, mode=heading.mode)
    line = np.resize(backing.line, len(events))
    chords = tuple(symbol for symbol in backing.chords if symbol.step < len(events))
    return Sample(melody, title, line, _in_every_bar(backing.drums, len(events)), chords)


def tunes(*, progressions: bool = False) -> list[Sample]:
    """The ten embedded tunes over their accompaniments, in C; on one chord, or on chords that suit them."""
    return [
        Sample(
            a.melody,
            f"{a.melody.title} over {a.accompaniment}",
            a.line,
            _in_every_bar(a.drums, len(a.line)),
            a.chords,
        )
        for a in arrange(keys=KEYS[:1], progressions=progressions)
    ]


def duets() -> list[Piece]:
    """The ten embedded tunes as pieces of four voices: a soprano, and the accompaniment as the bass, in C."""
    return [_duet(tune) for tune in tunes()]


def _duet(tune: Sample) -> Piece:
    assert tune.line is not None
    silent = np.full(len(tune.melody), OFF, np.int16)
    return Piece(np.stack([tune.melody.events, silent, silent, tune.line]), **tune.melody.heading)


def pieces_of(rows: np.ndarray, name: str, alphabet: Alphabet, steps_per_quarter: int = 4) -> list[Sample]:
    """Tokens (N, T, V) of an alphabet as pieces on C in 4/4, titled "NAME 1"...

    They are in minor where the minor third above C is struck more often than the major third.
    """
    samples = []
    for number, row in enumerate(rows, start=1):
        title, piece = f"{name} {number}", Piece.from_tokens(row, alphabet)
        samples.append(
            Sample(
                dataclasses.replace(
                    piece,
                    title=title,
                    steps_per_quarter=steps_per_quarter,
                    steps_per_bar=4 * steps_per_quarter,
                    tonic=0,
                    mode=_mode(piece),
                    tempo=CHORALE_TEMPO,
                ),
                title,
            )
        )
    return samples


def _mode(piece: Piece) -> str:
    """Major or minor by the thirds above C that are struck."""
    minor, major = (np.count_nonzero(piece.pitches % 12 == third) for third in (3, 4))
    return "minor" if minor > major else "major"


def _in_every_bar(drums: Mapping[int, Sequence[int]], length: int) -> dict[int, list[int]]:
    """The strokes of one bar, repeated in every bar of a length in steps."""
    bars = range(0, length, STEPS_PER_BAR)
    return {
        drum: [bar + step for bar in bars for step in steps if bar + step < length]
        for drum, steps in drums.items()
    }


def save(sample: Sample, stem: Path, bank: SoundBank | None = None) -> list[Path]:
    """Write a sample as MIDI, WAV, MusicXML, ABC, piano roll and, with verovio, sheet music -> the paths.

    The WAV is played by the small synthesiser of `sound`, or by a sound bank.
    """
    return _write(_files(sample, stem, bank))


def writer(sample: Sample, stem: Path, bank: SoundBank | None = None) -> Callable[[], list[Path]]:
    """A function that does what `save` does, and renders nothing twice.

    FileExistsError, at once, if `save` would replace a file that holds something else, or a link.
    """
    if not any(os.path.lexists(path) for path in _paths(stem).values()):
        return functools.partial(save, sample, stem, bank)
    contents = _files(sample, stem, bank)
    for path, data in contents.items():
        files.refuse_to_replace(path, data)
    missing = {path: data for path, data in contents.items() if not path.exists()}

    def write() -> list[Path]:
        _write(missing)
        return list(contents)

    return write


def _write(contents: Mapping[Path, bytes]) -> list[Path]:
    """Write files, with the folders they need -> the paths."""
    for path, data in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, data)
    return list(contents)


def _paths(stem: Path) -> dict[str, Path]:
    """The files of a sample by their suffix."""
    return {suffix: stem.with_name(stem.name + suffix) for suffix in SUFFIXES}


def _wav(sample: Sample, bank: SoundBank | None) -> bytes:
    """The sound of a sample as a WAV file."""
    if bank is None:
        given = {"lines": sample.lines, "drums": sample.drums, "program": sample.program}
        return sound.wav_bytes(sound.render(sample.music, **given))
    return sound.wav_bytes(*soundbank.render(bank, sample.music, sample.lines, sample.drums, sample.program))


def _files(sample: Sample, stem: Path, bank: SoundBank | None) -> dict[Path, bytes]:
    """The contents of a sample's files by their path."""
    music, lines = sample.music, sample.lines
    contents = {
        ".mid": midi.write(None, music, lines, sample.drums, sample.program),
        ".wav": _wav(sample, bank),
        ".musicxml": musicxml(music, sample.chords, sample.program).encode(),
        ".roll.svg": score.piano_roll_svg(music, lines, title=sample.title).encode(),
    }
    if isinstance(music, Melody):
        contents[".abc"] = abc(music, sample.program).encode()
    with contextlib.suppress(score.ScoreUnavailable):
        contents[".sheet.svg"] = score.sheet_svg(music, sample.chords, sample.program).encode()
    return {_paths(stem)[suffix]: data for suffix, data in contents.items()}
