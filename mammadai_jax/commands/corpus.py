"""`mammadai corpus`."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import tyro

from mammadai_jax.music import corpus, midi
from mammadai_jax.music.excerpts import shortcomings
from mammadai_jax.music.files import refuse_to_replace, visible, write_atomically
from mammadai_jax.music.transcription import by_reason


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Read a corpus and print what it contains.

    Attributes:
        name: "folk" (from the installed music21), "embedded", or a folder of MIDI files.
        refresh: read music21's files again instead of the cached melodies.
        skipped: print every file and tune that cannot be used, or not for learning, or lacks notes, with the
            reason.
        midi: also write every melody to this folder as MIDI; other files are not replaced.

    """

    name: tyro.conf.Positional[str] = "folk"
    refresh: bool = False
    skipped: bool = False
    midi: Path | None = None

    def run(self) -> int:
        """Print counts, licence and digest."""
        found = corpus.folk(refresh=self.refresh) if self.name == "folk" else corpus.load(self.name)
        print(f"{found.name}: {len(found)} melodies in {len(set(found.families.tolist()))} families")
        for collection, count in Counter(m.collection or "-" for m in found).most_common():
            print(visible(f"  {count:6} {collection}"))
        print(f"licence: {found.licence}")
        print(f"digest: {found.digest}")
        lacking = shortcomings(found)
        for heading, sources in lacking.items():
            print(f"{heading}: {len(sources)}")
            for reason, count in by_reason(sources).most_common():
                print(visible(f"  {count:6} {reason}"))
        for source, reason in itertools.chain(*lacking.values()) if self.skipped else ():
            print(visible(f"{source}: {reason}"))
        if self.midi is not None:
            written = {self.midi / f"{n:05d}.mid": midi.write(None, melody) for n, melody in enumerate(found)}
            for path, data in written.items():
                refuse_to_replace(path, data)
            self.midi.mkdir(parents=True, exist_ok=True)
            for path, data in written.items():
                write_atomically(path, data)
            print(visible(f"wrote {len(found)} files to {self.midi}"))
        return 0
