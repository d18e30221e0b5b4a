import dataclasses
import io
import logging
import os
import struct
from pathlib import Path

import mido
import numpy as np
import pytest
from symusic import Score

from experiments import midi_fuzz
from mammadai_jax.music import midi, tracks
from mammadai_jax.music.midi import InvalidMidi, Line
from mammadai_jax.music.notes import HOLD, OFF, Melody, Note
from mammadai_jax.music.piece import SATB, Piece
from tests.music.test_piece import assert_same_music

DATA = Path(__file__).parents[1] / "data" / "midi"
END = b"\0\xff/\0"
NOTE = b"\0\x90<@\x60\x80<@"


def random_melody(rng, length, **fields):
    events = rng.choice([HOLD] * 40 + [OFF] * 5 + list(range(128)), length)
    return Melody(events, **fields)


def raw(*tracks, division=480, form=1):
    chunks = b"".join(b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks)
    return b"MThd" + struct.pack(">IHHH", 6, form, len(tracks), division) + chunks


def mido_notes(track, step=midi.TICKS_PER_STEP):
    """Notes of a mido track, in steps."""
    now, sounding, notes = 0, {}, []
    for message in track:
        now += message.time
        if message.type == "note_off" or (message.type == "note_on" and not message.velocity):
            onset = sounding.pop(message.note)
            notes.append(Note(onset // step, (now - onset) // step, message.note))
        elif message.type == "note_on":
            sounding[message.note] = now
    return sorted(notes)


def symusic_notes(track, step=midi.TICKS_PER_STEP):
    return sorted(Note(n.time // step, n.duration // step, n.pitch) for n in track.notes)


def test_random_melodies_come_back(tmp_path):
    rng = np.random.default_rng(0)
    for length in range(120):
        tempo = float(rng.integers(10, 1000))
        melody = random_melody(rng, length, title="Tune", tempo=tempo, tonic=length % 12, mode="minor")
        midi.write(tmp_path / "a.mid", melody)
        again = midi.read(tmp_path / "a.mid")
        np.testing.assert_array_equal(again.events, melody.events)
        assert (again.tempo, again.tonic, again.mode, again.meter) == (tempo, length % 12, "minor", "4/4")
        assert again.title == ("Tune" if melody.notes else "a")


def test_the_melody_comes_back_from_beside_lines_and_drums():
    rng = np.random.default_rng(1)
    for length in range(1, 60):
        melody = random_melody(rng, length)
        lines = [Line("Lead vocal", random_melody(rng, length).events, 40)] * 2
        again = midi.parse(midi.write(None, melody, lines, {36: range(0, length, 4), 42: [0]}))
        np.testing.assert_array_equal(again.events, melody.events)


def test_silence_at_the_end_and_nothing_but_silence_survive():
    for events in ([60, OFF] + [HOLD] * 30, [OFF] + [HOLD] * 15, []):
        again = midi.parse(midi.write(None, Melody(events)))
        np.testing.assert_array_equal(again.events, Melody(events).events)


def test_two_independent_readers_agree_on_what_was_written():
    rng = np.random.default_rng(2)
    for length in (1, 16, 64, 200):
        melody = random_melody(rng, length, tempo=97, title="Ö")
        line = Line("Bass", random_melody(rng, length).events, 33)
        data = midi.write(None, melody, [line], {36: [0]}, program=5)
        theirs = mido.MidiFile(file=io.BytesIO(data), charset="utf-8")
        ours = Score.from_midi(data)
        assert theirs.ticks_per_beat == ours.ticks_per_quarter == 480
        expected = [melody.notes, Melody(line.events).notes, [Note(0, 1, 36)]]
        expected = [sorted(notes) for notes in expected if notes]
        assert [mido_notes(t) for t in theirs.tracks if mido_notes(t)] == expected
        assert [symusic_notes(t) for t in ours.tracks] == expected
        assert sum(m.time for m in theirs.tracks[0]) // 120 == length
        messages = [m for track in theirs.tracks for m in track]
        assert [m.tempo for m in messages if m.type == "set_tempo"] == [round(60e6 / 97)]
        assert [(m.channel, m.program) for m in messages if m.type == "program_change"][:2] == [
            (0, 5),
            (1, 33),
        ]
        assert {m.channel for m in theirs.tracks[-1] if m.type == "note_on"} == {9}


@pytest.mark.parametrize("form", [0, 1])
def test_what_mido_writes_is_read(form):
    rng = np.random.default_rng(3)
    for length in (1, 30, 100):
        melody = random_melody(rng, length)
        track, now = mido.MidiTrack([mido.MetaMessage("track_name", name="Air")]), 0
        for onset, duration, pitch in melody.notes:
            track.append(mido.Message("note_on", note=pitch, time=(onset - now) * 24))
            track.append(mido.Message("note_on", note=pitch, velocity=0, time=duration * 24))
            now = onset + duration
        file, buffer = mido.MidiFile(type=form, ticks_per_beat=96, tracks=[track]), io.BytesIO()
        file.save(file=buffer)
        again = midi.parse(buffer.getvalue())
        assert again.notes == melody.notes and again.title == "Air" and len(again) == now


def test_many_lines_keep_clear_of_the_drum_channel():
    melody = Melody([60, HOLD])
    data = midi.write(None, melody, [Line(str(n), melody.events, n) for n in range(14)], {36: [0]})
    tracks = mido.MidiFile(file=io.BytesIO(data)).tracks
    channels = [{m.channel for m in track if m.type == "note_on"} for track in tracks]
    assert sorted(min(c) for c in channels) == list(range(16)) and channels[-1] == {9}


def test_the_same_bytes_twice_and_nothing_else_in_the_folder(tmp_path):
    melody = Melody([60, HOLD, 62, OFF], title="<b>Ünï\udcffcode</b>")
    assert midi.write(tmp_path / "a.mid", melody) == midi.write(None, melody)
    assert (tmp_path / "a.mid").read_bytes() == midi.write(None, melody)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mid"]
    assert midi.read(tmp_path / "a.mid").title == "<b>Ünï code</b>"


@pytest.mark.parametrize(
    ("steps_per_bar", "written", "meter"),
    [
        (16, "C|", "2/2"),
        (16, "C", "4/4"),
        (12, "6/8", "6/8"),
        (12, "4/4", "3/4"),
        (14, "", "7/8"),
        (1, "?", "1/16"),
    ],
)
def test_meters(steps_per_bar, written, meter):
    again = midi.parse(midi.write(None, Melody([60] * 16, steps_per_bar=steps_per_bar, meter=written)))
    assert (again.steps_per_bar, again.meter) == (steps_per_bar, meter)


@pytest.mark.parametrize("mode", ["major", "minor"])
def test_keys_agree_with_mido(mode):
    for tonic in range(12):
        data = midi.write(None, Melody([60], tonic=tonic, mode=mode))
        track = mido.MidiFile(file=io.BytesIO(data)).tracks[0]
        key = next(m.key for m in track if m.type == "key_signature")
        assert key.endswith("m") == (mode == "minor")
        letter = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[key[0]]
        assert (letter + key.count("#") - key[1:].count("b")) % 12 == tonic
        assert midi.parse(data).tonic == tonic


def test_finer_grids_come_back():
    melody = Melody([60, 61, HOLD, 62, OFF, 63], steps_per_bar=24)
    again = midi.parse(midi.write(None, melody, steps_per_quarter=6), steps_per_quarter=6)
    np.testing.assert_array_equal(again.events, melody.events)
    assert again.steps_per_bar == 24


def test_an_upbeat_is_seen():
    events = [OFF] + [HOLD] * 11 + [60, HOLD, 62, HOLD] + [64] + [HOLD] * 15
    assert midi.parse(midi.write(None, Melody(events, pickup=4))).pickup == 4
    assert midi.parse(midi.write(None, Melody([60, *events]))).pickup == 0


def test_notes_are_quantised_and_the_highest_of_a_chord_stays():
    #         56 of 60 ticks late, so on step 0; a chord of 60, 67, 64; the 67 is off at 230 of 240
    track = b"\x38\x90<@\0C@\0@@\x81\x2e\x80C@\0\x80<@\0\x80@@" + END
    melody = midi.parse(raw(track), "folder/name.mid")
    assert melody.notes == [Note(0, 2, 67)]
    assert (melody.title, melody.source, melody.tempo) == ("name", "folder/name.mid", 120)


def test_the_track_named_melody_is_taken_and_drums_never():
    def track(name, pitch, channel=0, program=0):
        on = bytes((0, 0x90 + channel, pitch, 64, 96, 0x80 + channel, pitch, 64))
        return b"\0\xff\3" + bytes([len(name)]) + name + bytes((0, 0xC0 + channel, program)) + on + END

    tracks = [track(b"Drum", 40, 9), track(b"Bass", 41, 1, 33), track(b"Piano", 50), track(b"The Melody", 72)]
    assert midi.parse(raw(*tracks)).pitches.tolist() == [72]
    assert midi.parse(raw(*tracks[:3])).pitches.tolist() == [50]
    assert midi.parse(raw(*tracks[:2])).pitches.tolist() == [41]
    with pytest.raises(InvalidMidi, match="no notes"):
        midi.parse(raw(tracks[0]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "MThd"),
        (b"RIFF" + bytes(40), "MThd"),
        (raw(NOTE + END)[:25], "broken"),
        (b"MThd\xff\xff\xff\xff" + raw(NOTE + END)[8:], "broken"),
        (raw(NOTE + END, division=0), "ticks"),
        (raw(NOTE + END, division=0xE728), "SMPTE"),
        (raw(b"\0\xffQ\3\0\0\0" + NOTE + END), "tempo"),
        (raw(b"\0\xffX\4\0\2\x18\x08" + NOTE + END), "meter"),
        (raw(b"\0\xffX\4\1\5\x18\x08" + NOTE + END), "bar of 1/32"),
        (raw(b"\xff\xff\xff\x7f" + NOTE[1:] + END), "longer than"),
        (raw(b"\xff\xff\xff\x7f\x90<@" * 9 + NOTE + END), "be counted|longer than|no notes"),
        (raw(b"\0\xff\1\xff\xff\xff\x7f" + NOTE + END), "broken"),
        (raw(b"\0\x90<@\0\x80<@" * 100_001 + END), "notes"),
        (raw(*[NOTE + END] * 257), "tracks"),
        (raw(END), "no notes"),
        (bytes(midi.MAX_BYTES + 1), "larger"),
    ],
)
def test_bad_files_give_one_error_that_names_file_and_fault(tmp_path, data, message):
    path = tmp_path / "bad.mid"
    path.write_bytes(data)
    with pytest.raises(InvalidMidi, match=rf"bad\.mid: .*({message})"):
        midi.read(path)


def test_damaged_files_load_or_are_invalid():
    outcomes = [midi_fuzz.outcome(midi_fuzz.mutant(1, number)) for number in range(200)]
    assert set(outcomes) == {"loaded", "InvalidMidi"}
    assert midi_fuzz.mutant(1, 7) == midi_fuzz.mutant(1, 7) != midi_fuzz.mutant(2, 7)


def scale(first, count):
    """A scale of C up from a step, in quarters, over and over."""
    return [(first + 4 * n, 4, 60 + [0, 2, 4, 5, 7, 9, 11, 12][n % 8]) for n in range(count)]


GRACE = [(0, 4, 60), (4, 4, 64), (8, 4, 72), (12, 4, 67)]


@pytest.mark.parametrize(
    ("name", "meter", "pickup", "tempo", "notes", "length"),
    [
        ("progchange", "4/4", 0, 100, scale(0, 16), 64),
        ("latepc", "4/4", 0, 120, scale(0, 16), 64),
        ("grace_high", "4/4", 0, 120, GRACE, 16),
        ("grace_on", "4/4", 0, 120, GRACE, 16),
        ("grace_low", "4/4", 0, 120, GRACE, 16),
        ("pickup_ms", "4/4", 4, 100, [(12, 4, 67), *scale(16, 32)], 144),
        ("two_ts", "3/4", 0, 100, scale(0, 24), 96),
        ("two_tempo", "4/4", 0, 90, scale(0, 24), 96),
        ("late_ts", "3/4", 0, 100, scale(24, 24), 120),  # two bars, of which the second is full
        ("hang", "4/4", 0, 120, scale(0, 8), 32),
        ("latin1", "4/4", 0, 120, scale(0, 8), 32),
    ],
)
def test_files_as_other_programs_write_them(name, meter, pickup, tempo, notes, length):
    melody = midi.read(DATA / f"{name}.mid")
    assert [tuple(note) for note in melody.notes] == notes
    assert (melody.meter, melody.pickup, melody.tempo, len(melody)) == (meter, pickup, tempo, length)
    assert notes[pickup > 0][0] % melody.steps_per_bar == 0


def test_a_title_in_latin_1():
    assert midi.read(DATA / "latin1.mid").title == "Ré mélodie"


def test_notes_between_the_steps_are_counted_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        melody = midi.read(DATA / "triplet16.mid")
    assert len(melody.notes) == 16 and melody.left_out == {"closer together than a step": 8}
    assert "triplet16.mid: 8 notes left out: closer together than a step" in caplog.text


@pytest.mark.parametrize("name", ["no_key", "no_key_2"])
def test_a_file_without_key_signature_has_the_key_of_its_notes(name):
    melody = midi.read(DATA / f"{name}.mid")
    scale_of_c = {"major": 0, "dorian": 2, "mixolydian": 7, "minor": 9, "lydian": 5}
    assert melody.tonic == scale_of_c[melody.mode]
    assert melody.remarks == ("key estimated from the notes",)
    assert midi.parse(midi.write(None, Melody([60, 64, 67], tonic=4, mode="minor"))).remarks == ()


def with_channels(channels, form, start=0):
    """One track of quarters that begin at `start` and change the channel."""
    body = b""
    for number, channel in enumerate(channels):
        delta = struct.pack(">BB", 0x80 | (start >> 7), start & 0x7F) if not number and start else b"\0"
        pitch = 60 + number
        body += delta + bytes((0x90 | channel, pitch, 64, 0x83, 0x60, 0x80 | channel, pitch, 64))
    return raw(body + END, form=form)


@pytest.mark.parametrize("form", [0, 1])
def test_a_track_is_one_voice_whatever_its_channels(form):
    assert midi.parse(with_channels([0, 1, 0, 5], form)).pitches.tolist() == [60, 61, 62, 63]
    drums = midi.parse(with_channels([0, 9, 0], form))
    assert drums.pitches.tolist() == [60, 62] and drums.left_out == {"drums": 1}


def test_the_one_track_of_format_0_is_divided_where_channels_sound_together():
    both = b"\0\x90H@\0\x910@\x83\x60\x80H@\0\x90J@\x83\x60\x80J@\0\x810@" + END
    one = midi.parse(raw(both, form=0))
    assert one.pitches.tolist() == [72, 74] and one.left_out == {"of other voices": 1}
    assert midi.parse(raw(both)).left_out == {"below the highest of a chord": 1}


def test_tracks_of_format_2_have_their_own_signatures():
    waltz = b"\0\xffX\4\3\2\x18\x08\0\xff\3\6Melody" + NOTE + END
    assert midi.parse(raw(waltz, b"\0\xffX\4\5\2\x18\x08" + NOTE + END, form=2)).meter == "3/4"


def test_what_changes_on_the_way_is_remarked():
    tempo, meter, key = b"\xffQ\3\x08\0\0", b"\xffX\4\3\2\x18\x08", b"\xffY\2\1\0"
    begin = b"\0\xffQ\3\7\0\0\0\xffX\4\4\2\x18\x08\0\xffY\2\0\0"
    long = b"\0\x90<@\x8f\0\x80<@"
    track = begin + long + b"\0" + tempo + b"\0" + meter + b"\0" + key + NOTE + END
    assert midi.parse(raw(track)).remarks == ("the meter changes", "the tempo changes", "the key changes")
    assert midi.parse(raw(begin + begin + NOTE + END)).remarks == ()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        midi.read(tmp_path / "none.mid")


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mid")
    (tmp_path / "device.mid").symlink_to("/dev/zero")
    for name in ("pipe.mid", "device.mid"):
        with pytest.raises(OSError, match="not a regular file"):
            midi.read(tmp_path / name)


def random_fields(random, steps_per_bar):
    """Metadata that MIDI and MusicXML can hold."""
    return {
        "tempo": float(random.integers(30, 240)),
        "tonic": int(random.integers(12)),
        "mode": str(random.choice(["major", "minor"])),
        "steps_per_bar": steps_per_bar,
        "title": str(random.choice(["Air", "Für <Elise> & co.", ""])),
    }


METERS = [(16, "4/4"), (16, "2/2"), (12, "3/4"), (12, "6/8"), (8, "2/4"), (24, "3/2"), (14, "7/8")]


def random_pieces(random, count):
    """Pieces of 1 to 6 voices in all meters, some with an upbeat, with rests, long and repeated notes."""
    for number in range(count):
        bar, meter = METERS[number % len(METERS)]
        voices = 1 + number % 6
        choices = [HOLD] * random.choice([3, 20, 100]) + [OFF] * 3 + [60] * 3 + list(range(36, 84))
        events = random.choice(choices, (voices, random.integers(1, 5) * bar))
        events[:, random.integers(events.shape[1]) :][:, :1] = OFF
        events[random.integers(voices)] = random.choice([OFF, HOLD, 60])  # nothing, or one note over and over
        pickup = int(random.integers(1, bar)) if number % 3 == 0 and events.shape[1] > bar else 0
        if pickup:
            events[:, : bar - pickup] = [OFF] + [HOLD] * (bar - pickup - 1)
            events[:, bar - pickup] = np.maximum(events[:, bar - pickup], OFF)
        yield Piece(events, meter=meter, pickup=pickup, **random_fields(random, bar))


@pytest.mark.parametrize("count", [24, pytest.param(500, marks=pytest.mark.nightly)])
def test_random_pieces_come_back_and_mido_reads_the_same_notes(random, count):
    for piece in random_pieces(random, count):
        cut = dataclasses.replace(piece, voices=piece.voices[:, : len(piece) - int(random.integers(4))])
        data = midi.write(None, cut)
        again = midi.parse_piece(data, "a.mid")
        assert_same_music(again, cut)
        assert again.left_out == {}
        theirs = mido.MidiFile(file=io.BytesIO(data), charset="utf-8")
        voices = range(len(cut.voices))
        assert [mido_notes(t) for t in theirs.tracks[1:]] == [cut.melody(v).notes for v in voices]
        assert [t.name for t in theirs.tracks] == [cut.title, *cut.names]
        ons = [{m.channel for m in t if m.type == "note_on"} for t in theirs.tracks[1:]]
        assert all(channels <= {voice} for voice, channels in enumerate(ons))


def test_the_melody_of_a_piece_is_its_first_voice(random):
    piece = Piece([[60, HOLD, 62, OFF], [55, HOLD, HOLD, HOLD]], title="Duo", pickup=1)
    melody = midi.parse(midi.write(None, piece))
    np.testing.assert_array_equal(melody.events, piece.voices[0])
    assert (melody.title, melody.pickup) == ("Duo", 1)
    assert melody.left_out == {"of other voices": 1}
    one = midi.parse_piece(midi.write(None, Melody([60, HOLD, OFF], title="Solo"), drums={36: [0]}))
    np.testing.assert_array_equal(one.voices, [[60, HOLD, OFF]])
    assert (one.names, one.left_out) == (("Solo",), {"drums": 1})
    silent = midi.parse_piece(midi.write(None, Melody([OFF] * 20)))
    assert silent.voices.shape == (1, 20) and not silent.notes


def test_a_piece_in_quarters_has_its_own_grid():
    piece = Piece([[60, 62, HOLD, OFF]], steps_per_bar=4, steps_per_quarter=1, tonic=7, mode="major")
    data = midi.write(None, piece)
    assert [m.time for m in mido.MidiFile(file=io.BytesIO(data)).tracks[1] if m.type == "note_off"] == [
        midi.TICKS_PER_STEP,
        2 * midi.TICKS_PER_STEP,
    ]
    assert_same_music(midi.parse_piece(data, "", 1), piece)


def named_track(name, *notes):
    """A track with a name and notes (start, end, pitch) in ticks."""
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
    events = sorted(
        [(start, 1, pitch) for start, _, pitch in notes] + [(end, 0, pitch) for _, end, pitch in notes]
    )
    now = 0
    for tick, on, pitch in events:
        kind = "note_on" if on else "note_off"
        track.append(mido.Message(kind, note=pitch, time=tick - now))
        now = tick
    return track


def saved(*tracks):
    buffer = io.BytesIO()
    mido.MidiFile(type=1, ticks_per_beat=4, tracks=list(tracks)).save(file=buffer)
    return buffer.getvalue()


def test_voices_of_other_programs_are_ordered_by_name_or_by_pitch():
    high, low = [(0, 4, 72)], [(0, 4, 48)]
    by_name = midi.parse_piece(saved(named_track("bass", *high), named_track("Soprano I", *low)))
    assert by_name.names == ("Soprano I", "bass")
    by_pitch = midi.parse_piece(saved(named_track("", *low), named_track("Flute", *high)))
    assert by_pitch.names == ("Flute", "Voice") and by_pitch.pitches.tolist() == [72, 48]
    assert midi.parse_piece(saved(*[named_track("", *low)] * 4)).names == SATB


def test_chords_are_divided_into_voices_that_do_not_cross():
    chords = [(0, 4, 60), (0, 4, 64), (0, 4, 67), (4, 8, 55), (4, 8, 60), (4, 8, 64), (8, 12, 65)]
    piece = midi.parse_piece(saved(named_track("Piano", *chords)), "p.mid")
    assert piece.names == ("Piano 1", "Piano 2", "Piano 3") and piece.title == "p"
    assert [piece.melody(v).pitches.tolist() for v in range(3)] == [[67, 64, 65], [64, 60], [60, 55]]
    assert piece.left_out == {}


def test_more_chords_than_eight_voices_leave_their_highest_notes():
    tracks = [named_track(f"T{n}", *[(0, 4, 40 + 10 * n + k) for k in range(3)]) for n in range(3)]
    piece = midi.parse_piece(saved(*tracks))
    assert piece.pitches.tolist() == [62, 52, 42]
    assert piece.left_out == {"below the highest of a chord": 6}
    with pytest.raises(InvalidMidi, match="9 voices; a piece has at most 8"):
        midi.parse_piece(saved(*[named_track("", (0, 4, 60))] * 9))
    with pytest.raises(InvalidMidi, match="no notes"):
        midi.parse_piece(saved(named_track("")))


def test_a_false_marker_is_no_marker():
    for voices in (0, 7, 999_999):
        track = named_track("A", (0, 4, 60))
        track.append(mido.MetaMessage("marker", text=tracks.PIECE_MARKER.format(voices, 3)))
        assert midi.parse_piece(saved(track)).names == ("A",)


@pytest.mark.parametrize(
    "arguments",
    [
        {"music": Melody([60], tempo=0)},
        {"music": Melody([60], tempo=float("nan"))},
        {"music": Melody([60], steps_per_bar=0)},
        {"music": Melody([60] * (midi.MAX_STEPS + 1))},
        {"music": Melody([60]), "lines": [Line("short", np.array([60, 61]))]},
        {"music": Melody([60]), "drums": {36: [1]}},
        {"music": Melody([60]), "drums": {128: [0]}},
        {"music": Melody([60]), "program": 128},
        {"music": Melody([60]), "steps_per_quarter": 0},
        {"music": Piece([[60]], steps_per_quarter=65)},
        {"music": Piece([[60]], tempo=1)},
    ],
)
def test_what_a_file_cannot_hold_is_refused(arguments):
    with pytest.raises(ValueError):
        midi.write(None, **arguments)
