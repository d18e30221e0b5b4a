"""Pieces of several voices on one grid: what a piece is, and how it is spelled in tokens.

Voice 0 is the highest. Each voice is a row of events as in `notes`; a frame is one step of all voices. A
network decides the tokens of a frame one after another, in the order of `decision_order`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mammadai_jax.music.heading import Heading
from mammadai_jax.music.notes import HOLD, Alphabet, Melody, Note, canonical, checked, fill, transposed

MAX_VOICES = 8
SATB = ("Soprano", "Alto", "Tenor", "Bass")


@dataclasses.dataclass(frozen=True, eq=False)
class Piece(Heading):
    """Several monophonic voices on one grid, with their metadata (`Heading`).

    Attributes:
        voices: int16 (V, T), 1 to 8 rows of events; the first of each is never HOLD.
        names: one for every voice; by default Soprano, Alto, Tenor and Bass of four, else "Voice 1"...
        steps_per_quarter: 4 for 16ths, 1 for quarters.

    """

    voices: np.ndarray
    names: tuple[str, ...] = ()
    steps_per_quarter: int = 4

    def __post_init__(self):
        super().__post_init__()
        voices = np.asarray(self.voices)
        if voices.ndim != 2 or not 1 <= len(voices) <= MAX_VOICES:
            raise ValueError(
                f"a piece should have 1 to {MAX_VOICES} voices of one length, got shape {voices.shape}"
            )
        names = tuple(self.names) or default_names(len(voices))
        if len(names) != len(voices):
            raise ValueError(f"{len(voices)} voices should have as many names, got {len(names)}")
        object.__setattr__(self, "voices", np.stack([canonical(row) for row in checked(voices)]))
        object.__setattr__(self, "names", names)

    @classmethod
    def from_tokens(cls, tokens: np.ndarray, alphabet: Alphabet, **fields: Any) -> Piece:
        """The piece of tokens int32 (T, V), with further fields by name.

        ValueError for tokens outside the alphabet.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim != 2:
            raise ValueError(f"tokens of a piece should have shape (steps, voices), got {tokens.shape}")
        return cls(np.stack([alphabet.decode(row) for row in tokens.T]), **fields)

    def __len__(self) -> int:
        return self.voices.shape[1]

    @property
    def notes(self) -> list[Note]:
        """The notes of all voices, in order of onset."""
        return sorted(note for number in range(len(self.voices)) for note in self.melody(number).notes)

    @property
    def pitches(self) -> np.ndarray:
        """The MIDI pitches of all voices, one voice after the other, int16 (notes,)."""
        return self.voices[self.voices >= 0]

    @property
    def fill(self) -> int:
        """Steps of silence that fill the first bar before an upbeat; 0 without one, or with notes there."""
        return fill(self, self.voices)

    @property
    def span(self) -> slice:
        """The steps from the first note of any voice to the end of the last, without the silence around."""
        notes = self.notes
        return slice(notes[0].onset, max(n.onset + n.duration for n in notes)) if notes else slice(0, 0)

    def melody(self, voice: int) -> Melody:
        """One voice alone, with the metadata of the piece."""
        return Melody(self.voices[voice], **self.heading)

    def first(self, steps: int) -> Piece:
        """The first steps of all voices."""
        return dataclasses.replace(self, voices=self.voices[:, :steps])

    def tokens(self, alphabet: Alphabet) -> np.ndarray:
        """Tokens int32 (T, V); ValueError if a pitch is not in the alphabet.

        An alphabet without a hold token ties repeated notes; otherwise `from_tokens` returns equal voices.
        """
        return np.stack([alphabet.encode(row) for row in self.voices], axis=1)

    def transpose(self, semitones: int) -> Piece:
        """The piece `semitones` higher; ValueError if a pitch leaves 0..127."""
        return dataclasses.replace(self, **transposed(self, "voices", semitones))

    def on_grid(self, steps_per_quarter: int) -> Piece:
        """The piece with so many steps a quarter note: exact on a finer grid, sampled on a coarser one.

        A step of a coarser grid has what sounds at its beginning, and begins a note if that note began after
        the beginning of the step before; notes that sound at no such point are left out. ValueError unless
        one grid divides the other, and the steps of a bar.
        """
        finer, rest = divmod(steps_per_quarter, self.steps_per_quarter)
        coarser, other = divmod(self.steps_per_quarter, max(steps_per_quarter, 1))
        if steps_per_quarter < 1 or (rest and other) or (self.steps_per_bar % max(coarser, 1)):
            raise ValueError(
                f"{self.steps_per_quarter} steps a quarter, {self.steps_per_bar} a bar, cannot become "
                f"{steps_per_quarter} a quarter"
            )
        change = stretched if finer else sampled
        factor = finer or coarser
        scaled = lambda steps: steps * finer if finer else -(-steps // coarser)
        return dataclasses.replace(
            self,
            voices=np.stack([change(row, factor) for row in self.voices]),
            steps_per_quarter=steps_per_quarter,
            steps_per_bar=scaled(self.steps_per_bar),
            pickup=scaled(self.pickup),
        )


def on_tonic(piece: Piece, tonic: int, alphabet: Alphabet) -> Piece:
    """The piece transposed so that its lowest voice ends on a tonic, a pitch class, within an alphabet.

    The last bass note is the tonic of a tonal piece even where the key signature is that of another mode.
    Of two octaves the nearer is taken, if the alphabet has it. ValueError if the lowest voice is silent.
    """
    bass = piece.melody(-1).pitches
    if not len(bass):
        raise ValueError("the lowest voice has no note, so that its last one gives no tonic")
    up = int(tonic - bass[-1]) % 12
    down = up > 6 and piece.pitches.min() + up - 12 >= alphabet.lowest
    return piece.transpose(up - 12 if down else up)


def default_names(voices: int) -> tuple[str, ...]:
    """The names of voices that have none."""
    return SATB if voices == len(SATB) else tuple(f"Voice {number}" for number in range(1, voices + 1))


def choir_place(name: str) -> int:
    """0 to 3 for a voice that is called Soprano, Alto, Tenor or Bass; 4 for others."""
    lower = name.lower()
    return next((n for n, part in enumerate(SATB) if lower.startswith(part.lower())), len(SATB))


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names that tell voices apart: equal ones are numbered; none at all if all are empty."""
    if not any(names):
        return ()
    names = [name or "Voice" for name in names]
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name} {seen[name]}" if names.count(name) > 1 else name)
    return tuple(numbered)


def decision_order(voices: int) -> tuple[int, ...]:
    """The order in which the voices of a frame are decided: S, B, T, A of four.

    The outer voices first, the highest and then the lowest; then the inner ones from low to high.
    """
    if not 1 <= voices <= MAX_VOICES:
        raise ValueError(f"a piece should have 1 to {MAX_VOICES} voices, got {voices}")
    return (0, *range(voices - 1, 0, -1))


def decisions(tokens: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Tokens (T, V) as decisions (T * V,), frame after frame, the voices of each in an order."""
    return np.asarray(tokens)[:, list(order)].reshape(-1)


def frames(decided: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Decisions (T * V,) as tokens (T, V): the inverse of `decisions`."""
    return np.asarray(decided).reshape(-1, len(order))[:, np.argsort(order)]


def stretched(events: np.ndarray, factor: int) -> np.ndarray:
    """Events (T,) as (factor * T,): every step becomes several."""
    finer = np.full(len(events) * factor, HOLD, np.int16)
    finer[::factor] = events
    return finer


def sampled(events: np.ndarray, factor: int) -> np.ndarray:
    """Events (T,) as (ceil(T / factor),): what sounds at every step that is a multiple of the factor."""
    begun = np.maximum.accumulate(np.where(events == HOLD, 0, np.arange(len(events))))[::factor]
    return np.where(np.diff(begun, prepend=-1) > 0, events[begun], HOLD)
