"""The voices of a MIDI file (tracks, or channels and chords in them), and the markers of our own files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mammadai_jax.music import smf
from mammadai_jax.music.files import decoded
from mammadai_jax.music.grid import MAX_STEPS, layers
from mammadai_jax.music.heading import printable
from mammadai_jax.music.piece import MAX_VOICES, SATB, choir_place, distinct
from mammadai_jax.music.smf import File, InvalidMidi, Meta, TickNote

# Markers at the end of our files, which may be later than their last note. With the first one, the first
# track is the melody; with the second the melody is silent, for readers skip a track without notes. With the
# third, the tracks after the first are the voices, silent ones too.
END_MARKER = "end of melody"
SILENT_MARKER = "end of silent melody"
PIECE_MARKER = "end of piece: voices {}, steps of upbeat {}"
_PIECE = re.compile(PIECE_MARKER.replace("{}", r"(\d{1,6})"))


class TrackVoice(NamedTuple):
    """A voice of a file: the name of its track, its notes, and the meta events that hold for it."""

    name: str
    notes: list[TickNote]
    metas: list[Meta]


class End(NamedTuple):
    """What our marker says: the length in steps, if the melody is silent, and a piece's voices and upbeat."""

    steps: int
    is_silent: bool = False
    voices: int = 0
    pickup: int = 0


def end_of(file: File, steps_per_quarter: int) -> End | None:
    """What the marker of our files says, None for a file of others."""
    for marker in (meta for meta in metas_of(file) if meta.kind == smf.MARKER):
        text = decoded(marker.data)
        piece = _PIECE.fullmatch(text)
        if piece and not 1 <= int(piece[1]) <= min(MAX_VOICES, len(file.tracks) - 1):
            continue
        if piece or text in (END_MARKER, SILENT_MARKER):
            steps = round(marker.tick * steps_per_quarter / file.ticks_per_quarter)
            if steps > MAX_STEPS:
                raise InvalidMidi(f"longer than {MAX_STEPS} steps")
            silent = text == SILENT_MARKER
            return End(steps, silent, *map(int, piece.groups() if piece else ()))
    return None


def metas_of(file: File) -> list[Meta]:
    """The meta events of all tracks in order of time, those of one tick in the order of the file."""
    return sorted((meta for track in file.tracks for meta in track.metas), key=lambda meta: meta.tick)


def drums_of(file: File) -> int:
    """How many notes are on the percussion channel."""
    return sum(note.channel == smf.DRUM_CHANNEL for track in file.tracks for note in track.notes)


def title_of(file: File) -> str:
    """The name of the first track if it has no notes, as a title; empty otherwise."""
    first = file.tracks[0]
    return "" if first.notes else printable(_name(first))


def voices_of(file: File) -> Iterator[TrackVoice]:
    """The voices of a file that have notes, without the drums.

    A track is one voice; only the one track of format 0 is divided by channel, if channels sound together.
    """
    shared = metas_of(file)
    for track in file.tracks:
        metas = track.metas if file.form == 2 else shared
        pitched = [note for note in track.notes if note.channel != smf.DRUM_CHANNEL]
        divided = file.form == 0 and _channels_sound_together(pitched)
        for channel in sorted({note.channel for note in pitched}) if divided else [None]:
            notes = [note for note in pitched if channel in (None, note.channel)]
            if notes:
                yield TrackVoice(_name(track), notes, metas)


def piece_voices(file: File, end: End | None) -> list[TrackVoice]:
    """The voices of a piece, highest first; InvalidMidi if there are none, or more than 8.

    They are the tracks that our marker counts. In a file of others, chords are divided into voices if all of
    them together are at most 8; the order is that of the names Soprano, Alto, Tenor and Bass, else that of
    the mean pitch.
    """
    if end and end.voices:
        metas = metas_of(file)
        tracks = [(printable(_name(track)), track.notes) for track in file.tracks[1 : 1 + end.voices]]
        pitched = [[note for note in notes if note.channel != smf.DRUM_CHANNEL] for _, notes in tracks]
        return [TrackVoice(name, notes, metas) for (name, _), notes in zip(tracks, pitched, strict=True)]
    voices = list(voices_of(file))
    if not voices and end:
        return [TrackVoice(title_of(file), [], metas_of(file))]
    if not voices:
        raise InvalidMidi("no notes (other than drums)")
    if len(voices) > MAX_VOICES:
        raise InvalidMidi(f"{len(voices)} voices; a piece has at most {MAX_VOICES}")
    ordered = sorted(_divided(voices), key=_place(voices))
    names = distinct([printable(voice.name) for voice in ordered]) or [""] * len(ordered)
    return [voice._replace(name=name) for name, voice in zip(names, ordered, strict=True)]


def _name(track: smf.Track) -> str:
    return next((decoded(meta.data) for meta in track.metas if meta.kind == smf.NAME), "")


def _channels_sound_together(notes: Sequence[TickNote]) -> bool:
    """Whether a note begins while one of another channel sounds."""
    ends: dict[int, int] = {}
    for note in sorted(notes):
        if any(end > note.start for channel, end in ends.items() if channel != note.channel):
            return True
        ends[note.channel] = max(ends.get(note.channel, 0), note.end)
    return False


def _divided(voices: Sequence[TrackVoice]) -> list[TrackVoice]:
    """The voices with their chords divided; as they are if that makes too many."""
    divided: list[TrackVoice] = []
    for voice in voices:
        parts = layers(voice.notes, MAX_VOICES - len(divided))
        if parts is None:
            return list(voices)
        divided += [voice._replace(notes=part) for part in parts]
    return divided


def _place(voices: Sequence[TrackVoice]) -> Callable[[TrackVoice], float]:
    """The key by which voices are sorted."""
    if all(choir_place(voice.name) < len(SATB) for voice in voices):
        return lambda voice: choir_place(voice.name)
    return lambda voice: -sum(note.pitch for note in voice.notes) / len(voice.notes)
