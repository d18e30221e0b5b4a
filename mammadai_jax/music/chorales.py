"""Reads chorales from MusicXML: the soprano as a tune, or soprano, alto, tenor and bass as a piece.

Of a part with several voices the first is read, of a chord the highest note; `left_out` counts the others.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mammadai_jax.music import mxl, partwise
from mammadai_jax.music.grid import CHORD
from mammadai_jax.music.mxl import InvalidMusicXML
from mammadai_jax.music.notes import Note
from mammadai_jax.music.piece import SATB, Piece
from mammadai_jax.music.transcription import Tune, to_piece


def read(path: str | Path) -> Tune:
    """The soprano of a chorale, without the tempo, an editor's; `InvalidMusicXML` if there is none."""
    tune, _ = _voices(Path(path), SATB[:1])
    return dataclasses.replace(tune, tempo=Tune.tempo)


def read_piece(path: str | Path, source: str = "", collection: str = "", repeats: bool = False) -> Piece:
    """The four voices of a chorale; `InvalidMusicXML` or `Unsuitable` if there are not all of them."""
    tune, voices = _voices(Path(path), SATB, repeats)
    return to_piece(tune, voices, SATB, source or str(path), collection)


def _voices(path: Path, names: Sequence[str], repeats: bool = False) -> tuple[Tune, list[list[Note]]]:
    """The first voice as a tune, and the notes of the voices with such names."""
    root = mxl.load(path)
    parts = partwise.parts_of(root)
    found = [next((part for title, part in parts if title.startswith(name)), None) for name in names]
    if None in found or len(root.findall("part-list/score-part")) < len(SATB):
        missing = names[found.index(None)] if None in found else names[0]
        raise InvalidMusicXML(f"it has no part named {missing} among four or more")
    score = partwise.score_of([part for part in found if part is not None], repeats)
    if not score.bar:
        raise InvalidMusicXML("no time signature")
    left_out = Counter(score.left_out)
    voices: list[list[Note]] = [[] for _ in names]
    for number, of_part in itertools.groupby(score.voices, key=lambda voice: voice.part):
        first, *others = of_part
        voices[number] = partwise.highest(first.notes)
        left_out[CHORD] += len(first.notes) - len(voices[number])
        left_out["of other voices"] += sum(len(voice.notes) for voice in others)
    title = path.stem.upper().replace("BWV", "BWV ")
    fields = {"title": title, "origin": "J. S. Bach", "rhythm": "chorale", "left_out": dict(+left_out)}
    return score.tune(voices[0], **fields), voices
