import io

import mido
import numpy as np
import pytest

from mammadai_jax.music import smf
from mammadai_jax.music.smf import InvalidMidi, Meta, TickNote

END = b"\0\xff/\0"


def track(body, form=1, count=1):
    """The only track of a file with these bytes."""
    chunk = b"MTrk" + len(body).to_bytes(4, "big") + body
    header = b"MThd\0\0\0\6" + bytes([0, form, 0, count, 1, 0xE0])
    return smf.load(header + chunk).tracks[0]


def test_running_status_releases_by_velocity_0_and_channels():
    body = b"\0\x90<@\x10>@\x10<\0\0>\0\0\x93<@\x20\x83<@" + END
    assert track(body).notes == [TickNote(0, 32, 60), TickNote(16, 32, 62), TickNote(32, 64, 60, 3)]
    assert track(body).end == 64


def test_programs_hold_from_where_they_stand():
    body = b"\0\xc0\5\0\x90<@\x10\x80<@\0\xc0\x28\0\x90>@\x10\x80>@" + END
    assert [note.program for note in track(body).notes] == [5, 40]


def test_notes_of_one_pitch_are_released_in_their_order():
    assert track(b"\0\x90<@\x10<@\x10<\0\x10<\0" + END).notes == [TickNote(0, 32, 60), TickNote(16, 48, 60)]


def test_what_is_never_released_ends_with_the_track():
    assert track(b"\0\x90<@\x30\xff/\0").notes == [TickNote(0, 48, 60)]
    assert track(b"\0\x90<@\x10<@\x10<\0\x30\xff/\0").notes == [TickNote(0, 32, 60), TickNote(16, 32, 60)]
    assert track(b"\0\x90<@").notes == [TickNote(0, 0, 60)]


def test_meta_events_system_messages_and_padding():
    body = b"\0\xff\3\2ab\x05\xf0\2\1\xf7\0\x90<@\x05\xff\1\1x\5<\0" + END + b"\0\0"
    assert track(body).metas == [Meta(0, 3, b"ab"), Meta(10, 1, b"x"), Meta(15, 0x2F, b"")]
    assert track(body).notes == [TickNote(5, 15, 60)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\0<@", "without a status"),
        (b"\0\x90<", "within an event"),
        (b"\0\x90<\x80\0", "within a message"),
        (b"\0\xff\1\5ab", "within an event"),
        (b"\0\xf4\0", "message 0xf4"),
        (b"\xff\xff\xff\xff\0\x90<@", "four bytes"),
        (END + b"\0\x90<@", "after the end"),
    ],
)
def test_broken_tracks(body, message):
    with pytest.raises(InvalidMidi, match=message):
        track(body)


def test_a_missing_track_is_an_error_and_an_unknown_chunk_is_not():
    with pytest.raises(InvalidMidi, match="1 of its 2 tracks"):
        track(END, count=2)
    data = smf.dump(480, [[]])
    assert len(smf.load(data[:14] + b"XFIH\0\0\0\2ab" + data[14:]).tracks) == 1


def test_a_riff_container():
    data = smf.dump(480, [smf.note(0, 480, 60, 0, 64)])
    inside = b"LIST\4\0\0\0abcd" + b"data" + len(data).to_bytes(4, "little") + data
    file = smf.load(b"RIFF" + (len(inside) + 4).to_bytes(4, "little") + b"RMID" + inside)
    assert file.tracks[0].notes == [TickNote(0, 480, 60)]


def test_mido_reads_what_is_written():
    rng = np.random.default_rng(0)
    for _ in range(20):
        starts = np.cumsum(rng.integers(1, 500_000, 30)).tolist()
        notes = [TickNote(s, s + 1, int(rng.integers(128)), 2, 7) for s in starts]
        events = [smf.program(7, 2), smf.meta(3, smf.MARKER, b"x" * 200)]
        for note in notes:
            events += smf.note(note.start, note.end, note.pitch, 2, 64)
        data = smf.dump(96, [events, []])
        assert smf.load(data).tracks[0].notes == notes
        theirs = mido.MidiFile(file=io.BytesIO(data))
        ons = [message.note for message in theirs.tracks[0] if message.type == "note_on"]
        assert theirs.ticks_per_beat == 96 and ons == [note.pitch for note in notes]
        assert sum(message.time for message in theirs.tracks[0]) == notes[-1].end
