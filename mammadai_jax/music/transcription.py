"""Tunes in exact time, as notated, and their conversion to the grid of a `Melody`.

Readers of notation (`abc`, `chorales`) return a `Tune`; `to_melody` finds its bars and its upbeat and
converts it to 16th notes, or says why that would change it. `to_piece` does so for several voices.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mammadai_jax.music.grid import MAX_STEPS
from mammadai_jax.music.keys import ESTIMATED, key_of
from mammadai_jax.music.notes import Melody, Note, events_from_notes
from mammadai_jax.music.piece import Piece

WHOLE = 2**10 * 3**2 * 5 * 7
"""Ticks of a whole note: all lengths down to a 1024th, and their tuplets, are integers."""
STEP = WHOLE // 16


class Unsuitable(ValueError):
    """A tune that cannot become a `Melody` without changing it; the message is the reason."""


class Skipped(NamedTuple):
    """A tune that was left out of a corpus, as "file:number", and the reason, with details after a colon."""

    source: str
    reason: str


def by_reason(skipped: Iterable[Skipped]) -> Counter[str]:
    """How many tunes were left out for each reason."""
    return Counter(reason.partition(":")[0] for _, reason in skipped)


def reasons(skipped: Iterable[Skipped], most: int = 3) -> str:
    """The `most` frequent reasons in words, with their counts: "2 tonic unknown, 1 no notes"."""
    counts = by_reason(skipped).most_common()
    rest = sum(count for _, count in counts[most:])
    words = [f"{count} {reason}" for reason, count in counts[:most]]
    return ", ".join(words + [f"{rest} for other reasons"] * bool(rest))


@dataclasses.dataclass(frozen=True, eq=False)
class Tune:
    """A melody as notated, with repeats played once.

    Attributes:
        notes: in order, onsets and durations in ticks (`WHOLE` to a whole note), ties joined.
        bar_lines: ticks of the bar lines between bars (not those of sections).
        length: ticks, including rests at the end.
        bar: ticks of a full bar, 0 without a meter.
        meter: as written; also `title`, `origin`, `rhythm` and `number`.
        tonic: pitch class, -1 if unknown.
        mode: as notated, or guessed from the notes (`keys.guess_mode`); empty if unknown.
        tempo: quarter notes a minute.
        left_out: how many notes of the source are not in `notes`, by reason.

    """

    notes: Sequence[Note]
    bar_lines: Sequence[int]
    length: int
    bar: int
    meter: str
    number: str = ""
    title: str = ""
    origin: str = ""
    rhythm: str = ""
    tonic: int = -1
    mode: str = ""
    tempo: float = 120.0
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)


def to_melody(tune: Tune, source: str, collection: str) -> Melody:
    """The tune on 16th notes: it starts on a bar line and fills whole bars, with silence where needed.

    A key that is not notated is estimated from the notes. Raises `Unsuitable` if there are no notes, no
    meter, bar lines out of phase, or a note that begins or ends between two 16ths.
    """
    if not tune.notes:
        raise Unsuitable("no notes")
    grid = _Grid.of(tune)
    if len(grid.phases) > 1:
        raise Unsuitable("bar lines out of phase")
    times = [tune.length, *(time for note in tune.notes for time in note[:2])]
    if not grid.has(times):
        raise Unsuitable("off the grid of 16th notes")
    events, notes = grid.events(tune.notes)
    return Melody(events, **grid.heading(notes, source, collection), left_out=tune.left_out)


def to_piece(
    tune: Tune, voices: Sequence[Sequence[Note]], names: Sequence[str], source: str, collection: str
) -> Piece:
    """Voices in ticks on 16th notes, with the bars and the metadata of a tune; as `to_melody` otherwise.

    A step has what sounds at its beginning: shorter notes are left out and counted. Where bar lines are out
    of phase the most frequent phase counts. Both are remarked. Raises `Unsuitable` without a meter.
    """
    grid = _Grid.of(tune)
    rows = [grid.events(notes) for notes in voices]
    notes = sorted(note for _, on_steps in rows for note in on_steps)
    heading = grid.heading(notes, source, collection)
    left_out = Counter(tune.left_out)
    left_out["shorter than a 16th note"] += sum(map(len, voices)) - len(notes)
    times = [time for notes in voices for note in notes for time in note[:2]]
    remarks = [*heading.pop("remarks")]
    remarks += ["notes moved to 16ths"] * (not grid.has(times))
    remarks += ["bar lines out of phase"] * (len(grid.phases) > 1)
    events = np.stack([events for events, _ in rows])
    return Piece(events, tuple(names), **heading, left_out=dict(+left_out), remarks=tuple(remarks))


@dataclasses.dataclass(frozen=True)
class _Grid:
    """Where the 16ths of a tune lie: they start with a bar, `shift` ticks before the tune.

    `phases` are the places of its bar lines within a bar, with their number.
    """

    tune: Tune
    phases: Counter[int]
    pickup: int
    shift: int
    length: int

    @classmethod
    def of(cls, tune: Tune) -> _Grid:
        """The grid of a tune; `Unsuitable` without a meter."""
        if not tune.bar or tune.bar % STEP:
            raise Unsuitable("off the grid of 16th notes" if tune.bar else "no meter")
        phases = Counter(at % tune.bar for at in tune.bar_lines if 0 < at < tune.length)
        on_grid = {phase: count for phase, count in phases.items() if phase % STEP == 0}
        pickup = max(on_grid, key=on_grid.__getitem__, default=0)
        shift = -pickup % tune.bar
        length = -(-(tune.length + shift) // tune.bar) * tune.bar
        if length // STEP > MAX_STEPS:
            raise Unsuitable(f"longer than {MAX_STEPS} steps")
        return cls(tune, phases, pickup, shift, length)

    def has(self, times: Sequence[int]) -> bool:
        """Whether times and bar lines are on it."""
        return not any(time % STEP for time in (*times, *self.phases))

    def events(self, notes: Sequence[Note]) -> tuple[np.ndarray, list[Note]]:
        """Events of the notes, and those that sound at the beginning of a step."""
        on_step = lambda ticks: -(-(ticks + self.shift) // STEP)
        spans = [(on_step(n.onset), on_step(n.onset + n.duration), n.pitch) for n in notes]
        kept = [Note(onset, end - onset, pitch) for onset, end, pitch in spans if end > onset]
        return events_from_notes(kept, self.length // STEP), kept

    def heading(self, notes: Sequence[Note], source: str, collection: str) -> dict[str, Any]:
        """The metadata of a melody or a piece with these notes, except for what is left out."""
        tonic, mode, estimated = key_of(notes, self.tune.tonic, self.tune.mode)
        names = ("title", "tempo", "origin", "rhythm", "meter")
        return {name: getattr(self.tune, name) for name in names} | {
            "steps_per_bar": self.tune.bar // STEP,
            "tonic": tonic,
            "mode": mode,
            "pickup": self.pickup // STEP,
            "source": source,
            "collection": collection,
            "remarks": (ESTIMATED,) if estimated else (),
        }
