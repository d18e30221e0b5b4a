import dataclasses
import io
import wave

import numpy as np
import pytest

from mammadai_jax.listening.study import Study, StudySettings
from mammadai_jax.listening.study.catches import with_shuffled_bars, with_wrong_notes
from mammadai_jax.listening.study.clips import LOUDNESS, RATE, clip_of, roll_of, tokens_of
from mammadai_jax.listening.study.making import SamplePair, add_catches, add_pairs
from mammadai_jax.music import midi, soundbank
from mammadai_jax.music.notes import MAGENTA, Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.sample import Sample
from tests.listening.study.conftest import sample
from tests.music.test_sound import strongest
from tests.music.tiny_bank import tiny_bank


def test_a_clip_is_found_by_its_music_and_says_nothing_else():
    one, two = clip_of(sample(60, 64), sheet=False), clip_of(sample(60, 64), sheet=False)
    titled = dataclasses.replace(sample(60, 64), title="by the new agent")
    named = dataclasses.replace(titled, music=dataclasses.replace(titled.music, title="by the new agent"))
    three = clip_of(named, sheet=False)
    assert one.id == two.id == three.id and one.audio == three.audio
    assert b"agent" not in three.midi and clip_of(sample(60, 65), sheet=False).id != one.id
    assert midi.parse(one.midi).events.tolist() == sample(60, 64).music.events.tolist()


def test_all_clips_are_equally_loud():
    loud = [clip_of(sample(*pitches), sheet=False).loudness for pitches in ((50,), (60, 64, 67), (80, 81))]
    np.testing.assert_allclose(loud, LOUDNESS, atol=0.05)


def test_a_sound_bank_plays_all_clips_of_a_study(tmp_path):
    """In the tiny bank program 73 sounds a twelfth higher."""
    pytest.importorskip(soundbank.LIBRARY)
    (tmp_path / "tiny.sf2").write_bytes(tiny_bank())
    one, two = (dataclasses.replace(sample(*notes), program=73) for notes in ((69,), (57, 57, 57, 69)))
    with Study.create(tmp_path / "study", StudySettings(soundbank=str(tmp_path / "tiny.sf2"))) as study:
        pair = SamplePair("", one, two, ("one", "two"))
        add_pairs(study, [pair])
        assert add_catches(study, [pair], count=1) == 2  # its bars are alike and cannot be shuffled
        rows = study.database.rows("SELECT audio, loudness FROM clips")
        sounds = {row["audio"]: study.audio(row["audio"]) for row in rows}
    clip = clip_of(one, sheet=False, bank=soundbank.open_bank(str(tmp_path / "tiny.sf2")))
    assert len(sounds) == 3 and clip.audio in sounds and b"\xc0\x49" in clip.midi  # program 73
    np.testing.assert_allclose([row["loudness"] for row in rows], LOUDNESS, atol=0.05)
    with wave.open(io.BytesIO(sounds[clip.audio])) as file:
        assert (file.getframerate(), file.getnchannels()) == (RATE, 1)
        audio = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    assert strongest(audio, RATE) == pytest.approx(3 * 440, rel=1e-3)


def test_pitches_beyond_the_alphabet_move_by_octaves():
    events = np.array([MAGENTA.lowest - 1, MAGENTA.highest + 1, 60, -2, -1], np.int16)
    moved = MAGENTA.decode(np.array(tokens_of(Melody(events)))).tolist()
    assert moved == [MAGENTA.lowest + 11, MAGENTA.highest - 11, 60, -2, -1]


def test_a_roll_has_the_notes_of_all_voices():
    voices = np.array([[72, -2, 74, -2], [48, -2, -2, -2]], np.int16)
    roll = roll_of(Piece(voices, steps_per_quarter=2, steps_per_bar=8, tempo=60.0))
    assert roll == {
        "notes": [[0, 2, 72, 0], [2, 2, 74, 0], [0, 4, 48, 1]], "steps": 4, "bar": 8, "seconds": 0.5
    }  # fmt: skip


def test_music_without_notes_or_without_end_is_refused():
    silent = Sample(Melody(np.full(16, -1, np.int16)), "silence")
    with pytest.raises(ValueError, match="silence has no notes"):
        clip_of(silent)
    with pytest.raises(ValueError, match="lasts longer than 180 seconds"):
        clip_of(sample(60, bars=100, tempo=120.0), sheet=False)


def test_wrong_notes_are_a_third_of_them(random):
    original = sample(60, 62, 64, 65)
    changed = with_wrong_notes(original, random)
    before, after = original.music.events, changed.music.events
    assert ((before >= 0) == (after >= 0)).all() and (before != after).sum() == round(0.35 * 16)
    assert set(np.abs(after - before)[before != after]) <= {1, 6}
    assert with_wrong_notes(sample(60, bars=0), random) is None


def test_shuffled_bars_are_the_same_bars_elsewhere(random):
    original = sample(*range(60, 76))
    changed = with_shuffled_bars(original, random)
    before, after = (one.music.events.reshape(4, 16).tolist() for one in (original, changed))
    assert sorted(before) == sorted(after) and not any(x == y for x, y in zip(before, after, strict=True))
    assert with_shuffled_bars(sample(60), random) is None  # all bars are alike


def test_a_note_over_the_bar_line_is_struck_again_where_its_bar_comes_first(random):
    voices = np.full((2, 64), -2, np.int16)
    voices[0, ::10], voices[1, 0] = [60, 62, 64, 65, 67, 69, 71], 48
    changed = with_shuffled_bars(Sample(Piece(voices), "two voices"), random)
    assert (changed.music.voices[1, ::16] == 48).all()
