"""Which pair is asked about next: by what its answer is expected to teach, with a share drawn at random.

The probability of every selection is kept, so that estimates can be corrected for it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Selected(NamedTuple):
    """The index of the selected candidate, and the probability with which it was selected."""

    index: int
    propensity: float


def propensities(gains: np.ndarray, random_share: float) -> np.ndarray:
    """Probability of each of N candidates: (N,) from gains (N,) of 0 or more.

    A share is uniform, the rest is in proportion to the gains; with equal gains all are equally probable.
    ValueError for gains that are negative, not finite, or none.
    """
    gains = np.asarray(gains, float)
    if gains.ndim != 1 or not gains.size or not np.isfinite(gains).all() or (gains < 0).any():
        raise ValueError("gains should be one row of finite numbers, 0 or more")
    share = gains / gains.sum() if gains.sum() else np.full(len(gains), 1 / len(gains))
    return random_share / len(gains) + (1 - random_share) * share


def select(random: np.random.Generator, gains: np.ndarray, random_share: float) -> Selected:
    """One of N candidates, with `propensities`."""
    chances = propensities(gains, random_share)
    index = int(random.choice(len(chances), p=chances / chances.sum()))
    return Selected(index, float(chances[index]))


def information_gain(probabilities: np.ndarray) -> np.ndarray:
    """What an answer is expected to tell about which model is right, in nats: (N,).

    Args:
        probabilities: of each of C answers to N pairs by M models, (M, N, C), each summing to 1.

    The mutual information of answer and model: entropy of the mean less mean of the entropies (Houlsby et
    al. 2011, "Bayesian active learning for classification and preference learning").

    """
    probabilities = np.asarray(probabilities, float)
    if probabilities.ndim != 3:
        raise ValueError(f"probabilities should be of models, pairs and answers, got {probabilities.shape}")
    entropy = lambda p: -(p * np.log(np.maximum(p, 1e-12))).sum(axis=-1)
    return np.maximum(entropy(probabilities.mean(axis=0)) - entropy(probabilities).mean(axis=0), 0.0)


def decision_gain(
    covariates: np.ndarray, information: np.ndarray, covariance: np.ndarray, contrasts: np.ndarray
) -> np.ndarray:
    """By which share an answer is expected to reduce the variance of what is to be decided: (N,).

    An answer about a close pair tells much, but maybe nothing of the question asked. So the questions are
    drawn as they are believed to be: of each of M draws of the systems' strengths, for instance, the
    difference of the best two (as in top-two sampling, Russo 2016), which is then estimated by a c-optimal
    choice of pairs.

    Args:
        covariates: of N pairs, (N, P), as in `davidson.fit`.
        information: that an answer to each has about its log odds, (N,), see `davidson.information_in`.
        covariance: of the coefficients so far, (P, P).
        contrasts: the differences of coefficients that are asked for, (M, P).

    """
    if covariates.shape[1:] != contrasts.shape[1:] or covariance.shape != 2 * covariates.shape[1:]:
        raise ValueError(
            f"covariates of {covariates.shape} and contrasts of {contrasts.shape} do not fit a covariance of "
            f"{covariance.shape}"
        )
    shared = contrasts @ covariance @ covariates.T
    own = np.einsum("np,pq,nq->n", covariates, covariance, covariates)
    asked = np.einsum("mp,pq,mq->m", contrasts, covariance, contrasts)
    fallen = shared**2 * information / (1 + own * information)  # Sherman and Morrison
    return (fallen / asked[:, None]).mean(axis=0)


def systematic(random: np.random.Generator, chances: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """So many of N candidates, each once -> indices and inclusion probabilities, (count,).

    Systematic sampling (Madow 1949): the inclusion probabilities, in proportion to the chances (N,) but at
    most 1, are exact.
    """
    inclusion = np.asarray(chances, float) * count / np.sum(chances)
    for _ in range(len(inclusion)):
        certain = inclusion >= 1
        rest = inclusion[~certain].sum()
        if not rest or inclusion.max() <= 1 + 1e-12:
            break
        inclusion = np.where(certain, 1.0, inclusion * (count - certain.sum()) / rest)
    order = random.permutation(len(inclusion))
    ends = np.cumsum(inclusion[order])
    places = np.minimum(
        np.searchsorted(ends, random.uniform() + np.arange(count), side="right"), len(order) - 1
    )
    chosen = order[places]
    return chosen, inclusion[chosen]
