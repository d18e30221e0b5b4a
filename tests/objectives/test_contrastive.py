import jax
import numpy as np
import pytest

from mammadai_jax.objectives import contrastive


def test_info_nce_by_hand(transform):
    logits = np.array([[2.0, 0.0, 1.0], [1.0, 3.0, -1.0], [0.0, 0.0, 0.0]], np.float32)
    exp = np.exp(logits)
    rows, columns = np.diag(exp) / exp.sum(axis=1), np.diag(exp) / exp.sum(axis=0)
    expected = -0.5 * np.log(rows * columns).mean()
    contrast = transform(contrastive.info_nce)
    np.testing.assert_allclose(contrast(logits, np.arange(3)), expected, rtol=1e-6)
    # of equal logits it is the log of their number
    np.testing.assert_allclose(contrast(np.full((3, 3), 3.0, "f"), np.arange(3)), np.log(3), rtol=1e-6)


def test_one_group_is_no_mismatch(random):
    logits = random.normal(size=(4, 4)).astype(np.float32)
    contrast = jax.jit(jax.value_and_grad(contrastive.info_nce))
    np.testing.assert_allclose(contrast(logits, np.zeros(4, int))[0], 0, atol=1e-6)
    # two of one tune: each is held against the other two only
    group = np.array([5, 5, 6, 7])
    found = contrast(np.zeros((4, 4), np.float32), group)[0]
    np.testing.assert_allclose(found, np.log([3, 3, 4, 4]).mean(), rtol=1e-6)
    gradient = contrast(logits, group)[1]
    assert gradient[0, 1] == gradient[1, 0] == 0 and np.abs(gradient[0, 2]) > 0


def test_info_nce_of_pairs_is_cross_entropy_both_ways(random, transform):
    """And texts and melodies may change places."""
    logits = random.normal(size=(5, 5)).astype(np.float32)
    loss = transform(contrastive.info_nce)
    shifted = logits + random.normal(size=(5, 1)).astype(np.float32)
    assert loss(shifted, np.arange(5)) != loss(logits, np.arange(5))  # rows are compared by columns too
    np.testing.assert_allclose(loss(logits + 3.0, np.arange(5)), loss(logits, np.arange(5)), rtol=1e-5)
    np.testing.assert_allclose(loss(logits.T, np.arange(5)), loss(logits, np.arange(5)), rtol=1e-6)


def test_recall_by_hand(transform):
    # the own column is first, first, third and fourth
    scores = np.array([[9, 1, 2, 3], [1, 9, 2, 3], [2, 1, 1.5, 3], [3, 2, 1, 0.5]], np.float32)
    found = [transform(lambda s, k=k: contrastive.recall_at(s, k))(scores) for k in (1, 3, 4)]
    np.testing.assert_array_equal(found, [0.5, 0.75, 1.0])
    assert contrastive.recall_at(np.ones((40, 40), np.float32), 10) == 0.0


def test_only_square_logits_are_taken():
    with pytest.raises(AssertionError):
        contrastive.info_nce(np.ones((3, 4)), np.arange(3))
