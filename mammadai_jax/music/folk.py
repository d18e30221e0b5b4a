"""The folk tunes and chorales of music21, read from its files without importing it.

The files are read from the user's installation and not shipped with this package: the compositions are in the
public domain, their encodings are not clearly free (`LICENCE`).

The encodings have errors: some triplets of Essen are encoded as plain notes (their bars have the wrong
length, so that such tunes are skipped), and in some of its Chinese songs, mostly those in B flat, low notes
are an octave too high (about one in two hundred melodies).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mammadai_jax.music import abc, chorales
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.transcription import WHOLE, Skipped, Tune, to_melody

MIN_BARS = 8
BARS = {WHOLE // 2: "2/4", WHOLE * 3 // 4: "3/4 or 6/8", WHOLE: "4/4 or 2/2"}
"""The lengths of bars that are accepted, in ticks, and their meters."""
COLLECTIONS = (
    "essenFolksong",
    "ryansMammoth",
    "oneills1850",
    "airdsAirs",
    "miscFolk",
    "nottingham-dataset",
    "bach",
)
LICENCE = (
    "compositions in the public domain; encodings as distributed with music21: essenFolksong for "
    "non-commercial distribution and use, the others without a stated licence"
)
Progress = Callable[[int, int], None]


class CorpusMissing(ValueError):
    """music21, or its corpus, is not installed."""


def find() -> tuple[Path, str]:
    """The corpus folder of the installed music21 and music21's version; `CorpusMissing` without them."""
    spec = importlib.util.find_spec("music21")
    places = spec.submodule_search_locations if spec else None
    folder = Path(places[0]) / "corpus" if places else None
    if folder is None or not (folder / COLLECTIONS[0]).is_dir():
        raise CorpusMissing(
            "folk tunes and chorales are read from music21, which is not installed: "
            "pip install 'mammadai-jax[corpus]'"
        )
    return folder, importlib.metadata.version("music21")


def read(folder: Path, progress: Progress | None = None) -> tuple[list[Melody], list[Skipped]]:
    """The melodies in bars of 8, 12 and 16 steps under `folder`, and the tunes that were skipped.

    Duplicates with bars of the same length are skipped, also transposed ones. `progress`, if given, is called
    with the number of files read and their total.
    """
    files = [
        file
        for name in COLLECTIONS
        for file in sorted((folder / name).glob("*.mxl" if name == "bach" else "*.abc"))
    ]
    melodies: dict[bytes, Melody] = {}
    skipped = []
    for done, file in enumerate(files, start=1):
        for source, result in _read_file(file):
            melody = _melody(result, source, file.parent.name)
            if isinstance(melody, Skipped):
                skipped.append(melody)
            elif first := melodies.get(key := _shape(melody)):
                skipped.append(Skipped(source, f"the same as another: {first.source}"))
            else:
                melodies[key] = melody
        if progress is not None:
            progress(done, len(files))
    return list(melodies.values()), skipped


def _read_file(file: Path) -> Iterator[tuple[str, Tune | ValueError]]:
    """The tunes of a file, each with its "collection/file:number", or the error of reading it."""
    name = f"{file.parent.name}/{file.name}"
    if file.suffix == ".mxl":
        yield name, _attempt(chorales.read, file)
        return
    for text in abc.split(abc.decode(file.read_bytes())):
        number = text.partition("\n")[0][2:].strip()
        yield f"{name}:{number}", _attempt(abc.parse, text)


def _attempt(reader: Callable[..., Tune], argument: object) -> Tune | ValueError:
    try:
        return reader(argument)
    except ValueError as error:
        return error


def _melody(tune: Tune | ValueError, source: str, collection: str) -> Melody | Skipped:
    """The tune as a melody, or the reason why it is skipped."""
    if isinstance(tune, ValueError):
        return Skipped(source, str(tune))
    if tune.bar and tune.bar not in BARS:
        return Skipped(source, f"meter {tune.meter}, not {', '.join(BARS.values())}")
    try:
        melody = to_melody(tune, source, collection)
    except ValueError as error:
        return Skipped(source, str(error))
    if len(melody) < MIN_BARS * melody.steps_per_bar:
        return Skipped(source, f"shorter than {MIN_BARS} bars")
    return melody


def _shape(melody: Melody) -> bytes:
    """Bar, intervals and rhythm as bytes: equal for a melody and its transpositions."""
    shape = np.where(melody.events >= 0, melody.events - melody.pitches[0], melody.events + 1000)
    return bytes([melody.steps_per_bar]) + shape.tobytes()
