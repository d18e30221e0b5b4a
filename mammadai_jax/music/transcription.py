"""Tunes in exact time, as notated, and their conversion to the grid of a `Melody`.

Readers of notation (`abc`, `chorales`) return a `Tune`; `to_melody` finds its bars and its upbeat and
converts it to 16th notes, or says why that would change it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mammadai_jax.music.keys import ESTIMATED, key_of
from mammadai_jax.music.notes import Melody, Note, events_from_notes

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
    if not tune.bar:
        raise Unsuitable("no meter")
    pickup = _pickup(tune)
    times = [tune.bar, tune.length, pickup, *(time for note in tune.notes for time in note[:2])]
    if any(time % STEP for time in times):
        raise Unsuitable("off the grid of 16th notes")
    shift = (tune.bar - pickup) % tune.bar
    length = -(-(tune.length + shift) // tune.bar) * tune.bar
    notes = [Note((n.onset + shift) // STEP, n.duration // STEP, n.pitch) for n in tune.notes]
    tonic, mode, estimated = key_of(notes, tune.tonic, tune.mode)
    return Melody(
        events_from_notes(notes, length // STEP),
        title=tune.title,
        steps_per_bar=tune.bar // STEP,
        tonic=tonic,
        mode=mode,
        tempo=tune.tempo,
        pickup=pickup // STEP,
        source=source,
        collection=collection,
        origin=tune.origin,
        rhythm=tune.rhythm,
        meter=tune.meter,
        left_out=tune.left_out,
        remarks=(ESTIMATED,) if estimated else (),
    )


def _pickup(tune: Tune) -> int:
    """Ticks before the first full bar: the common phase of all bar lines inside the tune."""
    phases = {at % tune.bar for at in tune.bar_lines if 0 < at < tune.length}
    if len(phases) > 1:
        raise Unsuitable("bar lines out of phase")
    return phases.pop() if phases else 0
