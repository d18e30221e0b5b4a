"""`mammadai evaluate`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro

from mammadai_jax.music import corpus, statistics
from mammadai_jax.music.excerpts import shortcomings
from mammadai_jax.music.files import check_output, visible, write_output
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.statistics.musicality.distance import musicality, of_tunes
from mammadai_jax.music.transcription import reasons

MOST = 20  # files that are named
MOST_TUNES = 500  # that melodies are compared with


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Print statistics and musicality of a folder of MIDI, or compare it with another.

    Attributes:
        a: a folder of MIDI files, or "folk" or "embedded".
        b: the reference that the first is compared with: overlap areas, KL, copied runs, musicality. Without
            one, the musicality is compared with the folk corpus, or with the embedded tunes if music21 is
            missing.
        json: also write the numbers to this file.

    """

    a: tyro.conf.Positional[str]
    b: tyro.conf.Positional[str | None] = None
    json: Path | None = None

    def run(self) -> int:
        """Print the tables."""
        if self.json is not None:
            check_output(self.json)
        loaded = {name: corpus.load(name) for name in (self.a, self.b) if name is not None}
        for name, found in loaded.items():
            if name not in corpus.SOURCES:
                self._report(found)
        melodies, tunes = loaded[self.a].melodies, real_tunes() if self.b is None else loaded[self.b]
        reference = self.b or tunes.name
        beside = f"{reference} (reference)" if reference == self.a else reference
        columns = {self.a: statistics.table(melodies, None if self.b is None else tunes.melodies)}
        if self.b is not None:
            columns[beside] = statistics.table(tunes.melodies)
        musical = musicality_columns(self.a, melodies, beside, tunes.melodies)
        for each in (columns, musical):
            table = {visible(name): column for name, column in each.items()}
            print(statistics.format_table(table), flush=True)
        if self.json is not None:
            numbers = {name: {**columns.get(name, {}), "musicality": musical[name]} for name in musical}
            write_output(self.json, _json(numbers))
        return 0

    @staticmethod
    def _report(loaded: corpus.Corpus) -> None:
        """Name the files of a folder that were skipped, and count the notes that were left out."""
        for skipped in loaded.skipped[:MOST]:
            print(visible(f"passed over {skipped.source}: {skipped.reason}"), file=sys.stderr)
        if rest := loaded.skipped[MOST:]:
            print(visible(f"passed over {len(rest)} more: {reasons(rest)}"), file=sys.stderr)
        if lacking := shortcomings(loaded)["with notes left out"]:
            print(f"of the melodies {reasons(lacking)}", file=sys.stderr)


def real_tunes() -> corpus.Corpus:
    """The folk corpus; the embedded tunes if music21 is missing."""
    try:
        return corpus.folk()
    except corpus.CorpusMissing:
        return corpus.embedded()


def musicality_columns(
    name: str, melodies: Sequence[Melody], reference: str, tunes: Sequence[Melody]
) -> dict[str, dict[str, float]]:
    """Two columns: the measures of melodies and of tunes, with the distance to the tunes and its interval.

    Of more than MOST_TUNES tunes so many from all over are taken. The tunes' own distance is that between
    their halves.
    """
    chosen = np.linspace(0, len(tunes) - 1, min(len(tunes), MOST_TUNES)).astype(int)
    real = tuple(tunes[index] for index in chosen)
    measured = {name: musicality(melodies, real), reference: of_tunes(real)}
    return {
        title: {
            "musicality_distance": each.distance.value,
            "musicality_distance_low": each.distance.low,
            "musicality_distance_high": each.distance.high,
            **each.means,
        }
        for title, each in measured.items()
    }


def _json(tree: object) -> bytes:
    """Plain values as indented JSON; numbers that are not finite become null."""

    def plain(value):
        if isinstance(value, dict):
            return {str(key): plain(part) for key, part in value.items()}
        return None if isinstance(value, float) and not abs(value) < float("inf") else value

    return json.dumps(plain(tree), indent=1).encode() + b"\n"
