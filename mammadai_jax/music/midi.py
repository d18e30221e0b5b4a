"""Melodies from and to Standard MIDI files.

symusic parses the files. It is fast and rejects broken files, but the contents of a well-formed file may
still be unusable (no tempo, a note 50 years long), so everything is checked against the limits below.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from symusic.core import (
    KeySignatureTick,
    NoteTick,
    ScoreTick,
    TempoTick,
    TextMetaTick,
    TimeSignatureTick,
    TrackTick,
)

from mammadai_jax.music import files
from mammadai_jax.music.notes import Melody, Note, events_from_notes, notes_from_events

MAX_BYTES = 4 << 20
MAX_TRACKS = 256
MAX_NOTES = 100_000
MAX_STEPS = 65_536
TEMPI = (5.0, 2000.0)

TICKS_PER_STEP = 120
# Markers at the end of our files, which may be later than their last note. With the first one, the first
# track is the melody; with the second the melody is silent, for readers skip a track without notes.
END_MARKER = "end of melody"
SILENT_MARKER = "end of silent melody"

_MELODY_NAMES = ("melod", "lead", "vocal", "voice", "soprano", "cantus", "solo")
_BASSES = range(32, 40)
_MEASURES = {"C": "4/4", "C|": "2/2"}


class InvalidMidi(ValueError):
    """A file that is not a MIDI file, or has no usable melody; the message says which and why."""


class Line(NamedTuple):
    """One voice beside the melody: `events` (T,) as in `Melody`, and its General MIDI `program`."""

    name: str
    events: np.ndarray
    program: int = 0


def read(path: str | os.PathLike, steps_per_quarter: int = 4) -> Melody:
    """The melody of a MIDI file, quantised to `steps_per_quarter`.

    See `parse`. Raises InvalidMidi, or OSError (FileNotFoundError...) if the file cannot be read, is larger
    than 4 MiB, or is a pipe or a device.
    """
    return parse(files.read(path, MAX_BYTES + 1), str(path), steps_per_quarter)


def parse(data: bytes, name: str = "MIDI data", steps_per_quarter: int = 4) -> Melody:
    """The melody in the bytes of a MIDI file called `name`; raises only InvalidMidi.

    The melody is the track with such a name, else the first that is monophonic, not a bass, and lasts; never
    the drums. Of simultaneous notes the highest is kept. The title is the track's name or the stem of
    `name`. Tempo, meter and key are the file's first. Leading silence of half a bar or more, but less
    than a bar, is read as the beginning of an upbeat's bar.
    """
    try:
        score = _score(data)
        track, length = _melody_track(score, steps_per_quarter)
        tempo = _tempo(score)
        meter, steps_per_bar = _meter(score, steps_per_quarter)
        notes = _quantised(track, score.ticks_per_quarter, steps_per_quarter) if track else []
    except InvalidMidi as error:
        raise InvalidMidi(f"{name}: {error}") from None
    length = max(length, max((note.onset + note.duration for note in notes), default=0))
    lead = notes[0].onset if notes else 0
    tonic, mode = _key(score)
    return Melody(
        events=events_from_notes(notes, length),
        title=printable(track.name if track else "") or Path(name).stem,
        steps_per_bar=steps_per_bar,
        tonic=tonic,
        mode=mode,
        tempo=tempo,
        pickup=steps_per_bar - lead if steps_per_bar / 2 <= lead < steps_per_bar else 0,
        source=name,
        meter=meter,
    )


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
    score = ScoreTick(TICKS_PER_STEP * steps_per_quarter)
    score.tempos.append(TempoTick(0, melody.tempo))
    numerator, denominator = meter_of(melody, steps_per_quarter)
    score.time_signatures.append(TimeSignatureTick(0, numerator, denominator))
    fifths = key_fifths(melody)
    if fifths is not None and melody.mode in ("major", "minor"):
        score.key_signatures.append(KeySignatureTick(0, fifths, int(melody.mode == "minor")))
    score.tracks.append(_track(Line(melody.title, melody.events, program), velocity=96))
    for line in lines:
        score.tracks.append(_track(line, velocity=64))
    if drums:
        score.tracks.append(_drum_track(drums))
    marker = END_MARKER if len(melody.pitches) else SILENT_MARKER
    score.markers.append(TextMetaTick(len(melody) * TICKS_PER_STEP, marker))
    data = score.dumps_midi()
    if path is not None:
        files.write_atomically(path, data)
    return data


def meter_of(melody: Melody, steps_per_quarter: int = 4) -> tuple[int, int]:
    """The meter (beats, beat unit): as notated if it agrees with `steps_per_bar`, else derived from it."""
    notated = re.fullmatch(r"(\d{1,2})/(1|2|4|8|16|32)", _MEASURES.get(melody.meter, melody.meter))
    if notated:
        beats, unit = map(int, notated.groups())
        if beats and beats * 4 * steps_per_quarter == melody.steps_per_bar * unit:
            return beats, unit
    for unit in (4, 8, 16, 32):
        beats, rest = divmod(melody.steps_per_bar * unit, 4 * steps_per_quarter)
        if rest == 0 and 0 < beats < 256:
            return beats, unit
    raise ValueError(f"a bar of {melody.steps_per_bar} steps, {steps_per_quarter} a quarter, is no meter")


_FIFTHS_ABOVE_MAJOR = {
    **dict.fromkeys(("major", "ionian", ""), 0),
    **dict.fromkeys(("minor", "aeolian"), -3),
    "dorian": -2,
    "phrygian": -4,
    "lydian": 1,
    "mixolydian": -1,
    "locrian": -5,
}


def key_fifths(melody: Melody) -> int | None:
    """The key signature: sharps (flats below 0), -5..6; None if tonic or mode are unknown."""
    if melody.tonic < 0 or melody.mode not in _FIFTHS_ABOVE_MAJOR:
        return None
    fifths = melody.tonic * 7 + _FIFTHS_ABOVE_MAJOR[melody.mode]
    return (fifths + 5) % 12 - 5


def printable(text: str) -> str:
    """The text in one line, without control characters and others that XML or UTF-8 cannot encode."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _score(data: bytes) -> ScoreTick:
    """The score of the bytes, in ticks, within the limits."""
    if len(data) > MAX_BYTES:
        raise InvalidMidi(f"larger than {MAX_BYTES >> 20} MiB")
    if data[:4] != b"MThd":
        raise InvalidMidi("not a Standard MIDI file (it does not begin with MThd)")
    try:
        score = ScoreTick.from_midi(data)
    except RuntimeError as error:
        raise InvalidMidi(f"broken MIDI file: {error}") from None
    if score.ticks_per_quarter < 1:
        raise InvalidMidi("0 ticks a quarter note")
    if len(score.tracks) > MAX_TRACKS:
        raise InvalidMidi(f"{len(score.tracks)} tracks, more than {MAX_TRACKS}")
    if score.note_num() > MAX_NOTES:
        raise InvalidMidi(f"{score.note_num()} notes, more than {MAX_NOTES}")
    return score


def _melody_track(score: ScoreTick, steps_per_quarter: int) -> tuple[TrackTick | None, int]:
    """The track of the melody (None if silent), and its steps by the end marker (0 without one)."""
    tracks = [track for track in score.tracks if len(track.notes) and not track.is_drum]
    for marker in score.markers:
        if marker.text in (END_MARKER, SILENT_MARKER):
            length = round(marker.time * steps_per_quarter / score.ticks_per_quarter)
            if not 0 <= length <= MAX_STEPS:
                raise InvalidMidi(f"longer than {MAX_STEPS} steps")
            return (tracks[0] if tracks and marker.text == END_MARKER else None), length
    if not tracks:
        raise InvalidMidi("no notes (other than drums)")
    return max(tracks, key=lambda track: _melodiousness(track, score.end())), 0


def _melodiousness(track: TrackTick, end: int) -> tuple[bool, ...]:
    """Evidence that a track is the melody; larger tuples are preferred."""
    onsets = track.notes.numpy()["time"]
    return (
        any(word in track.name.lower() for word in _MELODY_NAMES),
        2 * (track.end() - track.start()) >= end,
        len(np.unique(onsets)) >= 0.9 * len(onsets),
        track.program not in _BASSES,
    )


def _quantised(track: TrackTick, ticks_per_quarter: int, steps_per_quarter: int) -> list[Note]:
    """The track's notes in steps, in order of onset, each at least one step long."""
    columns = track.notes.numpy()
    ticks = columns["time"].astype(np.int64)
    ends = ticks + columns["duration"]
    if ticks.min() < 0 or (ends < ticks).any():
        raise InvalidMidi("times beyond what can be counted")
    if columns["pitch"].min() < 0:
        raise InvalidMidi("a note outside 0..127")
    scale = steps_per_quarter / ticks_per_quarter
    onsets = np.floor(ticks * scale + 0.5).astype(np.int64)
    durations = np.maximum(np.floor(ends * scale + 0.5).astype(np.int64) - onsets, 1)
    if (onsets + durations).max() > MAX_STEPS:
        raise InvalidMidi(f"longer than {MAX_STEPS} steps ({MAX_STEPS // steps_per_quarter} quarter notes)")
    rows = zip(onsets.tolist(), durations.tolist(), columns["pitch"].tolist(), strict=True)
    return sorted(Note(*row) for row in rows)


def _tempo(score: ScoreTick) -> float:
    """Quarter notes a minute: the file's first tempo, 120 without one."""
    if not len(score.tempos):
        return 120.0
    microseconds = score.tempos[0].mspq
    if not TEMPI[0] <= 60e6 / max(microseconds, 1) <= TEMPI[1]:
        raise InvalidMidi(f"a tempo of {microseconds} microseconds a quarter note")
    # Files store whole microseconds: of the tempi that round to them take the one with the fewest digits.
    tempi = (round(60e6 / microseconds, digits) for digits in range(6))
    return next((t for t in tempi if t and round(60e6 / t) == microseconds), 60e6 / microseconds)


def _meter(score: ScoreTick, steps_per_quarter: int) -> tuple[str, int]:
    """The file's first meter as written (4/4 without one), and the steps of its bar."""
    if not len(score.time_signatures):
        return "4/4", 4 * steps_per_quarter
    first = score.time_signatures[0]
    meter = f"{first.numerator}/{first.denominator}"
    if first.numerator < 1 or first.denominator < 1:
        raise InvalidMidi(f"a meter of {meter}")
    steps, rest = divmod(first.numerator * 4 * steps_per_quarter, first.denominator)
    if rest:
        raise InvalidMidi(f"a bar of {meter} is no whole number of steps, {steps_per_quarter} a quarter")
    return meter, steps


def _key(score: ScoreTick) -> tuple[int, str]:
    """Tonic and mode of the file's first key signature; (-1, "") without a usable one."""
    if not len(score.key_signatures):
        return -1, ""
    first = score.key_signatures[0]
    if not -7 <= first.key <= 7 or first.tonality not in (0, 1):
        return -1, ""
    return (first.key * 7 + 9 * first.tonality) % 12, ("major", "minor")[first.tonality]


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


def _track(line: Line, velocity: int) -> TrackTick:
    """A line as a MIDI track."""
    if not 0 <= line.program <= 127:
        raise ValueError(f"a General MIDI program is 0..127, not {line.program}")
    track = TrackTick(printable(line.name), line.program, False)
    for onset, duration, pitch in notes_from_events(line.events):
        ticks = (onset * TICKS_PER_STEP, duration * TICKS_PER_STEP)
        track.notes.append(NoteTick(*ticks, pitch, velocity))
    return track


def _drum_track(drums: Mapping[int, Sequence[int]]) -> TrackTick:
    """One-step notes on the percussion channel, in order of time."""
    track = TrackTick("Drums", 0, True)
    strokes = {(int(step), pitch) for pitch, steps in drums.items() for step in steps}
    for step, pitch in sorted(strokes):
        track.notes.append(NoteTick(step * TICKS_PER_STEP, TICKS_PER_STEP, pitch, 80))
    return track
