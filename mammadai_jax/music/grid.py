"""Notes in ticks of any length to one voice on the steps of a grid."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from mammadai_jax.music.notes import Note
from mammadai_jax.music.smf import InvalidMidi, TickNote

MAX_STEPS = 65_536
CHORD = "below the highest of a chord"
CLOSE = "closer together than a step"
INSTANT = "without length, while another sounds"


def quantised(
    notes: Sequence[TickNote], ticks_per_quarter: int, steps_per_quarter: int
) -> tuple[list[Note], Counter[str]]:
    """One note a step, each a step or longer, in order of onset; and how many others are left out, and why.

    Of notes that begin on one step and sound together, a chord, the highest stays. Of those that follow one
    another within a step the longest stays, so that no grace note takes the place of a note.
    """
    scale = steps_per_quarter / ticks_per_quarter
    half_step = 0.5 / scale
    left_out: Counter[str] = Counter()
    melody: list[Note] = []
    covered = 0  # steps up to the end of the notes so far
    step_of = lambda tick: int(tick * scale + 0.5)
    ordered = sorted(notes, key=lambda note: (note.start, note.pitch))
    if ordered and step_of(max(note.end for note in ordered)) >= MAX_STEPS:
        raise InvalidMidi(f"longer than {MAX_STEPS} steps ({MAX_STEPS // steps_per_quarter} quarter notes)")
    for step, group in itertools.groupby(ordered, key=lambda note: step_of(note.start)):
        together = list(group)
        kept = _kept(together, half_step)
        left_out.update(_reason(note, kept) for note in together if note is not kept)
        if kept.end == kept.start and step < covered:
            left_out[INSTANT] += 1
            continue
        melody.append(Note(step, max(step_of(kept.end) - step, 1), kept.pitch))
        covered = max(covered, step_of(kept.end))
    return melody, left_out


def _kept(notes: Sequence[TickNote], half_step: float) -> TickNote:
    """The note that stays of those that begin on one step: the highest that is not a grace to the longest."""
    longest = max(notes, key=_length)
    others = (note for note in notes if not _is_grace(note, longest, half_step))
    return max(others, key=lambda note: (note.pitch, _length(note)))


def _is_grace(note: TickNote, longest: TickNote, half_step: float) -> bool:
    """Whether a note gives way to a longer one: it is very short, or is not sounding with it."""
    if _length(note) >= _length(longest):
        return False
    return _length(note) < half_step <= _length(longest) or not _is_chord(note, longest)


def _is_chord(one: TickNote, other: TickNote) -> bool:
    """Whether two notes sound together for more than half of the shorter."""
    overlap = min(one.end, other.end) - max(one.start, other.start)
    return 2 * overlap > min(_length(one), _length(other))


def _reason(note: TickNote, kept: TickNote) -> str:
    return CHORD if _is_chord(note, kept) else CLOSE


def _length(note: TickNote) -> int:
    return note.end - note.start


def layers(notes: Sequence[TickNote], most: int) -> list[list[TickNote]] | None:
    """The notes as voices that have no chords, the highest first; None if they are more than `most`.

    Each note goes to the voice whose last note is nearest, where voices that are free do not cross.
    """
    voices: list[list[TickNote]] = [[]] if not notes else []
    ordered = sorted(notes, key=lambda note: (note.start, -note.pitch))
    for _, group in itertools.groupby(ordered, key=lambda note: note.start):
        together = list(group)
        free = [voice for voice in voices if not _is_chord(voice[-1], together[0])]
        while len(free) < len(together):
            if len(voices) == most:
                return None
            voices.append([])
            free.append(voices[-1])
        distance = lambda chosen, notes=together: sum(
            abs(voice[-1].pitch - note.pitch) for voice, note in zip(chosen, notes, strict=True) if voice
        )
        chosen = min(itertools.combinations(free, len(together)), key=distance)
        for voice, note in zip(chosen, together, strict=True):
            voice.append(note)
    return voices
