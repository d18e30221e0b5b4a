"""Melodies from and to Standard MIDI files.

`smf` reads the bytes, `signatures` what they state of tempo, meter and key, and `grid` puts notes on steps.
The contents of a well-formed file may still be unusable (no tempo, a note 50 years long): all is checked.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mammadai_jax.music import files, signatures, smf
from mammadai_jax.music.files import decoded
from mammadai_jax.music.grid import MAX_STEPS, quantised
from mammadai_jax.music.heading import key_fifths, meter_of, printable
from mammadai_jax.music.keys import ESTIMATED, key_of
from mammadai_jax.music.notes import Melody, events_from_notes, notes_from_events
from mammadai_jax.music.signatures import TEMPI
from mammadai_jax.music.smf import MAX_BYTES, Event, File, InvalidMidi, Meta, TickNote

SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".smf")
TICKS_PER_STEP = 120
# Markers at the end of our files, which may be later than their last note. With the first one, the first
# track is the melody; with the second the melody is silent, for readers skip a track without notes.
END_MARKER = "end of melody"
SILENT_MARKER = "end of silent melody"

_MELODY_NAMES = ("melod", "lead", "vocal", "voice", "soprano", "cantus", "solo")
_BASSES = range(32, 40)
_log = logging.getLogger(__name__)


class Line(NamedTuple):
    """One voice beside the melody: `events` (T,) as in `Melody`, and its General MIDI `program`."""

    name: str
    events: np.ndarray
    program: int = 0


class _Voice(NamedTuple):
    """A voice of a file: the name of its track, its notes, and the meta events that hold for it."""

    name: str
    notes: list[TickNote]
    metas: list[Meta]


def read(path: str | os.PathLike, steps_per_quarter: int = 4) -> Melody:
    """The melody of a MIDI file, quantised to `steps_per_quarter`; a warning is logged if it lacks notes.

    See `parse`. Raises InvalidMidi, or OSError (FileNotFoundError...) if the file cannot be read, is larger
    than 4 MiB, or is a pipe or a device.
    """
    melody = parse(files.read(path, MAX_BYTES + 1), str(path), steps_per_quarter)
    for reason, count in melody.left_out.items():
        _log.warning("%s: %d notes left out: %s", path, count, reason)
    return melody


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


def _melody(file: File, name: str, steps_per_quarter: int) -> Melody:
    voices = list(_voices(file))
    voice, length = _melody_voice(voices, file, steps_per_quarter)
    notes, left_out = quantised(voice.notes, file.ticks_per_quarter, steps_per_quarter)
    left_out = Counter(_other_notes(file, voice)) + left_out
    end = max((note.end for note in voice.notes), default=0)
    meter = signatures.meter(voice.metas, end, file.ticks_per_quarter, steps_per_quarter)
    before = int(meter.origin * steps_per_quarter / file.ticks_per_quarter + 0.5) % meter.steps_per_bar
    silence = -before % meter.steps_per_bar  # so that bars begin at multiples of their length
    notes = [note._replace(onset=note.onset + silence) for note in notes]
    length = max(length + silence, *(note.onset + note.duration for note in notes), 0)
    tonic, mode, estimated = key_of(notes, *signatures.key(voice.metas))
    return Melody(
        events=events_from_notes(notes, length),
        title=printable(voice.name) or Path(name).stem,
        steps_per_bar=meter.steps_per_bar,
        tonic=tonic,
        mode=mode,
        tempo=signatures.tempo(voice.metas),
        pickup=_pickup(notes[0].onset if notes else 0, before, meter.steps_per_bar),
        source=name,
        meter=meter.name,
        left_out=dict(left_out),
        remarks=tuple(_remarks(voice.metas, meter, estimated)),
    )


def _pickup(lead: int, before: int, bar: int) -> int:
    """Steps of the upbeat, if notes begin `lead` steps after a bar line and a notated upbeat has `before`."""
    if before and lead < bar:
        return before
    return bar - lead if bar / 2 <= lead < bar else 0


def _remarks(metas: Sequence[Meta], meter: signatures.Meter, estimated: bool) -> Iterator[str]:
    """What the melody does not have of the file, other than notes, and what the file does not have."""
    if estimated:
        yield ESTIMATED
    if meter.changes:
        yield "the meter changes"
    for kind, what in ((smf.TEMPO, "the tempo changes"), (smf.KEY_SIGNATURE, "the key changes")):
        if len({event.data for event in signatures.in_force(metas, kind)}) > 1:
            yield what


def _voices(file: File) -> Iterator[_Voice]:
    """The voices of a file that have notes, without the drums."""
    shared = _metas(file)
    for track in file.tracks:
        metas = track.metas if file.form == 2 else shared
        name = next((decoded(meta.data) for meta in track.metas if meta.kind == smf.NAME), "")
        pitched = [note for note in track.notes if note.channel != smf.DRUM_CHANNEL]
        divided = file.form == 0 and _channels_sound_together(pitched)
        for channel in sorted({note.channel for note in pitched}) if divided else [None]:
            notes = [note for note in pitched if channel in (None, note.channel)]
            if notes:
                yield _Voice(name, notes, metas)


def _metas(file: File) -> list[Meta]:
    """The meta events of all tracks in order of time, those of one tick in the order of the file."""
    return sorted((meta for track in file.tracks for meta in track.metas), key=lambda meta: meta.tick)


def _channels_sound_together(notes: Sequence[TickNote]) -> bool:
    """Whether a note begins while one of another channel sounds."""
    ends: dict[int, int] = {}
    for note in sorted(notes):
        if any(end > note.start for channel, end in ends.items() if channel != note.channel):
            return True
        ends[note.channel] = max(ends.get(note.channel, 0), note.end)
    return False


def _melody_voice(voices: Sequence[_Voice], file: File, steps_per_quarter: int) -> tuple[_Voice, int]:
    """The voice of the melody, and its steps by the end marker (0 without one)."""
    metas = _metas(file)
    for marker in (meta for meta in metas if meta.kind == smf.MARKER):
        if (text := decoded(marker.data)) in (END_MARKER, SILENT_MARKER):
            length = round(marker.tick * steps_per_quarter / file.ticks_per_quarter)
            if length > MAX_STEPS:
                raise InvalidMidi(f"longer than {MAX_STEPS} steps")
            return (voices[0] if voices and text == END_MARKER else _Voice("", [], metas)), length
    if not voices:
        raise InvalidMidi("no notes (other than drums)")
    end = max(note.end for voice in voices for note in voice.notes)
    return max(voices, key=lambda voice: _melodiousness(voice, end)), 0


def _melodiousness(voice: _Voice, end: int) -> tuple[bool, ...]:
    """Evidence that a voice is the melody; larger tuples are preferred."""
    onsets = [note.start for note in voice.notes]
    return (
        any(word in voice.name.lower() for word in _MELODY_NAMES),
        2 * (max(note.end for note in voice.notes) - min(onsets)) >= end,
        len(set(onsets)) >= 0.9 * len(onsets),
        voice.notes[0].program not in _BASSES,
    )


def _other_notes(file: File, voice: _Voice) -> dict[str, int]:
    """How many notes of a file are not in a voice, by reason."""
    notes = [note for track in file.tracks for note in track.notes]
    drums = sum(note.channel == smf.DRUM_CHANNEL for note in notes)
    return {"drums": drums, "of other voices": len(notes) - drums - len(voice.notes)}


def write(
    path: str | os.PathLike | None,
    melody: Melody,
    lines: Sequence[Line] = (),
    drums: Mapping[int, Sequence[int]] | None = None,
    program: int = 0,
    steps_per_quarter: int = 4,
) -> bytes:
    """The bytes of a MIDI file of the melody; written to `path` (whole or not at all) unless it is None.

    `lines` are further tracks, as long as the melody; `drums` says at which steps each General MIDI
    percussion note is struck. The same arguments give the same bytes, and `read` returns the same
    events, including silence at the end. ValueError for values that a MIDI file cannot represent.
    """
    _check_writable(melody, lines, drums or {}, steps_per_quarter)
    first = _track(Line(melody.title, melody.events, program), 0, 96)
    tracks = [_conductor(melody, steps_per_quarter) + first]
    channels = itertools.cycle(channel for channel in range(1, 16) if channel != smf.DRUM_CHANNEL)
    tracks += [_track(line, channel, 64) for line, channel in zip(lines, channels, strict=False)]
    if drums:
        tracks.append(_drum_track(drums))
    data = smf.dump(TICKS_PER_STEP * steps_per_quarter, tracks)
    if path is not None:
        files.write_atomically(path, data)
    return data


def _check_writable(melody: Melody, lines: Sequence[Line], drums, steps_per_quarter: int) -> None:
    """ValueError unless a MIDI file, and `read`, can represent the arguments."""
    length = len(melody)
    if length > MAX_STEPS:
        raise ValueError(f"a melody of {length} steps is longer than {MAX_STEPS}")
    if not TEMPI[0] <= melody.tempo <= TEMPI[1]:
        raise ValueError(f"tempo is {TEMPI[0]:g} to {TEMPI[1]:g} quarter notes a minute, not {melody.tempo}")
    if not 1 <= steps_per_quarter <= 64:
        raise ValueError(f"steps_per_quarter is 1 to 64, not {steps_per_quarter}")
    for line in lines:
        if len(line.events) != length:
            raise ValueError(f"the line {line.name!r} has {len(line.events)} steps, the melody {length}")
    for pitch, steps in drums.items():
        if not 0 <= pitch <= 127 or any(not 0 <= step < length for step in steps):
            raise ValueError(f"drum {pitch}: notes are 0..127, its steps 0..{length - 1}")


def _conductor(melody: Melody, steps_per_quarter: int) -> list[Event]:
    """Tempo, meter, key and end of the melody."""
    beats, unit = meter_of(melody, steps_per_quarter)
    events = [
        smf.meta(0, smf.TEMPO, round(60e6 / melody.tempo).to_bytes(3, "big")),
        smf.meta(0, smf.TIME_SIGNATURE, bytes([beats, unit.bit_length() - 1, 24, 8])),
    ]
    fifths = key_fifths(melody)
    if fifths is not None and melody.mode in ("major", "minor"):
        signature = fifths.to_bytes(1, "big", signed=True) + bytes([melody.mode == "minor"])
        events.append(smf.meta(0, smf.KEY_SIGNATURE, signature))
    marker = END_MARKER if len(melody.pitches) else SILENT_MARKER
    return [*events, smf.meta(len(melody) * TICKS_PER_STEP, smf.MARKER, marker.encode())]


def _track(line: Line, channel: int, velocity: int) -> list[Event]:
    """A line as the events of a track."""
    if not 0 <= line.program <= 127:
        raise ValueError(f"a General MIDI program is 0..127, not {line.program}")
    events = [smf.meta(0, smf.NAME, printable(line.name).encode()), smf.program(line.program, channel)]
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
