import numpy as np
import pytest

from experiments.human_music import grid_of, highest, on_c, skyline
from mammadai_jax.music import smf
from mammadai_jax.music.notes import MAGENTA, Note
from mammadai_jax.music.smf import InvalidMidi, TickNote


def test_the_skyline_is_the_highest_note_unless_a_higher_one_sounds():
    notes = [
        TickNote(0, 480, 72),
        TickNote(0, 960, 48),
        TickNote(240, 480, 60),  # below one that sounds
        TickNote(480, 960, 64),
        TickNote(600, 700, 80),  # cuts the one below
    ]
    assert [(note.start, note.end, note.pitch) for note in highest(notes)] == [
        (0, 480, 72),
        (480, 600, 64),
        (600, 700, 80),
    ]


@pytest.mark.parametrize("step", [80, 120, 166])
def test_the_grid_is_found_from_onsets_that_are_not_exact(step):
    random = np.random.default_rng(0)
    places = np.cumsum(random.integers(1, 5, size=80))
    starts = places * step + random.integers(-6, 7, size=80)
    found = grid_of([TickNote(int(start), int(start) + 50, 60) for start in starts - starts.min()])
    assert abs(found - step) <= 2


def test_melodies_are_moved_to_the_scale_of_c_and_into_the_alphabet():
    major = [60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 60]
    rows = []
    for shift in (-30, 0, 5, 31):
        notes = [Note(4 * place, 4, pitch + shift) for place, pitch in enumerate(major)]
        rows.append(on_c(notes))
        sounding = MAGENTA.decode(rows[-1])
        assert set(sounding[sounding >= 0] % 12) <= {0, 2, 4, 5, 7, 9, 11}
    np.testing.assert_array_equal(rows[0], rows[1])
    wide = on_c([Note(4 * place, 4, pitch) for place, pitch in enumerate([12, 24, 60, 64, 67, 60, 108, 120])])
    pitches = MAGENTA.decode(wide)[MAGENTA.decode(wide) >= 0]
    assert len(pitches) == 8 and pitches.min() >= MAGENTA.lowest and pitches.max() <= MAGENTA.highest


def write(path, notes, ticks=480):
    events = [
        event for note in notes for event in smf.note(note.start, note.end, note.pitch, note.channel, 64)
    ]
    path.write_bytes(smf.dump(ticks, [events]))


def test_a_files_skyline_begins_with_its_first_note_and_lacks_drums(tmp_path):
    notes = [TickNote(480 * n + 960, 480 * (n + 1) + 960, p) for n, p in enumerate([60, 64, 67, 72])]
    write(tmp_path / "a.mid", [*notes, TickNote(960, 1440, 90, smf.DRUM_CHANNEL)])
    row = skyline(tmp_path / "a.mid")
    assert len(row) == 16
    assert MAGENTA.decode(row)[[0, 4, 8, 12]].tolist() == [60, 64, 67, 72]
    np.testing.assert_array_equal(skyline(tmp_path / "a.mid", fit=True)[[0]], row[[0]])


def test_files_without_notes_are_named(tmp_path):
    write(tmp_path / "drums.mid", [TickNote(0, 480, 40, smf.DRUM_CHANNEL)])
    with pytest.raises(InvalidMidi, match=r"drums\.mid: no notes"):
        skyline(tmp_path / "drums.mid")
    (tmp_path / "text.mid").write_text("no music")
    with pytest.raises(InvalidMidi, match=r"text\.mid: not a Standard MIDI file"):
        skyline(tmp_path / "text.mid")
