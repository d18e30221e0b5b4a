import dataclasses

import numpy as np
import pytest

from mammadai_jax.music import midi, musicxml, sample
from mammadai_jax.music.notes import HOLD, OFF, Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.sample import SUFFIXES, Sample, save, tunes, writer
from tests.music.test_piece import assert_same_music

CHOIR = Piece(np.tile([[72], [67], [64], [48]], 16), title="Choral", tonic=0, mode="major")
SHORT = Sample(Melody([60, HOLD, OFF, HOLD]), "A")


def test_the_tunes_are_heard_over_their_accompaniments():
    samples = tunes()
    assert len(samples) == 10
    assert all(len(sample.melody.events) == 256 and sample.line is not None for sample in samples)


def test_a_sample_is_saved_in_every_form(tmp_path):
    paths = save(tunes()[0], tmp_path / "new" / "a")
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())
    assert {".mid", ".wav", ".svg", ".musicxml"} == {path.suffix for path in paths}
    assert (tmp_path / "new" / "a.mid").read_bytes()[:4] == b"MThd"
    assert (tmp_path / "new" / "a.wav").read_bytes()[:4] == b"RIFF"


def test_a_piece_is_saved_with_all_its_voices(tmp_path):
    stem = tmp_path / "choral"
    assert {path.name for path in save(Sample(CHOIR, "Choral"), stem)} >= {
        f"choral{suffix}" for suffix in SUFFIXES if suffix != ".sheet.svg"
    }
    assert_same_music(midi.read_piece(f"{stem}.mid"), CHOIR)
    assert_same_music(musicxml.read_piece(f"{stem}.musicxml"), CHOIR)
    np.testing.assert_array_equal(Sample(CHOIR, "").melody.events, CHOIR.voices[0])


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
