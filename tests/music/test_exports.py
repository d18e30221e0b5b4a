"""Other programs read from our files what we wrote: pitch, onset, duration, tempo, meter and key."""

import base64
import dataclasses
import io
import re
import warnings
from typing import NamedTuple

import mido
import numpy as np
import pytest
from symusic import Score

from mammadai_jax.music import midi
from mammadai_jax.music.abc_writing import abc
from mammadai_jax.music.heading import key_fifths, meter_of
from mammadai_jax.music.instruments import NAMES
from mammadai_jax.music.musicxml import musicxml
from mammadai_jax.music.notes import Note
from tests.music.test_musicxml import random_melodies

PROGRAM = 73
FIFTHS = [letter + sign for sign in ("b", "", "#") for letter in "FCGDAEB"]  # on the line of fifths, C is 8th


class Reading(NamedTuple):
    """What a program finds in a file; None for what it does not say."""

    notes: list[Note]
    tempo: float
    meter: tuple[int, int]
    fifths: int | None
    instrument: str | int | None = None


def by_mido(data):
    (track,) = mido.MidiFile(file=io.BytesIO(data)).tracks
    now, begun, notes, found = 0, {}, [], {}
    for message in track:
        now += message.time
        if message.type == "note_on" and message.velocity:
            begun[message.note] = now
        elif message.type in ("note_on", "note_off"):
            start = begun.pop(message.note)
            notes.append(Note(start // 120, (now - start) // 120, message.note))
        found.setdefault(message.type, message)
    meter, key = found["time_signature"], found.get("key_signature")
    is_minor = key is not None and key.key.endswith("m")
    fifths = None if key is None else FIFTHS.index(key.key.removesuffix("m")) - 8 - 3 * is_minor
    tempo = mido.tempo2bpm(found["set_tempo"].tempo)
    assert found["instrument_name"].name == NAMES[found["program_change"].program]
    return Reading(
        notes, tempo, (meter.numerator, meter.denominator), fifths, found["program_change"].program
    )


def by_symusic(data):
    score = Score.from_midi(data)
    step, meter = score.ticks_per_quarter / 4, score.time_signatures[0]
    played = [note for track in score.tracks for note in track.notes]
    notes = [Note(round(n.time / step), round(n.duration / step), n.pitch) for n in played]
    fifths = score.key_signatures[0].key if score.key_signatures else None
    program = score.tracks[0].program if score.tracks else PROGRAM  # it leaves out a track without notes
    return Reading(sorted(notes), score.tempos[0].qpm, (meter.numerator, meter.denominator), fifths, program)


def by_verovio(text):
    verovio = pytest.importorskip("verovio")
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    assert toolkit.loadData(text)
    played, mei = by_symusic(base64.b64decode(toolkit.renderToMIDI())), toolkit.getMEI()
    meter = re.search(r'<meterSig[^>]*count="(\d+)"[^>]*unit="(\d+)"', mei)
    sharps = re.search(r'<keySig[^>]*sig="(\d+)([sf]?)"', mei)
    fifths = int(sharps[1]) * (-1 if sharps[2] == "f" else 1) if sharps else 0
    label = re.search(r"<label[^>]*>([^<]*)</label>", mei)
    return played._replace(meter=(int(meter[1]), int(meter[2])), fifths=fifths, instrument=label and label[1])


def by_music21(text, form):
    music21 = pytest.importorskip("music21")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = music21.converter.parseData(text, format=form)
        if isinstance(score, music21.stream.Opus):
            score = score.scores[0]
        part = score.parts[0].stripTies(matchByPitch=False).flatten()  # it tells E from a natural E
    notes = [Note(round(4 * n.offset), round(4 * n.quarterLength), n.pitch.midi) for n in part.notes]
    (meter, *_), key = part[music21.meter.TimeSignature], part[music21.key.KeySignature].first()
    mark = part[music21.tempo.MetronomeMark].first()
    instrument = part[music21.instrument.Instrument].first()
    return Reading(
        notes,
        mark.getQuarterBPM(),
        (meter.numerator, meter.denominator),
        key.sharps,
        instrument.partName or instrument.instrumentName if instrument and form == "musicxml" else None,
    )


def expected(melody, shift=0):
    notes = [note._replace(onset=note.onset - shift) for note in melody.notes]
    return Reading(notes, melody.tempo, meter_of(melody), key_fifths(melody))


def assert_read(reading, melody, instrument=None):
    """A program reads what was written; notation begins with the upbeat, and has a key signature always."""
    is_notation = instrument != PROGRAM
    written = expected(melody, melody.fill if is_notation else 0)
    assert reading.notes == written.notes
    assert reading.tempo == pytest.approx(written.tempo, rel=1e-4)
    assert reading.meter == written.meter
    assert reading.fifths == (written.fifths or 0 if is_notation else written.fifths)
    if instrument is not None:
        assert reading.instrument == instrument


def check(melodies, slow_ones):
    """All readers on these melodies, the slow ones on the first of them."""
    for number, melody in enumerate(melodies):
        data, text = midi.write(None, melody, program=PROGRAM), musicxml(melody, program=PROGRAM)
        assert_read(by_mido(data), melody, PROGRAM)
        assert_read(by_symusic(data), melody, PROGRAM)
        if melody.notes:
            assert_read(by_verovio(text), melody, NAMES[PROGRAM])
        if number < slow_ones and melody.notes:
            assert_read(by_music21(text, "musicxml"), melody, NAMES[PROGRAM])
            if len(melody) > melody.steps_per_bar:
                assert_read(by_music21(abc(melody), "abc"), melody)


def test_four_programs_read_what_we_wrote():
    check(random_melodies(30, seed=7), slow_ones=12)


@pytest.mark.nightly
def test_four_programs_read_a_thousand_files():
    check(random_melodies(1000, seed=8), slow_ones=1000)


def test_midi_names_the_mode_and_reads_it_back():
    modes = np.array(["major", "minor", "dorian", "phrygian", "lydian", "mixolydian", "locrian"])
    for number, melody in enumerate(random_melodies(84, seed=9)):
        if melody.notes:
            named = dataclasses.replace(melody, tonic=number % 12, mode=str(modes[number % 7]))
            again = midi.parse(midi.write(None, named))
            assert (again.tonic, again.mode) == (named.tonic, named.mode)
