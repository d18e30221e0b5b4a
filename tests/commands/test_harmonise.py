import pytest

from mammadai_jax.commands.compose import Compose
from mammadai_jax.commands.harmonise import Harmonise
from mammadai_jax.music import midi, musicxml, reading
from mammadai_jax.music.piece import SATB

TUNE = "X:1\nT:Low\nM:3/4\nL:1/4\nQ:1/4=90\nK:G\nD,|G,A,B,|D2C|A,2F,|G,3|]\n"


@pytest.fixture(scope="module")
def written(taught, tmp_path_factory):
    """The folder of a harmonised tune."""
    folder = tmp_path_factory.mktemp("harmonised")
    (folder / "low.abc").write_text(TUNE)
    Harmonise(folder / "low.abc", taught, number=2, chords=True, out=folder).run()
    return folder


def test_a_tune_gets_voices_and_stays_as_it_is(written, taught, capsys):
    tune = reading.read(written / "low.abc")
    for number in (1, 2):
        piece = midi.read_piece(written / f"low-harmonised-0-{number}.mid")
        assert piece.names == SATB and (piece.meter, piece.pickup, piece.tonic) == ("3/4", 4, 7)
        assert (piece.voices[0] == tune.transpose(12).events).all()
        assert all(len(piece.melody(voice).notes) > 0 for voice in range(4))
        for name in (".wav", ".musicxml", ".roll.svg"):
            assert (written / f"low-harmonised-0-{number}{name}").stat().st_size


def test_the_same_request_writes_the_same_and_says_what_was_decided(written, taught, capsys):
    Harmonise(written / "low.abc", taught, number=2, chords=True, out=written).run()  # FileExistsError if not
    printed = capsys.readouterr()
    paths = [line for line in printed.out.splitlines() if line.endswith(".mid")]
    assert paths == [str(written / f"low-harmonised-0-{number}.mid") for number in (1, 2)]
    assert sum(line.startswith("| ") for line in printed.out.splitlines()) == 2
    said = "Low: G major, 3/4, 90 quarter notes a minute; moved up an octave into the highest voice's range"
    assert printed.err.count(said) == 2 and "4 voices" in printed.err


def test_the_score_has_chord_symbols_and_both_formats_agree(written):
    text = (written / "low-harmonised-0-1.musicxml").read_bytes()
    assert b"<harmony>" in text
    voices = musicxml.parse_piece(text).voices
    assert (voices == midi.read_piece(written / "low-harmonised-0-1.mid").voices[:, : voices.shape[1]]).all()


def test_what_is_composed_is_harmonised(taught, tmp_path, capsys):
    Compose(taught, stage="noise", bars=1, harmonise=True, out=tmp_path).run()
    melody, piece = (tmp_path / f"noise-0-1-bars1{end}.mid" for end in ("", "-harmonised"))
    moved = midi.read_piece(piece).melody(0).notes
    assert len(moved) == len(midi.read(melody).notes) and len({n.pitch for n in moved}) > 1
    assert "4 voices" in capsys.readouterr().err
