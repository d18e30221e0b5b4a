import dataclasses

import numpy as np
import pytest

from mammadai_jax.music import midi, musicxml, sample
from mammadai_jax.music.arrangements import arrange
from mammadai_jax.music.notes import HOLD, MAGENTA, OFF, VOICES_HOLD, Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.sample import SUFFIXES, Sample, accompanied, duets, pieces_of, save, tunes, writer
from tests.music.test_piece import assert_same_music

CHOIR = Piece(np.tile([[72], [67], [64], [48]], 16), title="Choral", tonic=0, mode="major")
SHORT = Sample(Melody([60, HOLD, OFF, HOLD]), "A")


def test_the_tunes_are_heard_over_their_accompaniments():
    samples = tunes()
    assert len(samples) == 10
    assert all(len(sample.melody.events) == 256 and sample.line is not None for sample in samples)


def test_melodies_over_progressions_have_their_chords_and_key(tmp_path):
    over = [a for a in arrange(keys=(0,), progressions=True) if a.melody.mode == "minor"]
    (cut,) = accompanied(np.full((1, 40), 40), "Tune", over)
    assert cut.title == f"Tune 1 over {over[0].backing}"
    np.testing.assert_array_equal(cut.line, over[0].line[:40])
    assert [*cut.chords] == [symbol for symbol in over[0].chords if symbol.step < 40]
    assert (cut.melody.tonic, cut.melody.mode, len(cut.melody)) == (9, "minor", 40)
    paths = {path.suffix: path for path in save(cut, tmp_path / "tune")}
    assert paths[".musicxml"].read_text().count("<harmony>") == len(cut.chords) > 1
    voices = [midi.read_piece(paths[".mid"]).melody(number).notes for number in range(2)]
    assert Melody(cut.line).notes in voices and cut.melody.notes in voices


def test_the_tunes_are_heard_over_progressions_too():
    still, changing = tunes(), tunes(progressions=True)
    assert [one.title for one in still] == [one.title for one in changing]
    assert all(one.chords for one in changing) and not any(one.chords for one in still)


def test_a_sample_is_saved_in_every_form(tmp_path):
    paths = save(tunes()[0], tmp_path / "new" / "a")
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())
    assert {".mid", ".wav", ".svg", ".musicxml", ".abc"} == {path.suffix for path in paths}
    assert (tmp_path / "new" / "a.mid").read_bytes()[:4] == b"MThd"
    assert (tmp_path / "new" / "a.wav").read_bytes()[:4] == b"RIFF"


def test_a_piece_is_saved_with_all_its_voices(tmp_path):
    stem = tmp_path / "choral"
    assert {path.name for path in save(Sample(CHOIR, "Choral"), stem)} >= {
        f"choral{suffix}" for suffix in SUFFIXES if suffix not in (".sheet.svg", ".abc")
    }
    assert_same_music(midi.read_piece(f"{stem}.mid"), CHOIR)
    assert_same_music(musicxml.read_piece(f"{stem}.musicxml"), CHOIR)
    np.testing.assert_array_equal(Sample(CHOIR, "").melody.events, CHOIR.voices[0])


def test_the_tunes_as_duets_have_the_accompaniment_as_their_bass():
    for tune, piece in zip(tunes(), duets(), strict=True):
        np.testing.assert_array_equal(piece.melody(0).events, tune.melody.events)
        assert piece.melody(3).notes == Melody(tune.line).notes
        assert (
            piece.voices.shape == (4, 256) and not piece.melody(1).notes and piece.tonic == tune.melody.tonic
        )
        assert piece.on_grid(1).tokens(VOICES_HOLD).shape == (64, 4)


def test_silence_before_a_composed_melody_is_that_of_an_upbeat(tmp_path):
    row = np.full((4, 32), MAGENTA.hold)
    row[:, 0] = MAGENTA.silence
    for number, onset in enumerate((0, 4, 12)):  # the last melody is silent
        row[number, [onset, 16]] = MAGENTA.encode(np.array([67, 72]))
    samples = sample.unaccompanied(row, "Prior")
    assert [one.melody.pickup for one in samples] == [0, 0, 4, 0]
    assert [one.melody.fill for one in samples] == [0, 0, 12, 0]
    midi.write(tmp_path / "a.mid", samples[2].melody)
    assert midi.read(tmp_path / "a.mid").pickup == 4


def test_rows_of_tokens_are_pieces_in_the_mode_of_their_thirds():
    major, minor = (CHOIR.transpose(shift).tokens(VOICES_HOLD) for shift in (0, -1))
    samples = pieces_of(np.stack([major, minor]), "Choral", VOICES_HOLD, steps_per_quarter=1)
    assert [sample.title for sample in samples] == ["Choral 1", "Choral 2"]
    assert [sample.music.mode for sample in samples] == ["major", "minor"]
    np.testing.assert_array_equal(samples[0].music.voices, CHOIR.voices)
    assert samples[0].music.steps_per_bar == 4 and samples[0].music.tempo == 80
    # its highest voice by itself is on the grid of all melodies
    assert len(samples[0].melody) == 64 and samples[0].melody.steps_per_bar == 16


def test_the_first_steps_of_all_that_is_played():
    cut = tunes()[0].first(20)
    assert len(cut.music) == len(cut.line) == 20
    assert max(step for steps in cut.drums.values() for step in steps) < 20
    assert len(Sample(CHOIR, "").first(3).music) == 3


def test_nothing_is_rendered_twice_and_nothing_else_is_replaced(tmp_path, monkeypatch):
    rendered = []
    files = sample._files
    monkeypatch.setattr(sample, "_files", lambda *given: rendered.append(given) or files(*given))
    paths = writer(SHORT, tmp_path / "a")()
    assert len(rendered) == 1 and sorted(paths) == sorted(tmp_path.iterdir())
    (tmp_path / "a.mid").unlink()
    write = writer(SHORT, tmp_path / "a")
    assert len(rendered) == 2 and not (tmp_path / "a.mid").exists()
    assert write() == paths and len(rendered) == 2 and (tmp_path / "a.mid").exists()
    (tmp_path / "a.musicxml").write_text("mine")
    with pytest.raises(FileExistsError, match=r"a\.musicxml is there and holds something else"):
        writer(dataclasses.replace(SHORT), tmp_path / "a")
    assert (tmp_path / "a.musicxml").read_text() == "mine"
