"""Corpora of melodies: their sources, and their preparation for training.

load("embedded")    the ten tunes of `tunes`, nothing to install
load("folk")        about 3,000 folk songs, fiddle tunes and chorale melodies that come with music21,
                    in 4/4 and 2/2
load("folk-all")    about 9,100 of them: also those in 2/4, 3/4 and 6/8
load("my/folder")   MIDI files, also in folders that it links to
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mammadai_jax.music import archive
from mammadai_jax.music.files import expanded, user_cache, visible
from mammadai_jax.music.files import read as read_bytes
from mammadai_jax.music.folk import LICENCE, CorpusMissing, Progress, find, read
from mammadai_jax.music.notes import Alphabet, Melody
from mammadai_jax.music.transcription import Skipped, reasons
from mammadai_jax.music.tunes import TUNES

__all__ = ["Corpus", "CorpusMissing", "Skipped", "embedded", "folder", "folk", "folk_all", "load"]
OTHER_FORMATS = (".abc", ".musicxml", ".mxl", ".xml", ".krn", ".mscz", ".mscx", ".gp", ".gp5")


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Melodies, what was skipped, and the licence.

    Attributes:
        name: as users give it.
        melodies: in a fixed order.
        skipped: the tunes that were left out, with reasons.
        licence: the terms of use of the melodies.

    """

    name: str
    melodies: tuple[Melody, ...]
    skipped: tuple[Skipped, ...] = ()
    licence: str = ""

    def __len__(self) -> int:
        return len(self.melodies)

    def __iter__(self) -> Iterator[Melody]:
        return iter(self.melodies)

    @functools.cached_property
    def families(self) -> np.ndarray:
        """uint64 (melodies,): equal for melodies that begin with the same twelve intervals."""
        return np.array([_hash(np.diff(m.pitches[:13]).tobytes()) for m in self.melodies], dtype=np.uint64)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the melodies with their metadata, in hexadecimal."""
        sha = hashlib.sha256()
        for melody in self.melodies:
            sha.update(json.dumps(description(melody), ensure_ascii=True).encode())
            sha.update(melody.events.astype("<i2").tobytes())
        return sha.hexdigest()

    def split(self, held_out: float = 0.1, seed: int = 0) -> tuple[Corpus, Corpus]:
        """(train, test): whole families, so that variants of a tune do not leak.

        `held_out` is the share of families in test. A family's side depends only on its hash and the seed, so
        it stays the same when the corpus grows; only where one side would be empty, the nearest family goes
        there. ValueError if `held_out` is not between 0 and 1 or there is only one family.
        """
        if not 0 < held_out < 1:
            raise ValueError(
                f"held_out, the share of families for testing, should be between 0 and 1, got {held_out}"
            )
        chances = np.array([_hash(b"%d,%d" % (family, seed)) / 2**64 for family in self.families])
        if np.unique(chances).size < 2:
            why = f"; left out are {reasons(self.skipped)}" if self.skipped else ""
            few = f"the corpus {self.name!r} has fewer than two families of melodies to split"
            raise ValueError(few + why)
        test = chances < held_out
        if not test.any():
            test = chances == chances.min()
        elif test.all():
            test = chances < chances.max()
        return self._where(~test), self._where(test)

    def in_key(self, tonic: int, alphabet: Alphabet, relative: bool = False) -> Corpus:
        """Every melody transposed to a tonic (a pitch class), in the octave that fits the alphabet best.

        That is where the median pitch is nearest to the middle of the alphabet's range. With `relative` a
        melody that is not in major is transposed to the relative key, so that all share one scale: for C,
        minor is on A, dorian on D. Melodies without a known tonic and those that do not fit are skipped.
        """
        melodies, skipped = [], list(self.skipped)
        for melody in self.melodies:
            if melody.tonic < 0:
                skipped.append(Skipped(melody.source, "tonic unknown"))
            elif (
                shift := _best_shift(melody, tonic + relative * DEGREES.get(melody.mode, 0), alphabet)
            ) is None:
                skipped.append(Skipped(melody.source, f"range too wide for the alphabet {alphabet.name!r}"))
            else:
                melodies.append(melody.transpose(shift))
        return self._with(melodies, skipped)

    def transposed(self, semitones: Sequence[int]) -> Corpus:
        """Every melody transposed by each of `semitones`; those that leave MIDI's range are skipped."""
        melodies, skipped = [], list(self.skipped)
        for melody in self.melodies:
            for shift in semitones:
                try:
                    melodies.append(melody.transpose(shift))
                except ValueError:
                    skipped.append(Skipped(melody.source, f"{shift:+d} semitones leave MIDI's range"))
        return self._with(melodies, skipped)

    def select(
        self, min_bars: int = 0, steps_per_bar: int | None = None, meters: Collection[str] | None = None
    ) -> Corpus:
        """The melodies of at least `min_bars` bars, with bars of `steps_per_bar`, in one of the `meters`."""
        return self._where(
            [
                len(m) >= min_bars * m.steps_per_bar
                and (steps_per_bar is None or m.steps_per_bar == steps_per_bar)
                and (meters is None or m.meter in meters)
                for m in self.melodies
            ]
        )

    def pack(self, alphabet: Alphabet) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int32 (all steps,) and offsets int64 (melodies + 1,): melody i is offsets[i]:offsets[i + 1].

        ValueError if a melody has pitches that the alphabet lacks: see `in_key`.
        """
        tokens = [alphabet.encode(melody.events) for melody in self.melodies]
        offsets = np.cumsum([0] + [len(row) for row in tokens], dtype=np.int64)
        return np.concatenate(tokens or [np.zeros(0, np.int32)]), offsets

    def _where(self, mask: Sequence[bool] | np.ndarray) -> Corpus:
        return self._with([m for m, keep in zip(self.melodies, mask, strict=True) if keep], self.skipped)

    def _with(self, melodies: Sequence[Melody], skipped: Sequence[Skipped]) -> Corpus:
        return dataclasses.replace(self, melodies=tuple(melodies), skipped=tuple(skipped))


def description(melody: Melody) -> dict[str, Any]:
    """All fields of a melody except its events."""
    return {name: value for name, value in vars(melody).items() if name != "events"}


def _hash(data: bytes) -> int:
    """A 64-bit hash that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


# Semitones from the tonic of a major key to the tonics of the modes that share its scale.
DEGREES = {"major": 0, "dorian": 2, "phrygian": 4, "lydian": 5, "mixolydian": 7, "minor": 9, "locrian": 11}


def _best_shift(melody: Melody, tonic: int, alphabet: Alphabet) -> int | None:
    """Semitones to the tonic with the median pitch nearest to the alphabet's middle; None if none fit."""
    middle = (alphabet.lowest + alphabet.highest) / 2
    if not melody.pitches.size:
        return (tonic - melody.tonic) % 12
    low, high, median = melody.pitches.min(), melody.pitches.max(), float(np.median(melody.pitches))
    shifts = range(alphabet.lowest - int(low), alphabet.highest - int(high) + 1)
    fitting = [shift for shift in shifts if (melody.tonic + shift - tonic) % 12 == 0]
    return min(fitting, key=lambda shift: (abs(median + shift - middle), abs(shift)), default=None)


def load(name_or_path: str | Path) -> Corpus:
    """The corpus "embedded", "folk" or "folk-all", or that of a folder of MIDI files; else ValueError."""
    if name_or_path in SOURCES:
        return SOURCES[str(name_or_path)]()
    return folder(name_or_path)


def embedded() -> Corpus:
    """The ten tunes of `tunes`."""
    return Corpus("embedded", TUNES, licence="public domain")


def folder(path: str | Path) -> Corpus:
    """The melodies of all MIDI files (`midi.SUFFIXES`) under a folder and the folders that it links to.

    Files that cannot be read, and music in other formats, are skipped. ValueError if the folder does not
    exist or has no melody.
    """
    from mammadai_jax.music import midi  # not needed for the other sources

    path = expanded(path)
    if not path.is_dir():
        raise ValueError(
            f"no corpus {str(path)!r}: it is neither {' nor '.join(map(repr, SOURCES))} nor a folder"
        )
    melodies, skipped = [], []
    for file in _files(path, skipped):
        source = file.relative_to(path).as_posix()
        if file.suffix.lower() in OTHER_FORMATS:
            skipped.append(Skipped(source, f"not a MIDI file ({', '.join(midi.SUFFIXES)})"))
        elif file.suffix.lower() in midi.SUFFIXES:
            read = _melody(file, source, path.name)
            (skipped if isinstance(read, Skipped) else melodies).append(read)
    if not melodies:
        why = f"; {skipped[0].source}: {skipped[0].reason}" if skipped else f" ({', '.join(midi.SUFFIXES)})"
        raise ValueError(f"{len(skipped)} MIDI files in {path}, none with a melody{why}")
    licence = visible(f"that of the files in {path}")
    return Corpus(visible(path.name), tuple(melodies), tuple(skipped), licence)


def _files(folder: Path, skipped: list[Skipped]) -> list[Path]:
    """All files under a folder in order of their paths; every folder once, whatever links lead to it."""
    files, seen = [], set()
    unreadable = lambda error: skipped.append(Skipped(str(error.filename), f"{error.strerror}"))
    for place, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        folders.sort()
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        files += [Path(place, name) for name in names]
    return sorted(files)


def _melody(file: Path, source: str, collection: str) -> Melody | Skipped:
    """The melody of a MIDI file, or why there is none."""
    from mammadai_jax.music import midi

    if not file.is_file():
        return Skipped(source, "not a regular file, or a link to nothing")
    try:
        melody = midi.parse(read_bytes(file, midi.MAX_BYTES), source)
    except ValueError as error:
        return Skipped(source, str(error).removeprefix(f"{source}: "))
    except OSError as error:
        return Skipped(source, error.strerror or str(error))
    return dataclasses.replace(melody, collection=collection)


def folk(
    cache_dir: str | Path | None = None, refresh: bool = False, progress: Progress | None = None
) -> Corpus:
    """The melodies of `folk_all` in bars of 16 steps; the others are skipped."""
    corpus = folk_all(cache_dir, refresh, progress)
    others = (m for m in corpus if m.steps_per_bar != 16)
    skipped = [Skipped(m.source, f"meter {m.meter}, not 4/4 or 2/2") for m in others]
    selected = corpus.select(steps_per_bar=16)
    return dataclasses.replace(selected, name="folk", skipped=(*corpus.skipped, *skipped))


def folk_all(
    cache_dir: str | Path | None = None, refresh: bool = False, progress: Progress | None = None
) -> Corpus:
    """Folk songs, fiddle tunes and chorale melodies from the installed music21, in bars of 8, 12 or 16 steps.

    The first call reads music21's files, in about ten seconds, and stores the result in `cache_dir` (the
    user's cache directory by default, nowhere if there is none); `refresh` reads them again. `progress` is
    called with the number of files read and their total. `CorpusMissing`, which says what to install, if
    music21 is missing.
    """
    source, version = find()
    place = Path(cache_dir) if cache_dir else user_cache()
    path = place and place / f"folk-{archive.FORMAT}-music21-{version}.npz"
    melodies, skipped = archive.cached(path, Melody, lambda: read(source, progress), refresh)
    return Corpus("folk-all", tuple(melodies), tuple(skipped), LICENCE)


SOURCES: dict[str, Callable[[], Corpus]] = {
    "embedded": embedded,
    "folk": folk,
    "folk-all": folk_all,
}
