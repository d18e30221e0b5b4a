import jax
import numpy as np
import pytest

from experiments.held_out_traits import NAMES, held_out_traits
from mammadai_jax.music import captions
from mammadai_jax.music.notes import MAGENTA, events_from_notes
from mammadai_jax.music.traits import TYPICAL

measure = jax.jit(held_out_traits)


def melody(pitches, gaps, length=96):
    """Notes of these pitches, each as long as the time to the next: tokens (length,)."""
    onsets = np.concatenate([[0], np.cumsum(gaps)[:-1]])
    notes = list(zip(onsets.tolist(), gaps, pitches, strict=True))
    return MAGENTA.encode(events_from_notes(notes, length))


def values(pitches, gaps):
    return {name: float(value[0]) for name, value in measure(melody(pitches, gaps)[None]).items()}


def test_none_is_a_trait_or_a_claim():
    assert not set(NAMES) & {*TYPICAL, *captions.ATTRIBUTES}
    assert set(jax.eval_shape(held_out_traits, jax.ShapeDtypeStruct((1, 96), np.int32))) == set(NAMES)


def test_a_scale_goes_on_in_its_direction_and_is_clear_in_its_key():
    found = values([60, 62, 64, 65, 67, 69, 71, 72] * 3, [4] * 24)
    assert found["continuation"] == pytest.approx(
        18 / 20
    )  # of 7 + 7 + 6 steps that have a move after them, two before a leap down turn
    assert found["repeated_notes"] == 0
    assert found["tonal_clarity"] > 0.8
    assert found["phrase_regularity"] == 1
    assert found["high_long"] == 0 and found["rhythm_information"] == 0


def test_repeated_notes_are_counted_and_have_no_direction():
    found = values([60] * 24, [4] * 24)
    assert found["repeated_notes"] == 1
    assert found["continuation"] == found["bar_similarity"] == 0


def test_a_leap_is_recovered_by_a_turn():
    back, on = values([60, 67, 65] + [65] * 21, [4] * 24), values([60, 67, 69] + [69] * 21, [4] * 24)
    assert back["leap_recovery"] == pytest.approx(2 / 3)
    assert on["leap_recovery"] == pytest.approx(1 / 3)


def test_phrases_of_one_length_are_regular():
    regular = values([60, 62, 64, 62] * 4, [4, 4, 4, 12] * 4)
    assert regular["phrase_regularity"] == 1
    mixed = values([60, 62, 64, 62, 60, 62], [4, 4, 40, 4, 4, 40])
    assert mixed["phrase_regularity"] == 1  # two phrases of 48
    uneven = values([60, 62, 64, 62], [24, 8, 4, 60])
    lengths = np.array([24, 8, 64])
    assert uneven["phrase_regularity"] == pytest.approx(max(1 - lengths.std() / lengths.mean(), 0), abs=1e-6)


def test_alternating_lengths_tell_the_next_one_and_even_ones_nothing():
    found = values([60, 62] * 12, [2, 6] * 12)
    assert found["rhythm_information"] == pytest.approx(1, abs=0.01)


def test_the_similarity_of_bars_is_the_autocorrelation_of_the_pitch():
    pitches = np.tile([60, 64, 67, 64], 6)
    found = values(pitches.tolist(), [4] * 24)
    series = np.repeat(pitches, 4) - pitches.mean()
    expected = max((series[lag:] * series[:-lag]).mean() / (series**2).mean() for lag in (12, 16))
    assert found["bar_similarity"] == pytest.approx(expected, abs=1e-5)


def test_high_notes_that_are_long_correlate():
    assert values([60, 72] * 6, [4, 12] * 6)["high_long"] == pytest.approx(1, abs=1e-5)
    assert values([72, 60] * 6, [4, 12] * 6)["high_long"] == pytest.approx(-1, abs=1e-5)


def test_any_tokens_give_finite_values_alone_and_in_batches():
    random = np.random.default_rng(0)
    noise = random.integers(0, MAGENTA.size, (6, 96)).astype(np.int32)
    silence = np.full((1, 96), MAGENTA.silence, np.int32)
    tokens = np.concatenate([noise, silence, np.zeros((1, 96), np.int32)])
    found = measure(tokens)
    each = jax.jit(jax.vmap(held_out_traits))(tokens)
    for name in NAMES:
        assert np.isfinite(found[name]).all()
        np.testing.assert_allclose(found[name], each[name], atol=1e-5)
