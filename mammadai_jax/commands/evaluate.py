"""`mammadai evaluate`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import tyro

from mammadai_jax.music import corpus, statistics
from mammadai_jax.music.excerpts import shortcomings
from mammadai_jax.music.files import visible, write_output
from mammadai_jax.music.transcription import reasons

MOST = 20  # files that are named


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Print the statistics of a folder of MIDI, or compare it with another.

    Attributes:
        a: a folder of MIDI files, or "folk" or "embedded".
        b: the reference that the first is compared with: overlap areas, KL, copied runs.
        json: also write the numbers to this file.

    """

    a: tyro.conf.Positional[str]
    b: tyro.conf.Positional[str | None] = None
    json: Path | None = None

    def run(self) -> int:
        """Print the table."""
        loaded = {name: corpus.load(name) for name in (self.a, self.b) if name is not None}
        for name, found in loaded.items():
            if name not in corpus.SOURCES:
                self._report(found)
        reference = None if self.b is None else loaded[self.b].melodies
        columns = {self.a: statistics.table(loaded[self.a].melodies, reference)}
        if self.b is not None and reference is not None:
            beside = self.b if self.b != self.a else f"{self.b} (reference)"
            columns[beside] = statistics.table(reference)
        print(
            statistics.format_table({visible(name): column for name, column in columns.items()}), flush=True
        )
        if self.json is not None:
            write_output(self.json, _json(columns))
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


def _json(tree: object) -> bytes:
    """Plain values as indented JSON; numbers that are not finite become null."""

    def plain(value):
        if isinstance(value, dict):
            return {str(key): plain(part) for key, part in value.items()}
        return None if isinstance(value, float) and not abs(value) < float("inf") else value

    return json.dumps(plain(tree), indent=1).encode() + b"\n"
