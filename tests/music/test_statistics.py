from pathlib import Path

import numpy as np
import pytest
from scipy.stats import gaussian_kde, norm

from mammadai_jax.music import statistics
from mammadai_jax.music.notes import HOLD, OFF, Melody, events_from_notes

GOLDEN = Path(__file__).parent.parent / "data" / "rl_tuner_golden_small.npz"
SILENT = [Melody(np.full(16, OFF)), Melody(np.zeros(0))]


def tune(*notes, length=None, **known):
    return Melody(events_from_notes(notes, length), **known)


def random_melodies(count, seed, steps=64, moves=(-4, -2, -1, 1, 2, 3)):
    rng = np.random.default_rng(seed)
    pitches = 60 + np.cumsum(rng.choice(moves, (count, steps)), axis=1) % 24
    events = np.where(rng.random((count, steps)) < 0.5, pitches, HOLD)
    return [Melody(row) for row in np.where(rng.random((count, steps)) < 0.05, OFF, events)]


# RL Tuner's table


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def test_rl_tuner_counts_are_the_released_programs(golden):
    counts = statistics.rl_tuner_statistics(golden["tokens"])
    for name, expected in zip(golden["stat_names"], golden["stats"].T, strict=True):
        np.testing.assert_allclose(counts[str(name)], expected, rtol=0, atol=1e-6, err_msg=str(name))
    counts = statistics.rl_tuner_statistics(golden["interval_tokens"])
    for name, expected in zip(golden["interval_names"], golden["interval_counts"].T, strict=True):
        np.testing.assert_array_equal(counts[str(name)], expected, err_msg=str(name))


def test_rl_tuner_table_is_shares_and_means(golden):
    tokens, stats = golden["tokens"], dict(zip(golden["stat_names"].tolist(), golden["stats"].T, strict=True))
    table = statistics.rl_tuner_table(tokens)
    assert table["num_repeated_notes"] == pytest.approx(stats["num_repeated_notes"].sum() / tokens.size)
    assert table["notes_in_motif"] == pytest.approx(stats["notes_in_motif"].sum() / tokens.size)
    assert table["num_high_unique"] == pytest.approx(stats["num_high_unique"].mean())
    assert table["autocorrelation1"] == pytest.approx(np.nanmean(stats["autocorrelation1"]))
    resolved, doubled = stats["num_resolved_leaps"].sum(), stats["num_leap_twice"].sum()
    assert table["leaps_resolved"] == pytest.approx(resolved / (resolved + doubled))


def test_uniform_tokens_score_as_known():
    # Figures of the released program for 5000 melodies.
    table = statistics.rl_tuner_table(np.random.default_rng(0).integers(0, 38, (20_000, 32)))
    known = {"notes_not_in_key": 0.397, "num_starting_tonic": 0.026, "num_high_unique": 0.637}
    known |= {"num_low_unique": 0.628, "notes_in_motif": 0.781, "leaps_resolved": 0.024}
    for name, value in known.items():
        assert table[name] == pytest.approx(value, abs=0.015), name


def test_corrected_labels_exchange_the_special_tokens_and_let_notes_last(golden):
    tokens = golden["tokens"]
    exchanged = np.select([tokens == 0, tokens == 1], [1, 0], tokens)
    released = statistics.rl_tuner_statistics(tokens)
    corrected = statistics.rl_tuner_statistics(exchanged, labels="corrected")
    for name in ("notes_in_motif", "num_rest_intervals", "num_special_rest_intervals", "num_resolved_leaps"):
        np.testing.assert_array_equal(released[name], corrected[name])
    held = np.array([[14] + [0] * 31, [0] * 32, [14] * 5 + [0] + [14] * 26, [14, 1, 1, 1] + [0] * 28])
    repeated = statistics.rl_tuner_statistics(held, labels="corrected")["num_repeated_notes"]
    # The third melody: five times a note, then interrupted, so seven are let pass of the 31.
    np.testing.assert_array_equal(repeated, [0, 0, 24, 1])
    assert (statistics.rl_tuner_statistics(held)["num_repeated_notes"][:2] == [29, 30]).all()


def test_rl_tuner_takes_another_tonic_and_key():
    tokens = np.array([[16, 2, 3, 16]])
    assert statistics.rl_tuner_statistics(tokens, tonic=16)["num_starting_tonic"] == 1
    assert statistics.rl_tuner_statistics(tokens, key={16, 3})["notes_not_in_key"] == 1


def test_a_repeated_motif_does_not_overlap_itself():
    motif = np.arange(2, 10)
    apart = np.array([20, *motif, *motif])
    overlapping = np.array([20, *motif[:7], *motif[:7], motif[0]])
    assert statistics.rl_tuner_statistics(apart[None])["notes_in_repeated_motif"] == 1
    assert statistics.rl_tuner_statistics(overlapping[None])["notes_in_repeated_motif"] == 0


@pytest.mark.parametrize("shape", [(2, 1), (2, 3), (0, 32)])
def test_rl_tuner_table_of_little_or_nothing(shape):
    table = statistics.rl_tuner_table(np.zeros(shape, int))
    assert np.isnan(table["leaps_resolved"])
    assert np.isnan(table["autocorrelation1"])


@pytest.mark.parametrize(
    "tokens", [np.zeros(32, int), np.zeros((2, 0), int), np.full((1, 4), 38), -np.ones((1, 4))]
)
def test_rl_tuner_refuses_other_tokens(tokens):
    with pytest.raises(ValueError, match="tokens"):
        statistics.rl_tuner_table(tokens)


def test_rl_tuner_refuses_other_labels():
    with pytest.raises(ValueError, match="released"):
        statistics.rl_tuner_table(np.zeros((1, 4), int), labels="right")  # pyright: ignore[reportArgumentType]


# Features


def test_features_by_hand():
    # C4 a quarter, E4 an eighth, a quarter of silence, C5 a half: 14 of 16 steps.
    melody = tune((0, 4, 60), (4, 2, 64), (8, 8, 72), steps_per_bar=8)
    measured = {name: rows[0] for name, rows in statistics.features([melody]).items()}
    assert measured["pitch_count"] == 3
    assert measured["pitch_range"] == 12
    assert measured["note_count"] == 3
    assert measured["average_interval"] == 6
    assert measured["average_inter_onset"] == 4
    assert measured["rest_rate"] == pytest.approx(2 / 16)
    assert measured["note_density"] == 1.5
    assert measured["out_of_scale_rate"] == 0
    np.testing.assert_allclose(measured["pitch_class_histogram"][[0, 4]], [12 / 14, 2 / 14])
    moves = measured["pitch_class_transitions"].reshape(12, 12)
    assert moves[0, 4] == moves[4, 0] == 0.5
    assert moves.sum() == 1
    # Of the note lengths 2 is the quarter, 3 the eighth, 1 the half.
    np.testing.assert_allclose(measured["note_length_histogram"][[2, 3, 1]], 1 / 3)
    lengths = measured["note_length_transitions"].reshape(12, 12)
    assert lengths[2, 3] == lengths[3, 1] == 0.5


def test_every_note_length_is_the_nearest_of_twelve():
    # 16ths by steps: plain, dotted and, where nothing else is as near, triplets; ties go to the first.
    kinds = {
        1: 4,
        2: 3,
        3: 7,
        4: 2,
        5: 9,
        6: 6,
        7: 1,
        8: 1,
        9: 1,
        10: 1,
        11: 5,
        12: 5,
        13: 5,
        14: 0,
        16: 0,
        32: 0,
    }
    for steps, kind in kinds.items():
        histogram = statistics.features([tune((0, steps, 60))])["note_length_histogram"][0]
        np.testing.assert_array_equal(histogram, np.eye(12)[kind], err_msg=str(steps))


def test_features_that_transposition_leaves_alone():
    melodies = random_melodies(5, 0)
    higher = [melody.transpose(7) for melody in melodies]
    ours, theirs = statistics.features(melodies), statistics.features(higher)
    for name in set(ours) - {"pitch_class_histogram", "pitch_class_transitions"}:
        np.testing.assert_allclose(ours[name], theirs[name])
    rolled = np.roll(ours["pitch_class_histogram"], 7, axis=1)
    np.testing.assert_allclose(rolled, theirs["pitch_class_histogram"])


def test_out_of_scale_takes_the_best_key_or_the_given():
    d_major = tune(*((t, 1, pitch) for t, pitch in enumerate([62, 64, 66, 67, 69, 71, 73, 74])))
    chromatic = tune(*((t, 1, 60 + t) for t in range(12)))
    np.testing.assert_allclose(statistics.out_of_scale_rate([d_major, chromatic]), [0, 5 / 12])
    c_major = [0, 2, 4, 5, 7, 9, 11]
    np.testing.assert_allclose(statistics.out_of_scale_rate([d_major, chromatic], c_major), [2 / 8, 5 / 12])
    np.testing.assert_allclose(statistics.out_of_scale_rate([d_major], [60, 62]), [6 / 8])


@pytest.mark.parametrize("tonic", range(12))
def test_every_major_key_is_known(tonic):
    scale = tune(*((t, 1, 48 + tonic + pitch) for t, pitch in enumerate([0, 2, 4, 5, 7, 9, 11])))
    assert statistics.out_of_scale_rate([scale]) == 0


def test_the_lowest_pitch_sounds():
    assert statistics.features([tune((0, 4, 0))])["note_count"] == 1


def test_each_rate_is_its_feature():
    melodies = random_melodies(5, 1) + SILENT
    measured = statistics.features(melodies)
    np.testing.assert_array_equal(statistics.rest_rate(melodies), measured["rest_rate"][:, 0])
    np.testing.assert_array_equal(statistics.note_density(melodies), measured["note_density"][:, 0])
    np.testing.assert_array_equal(statistics.distinct_pitches(melodies), measured["pitch_count"][:, 0])
    np.testing.assert_array_equal(statistics.out_of_scale_rate(melodies), measured["out_of_scale_rate"][:, 0])


def test_features_without_notes_are_zero_or_nan():
    measured = statistics.features(SILENT)
    np.testing.assert_array_equal(measured["rest_rate"][:, 0], [1, np.nan])
    np.testing.assert_array_equal(measured["note_density"][:, 0], [0, np.nan])
    for name in ("pitch_range", "average_interval", "average_inter_onset", "out_of_scale_rate"):
        assert np.isnan(measured[name]).all()
    for name in ("pitch_count", "note_count", "pitch_class_histogram", "note_length_transitions"):
        assert (measured[name] == 0).all()


# Overlap


@pytest.mark.parametrize("distance", [0.0, 0.5, 1.0, 3.0])
def test_area_and_divergence_of_two_normals(distance):
    grid = np.linspace(-12, 15, 4000)
    p, q = norm(0, 1), norm(distance, 1)
    area = statistics.overlap_area(p.pdf(grid), q.pdf(grid), grid)
    assert area == pytest.approx(2 * norm.cdf(-distance / 2), abs=1e-5)
    kl = statistics.kl_divergence(p.logpdf(grid), q.logpdf(grid), grid)
    assert kl == pytest.approx(distance**2 / 2, abs=1e-6)


def test_divergence_is_of_the_first_from_the_second():
    grid = np.linspace(-30, 30, 4000)
    narrow, wide = norm(0, 1).logpdf(grid), norm(0, 2).logpdf(grid)
    assert statistics.kl_divergence(narrow, wide, grid) == pytest.approx(np.log(2) + 1 / 8 - 1 / 2)
    assert statistics.kl_divergence(wide, narrow, grid) == pytest.approx(-np.log(2) + 4 / 2 - 1 / 2)


def test_density_is_scipys_where_scipy_has_one():
    sample = np.random.default_rng(0).gamma(2, size=50)
    grid = np.linspace(-1, 9, 100)
    bandwidth = sample.std(ddof=1) * 50**-0.2
    ours = np.exp(statistics.log_density(sample, grid, bandwidth))
    np.testing.assert_allclose(ours, gaussian_kde(sample)(grid), rtol=1e-9)


def test_samples_compare_as_their_distributions():
    rng = np.random.default_rng(1)
    sample, same, other = rng.normal(size=4000), rng.normal(size=4000), rng.normal(1, size=4000)
    alike = statistics.compare_samples(sample, same)
    assert alike.overlap_area > 0.96
    assert alike.kl < 0.01
    apart = statistics.compare_samples(sample, other)
    assert apart.overlap_area == pytest.approx(2 * norm.cdf(-0.5), abs=0.04)
    assert apart.kl == pytest.approx(0.5, abs=0.1)
    far = statistics.compare_samples(sample, sample + 100)
    assert far.overlap_area < 1e-6
    assert np.isfinite(far.kl)


def test_divergence_sees_shift_and_scale():
    sample = np.random.default_rng(2).gamma(3, size=300)
    same = statistics.compare_samples(sample, sample)
    assert same == pytest.approx((1, 0), abs=1e-3)
    assert statistics.compare_samples(sample, sample + 2).kl > 0.3
    assert statistics.compare_samples(sample, sample * 10).kl > 0.3
    # But not what it should not: the unit of both.
    other = np.random.default_rng(3).gamma(4, size=300)
    expected = statistics.compare_samples(sample, other)
    assert statistics.compare_samples(7 * sample + 3, 7 * other + 3) == pytest.approx(expected, rel=1e-6)


def test_samples_without_variance():
    constant = np.full(20, 3.0)
    assert statistics.compare_samples(constant, constant) == pytest.approx((1, 0), abs=1e-3)
    assert statistics.compare_samples(constant, constant + 1).overlap_area < 1e-6
    spread = np.random.default_rng(4).uniform(0, 6, 200)
    # A narrow peak in a wide plain.
    assert statistics.compare_samples(constant, spread).overlap_area == pytest.approx(0.06, abs=0.02)


def test_the_least_bandwidth_is_of_the_range_wherever_it_lies():
    constant, spread = np.full(20, 3.0), np.random.default_rng(4).uniform(0, 6, 200)
    expected = statistics.compare_samples(constant, spread)
    assert statistics.compare_samples(constant + 100, spread + 100) == pytest.approx(expected, rel=1e-6)
    assert statistics.compare_samples(constant[:1], spread) == pytest.approx(expected, rel=1e-6)


def test_overlap_of_sets():
    reference, same, other = (
        random_melodies(150, 5),
        random_melodies(150, 6),
        random_melodies(150, 7, moves=(-9, 8)),
    )
    assert statistics.mean_overlap(same, reference) > 0.93
    assert statistics.mean_overlap(other, reference) < statistics.mean_overlap(same, reference) - 0.05
    results = statistics.overlap(other, reference)
    assert set(results) == set(statistics.features(reference))
    assert results["average_interval"].overlap_area < 0.5
    assert results["average_inter_onset"].overlap_area > 0.9
    assert statistics.overlap(other, reference) == results  # pairs are drawn the same each time


def test_overlap_of_two_melodies_by_hand():
    # Within the reference the only distance of note counts is 2; from one note to it they are 1 and 3.
    def notes(count):
        return tune(*((t, 1, 60) for t in range(count)), length=8)

    result = statistics.overlap([notes(1)], [notes(2), notes(4)])["note_count"]
    assert result == pytest.approx(statistics.compare_samples(np.array([2.0, 2.0]), np.array([1.0, 3.0])))


def test_overlap_needs_two_melodies_to_compare_with_one():
    melodies = random_melodies(3, 8)
    for ours, theirs in [(melodies, melodies[:1]), ([], melodies), (melodies, []), (melodies, SILENT)]:
        assert np.isnan(statistics.overlap(ours, theirs)["pitch_range"].overlap_area)
    assert np.isnan(statistics.mean_overlap([], melodies))


# Novelty


def longest_by_force(melody, corpus):
    """The longest common run of moves in notes, and its sources."""

    def moves(m):
        return [(b.pitch - a.pitch, b.onset - a.onset) for a, b in zip(m.notes, m.notes[1:], strict=False)]

    def common(a, b):
        return max(
            (
                n
                for i in range(len(a))
                for j in range(len(b))
                for n in range(1, len(a) - i + 1)
                if a[i : i + n] == b[j : j + n]
            ),
            default=0,
        )

    lengths = [common(moves(melody), moves(other)) for other in corpus]
    best = max(lengths, default=0)
    return best + 1 if melody.notes else 0, {k for k, n in enumerate(lengths) if n == best > 0} or {-1}


@pytest.mark.parametrize("seed", range(3))
def test_novelty_is_what_brute_force_finds(seed):
    generated = random_melodies(6, 10 + seed, steps=24, moves=(-1, 1)) + SILENT + [tune((0, 1, 60))]
    corpus = random_melodies(7, 20 + seed, steps=24, moves=(-1, 1)) + SILENT
    result = statistics.novelty(generated, corpus)
    for index, melody in enumerate(generated):
        notes, sources = longest_by_force(melody, corpus)
        assert result.notes[index] == notes
        assert result.source[index] in sources


def test_novelty_finds_a_transposed_quotation():
    rng = np.random.default_rng(0)
    corpus = random_melodies(50, 30)
    quoted = corpus[17].transpose(3).notes[5:15]
    start = quoted[0].onset
    own = [(t, 1, int(p)) for t, p in enumerate(rng.integers(30, 100, 6))]
    copy = tune(*own, *((6 + n.onset - start, n.duration, n.pitch) for n in quoted))
    result = statistics.novelty([copy, corpus[3]], corpus)
    assert result.source.tolist() == [17, 3]
    assert result.notes[0] == 10
    assert result.share.tolist() == [10 / 16, 1.0]
    slower = tune(*((2 * onset, duration, pitch) for onset, duration, pitch in corpus[3].notes))
    assert statistics.novelty([slower], corpus[3:4]).notes[0] < 6


def test_novelty_of_nothing():
    silent = statistics.novelty(SILENT, random_melodies(2, 0))
    np.testing.assert_array_equal(silent.notes, 0)
    np.testing.assert_array_equal(silent.source, -1)
    assert np.isnan(silent.share).all()
    assert statistics.novelty(random_melodies(2, 0), []).notes.tolist() == [1, 1]
    assert statistics.novelty([], []).notes.shape == (0,)


def test_ngram_overlap_by_hand():
    scale = tune(*((t, 1, 60 + 2 * t) for t in range(5)))  # three runs of three notes, all +2 +2
    turn = tune((0, 1, 70), (1, 1, 72), (2, 1, 74), (3, 1, 70))  # +2 +2 and +2 -4
    assert statistics.ngram_overlap([turn], [scale]) == 0.5
    assert statistics.ngram_overlap([scale], [turn]) == 1
    assert statistics.ngram_overlap([turn], [scale], n=2) == pytest.approx(2 / 3)
    assert statistics.ngram_overlap([turn], [scale], n=4) == 0
    assert np.isnan(statistics.ngram_overlap([turn], [scale], n=6))
    assert statistics.self_overlap([turn, scale]) == 0.75
    assert statistics.self_overlap([scale]) == 0
    with pytest.raises(ValueError, match="at least 2"):
        statistics.ngram_overlap([turn], [scale], n=1)


def test_runs_do_not_span_two_melodies():
    halves = [tune((0, 1, 60), (1, 1, 62)), tune((0, 1, 62), (1, 1, 64))]
    whole = tune((0, 1, 60), (1, 1, 62), (2, 1, 64))
    assert statistics.ngram_overlap([whole], halves) == 0
    assert statistics.novelty([whole], halves).notes[0] == 2


def test_different_runs_are_counted_once():
    rising = tune((0, 1, 60), (1, 1, 62), (2, 1, 64), (3, 1, 66))
    turn = tune((0, 1, 60), (1, 1, 62), (2, 1, 64), (3, 1, 62))
    assert statistics.distinct_runs([rising], n=3) == 0.5
    assert statistics.distinct_runs([rising, turn], n=3) == 0.5
    assert statistics.distinct_runs([rising, turn], n=4) == 1
    assert np.isnan(statistics.distinct_runs([rising]))


def test_vendi_score_is_a_number_of_different_melodies():
    one, two = random_melodies(2, 0)
    assert statistics.vendi_score([one] * 7) == pytest.approx(1)
    assert statistics.vendi_score([one, two, one, two]) == pytest.approx(2, rel=1e-3)
    short = tune((0, 1, 60), (1, 1, 62))
    assert statistics.vendi_score([short, short, one]) == pytest.approx(3)  # runs of three notes: none
    rising = tune((0, 1, 60), (1, 1, 62), (2, 1, 64), (3, 1, 66))
    turn = tune((0, 1, 60), (1, 1, 62), (2, 1, 64), (3, 1, 62))
    cosine = 2 / (2 * np.sqrt(2))  # counts (2, 0) and (1, 1)
    shares = np.array([1 + cosine, 1 - cosine]) / 2
    assert statistics.vendi_score([rising, turn]) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    with pytest.raises(ValueError, match="no melody"):
        statistics.vendi_score([])


def test_distinct():
    one, two = random_melodies(2, 0)
    assert statistics.distinct([one, two, one, Melody(one.events.copy())]) == 0.5
    assert np.isnan(statistics.distinct([]))


# Tables


def test_table_gathers_everything():
    melodies, reference = random_melodies(20, 1), random_melodies(30, 2)
    alone, compared = statistics.table(melodies), statistics.table(melodies, reference)
    assert list(compared)[: len(alone)] == list(alone)
    assert alone["melodies"] == 20
    assert alone["rest_rate"] == pytest.approx(statistics.rest_rate(melodies).mean())
    assert compared["overlap_area"] == pytest.approx(statistics.mean_overlap(melodies, reference))
    assert compared["copied_notes"] == pytest.approx(statistics.novelty(melodies, reference).notes.mean())
    assert compared["kl/pitch_range"] == statistics.overlap(melodies, reference)["pitch_range"].kl
    assert all(isinstance(value, float) for value in compared.values())


@pytest.mark.parametrize(
    ("melodies", "reference"), [([], []), (SILENT, SILENT), (SILENT, random_melodies(3, 0)), ([], SILENT)]
)
def test_table_of_nothing(melodies, reference):
    table = statistics.table(melodies, reference)
    assert table["melodies"] == len(melodies)
    assert np.isnan(table["average_interval"])


def test_format_table_aligns_columns():
    text = statistics.format_table(
        {"noise": {"rate": 0.12345, "count": 4.0}, "a long label": {"count": 12.0, "extra": np.nan}}
    )
    assert text.splitlines() == [
        "        noise  a long label",
        "rate   0.1235             -",
        "count       4            12",
        "extra       -             -",
    ]
    assert statistics.format_table({}) == ""
