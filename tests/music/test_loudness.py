import numpy as np
import pytest

from mammadai_jax.music.loudness import PEAK, at_loudness, loudness


def sine(hertz, rate, seconds=2.0, amplitude=1.0):
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_a_sine_of_997_hertz_is_3_lu_below_full_scale(rate):
    """The calibration of BS.1770."""
    assert loudness(sine(997, rate), rate) == pytest.approx(-3.01, abs=0.05)


def test_low_tones_count_less_and_silence_does_not_count():
    rate = 48_000
    assert loudness(sine(40, rate), rate) < loudness(sine(997, rate), rate) - 3
    tone = sine(997, rate)
    rested = np.concatenate([tone, np.zeros(5 * rate)])
    assert loudness(rested, rate) == pytest.approx(loudness(tone, rate), abs=0.5)
    assert loudness(np.zeros(rate), rate) == -np.inf and loudness(np.zeros(0), rate) == -np.inf


def test_two_equal_channels_are_3_lu_louder_than_one():
    tone = sine(997, 48_000, amplitude=0.1)
    both, one = (np.stack([tone, other], axis=1) for other in (tone, 0 * tone))
    assert loudness(both, 48_000) == pytest.approx(loudness(tone, 48_000) + 3.01, abs=0.01)
    assert loudness(one, 48_000) == pytest.approx(loudness(tone, 48_000))
    assert loudness(at_loudness(both, 48_000, -20.0), 48_000) == pytest.approx(-20.0)


def test_audio_is_brought_to_a_loudness_without_clipping():
    rate = 22_050
    for amplitude in (0.01, 0.5):
        assert loudness(at_loudness(sine(997, rate, 1, amplitude), rate, -20.0), rate) == pytest.approx(-20.0)
    assert np.abs(at_loudness(sine(997, rate), rate, 0.0)).max() == pytest.approx(PEAK)
    assert not at_loudness(np.zeros(100), rate, -20.0).any()
    with pytest.raises(ValueError, match=r"\(samples, 2\)"):
        loudness(np.zeros((2, 3)), rate)
