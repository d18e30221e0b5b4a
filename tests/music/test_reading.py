import numpy as np
import pytest

from mammadai_jax.music import midi, musicxml, reading
from mammadai_jax.music.tunes import TUNES

ABC = "X:1\nT:One\nM:4/4\nL:1/4\nK:G\nG A B c|d4|]\n\nX:2\nT:Two\nM:3/4\nL:1/4\nK:C\nC E G|c3|]\n"


def test_all_formats_give_the_melody(tmp_path):
    tune = TUNES[0]
    midi.write(tmp_path / "a.MID", tune)
    (tmp_path / "a.musicxml").write_text(musicxml.musicxml(tune), encoding="utf-8")
    for name in ("a.MID", "a.musicxml"):
        read = reading.read(tmp_path / name)
        np.testing.assert_array_equal(read.events, tune.events)
        assert read.title == tune.title


def test_a_tune_of_several_by_its_number(tmp_path):
    path = tmp_path / "tunes.abc"
    path.write_text(ABC)
    assert [reading.read(path).title, reading.read(path, 2).title] == ["One", "Two"]
    for number in (0, 3):
        with pytest.raises(ValueError, match=rf"tunes\.abc has 2 tunes in ABC, no tune {number}"):
            reading.read(path, number)


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.abc").write_text("X:1\nT:No key\nabc\n")
    midi.write(tmp_path / "a.mid", TUNES[0])
    with pytest.raises(ValueError, match=r"a\.abc: tune 1: no K: field"):
        reading.read(tmp_path / "a.abc")
    with pytest.raises(ValueError, match=r"a\.mid has 1 tune, no tune 2"):
        reading.read(tmp_path / "a.mid", 2)
    with pytest.raises(ValueError, match=r"a\.pdf is no file of music that is read: \.mid"):
        reading.read(tmp_path / "a.pdf")
