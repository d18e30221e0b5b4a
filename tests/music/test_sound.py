import io
import wave

import numpy as np
import pytest

from mammadai_jax.music import sound
from mammadai_jax.music.midi import Line
from mammadai_jax.music.notes import HOLD, OFF, Melody
from mammadai_jax.music.piece import Piece

SILENCE = Melody([OFF] + [HOLD] * 15)
SCALE = Melody([60, HOLD, 62, HOLD, 64, HOLD, 65, OFF, 67, HOLD, 69, HOLD, 71, 72, HOLD, OFF], tempo=100)


def strongest(audio, rate):
    """Frequency of the highest peak of the spectrum, with parabolic interpolation."""
    size = 1 << 18
    spectrum = np.log(np.abs(np.fft.rfft(audio * np.hanning(len(audio)), size)) + 1e-12)
    peak = int(spectrum.argmax())
    left, centre, right = spectrum[peak - 1 : peak + 2]
    return (peak + 0.5 * (left - right) / (left - 2 * centre + right)) * rate / size


@pytest.mark.parametrize("pitch", range(21, 109))
def test_a_piano_key_sounds_within_five_cents_of_its_pitch(pitch):
    audio = sound.render(Melody([pitch] + [HOLD] * 7))
    assert abs(1200 * np.log2(strongest(audio, sound.RATE) / sound.frequency(pitch))) < 5


def test_every_note_of_a_melody_sounds_in_its_place():
    audio = sound.render(SCALE)
    step = 60 / SCALE.tempo / 4 * sound.RATE
    for onset, duration, pitch in SCALE.notes:
        part = audio[round(onset * step) : round((onset + duration) * step)]
        assert abs(1200 * np.log2(strongest(part, sound.RATE) / sound.frequency(pitch))) < 5
    assert not audio[round(7 * step) : round(8 * step)].any()
    assert not audio[round(15 * step) :].any()


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
@pytest.mark.parametrize("tempo", [50, 123.4, 400])
def test_the_length_is_the_steps(rate, tempo):
    audio = sound.render(SCALE, rate=rate, tempo=tempo)
    assert audio.dtype == np.float32
    assert len(audio) == round(16 * 15 / tempo * rate)
    assert np.abs(audio).max() == pytest.approx(10 ** (-3 / 20), abs=1e-6)


def test_silence_stays_silence():
    audio = sound.render(SILENCE)
    assert len(audio) == 2 * sound.RATE and not audio.any()
    assert sound.render(Melody([])).shape == (0,)


def test_notes_begin_and_end_without_a_click():
    audio = sound.render(SCALE, drums={36: [0, 15], 38: [15], 42: [15]})
    assert abs(audio[-1]) < 1e-6
    audio = sound.render(SCALE)
    step = 60 / SCALE.tempo / 4 * sound.RATE
    for onset, duration, _ in SCALE.notes:
        assert abs(audio[round(onset * step)]) < 1e-3
        assert abs(audio[round((onset + duration) * step) - 1]) < 1e-3


def test_lines_and_drums_are_heard():
    line = Line("bass", np.array([36] + [HOLD] * 15))
    assert strongest(sound.render(SILENCE, lines=[line]), sound.RATE) == pytest.approx(
        sound.frequency(36), 3e-3
    )
    for drum in (36, 38, 42, 81):
        audio = sound.render(SILENCE, drums={drum: [8]})
        assert not audio[: sound.RATE].any() and audio[sound.RATE :].any()


def test_the_a_curve_has_its_tabulated_values():
    decibels = 20 * np.log10(sound.a_weighting(np.array([31.5, 63, 125, 250, 500, 1000, 2000, 4000, 8000])))
    table = [-39.4, -26.2, -16.1, -8.6, -3.2, 0, 1.2, 1.0, -1.1]  # IEC 61672
    np.testing.assert_allclose(decibels, table, atol=0.15)


def test_the_voices_of_a_piece_are_equally_loud():
    levels = []
    for pitch in (72, 67, 60, 55, 48):
        audio = np.zeros(2 * sound.RATE, np.float32)
        sound._add_line(audio, np.array([pitch] + [HOLD] * 15), sound.RATE / 8, sound.RATE, sound._ORGAN)
        weights = sound.a_weighting(np.fft.rfftfreq(len(audio), 1 / sound.RATE))
        levels.append(20 * np.log10(np.linalg.norm(np.abs(np.fft.rfft(audio)) * weights)))
    np.testing.assert_allclose(levels, levels[0], atol=0.5)


def test_a_piece_sounds_on_as_an_organ_and_a_melody_fades():
    events = np.array([69] + [HOLD] * 31)
    power = lambda audio, part: np.square(audio[part]).mean()
    begin, end = slice(0, sound.RATE), slice(2 * sound.RATE, 3 * sound.RATE)
    organ, string = sound.render(Piece(events[None])), sound.render(Melody(events))
    assert power(organ, end) > 0.9 * power(organ, begin)
    assert power(string, end) < 0.1 * power(string, begin)
    assert np.abs(organ).max() == pytest.approx(10 ** (-3 / 20), abs=1e-6)
    assert abs(1200 * np.log2(strongest(organ, sound.RATE) / 440)) < 5


def test_all_voices_sound_on_the_grid_of_the_piece():
    piece = Piece([[72, OFF], [OFF, 48]], steps_per_quarter=1, steps_per_bar=4)
    audio = sound.render(piece)
    half = len(audio) // 2
    assert len(audio) == sound.RATE
    for part, pitch in ((audio[:half], 72), (audio[half:], 48)):
        assert abs(1200 * np.log2(strongest(part, sound.RATE) / sound.frequency(pitch))) < 10


def test_the_same_bytes_twice_and_a_readable_file(tmp_path):
    audio = sound.render(SCALE, drums={38: [4, 12]})
    assert sound.wav_bytes(audio) == sound.wav_bytes(sound.render(SCALE, drums={38: [4, 12]}))
    sound.write_wav(tmp_path / "a.wav", audio)
    assert (tmp_path / "a.wav").read_bytes() == sound.wav_bytes(audio)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
    with wave.open(io.BytesIO(sound.wav_bytes(audio))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, sound.RATE)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    np.testing.assert_allclose(samples / 32767, audio, atol=1 / 32767)


def test_a_file_in_stereo_has_both_channels():
    audio = np.stack([np.linspace(-1, 1, 100), np.zeros(100)], axis=1)
    with wave.open(io.BytesIO(sound.wav_bytes(audio, 48_000))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, 48_000, 100)
        samples = np.frombuffer(file.readframes(100), "<i2").reshape(-1, 2)
    np.testing.assert_allclose(samples / 32767, audio, atol=1 / 32767)
    with pytest.raises(ValueError, match="shape"):
        sound.wav_bytes(np.zeros((100, 3)))


@pytest.mark.parametrize(
    "arguments", [{"tempo": 0}, {"tempo": float("nan")}, {"rate": 0}, {"steps_per_quarter": 0}]
)
def test_absurd_arguments_are_refused(arguments):
    with pytest.raises(ValueError):
        sound.render(SCALE, **arguments)


def test_half_an_hour_is_enough():
    with pytest.raises(ValueError, match="longer than"):
        sound.render(Melody([60] + [HOLD] * 9999, tempo=60))


def test_no_file_of_broken_audio():
    with pytest.raises(ValueError, match="finite"):
        sound.wav_bytes(np.array([0.0, np.nan]))
