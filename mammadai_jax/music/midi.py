"""Melodies, and pieces of several voices, from and to Standard MIDI files.

`smf` reads the bytes, `tracks` finds the voices, `signatures` what a file states of tempo, meter and key, and
`grid` puts notes on steps. The contents of a well-formed file may still be unusable (no tempo, a note 50
years long): all is checked.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mammadai_jax.music import files, signatures, smf, tracks
from mammadai_jax.music.grid import MAX_STEPS, quantised
from mammadai_jax.music.heading import Heading, key_fifths, meter_of, printable
from mammadai_jax.music.instruments import NAMES
from mammadai_jax.music.keys import ESTIMATED, key_of
from mammadai_jax.music.notes import Melody, Note, events_from_notes, notes_from_events, upbeat
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.signatures import TEMPI
from mammadai_jax.music.smf import MAX_BYTES, Event, File, InvalidMidi, Meta
from mammadai_jax.music.tracks import End, TrackVoice

SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".smf")
TICKS_PER_STEP = 120
ORGAN = 19  # the General MIDI program of pieces
_MELODY_NAMES = ("melod", "lead", "vocal", "voice", "soprano", "cantus", "solo")
_BASSES = range(32, 40)
_log = logging.getLogger(__name__)


class Line(NamedTuple):
    """One voice beside the melody: `events` (T,) as in `Melody`, and its General MIDI `program`."""

    name: str
    events: np.ndarray
    program: int = 0


def read(path: str | os.PathLike, steps_per_quarter: int = 4) -> Melody:
    """The melody of a MIDI file, quantised to `steps_per_quarter`; a warning is logged if it lacks notes.

    See `parse`. Raises InvalidMidi, or OSError (FileNotFoundError...) if the file cannot be read, is larger
    than 4 MiB, or is a pipe or a device.
    """
    return _logged(parse(files.read(path, MAX_BYTES + 1), str(path), steps_per_quarter))


def read_piece(path: str | os.PathLike, steps_per_quarter: int = 4) -> Piece:
    """All voices of a MIDI file as `read` reads the melody; see `parse_piece`."""
    return _logged(parse_piece(files.read(path, MAX_BYTES + 1), str(path), steps_per_quarter))


def _logged(music: Heading) -> Any:
    """The music; a warning is logged if it lacks notes."""
    for reason, count in music.left_out.items():
        _log.warning("%s: %d notes left out: %s", music.source, count, reason)
    return music


def parse(data: bytes, name: str = "MIDI data", steps_per_quarter: int = 4) -> Melody:
    """The melody in the bytes of a MIDI file called `name`; raises only InvalidMidi.

    A track is one voice, whatever its programs and channels; only the one track of format 0 is divided by
    channel, if channels sound together. The melody is the voice with such a name, else the first that is
    monophonic, not a bass, and lasts; never the drums. `grid.quantised` says which of its notes stay,
    `Melody.left_out` how many do not. The title is the track's name or the stem of `name`. Tempo and key are
    the file's first; a key that is not stated is estimated from the notes. The meter is the one that holds
    longest (`signatures.meter`). A shorter first bar of another meter is an upbeat; so is leading silence of
    half a bar or more, but less than a bar.
    """
    try:
        return _melody(smf.load(data), name, steps_per_quarter)
    except InvalidMidi as error:
        raise InvalidMidi(f"{name}: {error}") from None


def parse_piece(data: bytes, name: str = "MIDI data", steps_per_quarter: int = 4) -> Piece:
    """The piece in the bytes of a MIDI file called `name`, up to 8 voices; raises only InvalidMidi.

    Every track with notes is a voice, except drums; `tracks.piece_voices` says how chords are divided and
    voices ordered. The title is the name of a first track without notes, or the stem of `name`. Otherwise it
    is as `parse` has it; what `write` wrote comes back note for note.
    """
    try:
        return _piece(smf.load(data), name, steps_per_quarter)
    except InvalidMidi as error:
        raise InvalidMidi(f"{name}: {error}") from None


def _melody(file: File, name: str, steps_per_quarter: int) -> Melody:
    end = tracks.end_of(file, steps_per_quarter)
    voice = _melody_voice(file, end)
    rows, length, heading = _on_grid([voice], file, end, steps_per_quarter)
    heading["left_out"] = dict(Counter(_other_notes(file, voice)) + Counter(heading["left_out"]))
    title = tracks.title_of(file) if end and end.voices else printable(voice.name)
    return Melody(events_from_notes(rows[0], length), title=title or Path(name).stem, source=name, **heading)


def _piece(file: File, name: str, steps_per_quarter: int) -> Piece:
    end = tracks.end_of(file, steps_per_quarter)
    voices = tracks.piece_voices(file, end)
    rows, length, heading = _on_grid(voices, file, end, steps_per_quarter)
    heading["left_out"] = dict(Counter({"drums": tracks.drums_of(file)}) + Counter(heading["left_out"]))
    title = tracks.title_of(file) or ("" if end and end.voices else Path(name).stem)
    names = tuple(voice.name for voice in voices)
    return Piece(
        np.stack([events_from_notes(notes, length) for notes in rows]),
        names if any(names) or (end and end.voices) else (),
        steps_per_quarter,
        title=title,
        source=name,
        **heading,
    )


def _on_grid(
    voices: Sequence[TrackVoice], file: File, end: End | None, steps_per_quarter: int
) -> tuple[list[list[Note]], int, dict[str, Any]]:
    """The notes of voices on steps, with bars at multiples of their length; the steps, and the metadata."""
    per_quarter = file.ticks_per_quarter
    results = [quantised(voice.notes, per_quarter, steps_per_quarter) for voice in voices]
    metas = voices[0].metas
    last = max((note.end for voice in voices for note in voice.notes), default=0)
    meter = signatures.meter(metas, last, per_quarter, steps_per_quarter)
    before = int(meter.origin * steps_per_quarter / per_quarter + 0.5) % meter.steps_per_bar
    silence = -before % meter.steps_per_bar
    rows = [[note._replace(onset=note.onset + silence) for note in notes] for notes, _ in results]
    notes = sorted(itertools.chain(*rows))
    length = max((end.steps if end else 0) + silence, *(n.onset + n.duration for n in notes), 0)
    tonic, mode, estimated = key_of(notes, *signatures.key(metas))
    pickup = _pickup(notes[0].onset if notes else 0, before, meter.steps_per_bar)
    heading = {
        "steps_per_bar": meter.steps_per_bar,
        "tonic": tonic,
        "mode": mode,
        "tempo": signatures.tempo(metas),
        "pickup": end.pickup if end and end.voices else pickup,
        "meter": meter.name,
        "left_out": sum((left_out for _, left_out in results), Counter()),
        "remarks": tuple(_remarks(metas, meter, estimated)),
    }
    return rows, length, heading


def _pickup(lead: int, before: int, bar: int) -> int:
    """Steps of the upbeat, if notes begin `lead` steps after a bar line and a notated upbeat has `before`."""
    if before and lead < bar:
        return before
    return upbeat(lead, bar)


def _remarks(metas: Sequence[Meta], meter: signatures.Meter, estimated: bool) -> Iterator[str]:
    """What the melody does not have of the file, other than notes, and what the file does not have."""
    if estimated:
        yield ESTIMATED
    if meter.changes:
        yield "the meter changes"
    for kind, what in ((smf.TEMPO, "the tempo changes"), (smf.KEY_SIGNATURE, "the key changes")):
        if len({event.data for event in signatures.in_force(metas, kind)}) > 1:
            yield what


def _melody_voice(file: File, end: End | None) -> TrackVoice:
    """The voice of the melody."""
    voices = list(tracks.voices_of(file))
    if end:
        is_silent = end.is_silent or not voices
        return TrackVoice("", [], tracks.metas_of(file)) if is_silent else voices[0]
    if not voices:
        raise InvalidMidi("no notes (other than drums)")
    last = max(note.end for voice in voices for note in voice.notes)
    return max(voices, key=lambda voice: _melodiousness(voice, last))


def _melodiousness(voice: TrackVoice, end: int) -> tuple[bool, ...]:
    """Evidence that a voice is the melody; larger tuples are preferred."""
    onsets = [note.start for note in voice.notes]
    return (
        any(word in voice.name.lower() for word in _MELODY_NAMES),
        2 * (max(note.end for note in voice.notes) - min(onsets)) >= end,
        len(set(onsets)) >= 0.9 * len(onsets),
        voice.notes[0].program not in _BASSES,
    )


def _other_notes(file: File, voice: TrackVoice) -> dict[str, int]:
    """How many notes of a file are not in a voice, by reason."""
    notes = [note for track in file.tracks for note in track.notes]
    drums = tracks.drums_of(file)
    return {"drums": drums, "of other voices": len(notes) - drums - len(voice.notes)}


def write(
    path: str | os.PathLike | None,
    music: Melody | Piece,
    lines: Sequence[Line] = (),
    drums: Mapping[int, Sequence[int]] | None = None,
    program: int | None = None,
    steps_per_quarter: int | None = None,
) -> bytes:
    """The bytes of a MIDI file of a melody or a piece; written to `path` (whole or not) unless it is None.

    A melody is one track with its title; a piece has one with its title and then one for every voice.
    `lines` are further tracks, as long as the music; `drums` says at which steps each General MIDI
    percussion note is struck. `program` is by default the piano of a melody and the organ of a piece;
    given, its name is in the file. `steps_per_quarter` is 4 or that of the piece. The same arguments give the
    same bytes, and `read` or `read_piece` returns the same events, including silence at the end. ValueError
    for values that a MIDI file cannot represent.
    """
    is_piece = isinstance(music, Piece)
    if steps_per_quarter is None:
        steps_per_quarter = music.steps_per_quarter if is_piece else 4
    _check_writable(music, lines, drums or {}, steps_per_quarter)
    channels = itertools.cycle(channel for channel in range(16) if channel != smf.DRUM_CHANNEL)
    voices = voice_lines(music, (ORGAN if is_piece else 0) if program is None else program)
    events = [_track(line, next(channels), 80 if is_piece else 96, program is not None) for line in voices]
    conductor = _conductor(music, steps_per_quarter)
    if is_piece:
        events.insert(0, [smf.meta(0, smf.NAME, printable(music.title).encode()), *conductor])
    else:
        events[0] = conductor + events[0]
    events += [_track(line, next(channels), 64) for line in lines]
    if drums:
        events.append(_drum_track(drums))
    data = smf.dump(TICKS_PER_STEP * steps_per_quarter, events)
    if path is not None:
        files.write_atomically(path, data)
    return data


def voice_lines(music: Melody | Piece, program: int = 0) -> list[Line]:
    """The voices of a piece, or the melody as the only one, called by its title."""
    if isinstance(music, Piece):
        return [Line(name, row, program) for name, row in zip(music.names, music.voices, strict=True)]
    return [Line(music.title, music.events, program)]


def _check_writable(music: Melody | Piece, lines: Sequence[Line], drums, steps_per_quarter: int) -> None:
    """ValueError unless a MIDI file, and `read`, can represent the arguments."""
    length = len(music)
    if length > MAX_STEPS:
        raise ValueError(f"music of {length} steps is longer than {MAX_STEPS}")
    if not TEMPI[0] <= music.tempo <= TEMPI[1]:
        raise ValueError(f"tempo is {TEMPI[0]:g} to {TEMPI[1]:g} quarter notes a minute, not {music.tempo}")
    if not 1 <= steps_per_quarter <= 64:
        raise ValueError(f"steps_per_quarter is 1 to 64, not {steps_per_quarter}")
    for line in lines:
        if len(line.events) != length:
            raise ValueError(f"the line {line.name!r} has {len(line.events)} steps, the music {length}")
    for pitch, steps in drums.items():
        if not 0 <= pitch <= 127 or any(not 0 <= step < length for step in steps):
            raise ValueError(f"drum {pitch}: notes are 0..127, its steps 0..{length - 1}")


def _conductor(music: Melody | Piece, steps_per_quarter: int) -> list[Event]:
    """Tempo, meter, key and end of the music."""
    beats, unit = meter_of(music, steps_per_quarter)
    events = [
        smf.meta(0, smf.TEMPO, round(60e6 / music.tempo).to_bytes(3, "big")),
        smf.meta(0, smf.TIME_SIGNATURE, bytes([beats, unit.bit_length() - 1, 24, 8])),
    ]
    fifths = key_fifths(music)
    if fifths is not None:
        events += signatures.key_events(fifths, music.mode)
    if isinstance(music, Piece):
        marker = tracks.PIECE_MARKER.format(len(music.voices), music.pickup)
    else:
        marker = tracks.END_MARKER if len(music.pitches) else tracks.SILENT_MARKER
    return [*events, smf.meta(len(music) * TICKS_PER_STEP, smf.MARKER, marker.encode())]


def _track(line: Line, channel: int, velocity: int, is_named: bool = False) -> list[Event]:
    """A line as the events of a track, with the name of its instrument."""
    if not 0 <= line.program <= 127:
        raise ValueError(f"a General MIDI program is 0..127, not {line.program}")
    events = [smf.meta(0, smf.NAME, printable(line.name).encode()), smf.program(line.program, channel)]
    if is_named:
        events.insert(1, smf.meta(0, smf.INSTRUMENT, NAMES[line.program].encode()))
    for onset, duration, pitch in notes_from_events(line.events):
        start, end = onset * TICKS_PER_STEP, (onset + duration) * TICKS_PER_STEP
        events += smf.note(start, end, pitch, channel, velocity)
    return events


def _drum_track(drums: Mapping[int, Sequence[int]]) -> list[Event]:
    """One-step notes on the percussion channel, in order of time."""
    events = [smf.meta(0, smf.NAME, b"Drums")]
    strokes = {(int(step), pitch) for pitch, steps in drums.items() for step in steps}
    for step, pitch in sorted(strokes):
        start, end = step * TICKS_PER_STEP, (step + 1) * TICKS_PER_STEP
        events += smf.note(start, end, pitch, smf.DRUM_CHANNEL, 80)
    return events
