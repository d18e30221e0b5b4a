"""Win rates, strengths and agreement: known data, known coefficients, intervals that cover."""

import csv

import numpy as np
import pytest

from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.listening.win_rates import (
    Row,
    agreement,
    krippendorff,
    position_bias,
    strengths,
    win_rates,
    write_csv,
)

CHOICE = {1: "a", 0: "tie", -1: "b"}


def choices(a, b, signs, listeners=None, prompts=None, first=None):
    """Comparisons of two systems with these signs, by these listeners and for these prompts."""
    return [
        Comparison(
            prompt=str(prompts[k] if prompts is not None else k),
            a=(14, k % 38),
            b=(16, k % 38),
            choice=CHOICE[int(sign)],
            simulated=True,
            system_a=a,
            system_b=b,
            listener=str(listeners[k] if listeners is not None else k),
            played_first=first[k] if first is not None else "",
        )
        for k, sign in enumerate(signs)
    ]


def test_matrix_of_known_data_whichever_is_a():
    made = choices("R", "base", [1, 1, 1, 0, -1]) + choices("base", "R", [-1, 0, 1])
    (row,) = win_rates(made, [("R", "base")], resamples=200)
    assert row[:6] == ("R", "base", 4, 2, 2, 4 / 6)
    assert row.low < 0.35 and row.high > 0.9  # Wilson's interval at the least
    (turned,) = win_rates(made, [("base", "R")], resamples=200)
    assert (turned.wins, turned.ties, turned.losses) == (2, 2, 4)
    np.testing.assert_allclose([1 - turned.high, 1 - turned.low], [row.low, row.high], atol=0.05)


def test_all_pairs_are_found_and_two_bad_ones_tie():
    made = choices("b", "a", [1, 1]) + choices("c", "a", [-1]) + choices("c", "c", [1])
    bad = [
        Comparison(prompt="", a=(1,), b=(2,), choice="both_bad", simulated=True, system_a="a", system_b="b")
    ]
    rows = win_rates(made + bad, resamples=50)
    assert [row[:5] for row in rows] == [("a", "b", 0, 1, 2), ("a", "c", 1, 0, 0)]
    with pytest.raises(ValueError, match=r"'b' and 'c' were never compared; .* a and b, a and c"):
        win_rates(made, [("b", "c")])
    with pytest.raises(ValueError, match="never compared"):
        win_rates(made, [("c", "c")])


def test_few_wins_are_not_certain():
    (row,) = win_rates(choices("a", "b", [1, 1, 1]), resamples=50)
    assert row.win_rate == 1.0 and row.low < 0.5 and row.high == pytest.approx(1.0)


def test_csv_has_the_columns(tmp_path):
    path = tmp_path / "new" / "win_matrix.csv"
    write_csv(path, win_rates(choices("a", "b", [1, -1]) + choices("b", "c", [0]), resamples=50))
    assert path.read_text().splitlines()[0] == "a,b,wins,ties,losses,win_rate,low,high"
    with path.open() as file:
        first, second = csv.DictReader(file)
    assert first["win_rate"] == "0.5000" and (second["ties"], second["win_rate"], second["low"]) == (
        "1",
        "",
        "",
    )
    assert Row._fields == tuple(first)


def crossed(random, rate_deviation, listeners=15, prompts=20, per=80):
    """Choices whose log odds differ by listener and prompt around 0.8; and the true rate."""
    who, what = random.integers(listeners, size=per), random.integers(prompts, size=per)
    odds = 0.8 + rate_deviation * (random.normal(size=listeners)[who] + random.normal(size=prompts)[what])
    signs = np.where(random.uniform(size=per) < 1 / (1 + np.exp(-odds)), 1, -1)
    return choices("a", "b", signs, who, what)


@pytest.mark.parametrize("deviation", [0.0, 1.0])
def test_intervals_cover_the_true_rate(random, deviation):
    many = random.normal(size=(200_000, 2)).sum(axis=1) * deviation
    truth = (1 / (1 + np.exp(-0.8 - many))).mean()
    rows = [win_rates(crossed(random, deviation), resamples=200, seed=k)[0] for k in range(60)]
    covered = np.mean([row.low <= truth <= row.high for row in rows])
    assert covered >= 0.9
    assert np.mean([row.high - row.low for row in rows]) < 0.45


def test_interval_is_wider_when_choices_go_together(random):
    signs = np.repeat([1, 1, 1, -1], 25)
    alone = win_rates(choices("a", "b", signs), resamples=500)[0]
    together = win_rates(choices("a", "b", signs, np.arange(100) // 5), resamples=500)[0]
    assert together.high - together.low > 1.3 * (alone.high - alone.low)


def test_position_bias_is_found_with_its_interval(random):
    first = np.where(random.uniform(size=400) < 0.5, "a", "b")
    followed = random.uniform(size=400) < 0.7
    signs = np.where((first == "a") == followed, 1, -1)
    made = choices("x", "y", signs, random.integers(10, size=400), first=first.tolist())
    share, low, high = position_bias(made, resamples=200)
    assert share == pytest.approx(followed.mean()) and 0.5 < low < 0.7 < high
    assert np.isnan(position_bias(choices("x", "y", [1, -1]))).all()


def test_strengths_are_recovered(random):
    true, tie, bias = {"a": 1.0, "b": 0.2, "c": -1.2}, 0.8, 0.3
    made = []
    for a, b in (("a", "b"), ("b", "c"), ("c", "a")):
        first = np.where(random.uniform(size=3000) < 0.5, 1, -1)
        d = true[a] - true[b] + bias * first
        weights = np.stack([np.exp(d / 2), np.full(3000, tie), np.exp(-d / 2)], axis=1)
        edges = (weights / weights.sum(axis=1, keepdims=True)).cumsum(axis=1)
        signs = 1 - (random.uniform(size=(3000, 1)) > edges).sum(axis=1)
        made += choices(a, b, signs, first=np.where(first > 0, "a", "b").tolist())
    found = strengths(made)
    for name in true:
        assert found.strength[name] == pytest.approx(true[name], abs=0.08)
    assert found.tie == pytest.approx(tie, abs=0.06) and found.first == pytest.approx(bias, abs=0.08)
    assert sum(found.strength.values()) == pytest.approx(0, abs=1e-9)


def test_strengths_of_two_systems_are_the_log_odds():
    found = strengths(choices("a", "b", [1] * 300 + [-1] * 100 + [0] * 100))
    assert found.strength["a"] - found.strength["b"] == pytest.approx(np.log(3), abs=0.01)
    assert found.tie == pytest.approx(100 / np.sqrt(300 * 100), abs=0.01)
    assert np.isfinite(strengths(choices("a", "b", [1] * 5)).strength["a"])


def test_strengths_need_one_group():
    with pytest.raises(ValueError, match=r"one group, got: a, b \| c, d"):
        strengths(choices("a", "b", [1]) + choices("c", "d", [1]))
    with pytest.raises(ValueError, match="got: none"):
        strengths([])


# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units
OBSERVERS = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""


def test_krippendorffs_own_example():
    rows = [line.split() for line in OBSERVERS.strip().splitlines()]
    units = [[float(x) for x in column if x != "."] for column in zip(*rows, strict=True)]
    assert krippendorff(units, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff(units, "interval") == pytest.approx(0.849, abs=5e-4)


def test_krippendorffs_limits(random):
    assert krippendorff([[1, 1], [2, 2, 2], [3]]) == 1.0
    assert abs(krippendorff(random.integers(0, 3, (5000, 2)).tolist())) < 0.04
    assert np.isnan(krippendorff([[1, 1], [1, 1]])) and np.isnan(krippendorff([[1], [2]]))
    with pytest.raises(ValueError, match="metric should be nominal or interval"):
        krippendorff([[1, 2]], "ratio")


def test_agreement_of_known_votes():
    vote = lambda who, choice, prompt="p": Comparison(
        prompt=prompt, a=(2, 3), b=(4, 5), choice=choice, simulated=True, listener=who
    )
    made = [
        vote("x", "a"),
        vote("y", "b").swapped(),
        vote("z", "tie"),
        vote("x", "a", "q"),
        vote("y", "a", "q"),
    ]
    found = agreement([*made, vote("x", "b"), vote("z", "b", "alone")])
    # of "p" the votes a, b, tie make no equal pair of 6, of "q" both of 2 are equal
    assert (found.raw, found.pairs) == (2 / 8, 2) and found.decided == 2 / 4
    assert np.isnan(agreement([vote("x", "a")])[:3]).all()
