"""Real people's choices between melodies, read from a folder that is not part of this project.

The folder holds any of four, each with its licence and terms, none of which is shipped:

survey104    github.com/davda54/generating-music: answers.csv, midi/001.mid .. 104.mid (GPL-3.0)
aimgef       github.com/mstrcyork/aimgef-assets: ratings.csv, midi/001.mid .. 250.mid (MIT)
chorale28    github.com/lissenko/PyIDyOM: ratings.csv, midi/ID.mid (no licence stated)
bachdoodle   github.com/magenta/bach-doodle-visualization: melodies.jsonl (Apache-2.0)

Beside each kind of pairs stand the accuracies on them of other listeners and of features of the notes
(`reference`), as far as they were measured before.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.human_music import on_c, skyline
from mammadai_jax.music import files, midi
from mammadai_jax.music.files import visible
from mammadai_jax.music.notes import MAGENTA, Melody, Note

MAX_BYTES = 64 << 20  # of a table
LEAST_NOTES, LEAST_RATIO = 8, 2  # of doodles that are compared, and of their sessions
DOODLE_STEPS = 32
ONE_INSTRUMENT = np.r_[24:52, 76:104]  # items of survey104: 28 by people, 28 by computers
PARTS = {"CSQ": range(150), "CPI": range(150, 250)}  # items of aimgef
SYSTEM = 25  # excerpts of each system there
# Accuracy of other listeners on one's order, of all and within a system; of the best feature and of eight
# features on the order of means.
AIMGEF = {
    ("CSQ", "ap"): (0.668, 0.559, 0.595, 0.640),
    ("CSQ", "me"): (0.696, 0.546, 0.617, 0.670),
    ("CPI", "ap"): (0.706, 0.575, 0.678, 0.755),
    ("CPI", "me"): (0.747, 0.589, 0.685, 0.719),
}


class HumanDataError(ValueError):
    """A file of people's choices that cannot be used; the message says which, where and what to do."""


class Pairs(NamedTuple):
    """Choices between two items, as arrays (P,).

    Attributes:
        a: index of the item that was preferred.
        b: index of the other.
        weight: of each choice.
        reference: accuracies to compare with, for readers.

    """

    a: np.ndarray
    b: np.ndarray
    weight: np.ndarray
    reference: str = ""

    def where(self, mask: np.ndarray, reference: str = "") -> Pairs:
        """Some of the choices, bool (P,)."""
        return Pairs(self.a[mask], self.b[mask], self.weight[mask], reference)


@dataclasses.dataclass(frozen=True)
class Study:
    """What people were asked about some melodies.

    Attributes:
        name: of the study and the question.
        melodies: tokens of each item (T_i,).
        group: int (items,): an interval is over these groups of items.
        held_out: groups of items (items,), by what they are: a baseline is not fitted on those of its test.
        pairs: choices by name; a baseline is fitted on the first.
        real: melodies that may be in a corpus and must not be learned from.

    """

    name: str
    melodies: tuple[np.ndarray, ...]
    group: np.ndarray
    held_out: Mapping[str, np.ndarray]
    pairs: Mapping[str, Pairs]
    real: tuple[Melody, ...] = ()


def read(folder: Path) -> list[Study]:
    """All studies in a folder; HumanDataError if it has none, or one of them is incomplete or damaged."""
    folder = files.expanded(folder)
    names = [name for name in READERS if (folder / name).is_dir()]
    if not names:
        raise HumanDataError(f"{folder} has none of the folders {', '.join(READERS)}")
    return [study for name in names for study in READERS[name](folder / name)]


def tunes(studies: Sequence[Study]) -> list[Melody]:
    """What no learner may learn from, for the choices are between these melodies."""
    return [melody for study in studies for melody in study.real]


def ordered(means: np.ndarray, reference: str = "") -> Pairs:
    """The order of items by their mean ratings (items,): every pair that is not tied."""
    a, b = np.triu_indices(len(means), 1)
    decided = means[a] != means[b]
    a, b = a[decided], b[decided]
    first = means[a] > means[b]
    return Pairs(np.where(first, a, b), np.where(first, b, a), np.ones(len(a)), reference)


def survey104(folder: Path) -> Iterator[Study]:
    """One person's ratings 0..5 of ten pieces: all pairs that the person rated differently."""
    path = folder / "answers.csv"
    ratings: dict[int, list[tuple[int, int]]] = {}
    for row in table(path, {"rater": (1, 10_000), "song": (1, 104), "rating": (-1, 5)}):
        if row["rating"] >= 0:
            ratings.setdefault(row["rater"], []).append((row["song"] - 1, row["rating"]))
    pairs, weight = [], []
    for given in ratings.values():
        own = [(x, y) if p > q else (y, x) for (x, p), (y, q) in itertools.combinations(given, 2) if p != q]
        pairs += own
        weight += [1 / max(len(own), 1)] * len(own)
    if not pairs:
        raise HumanDataError(f"{path}: nobody rated two songs differently, so nothing can be compared")
    a, b = np.array(pairs).T
    every = Pairs(a, b, np.ones(len(a)), "other raters .689, 8 features .584, best feature .529")
    among = lambda items, reference: every.where(np.isin(a, items) & np.isin(b, items), reference)
    computer, human = ONE_INSTRUMENT[28:], ONE_INSTRUMENT[:28]
    named = {
        "all": every,
        "all, each rater alike": every._replace(weight=np.array(weight), reference=""),
        "one instrument": among(ONE_INSTRUMENT, "other raters .692, 8 features .558, best feature .608"),
        "one instrument, computer": among(computer, "other raters .702"),
        "one instrument, human": among(human, "other raters .636"),
    }
    melodies = [skyline(present(folder / "midi" / f"{song:03}.mid"), fit=True) for song in range(1, 105)]
    items = np.arange(104)
    yield Study("survey104", tuple(melodies), items, {"songs": items}, named)


def aimgef(folder: Path) -> Iterator[Study]:
    """Ratings 1..7 of excerpts for two questions, each apart in the two parts that different people heard."""
    path = folder / "ratings.csv"
    rows = table(path, {"id": (1, 250), "ap": (1, 7), "me": (1, 7)})
    melodies = [skyline(present(folder / "midi" / f"{number:03}.mid")) for number in range(1, 251)]
    for part, scale in AIMGEF:
        each = [[row[scale] for row in rows if row["id"] == item + 1] for item in PARTS[part]]
        for item, own in zip(PARTS[part], each, strict=True):
            if not own:
                raise HumanDataError(f"{path}: excerpt {item + 1} has no rating; put back a copy")
        own, items = tuple(melodies[item] for item in PARTS[part]), np.arange(len(PARTS[part]))
        held_out = {"excerpts": items, "systems": items // SYSTEM}
        pairs = _aimgef(each, *AIMGEF[part, scale])
        yield Study(f"aimgef {part} {scale}", own, items, held_out, pairs)


def _aimgef(
    ratings: Sequence[Sequence[int]], others: float, within: float, best: float, features: float
) -> dict[str, Pairs]:
    """The order of means, and of one listener, over all items and within systems."""
    system = np.arange(len(ratings)) // SYSTEM
    same = lambda pairs: system[pairs.a] == system[pairs.b]
    means = np.array([np.mean(own) for own in ratings])
    every = ordered(means, f"8 features {features:.3f}, best feature {best:.3f}")
    one = one_listener(ratings, f"other listeners {others:.3f}")
    return {
        "order of means": every,
        "order of means, one system": every.where(same(every)),
        "one listener": one,
        "one listener, one system": one.where(same(one), f"other listeners {within:.3f}"),
    }


def one_listener(ratings: Sequence[Sequence[int]], reference: str = "") -> Pairs:
    """A rating of one item against a rating of another: the weight is the share of pairs of ratings."""
    share = np.array([[np.greater.outer(x, y).mean() for y in ratings] for x in ratings])
    np.fill_diagonal(share, 0)
    a, b = np.nonzero(share)
    return Pairs(a, b, share[a, b], reference)


def chorale28(folder: Path) -> Iterator[Study]:
    """Judges' mean ratings of seven chorale melodies and of 21 that systems made in their rhythm."""
    path = folder / "ratings.csv"
    rows = table(path, {"id": None, "system": None, "base": None, "mean_rating": (0, 10)})
    melodies = [midi.read(present(folder / "midi" / f"{Path(row['id']).name}.mid")) for row in rows]
    means = np.array([row["mean_rating"] for row in rows])
    base = np.unique([row["base"] for row in rows], return_inverse=True)[1]
    real = np.array([row["system"] == "original" for row in rows])
    every = ordered(means, "best feature .770")
    if not len(every.a):
        raise HumanDataError(f"{path}: no two melodies have different ratings, so nothing can be compared")
    made = ~real[every.a] & ~real[every.b]
    named = {
        "all": every,
        "one base": every.where(base[every.a] == base[every.b]),
        "without the real ones": every.where(made, "fewer notes .731, few leaps .707, best key .635"),
    }
    kept = tuple(melody for melody, is_real in zip(melodies, real, strict=True) if is_real)
    tokens = tuple(on_c(melody.notes) for melody in melodies)
    yield Study("chorale28", tokens, base, {"bases": base}, named, kept)


def bachdoodle(folder: Path) -> Iterator[Study]:
    """What people chose to write: of two melodies the one with twice as many sessions or more."""
    path = present(folder / "melodies.jsonl")
    melodies, sessions = [], []
    for number, line in enumerate(files.read(path, MAX_BYTES).decode(errors="replace").splitlines(), 1):
        try:
            row = json.loads(line)
            notes = [Note(start, end - start, pitch) for pitch, start, end in map(_whole, row["notes"])]
            written = None if row["all"] is None else int(row["all"][0])
            if len(notes) >= LEAST_NOTES and written is not None and not row.get("name"):
                melodies.append(_doodle(notes))
                sessions.append(written)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            what = f"{path}, line {number}: not a melody with notes and sessions"
            raise HumanDataError(f"{what} ({type(error).__name__}: {error})") from None
    counts = np.array(sessions, float)
    every = ordered(counts, "two countries .796, best feature .583")
    apart = counts[every.a] >= LEAST_RATIO * counts[every.b] if len(every.a) else np.zeros(0, bool)
    if not apart.any():
        raise HumanDataError(f"{path}: no two melodies have sessions {LEAST_RATIO} to 1")
    named = {"all": every.where(apart, every.reference)}
    items = np.arange(len(melodies))
    yield Study("bachdoodle", tuple(melodies), items, {"melodies": items}, named)


def _whole(note: Sequence[Any]) -> tuple[int, int, int]:
    pitch, start, end = map(int, note)
    if not (0 <= pitch <= 127 and 0 <= start < end <= DOODLE_STEPS):
        raise ValueError(f"the note {note} is not within {DOODLE_STEPS} steps and the pitches of MIDI")
    return pitch, start, end


def _doodle(notes: Sequence[Note]) -> np.ndarray:
    tokens = on_c(sorted(notes))[:DOODLE_STEPS]
    return np.append(tokens, np.full(DOODLE_STEPS - len(tokens), MAGENTA.hold)).astype(np.int32)


Range = tuple[float, float]


def table(path: Path, columns: Mapping[str, Range | None]) -> list[dict[str, Any]]:
    """The rows of a table with these columns, which are numbers of a range, or text where that is None.

    HumanDataError with file and line for a missing column and for a value that is no number of the range.
    """
    text = files.read(present(path), MAX_BYTES).decode("utf-8-sig", errors="replace")
    reader = csv.DictReader(io.StringIO(text))
    if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
        raise HumanDataError(f"{path} has no column {', '.join(missing)}: its first line should name them")
    rows = []
    for row in reader:
        rows.append({name: _value(path, reader.line_num, name, row[name], columns[name]) for name in columns})
    if not rows:
        raise HumanDataError(f"{path} has no rows")
    return rows


def _value(path: Path, line: int, name: str, text: str | None, limits: Range | None) -> Any:
    if limits is None:
        return text or ""
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not limits[0] <= value <= limits[1]:
        expected = f"{name} should be a number from {limits[0]:g} to {limits[1]:g}"
        raise HumanDataError(f"{path}, line {line}: {expected}, got {visible(repr(text))[:60]}")
    return int(value) if value.is_integer() else value


def present(path: Path) -> Path:
    """The path; HumanDataError if there is no such file."""
    if not path.is_file():
        raise HumanDataError(f"{path} is missing: copy the whole folder {path.parent.name!r} again")
    return path


READERS: dict[str, Callable[[Path], Iterator[Study]]] = {
    "survey104": survey104,
    "aimgef": aimgef,
    "chorale28": chorale28,
    "bachdoodle": bachdoodle,
}
