"""The measures of musicality, worked out by hand, and the distance to real tunes that is made of them."""

import numpy as np
import pytest

from mammadai_jax.music import corpus, keys
from mammadai_jax.music.notes import OFF, Melody, events_from_notes
from mammadai_jax.music.statistics import musicality as package
from mammadai_jax.music.statistics.musicality import BARS, MEASURES, OF_BARS, common_bars, distance, measure
from mammadai_jax.music.statistics.musicality.tune import hierarchy, prepared

TUNES = corpus.embedded().melodies
REST = None
SILENT = [Melody(np.full(16, OFF)), Melody(np.zeros(0))]


def song(*notes, **heading):
    """A melody of (duration, pitch or REST), one after another."""
    ends = np.cumsum([0, *(duration for duration, _ in notes)])
    struck = [(on, *note) for on, note in zip(ends, notes, strict=False) if note[1] is not REST]
    return Melody(events_from_notes(struck, ends[-1]), **heading)


def quarters(*pitches):
    return [(4, pitch) for pitch in pitches]


def of(melody, bars=4, line=None):
    return {name: value[0] for name, value in measure([melody], [line], bars=bars).items()}


# The second bar repeats the first, the third moves it down the scale, the last is a half note and a rest.
ODE = song(
    *quarters(64, 64, 65, 67) * 2, *quarters(62, 62, 64, 65), (8, 60), (8, REST), tonic=0, mode="major"
)
# An upbeat, and two phrases of two bars in three.
WALTZ = [(8, REST), *[*quarters(67, 72, 76, 72), (8, 67)] * 2]
IN_THREE = {"steps_per_bar": 12, "meter": "3/4", "tonic": 0, "mode": "major"}


@pytest.mark.parametrize(
    ("meter", "levels", "beat", "strong"),
    [
        ((4, 4), (16, 8, 4, 2, 1), 4, 8),
        ((2, 2), (16, 8, 4, 2, 1), 4, 8),
        ((2, 4), (8, 4, 2, 1), 4, 8),
        ((3, 4), (12, 4, 2, 1), 4, 12),
        ((6, 8), (12, 6, 2, 1), 6, 6),
        ((9, 8), (18, 6, 2, 1), 6, 18),
        ((12, 8), (24, 12, 6, 2, 1), 6, 12),
        ((3, 2), (24, 8, 4, 2, 1), 4, 24),
        ((5, 4), (20, 4, 2, 1), 4, 20),
        ((13, 16), (13, 1), 4, 13),
        ((4, 32), (2, 1), 4, 2),
    ],
)
def test_the_hierarchy_of_a_meter(meter, levels, beat, strong):
    assert hierarchy(*meter) == (levels, beat, strong)


def test_weights_count_levels():
    np.testing.assert_array_equal(hierarchy(3, 4).weights, [4, 1, 2, 1, 3, 1, 2, 1, 3, 1, 2, 1])
    np.testing.assert_array_equal(hierarchy(6, 8).weights, [4, 1, 2, 1, 2, 1, 3, 1, 2, 1, 2, 1])


BY_HAND = {
    "onsets_on_beats": 1,
    "onsets_on_weak_sixteenths": 0,
    # three bars of weights 5, 3, 4, 3 and one downbeat; the mean weight of a step is 31/16
    "meter_agreement": (50 / 13 - 31 / 16) / (5 - 31 / 16),
    "repeated_bars_equal": 1 / 4,
    "repeated_bars_sequence": 2 / 4,
    "repeated_bars_rhythm": 2 / 4,
    "repeated_phrases_equal": 0,
    "repeated_phrases_sequence": 0,
    "repeated_phrases_rhythm": 0,
    "bars_equal_1": 1 / 3,
    "bars_sequence_1": 2 / 3,
    "bars_rhythm_1": 2 / 3,
    "bars_equal_2": 0,
    "bars_sequence_2": 1 / 2,
    "bars_rhythm_2": 1 / 2,
    "bars_equal_4": np.nan,
    "bars_sequence_4": np.nan,
    "bars_rhythm_4": np.nan,
    "phrase_symmetry": 5 / 8,
    "phrase_ends": 1 / 2,
    "ends_long": 1,
    "ends_on_strong_beat": 1,
    "ends_on_tonic": 1,
    "full_close": 1,
    "cadence_approach": 0,
    "key_clarity": np.corrcoef([8, 0, 8, 0, 20, 12, 0, 8, 0, 0, 0, 0], keys._MAJOR)[0, 1],
    "notes_per_quarter": 13 / 16,
    "rhythm_entropy": 0,
    "leaps": 0,
    "repeated_notes": 3 / 12,
    "silence_at_start": 0,
    "consonance_on_beats": 12 / 14,  # D over C twice; at two of sixteen beats there is a rest
}


def test_every_measure_by_hand():
    measured = of(ODE, line=song((64, 48)).events)
    assert measured.keys() == BY_HAND.keys() == MEASURES.keys()
    for name, value in BY_HAND.items():
        np.testing.assert_allclose(measured[name], value, err_msg=name, atol=1e-12)


def test_an_upbeat_belongs_to_its_phrase_and_is_no_silence():
    with_upbeat, without = of(song(*WALTZ, **IN_THREE, pickup=4)), of(song(*WALTZ, **IN_THREE))
    assert with_upbeat["silence_at_start"] == 0 and without["silence_at_start"] == 8 / 12
    assert with_upbeat["phrase_symmetry"] == with_upbeat["phrase_ends"] == 1
    assert without["phrase_symmetry"] < 1 and without["phrase_ends"] == 0
    assert with_upbeat["bars_equal_2"] == 1 and with_upbeat["bars_equal_1"] == 0
    assert with_upbeat["repeated_bars_equal"] == 1 / 3  # the last bar is not full
    assert with_upbeat["notes_per_quarter"] == 10 / 12
    assert with_upbeat["ends_on_strong_beat"] == with_upbeat["ends_long"] == 1
    assert with_upbeat["ends_on_tonic"] == with_upbeat["full_close"] == 0
    np.testing.assert_allclose(with_upbeat["leaps"], 0)


def test_beats_and_strong_beats_are_those_of_the_meter():
    notes = [(2, 60), (4, 62), (6, 64), (12, 60)]
    compound = of(song(*notes, meter="6/8", steps_per_bar=12), bars=2)
    simple = of(song(*notes, meter="3/4", steps_per_bar=12), bars=2)
    assert (compound["onsets_on_beats"], simple["onsets_on_beats"]) == (3 / 4, 2 / 4)
    half = song((12, 60), (6, 62), (6, 60), meter="6/8", steps_per_bar=12)
    assert of(half)["ends_on_strong_beat"] == 1
    assert of(song((12, 60), (6, 62), (6, 60), meter="3/4", steps_per_bar=12))["ends_on_strong_beat"] == 0
    weak = song((1, 60), (2, 62), (1, 64), (12, 65))
    assert of(weak)["onsets_on_weak_sixteenths"] == 2 / 4 and of(weak)["onsets_on_beats"] == 2 / 4


@pytest.mark.parametrize(
    ("before", "approach"),
    [(62, 1), (58, 1), (67, 1), (55, 1), (65, 0), (64, 0), (72, 0), (53, 0)],
)
def test_a_close_by_step_or_from_the_fifth_above(before, approach):
    assert of(song((4, before), (4, 60)))["cadence_approach"] == approach
    assert of(song((4, before), (4, 60), (4, 60)))["cadence_approach"] == approach  # repeated at the end


def test_a_last_note_is_long_beside_the_others():
    assert of(song((8, 62), (8, 60)))["ends_long"] == 0
    assert of(song((2, 62), (3, 60)))["ends_long"] == 0
    assert of(song((4, 60)))["ends_long"] == 1


def test_the_final_of_a_mode_is_its_tonic():
    dorian = song(*quarters(62, 65, 64, 62), tonic=2, mode="dorian")
    assert of(dorian)["ends_on_tonic"] == 1
    assert of(song(*quarters(60, 64, 67, 60)))["ends_on_tonic"] == 1  # estimated


def test_a_sequence_keeps_rhythm_and_direction():
    first = quarters(60, 64, 62, 65)
    alike = {"up a tone": (62, 66, 64, 67), "in the scale": (62, 65, 64, 67)}
    unlike = {"other direction": (62, 65, 66, 67), "wider": (62, 68, 64, 67)}
    for name, pitches in (alike | unlike).items():
        measured = of(song(*first, *quarters(*pitches)))
        assert measured["bars_sequence_1"] == (name in alike), name
        assert measured["bars_equal_1"] == 0 and measured["bars_rhythm_1"] == 1
    assert of(song((16, 60), (16, 62)))["bars_sequence_1"] == 0  # one note is no sequence
    assert of(song((16, 60), (16, 60)))["bars_sequence_1"] == 1


def test_bars_without_notes_repeat_nothing():
    held = song((48, 60), (16, 60))
    assert of(held)["repeated_bars_equal"] == 1 / 2 and np.isnan(of(held)["bars_equal_1"])


def test_rhythm_entropy_counts_long_times_as_one():
    assert of(song((4, 60), (2, 60), (4, 60), (2, 60), (1, 60)))["rhythm_entropy"] == 1
    assert of(song((17, 60), (40, 60), (4, 60)))["rhythm_entropy"] == 0


def test_what_depends_on_the_number_of_bars():
    two, all_bars = of(TUNES[0], bars=2), of(TUNES[0], bars=BARS)
    changed = {name for name in MEASURES if two[name] != all_bars[name] and two[name] == two[name]}
    assert changed and changed <= set(OF_BARS)


def test_melodies_without_notes_have_no_measures():
    for name, values in measure([*SILENT, song((16, 60))]).items():
        assert np.isnan(values[1]), name
        assert np.isnan(values[0]) or name == "notes_per_quarter"
    assert all(len(values) == 0 for values in measure([]).values())


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="two bars or more"):
        measure([ODE], bars=1)
    with pytest.raises(ValueError, match="zip"):
        measure([ODE], [None, None])


def test_bars_that_most_melodies_have():
    assert common_bars([ODE, ODE, TUNES[0]]) == 4
    assert common_bars(TUNES) == common_bars([]) == BARS
    assert common_bars([song((4, 60))]) == 2
    assert prepared(song(*WALTZ, **IN_THREE, pickup=4)).bars.shape == (3, 12)


# The distance to real tunes


def test_the_distance_is_the_mean_over_aspects():
    composed = distance.musicality([ODE, song(*quarters(60, 71, 60, 71) * 4)], TUNES)
    assert composed.bars == 4
    real = {name: values for name, values in measure(TUNES, bars=4).items() if not np.isnan(values).all()}
    aspects = {}
    for name, values in real.items():
        off = abs(composed.means[name] - np.nanmean(values)) / max(np.nanstd(values), distance.LEAST)
        np.testing.assert_allclose(composed.deviations[name].value, off)
        aspects.setdefault(MEASURES[name].aspect, []).append(min(off, distance.FARTHEST))
    assert len(aspects) == 8
    np.testing.assert_allclose(
        composed.distance.value, np.mean([np.nanmean(each) for each in aspects.values()])
    )
    assert np.isnan(composed.deviations["consonance_on_beats"].value)


def test_real_tunes_are_not_far_from_themselves_and_noise_is(random):
    noise = [Melody(row) for row in random.integers(40, 90, (10, 128))]
    themselves, halves = distance.musicality(TUNES, TUNES), distance.of_tunes(TUNES)
    assert themselves.distance.value == pytest.approx(0) and themselves.distance.low == 0
    far = distance.musicality(noise, TUNES).distance
    assert 0 < halves.distance.value < 1.5 < far.value <= distance.FARTHEST
    assert halves.means == pytest.approx(themselves.means, nan_ok=True)
    assert far.low < far.value < far.high and not far.overlaps(halves.distance)


def test_more_melodies_have_a_narrower_interval(random):
    few = distance.musicality(TUNES[:3], TUNES).distance
    many = distance.musicality(TUNES[:3] * 20, TUNES).distance
    assert few.value == pytest.approx(many.value)
    assert many.high - many.low < (few.high - few.low) / 2


def test_nothing_has_no_distance():
    for melodies, tunes in (((), TUNES), (SILENT[1:], TUNES), (TUNES, ())):
        assert np.isnan(distance.musicality(melodies, tunes).distance.value)


def test_intervals_that_touch_overlap():
    one = distance.Estimate(1.0, 0.5, 1.5)
    assert one.overlaps(distance.Estimate(2.0, 1.5, 2.5)) and not one.overlaps(
        distance.Estimate(2.0, 1.6, 2.5)
    )


def test_the_docstring_says_that_it_is_for_evaluation():
    assert "for evaluation only" in package.__doc__ and "for evaluation only" in distance.__doc__
