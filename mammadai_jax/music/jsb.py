"""The standard split of Bach's chorales, read from the installed music21.

Boulanger-Lewandowski et al. (2012) split 382 chorales into 229, 76 and 77. `jsb.json` has the BWV numbers of
the 372 of them that music21 has as well, matched by their notes: 222, 73 and 77. It also names the 100 whose
repeated sections that data set plays twice; those of the others are played once. The editions differ in
details: 86 of the 372 have equal notes, but for the length of the last, and 293 agree in 95 % of all
steps and voices. The music is read from the user's installation and not shipped.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from mammadai_jax.music import archive, chorales
from mammadai_jax.music.files import user_cache
from mammadai_jax.music.folk import Progress, find
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.transcription import Skipped

PARTS = ("train", "valid", "test")


class Split(NamedTuple):
    """Chorales of four voices on 16th notes, and those that could not be read."""

    train: tuple[Piece, ...]
    valid: tuple[Piece, ...]
    test: tuple[Piece, ...]
    skipped: tuple[Skipped, ...] = ()


def numbers() -> dict[str, list[str]]:
    """BWV numbers, as music21's files are called, of "train", "valid" and "test", and of those "repeated"."""
    text = resources.files("mammadai_jax.music").joinpath("jsb.json").read_text(encoding="utf-8")
    return {name: row.split() for name, row in json.loads(text).items()}


def load(
    cache_dir: str | Path | None = None, refresh: bool = False, progress: Progress | None = None
) -> Split:
    """The chorales of the standard split.

    The first call reads music21's files, in about ten seconds, and stores the result as `corpus.folk_all`
    does, whose parameters these are. `CorpusMissing`, which says what to install, if music21 is missing.
    """
    folder, version = find()
    place = Path(cache_dir) if cache_dir else user_cache()
    path = place and place / f"jsb-{archive.FORMAT}-music21-{version}.npz"
    pieces, skipped = archive.cached(path, Piece, lambda: _read(folder / "bach", progress), refresh)
    by_source = {piece.source: piece for piece in pieces}
    parts = {
        part: tuple(by_source[source] for n in numbers()[part] if (source := _source(n)) in by_source)
        for part in PARTS
    }
    return Split(**parts, skipped=tuple(skipped))


def _source(number: str) -> str:
    return f"bach/bwv{number}.mxl"


def _read(folder: Path, progress: Progress | None) -> tuple[list[Piece], list[Skipped]]:
    """The chorales of all parts of the split under a folder, and those that cannot be read."""
    listed = numbers()
    chosen = [number for part in PARTS for number in listed[part]]
    pieces, skipped = [], []
    for done, number in enumerate(chosen, start=1):
        source, repeats = _source(number), number in listed["repeated"]
        try:
            pieces.append(chorales.read_piece(folder / Path(source).name, source, "bach", repeats))
        except (ValueError, OSError) as error:
            skipped.append(Skipped(source, str(error)))
        if progress is not None:
            progress(done, len(chosen))
    return pieces, skipped
