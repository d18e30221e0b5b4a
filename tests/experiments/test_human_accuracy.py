import jax.numpy as jnp
import numpy as np
import pytest

from experiments.human_accuracy import bradley_terry, cross_fitted, fold, interval, ordered_right, scored
from experiments.human_choices import Pairs
from mammadai_jax.music.notes import MAGENTA


def pairs_of(a, b, weight=None):
    return Pairs(np.array(a), np.array(b), np.ones(len(a)) if weight is None else np.array(weight))


def test_the_weights_maximise_the_penalised_likelihood():
    random = np.random.default_rng(0)
    true = np.array([1.5, -0.7, 0.0])
    x = random.normal(size=(4000, 3))
    chosen = random.uniform(size=4000) < 1 / (1 + np.exp(-x @ true))
    difference = np.where(chosen[:, None], x, -x)
    found = bradley_terry(difference, np.ones(4000))
    np.testing.assert_allclose(found, true, atol=0.15)
    gradient = difference.T @ (1 / (1 + np.exp(difference @ found))) - found
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    np.testing.assert_allclose(bradley_terry(difference[:0], np.ones(0)), 0)


def test_a_pair_is_predicted_without_the_folds_of_its_items():
    """A column that is right in fold 0 and wrong elsewhere: fitted on the others, it is wrong in fold 0."""
    folds = np.repeat([0, 1, 2, 3], 4)
    quality = np.tile([0.0, 1.0, 2.0, 3.0], 4)
    columns = np.where(folds == 0, quality, -quality)[:, None]
    a, b = np.nonzero((quality[:, None] > quality) & (folds[:, None] == folds))
    pairs = pairs_of(a, b)
    right = ordered_right(cross_fitted(columns, pairs, folds)(pairs))
    assert (right[folds[a] == 0] == 0).all() and (right[folds[a] != 0] == 1).all()


def test_folds_hold_whole_groups_and_never_change():
    group = np.repeat(np.arange(7), 4)
    folds = fold(group, 5)
    assert all(len(set(folds[group == name])) == 1 for name in range(7))
    assert set(folds) == set(range(5)) and (folds == fold(group, 5)).all()


def test_an_undecided_score_is_half_right():
    assert ordered_right(np.array([0.3, 0.0, -2.0])).tolist() == [1, 0.5, 0]


def test_an_interval_is_over_items_and_not_over_pairs():
    items = 40
    a, b = np.nonzero(~np.eye(items, dtype=bool))
    pairs = pairs_of(a, b)
    right = (a % 4 > 0).astype(float)  # right or wrong by the item
    found = interval(pairs, right, np.arange(items))
    half = 1.96 * np.sqrt(0.75 * 0.25 / items)
    assert found.share == pytest.approx(0.75)
    assert found.share - found.low == pytest.approx(half, rel=0.25)
    assert found.high - found.share == pytest.approx(half, rel=0.25)
    assert half > 3 * 1.96 * np.sqrt(0.75 * 0.25 / len(a))


def test_an_interval_of_pairs_within_groups_counts_groups():
    group = np.repeat(np.arange(20), 2)
    pairs = pairs_of(np.arange(0, 40, 2), np.arange(1, 40, 2), np.full(20, 2.0))
    found = interval(pairs, (np.arange(20) < 15).astype(float), group)
    assert found.share == 0.75 and found.low < 0.65 and found.high > 0.85


def test_long_melodies_are_scored_in_windows_and_short_ones_are_filled():
    note = lambda length, pitch: [pitch, *[MAGENTA.hold] * (length - 1)]
    long = np.array(note(40, 20) + note(40, 30) + note(16, 10), np.int32)
    short = np.array(note(5, 25), np.int32)
    seen = []

    def score(tokens):
        seen.append(np.asarray(tokens))
        return jnp.stack([tokens[:, 0], (tokens == MAGENTA.silence).sum(-1)], axis=-1)

    found = scored([long, short], score, 64)
    # windows from 0 and, ending with the melody, from 32, where the first note still sounds
    np.testing.assert_allclose(found, [[20, 0], [25, 1]])
    assert {rows.shape[1] for rows in seen} == {32, 64}
