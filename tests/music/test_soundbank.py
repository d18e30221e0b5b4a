import dataclasses

import numpy as np
import pytest

from mammadai_jax.music import sample, soundbank
from mammadai_jax.music.loudness import loudness
from mammadai_jax.music.midi import Line
from mammadai_jax.music.notes import HOLD, OFF, Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.sample import Sample, save
from mammadai_jax.music.soundbank import BankError, open_bank, render
from tests.music.test_sound import strongest
from tests.music.tiny_bank import tiny_bank

pytest.importorskip(soundbank.LIBRARY)
A4 = Melody([69] + [HOLD] * 15, tempo=120)
SILENCE = Melody([OFF] + [HOLD] * 15, tempo=120)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    path = tmp_path_factory.mktemp("bank") / "tiny.sf2"
    path.write_bytes(tiny_bank())
    return open_bank(str(path))


def heard(bank, *given, **named):
    audio, rate = render(bank, *given, **named)
    return strongest(audio.mean(axis=1), rate)


def test_a_note_has_its_frequency_in_every_octave(bank):
    for pitch, hertz in ((57, 220), (69, 440), (81, 880)):
        assert heard(bank, Melody([pitch] + [HOLD] * 15)) == pytest.approx(hertz, rel=1e-3)


def test_the_program_chooses_the_instrument(bank):
    assert heard(bank, A4, program=73) == pytest.approx(3 * 440, rel=1e-3)
    assert heard(bank, A4, program=0) == pytest.approx(440, rel=1e-3)


@pytest.mark.parametrize("tempo", [60, 120, 200])
def test_it_lasts_as_long_as_the_music_and_its_last_notes_fade(bank, tempo):
    audio, rate = render(bank, dataclasses.replace(A4, tempo=tempo))
    assert audio.dtype == np.float32 and audio.shape[1:] == (2,)
    assert len(audio) / rate == pytest.approx(16 * 15 / tempo + soundbank.TAIL, abs=0.01)
    assert np.abs(audio[-10:]).max() < 1e-3


def test_it_is_as_loud_as_all_music_and_silence_stays_silence(bank):
    for music in (A4, Piece(np.tile([[72], [67], [64], [48]], 16), tempo=120)):
        audio, rate = render(bank, music)
        assert loudness(audio, rate) == pytest.approx(soundbank.LOUDNESS, abs=0.1)
    assert not render(bank, SILENCE)[0].any()


def test_drums_and_lines_are_heard_where_they_are(bank):
    audio, rate = render(bank, SILENCE, drums={36: [8]})
    assert not audio[: rate - 1000].any() and audio[rate : rate + 5000].any()
    line = Line("bass", np.array([OFF] * 8 + [57] + [HOLD] * 7))
    audio, rate = render(bank, SILENCE, [line])
    assert not audio[: rate - 1000].any()
    assert strongest(audio.mean(axis=1), rate) == pytest.approx(220, rel=1e-3)


def test_the_same_music_gives_the_same_samples(bank):
    np.testing.assert_array_equal(render(bank, A4)[0], render(bank, A4)[0])


def test_half_an_hour_is_enough(bank):
    with pytest.raises(ValueError, match="last longer than"):
        render(bank, Melody([60] + [HOLD] * 9999, tempo=60))


def test_a_sample_is_saved_with_its_sound_and_all_else_stays(bank, tmp_path):
    one = Sample(A4, "A", program=73)
    played, plain = save(one, tmp_path / "a", bank), save(one, tmp_path / "b")
    differing = [a.suffix for a, b in zip(played, plain, strict=True) if a.read_bytes() != b.read_bytes()]
    assert differing == [".wav"]
    assert sample.writer(one, tmp_path / "a", bank)() == played


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", r"is not a sound bank \(SF2\)"),
        (b"MThd" + bytes(100), r"is not a sound bank \(SF2\)"),
        (tiny_bank(version=3), "of an SF3, whose samples are compressed, take the SF2"),
        (tiny_bank()[:100], "cannot be played, it may be damaged: "),
        (tiny_bank()[:-60], "cannot be played, it may be damaged: "),
    ],
)
def test_what_is_no_bank_is_refused(tmp_path, data, said):
    path = tmp_path / "odd.sf2"
    path.write_bytes(data)
    with pytest.raises(BankError, match=said):
        open_bank(str(path))
    with pytest.raises(FileNotFoundError):
        open_bank(str(tmp_path / "none.sf2"))


def test_damaged_banks_are_refused_or_played(bank, random):
    """Whatever 100 changed bytes at random places do to it, it is no other error."""
    for _ in range(30):
        data = bytearray(bank.data)
        for place in random.integers(12, len(data), 100):
            data[place] = random.integers(256)
        try:
            audio, _ = render(bank._replace(data=bytes(data)), A4)
        except BankError:
            continue
        assert np.isfinite(audio).all()


def test_the_systems_default_comes_first(bank, tmp_path, monkeypatch):
    monkeypatch.setattr(soundbank, "FOLDERS", (str(tmp_path / "none"), str(tmp_path)))
    with pytest.raises(BankError, match=f"no sound bank is in {tmp_path}/none, {tmp_path}: install one"):
        open_bank("auto")
    for name in ("a.sf2", "b.sf2", "c.sf3"):
        (tmp_path / name).write_bytes(bank.data)
    assert open_bank("auto").path == tmp_path / "a.sf2"
    (tmp_path / "default-GM.sf2").symlink_to("b.sf2")
    assert [path.name for path in soundbank.banks()] == ["b.sf2", "a.sf2"]


def test_without_the_library_the_extra_is_named(bank, monkeypatch):
    monkeypatch.setattr(soundbank, "LIBRARY", "a_library_that_is_not_there")
    with pytest.raises(BankError, match=r"pip install 'mammadai-jax\[sound\]'"):
        open_bank(str(bank.path))
