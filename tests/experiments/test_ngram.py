import numpy as np
import pytest

from experiments import ngram

A, B = 0, 1


def rows(*texts):
    return [np.array(text) for text in texts]


def distribution(model, context):
    """p(w | context) for every token w."""
    continued = [np.append(context, token).astype(int) for token in range(model.size)]
    return np.array([ngram.probabilities(model, [row])[-1] for row in continued])


@pytest.fixture(scope="module")
def melodies():
    rng = np.random.default_rng(0)
    return [np.cumsum(rng.choice([0, 1, 1, 5], size=rng.integers(1, 40))) % 7 for _ in range(60)]


@pytest.mark.parametrize("smoothing", ngram.SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 5, 8])
def test_every_distribution_sums_to_one(melodies, smoothing, order):
    model = ngram.fit(melodies, order, 9, smoothing)
    rng = np.random.default_rng(1)
    for context in [
        [],
        [8],
        [8, 8, 8, 8],
        *(rng.integers(0, 9, rng.integers(1, 10)) for _ in range(20)),
        *melodies[:9],
    ]:
        given = distribution(model, np.asarray(context, int))
        assert (given > 0).all()
        assert given.sum() == pytest.approx(1, abs=1e-12)


def test_witten_bell_by_hand():
    # a a b: counts a 2, b 1, two kinds; a is followed by a and by b, the start by a.
    sequence = rows([A, A, B])
    one = ngram.fit(sequence, 1, 3, "witten_bell")
    unigram = np.array([(2 + 2 / 3) / 5, (1 + 2 / 3) / 5, (2 / 3) / 5])
    np.testing.assert_allclose(distribution(one, []), unigram)
    two = ngram.fit(sequence, 2, 3, "witten_bell")
    np.testing.assert_allclose(distribution(two, [A]), (np.array([1, 1, 0]) + 2 * unigram) / 4)
    np.testing.assert_allclose(distribution(two, []), (np.array([1, 0, 0]) + unigram) / 2)
    np.testing.assert_allclose(distribution(two, [B]), unigram)  # b was never followed
    expected = -np.log2([(1 + unigram[A]) / 2, (1 + 2 * unigram[A]) / 4, (1 + 2 * unigram[B]) / 4]).mean()
    assert ngram.bits(two, sequence) == pytest.approx(expected)


def test_kneser_ney_by_hand():
    # Bigrams: (start, a) twice, (a, b) three times, (b, a) once: n1 = n2 = n3 = 1, so Ney's D is 1/3, and
    # Chen & Goodman's three would be 1 - 2/3, 2 - 1, 3 - 0. Before a come start and b, before b only a:
    # continuation counts a 2, b 1, D again 1/3, but with no count of three there is only the single discount.
    model = ngram.fit(rows([A, B, A, B], [A, B]), 2, 3, "kneser_ney")
    unigram = np.array([2 - 1 / 3, 1 - 1 / 3, 0]) / 3 + (2 / 3) / 3 / 3
    np.testing.assert_allclose(
        distribution(model, []), [(2 - 1) / 2 + unigram[0] / 2, unigram[1] / 2, unigram[2] / 2]
    )
    np.testing.assert_allclose(distribution(model, [A]), unigram)  # D(3) = 3 leaves all to the lower order
    np.testing.assert_allclose(distribution(model, [B]), np.array([2 / 3, 0, 0]) + unigram / 3)


def test_continuations_not_counts_rank_what_follows_the_unknown():
    # Token 1 is frequent but only ever after 0; token 2 is rarer and comes after many.
    train = rows(*[[0, 1]] * 20, *([k, 2] for k in range(3, 9)))
    kneser_ney = distribution(ngram.fit(train, 2, 10, "kneser_ney"), [9])
    witten_bell = distribution(ngram.fit(train, 2, 10, "witten_bell"), [9])
    assert kneser_ney[2] > kneser_ney[1]
    assert witten_bell[2] < witten_bell[1]


def test_contexts_at_the_start_keep_their_counts():
    # Nine of ten melodies open with 0. As no count is 2, every discount is 1/2; every token follows two.
    train = rows(*[[0, 1, 2]] * 9, [1, 0, 2])
    unigram = (2 - 1 / 2) / 6 + (3 / 2) / 6 / 3
    bigram = (9 - 1 / 2) / 10 + (1 / 10) * unigram
    trigram = (9 - 1 / 2) / 10 + (1 / 10) * bigram
    assert distribution(ngram.fit(train, 3, 3, "kneser_ney"), [])[0] == pytest.approx(trigram)


def test_distributions_are_the_probabilities_of_every_token(melodies):
    model, melody = ngram.fit(melodies, 4, 9), melodies[0][:4]
    windows = np.array([int("".join(map(str, [*melody[-3:], 0])), 10)])  # in base 10, the size and one more
    *_, found = ngram.distributions(model, windows)
    np.testing.assert_allclose(found[0], distribution(model, melody[-3:]), rtol=1e-6)


@pytest.mark.parametrize("smoothing", ngram.SMOOTHINGS)
def test_uniform_noise_costs_about_log_size_and_a_cycle_nothing(smoothing):
    rng = np.random.default_rng(2)
    noise, fresh = rng.integers(0, 8, (400, 50)), rng.integers(0, 8, (400, 50))
    cost = ngram.bits(ngram.fit(list(noise), 2, 8, smoothing), list(fresh))
    assert 3.0 < cost < 3.01
    cycle = [np.arange(start, start + 60) % 5 for start in range(5)] * 4
    assert ngram.bits(ngram.fit(cycle, 3, 8, smoothing), cycle) < 0.1


def test_a_first_order_model_approaches_the_entropy():
    rng = np.random.default_rng(3)
    p = np.array([0.5, 0.25, 0.125, 0.125])
    train, test = (list(rng.choice(4, size=(200, 100), p=p)) for _ in range(2))
    for smoothing in ngram.SMOOTHINGS:
        assert ngram.bits(ngram.fit(train, 1, 4, smoothing), test) == pytest.approx(1.75, abs=0.02)


@pytest.mark.parametrize(
    ("sequences", "order", "size", "smoothing"),
    [
        (rows([0, 3]), 2, 3, "witten_bell"),
        (rows([0, -1]), 2, 3, "witten_bell"),
        (rows([]), 2, 3, "witten_bell"),
        ([], 2, 3, "kneser_ney"),
        (rows([0, 1]), 0, 3, "kneser_ney"),
        (rows([0, 1]), 13, 38, "kneser_ney"),
        (rows([0, 1]), 2, 3, "laplace"),
    ],
)
def test_misuse_is_named(sequences, order, size, smoothing):
    with pytest.raises(ValueError, match=r"tokens|order|smoothing"):
        ngram.fit(sequences, order, size, smoothing)
