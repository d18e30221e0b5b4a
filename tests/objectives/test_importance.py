"""Tempered importance weights."""

import jax
import numpy as np
import pytest

from mammadai_jax.objectives.importance import tempered_weights


def test_their_effective_sample_size_is_the_share_that_is_asked_for(random):
    spreads = np.array([0.1, 1.5, 3.0, 1000.0])  # eta is 1, between 1 and 2, and more
    scores = (spreads[:, None] * random.normal(size=500)).astype(np.float32)
    weigh = jax.jit(jax.vmap(lambda score: tempered_weights(score, 0.3)))
    for spread, score, found in zip(spreads, scores, np.asarray(weigh(scores), float), strict=True):
        assert found.mean() == pytest.approx(1, rel=1e-5)
        if spread == 0.1:  # large enough anyway: nothing is flattened
            np.testing.assert_allclose(found, np.exp(score) / np.exp(score).mean(), rtol=1e-4)
        else:
            assert 1 / np.square(found).mean() == pytest.approx(0.3, abs=1e-3)
        assert (np.argsort(found) == np.argsort(score)).all()
