import dataclasses

import numpy as np
import pytest

from mammadai_jax.listening.study import Answer, Refused, checked_answer, checked_heard
from mammadai_jax.listening.study.making import SamplePair, add_catches
from mammadai_jax.listening.study.results import catches_passed, repeats, results_of
from mammadai_jax.listening.study.selection import (
    decision_gain,
    information_gain,
    propensities,
    select,
    systematic,
)
from tests.listening.study.conftest import QUICK, filled, sample


def test_catch_pairs_come_once_in_every_block_and_are_told_apart(tmp_path, clips):
    with filled(tmp_path / "study", clips, dataclasses.replace(QUICK, catch_every=2)) as study:
        pair = SamplePair("", sample(*range(60, 76)), sample(60), ("new", "old"))
        assert add_catches(study, [pair], count=1) == 3
        for _ in range(4):
            rater = study.invite(quota=6)
            while trial := study.next_trial(rater):
                study.answer(rater, Answer(trial.nonce, "tie"))
        everything = study.comparisons(catches=True)
        kinds = {one.extra.get("kind", "") for one in everything}
        assert {"", "identical", "wrong_notes", "shuffled_bars"} <= kinds
        assert not any("kind" in one.extra for one in study.comparisons())
        for one in everything:
            if one.extra.get("kind") == "identical":
                assert one.a == one.b and one.extra["expected"] == "tie"
            if one.extra.get("kind") in ("wrong_notes", "shuffled_bars"):
                assert one.a != one.b and one.extra["expected"] == "a"
        passed, asked = catches_passed(everything)
        assert passed == sum(one.extra.get("kind") == "identical" for one in everything) and asked > passed
        rows = results_of(study)
        assert rows["answers"] == len(study.comparisons()) and len(rows["raters"]) == 4


def test_a_repeated_pair_comes_with_its_sides_swapped(tmp_path, clips):
    with filled(tmp_path / "study", clips, dataclasses.replace(QUICK, catch_every=2)) as study:
        repeated = []
        for _ in range(4):
            rater = study.invite(quota=12)
            while trial := study.next_trial(rater):
                study.answer(rater, Answer(trial.nonce, "a"))
            own = [one for one in study.comparisons(catches=True) if one.listener == f"rater-{rater.id}"]
            again = [one for one in own if one.extra.get("kind") == "repeat"]
            repeated += again
            for one in again:
                first = next(x for x in own if x.extra["pair"] == one.extra["pair"] and "kind" not in x.extra)
                assert {one.shown_left, first.shown_left} == {"a", "b"}
            assert repeats(own) == (0, len(again))  # always A on the page: the other piece when swapped
        assert repeated


def test_propensities_mix_gains_with_chance():
    np.testing.assert_allclose(propensities([1, 1, 1, 1], 0.5), [0.25] * 4)
    np.testing.assert_allclose(propensities([3, 1, 0, 0], 0.2), [0.65, 0.25, 0.05, 0.05])
    np.testing.assert_allclose(propensities([0, 0], 0.2), [0.5, 0.5])
    for wrong in ([], [-1, 2], [np.nan], [[1]]):
        with pytest.raises(ValueError, match="gains should be"):
            propensities(wrong, 0.5)


def test_selection_has_its_propensities(random):
    chances = propensities([5, 1, 0], 0.3)
    chosen = [select(random, [5, 1, 0], 0.3) for _ in range(3000)]
    assert all(one.propensity == chances[one.index] for one in chosen)
    counts = np.bincount([one.index for one in chosen], minlength=3) / 3000
    np.testing.assert_allclose(counts, chances, atol=0.03)


def test_systematic_samples_have_exact_inclusion_probabilities(random):
    chances = np.array([8, 1, 1, 1, 1], float)
    counts = np.zeros(5)
    for _ in range(3000):
        chosen, inclusion = systematic(random, chances, 3)
        assert len(set(chosen)) == 3
        counts[chosen] += 1
        np.testing.assert_allclose(inclusion, np.where(chosen == 0, 1.0, 0.5))
    np.testing.assert_allclose(counts / 3000, [1, 0.5, 0.5, 0.5, 0.5], atol=0.03)
    every, inclusion = systematic(random, np.ones(4), 4)
    assert sorted(every) == [0, 1, 2, 3] and (inclusion == 1).all()


def test_decision_gain_is_the_share_by_which_the_variance_falls(random):
    covariates, contrasts = random.normal(size=(5, 3)), random.normal(size=(2, 3))
    root, information = random.normal(size=(3, 3)), random.uniform(0.1, 0.3, 5)
    covariance = root @ root.T + np.eye(3)
    found = decision_gain(covariates, information, covariance, contrasts)
    variance = lambda matrix: np.einsum("mp,pq,mq->m", contrasts, matrix, contrasts)
    for number, (x, of_answer) in enumerate(zip(covariates, information, strict=True)):
        after = np.linalg.inv(np.linalg.inv(covariance) + of_answer * np.outer(x, x))
        np.testing.assert_allclose(found[number], (1 - variance(after) / variance(covariance)).mean())
    unrelated = decision_gain(np.eye(3), np.ones(3), np.eye(3), np.array([[1.0, -1.0, 0.0]]))
    np.testing.assert_allclose(unrelated, [0.25, 0.25, 0.0])
    with pytest.raises(ValueError, match=r"contrasts of \(2, 2\) do not fit"):
        decision_gain(covariates, information, covariance, contrasts[:, :2])


def test_information_gain_is_what_the_models_disagree_about():
    agree, disagree = [[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]
    gains = information_gain(np.array([agree, disagree]).swapaxes(0, 1))
    np.testing.assert_allclose(gains, [0, np.log(2)], atol=1e-9)


@pytest.mark.parametrize(
    ("nonce", "choice", "strength", "said"),
    [
        (3, "a", None, "nonce"),
        ("x" * 101, "a", None, "nonce"),
        ("x", "c", None, "choice"),
        ("x", None, None, "choice"),
        ("x", ["a"], None, "choice"),
        ("x", "a", 0, "strength"),
        ("x", "a", True, "strength"),
        ("x", "a", "2", "strength"),
        ("x", "tie", 2, "strength is that of a preference"),
    ],
)
def test_answers_from_outside_are_checked(nonce, choice, strength, said):
    with pytest.raises(Refused, match=said):
        checked_answer(nonce, choice, strength)


@pytest.mark.parametrize(
    "heard",
    [
        "text",
        None,
        {"a": 1},
        [["c", 0, 1]],
        [["a", 0]],
        [["a", 2, 1]],
        [["a", -1, 1]],
        [["a", 0, 1e9]],
        [["a", 0, float("nan")]],
        [["a", False, True]],
        [3],
        [["a", 0, 1]] * 401,
    ],
    ids=str,
)
def test_reports_of_listening_are_checked(heard):
    with pytest.raises(Refused):
        checked_heard(heard)
