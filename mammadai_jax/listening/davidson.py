"""Davidson's model of choices with ties, fitted by maximum likelihood, with clustered intervals.

Of a comparison with covariates x, the log odds of the first over the second are d = x'beta, and

    P(first), P(tie), P(second)  are in proportion to  exp(d / 2), nu, exp(-d / 2)

(Davidson 1970; Bradley and Terry's model without ties). Answers of one rater are alike, and so are those
to one prompt. The covariance is therefore the sandwich estimate over clusters of both kinds (Cameron, Gelbach
and Miller 2011): that over raters plus that over prompts less that over their intersections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

PRECISION = 0.01  # of a normal prior on all parameters, which keeps a system that never lost finite
ITERATIONS = 50
OUTCOMES = ("a", "tie", "b")


class Fit(NamedTuple):
    """A fitted model.

    Attributes:
        beta: coefficients of the covariates, (P,).
        log_nu: logarithm of nu; equal systems tie with the probability nu / (2 + nu).
        covariance: of beta and log_nu, (P + 1, P + 1).
        clusters: number of clusters of the kind that has fewest.

    """

    beta: np.ndarray
    log_nu: float
    covariance: np.ndarray
    clusters: int

    def interval(self, contrast: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
        """The value of contrast'beta, with contrast (P,), and the ends of its interval.

        The quantile is that of Student's t with one degree of freedom less than there are clusters.
        """
        from scipy import stats  # slow to import

        value = float(contrast @ self.beta)
        whole = np.append(contrast, 0.0)
        deviation = float(np.sqrt(max(whole @ self.covariance @ whole, 0.0)))
        half = deviation * float(stats.t.ppf((1 + level) / 2, max(self.clusters - 1, 1)))
        return value, value - half, value + half


def fit(
    covariates: np.ndarray,
    outcome: np.ndarray,
    clusters: Sequence[np.ndarray] = (),
    weights: np.ndarray | None = None,
) -> Fit:
    """Fit the model to N comparisons.

    Args:
        covariates: x of each, (N, P).
        outcome: index into OUTCOMES, int (N,).
        clusters: kinds of clusters, at most two, each int (N,); none for independent comparisons.
        weights: of each comparison, (N,); 1 if None.

    """
    if covariates.ndim != 2 or outcome.shape != covariates.shape[:1] or len(clusters) > 2:
        raise ValueError(f"covariates of {covariates.shape} do not fit outcomes of {outcome.shape}")
    weights = np.ones(len(outcome)) if weights is None else weights
    theta, loss = np.zeros(covariates.shape[1] + 1), np.inf
    step = np.zeros_like(theta)
    for _ in range(ITERATIONS):
        now, score, information = _derivatives(theta + step, covariates, outcome, weights)
        if now > loss + 1e-9:
            step = step / 2
            continue
        theta, loss = theta + step, now
        step = np.linalg.solve(information, score.sum(axis=0) - PRECISION * theta)
        if np.abs(step).max() < 1e-9:
            break
    _, score, information = _derivatives(theta, covariates, outcome, weights)
    covariance, fewest = _sandwich(score, np.linalg.inv(information), clusters)
    return Fit(theta[:-1], float(theta[-1]), covariance, fewest)


def probabilities(d: np.ndarray, log_nu: float | np.ndarray) -> np.ndarray:
    """P of the OUTCOMES at log odds d (...), (..., 3)."""
    logits = np.stack(np.broadcast_arrays(d / 2, log_nu, -d / 2), axis=-1)
    each = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return each / each.sum(axis=-1, keepdims=True)


def information_in(d: np.ndarray, log_nu: float) -> np.ndarray:
    """Fisher's information of one answer about its log odds d (N,): (N,)."""
    a, _, b = probabilities(d, log_nu).T
    return ((a + b) - (a - b) ** 2) / 4


def _derivatives(
    theta: np.ndarray, covariates: np.ndarray, outcome: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Penalised loss, the score of each comparison (N, P + 1), and the information (P + 1, P + 1)."""
    chance = probabilities(covariates @ theta[:-1], theta[-1])
    a, tie, b = chance.T
    loss = PRECISION / 2 * theta @ theta - weights @ np.log(chance[np.arange(len(outcome)), outcome] + 1e-300)
    slope = ((outcome == 0) - a - (outcome == 2) + b) / 2
    score = weights[:, None] * np.column_stack([slope[:, None] * covariates, (outcome == 1) - tie])
    within = weights * information_in(covariates @ theta[:-1], theta[-1])
    across = weights * -(a - b) / 2 * tie
    upper = covariates.T @ (within[:, None] * covariates)
    side = covariates.T @ across
    information = np.block([[upper, side[:, None]], [side[None], np.array([[weights @ (tie * (1 - tie))]])]])
    return float(loss), score, information + PRECISION * np.eye(len(theta))


def _sandwich(score: np.ndarray, bread: np.ndarray, clusters: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """The covariance of the parameters, and the number of clusters of the kind that has fewest."""
    if not clusters:
        return bread, len(score)
    each = [_meat(score, cluster) for cluster in clusters]
    meat, fewest = each[0]
    if len(clusters) == 2:
        both = np.unique(np.stack(clusters), axis=1, return_inverse=True)[1]
        meat = meat + each[1][0] - _meat(score, both)[0]
        fewest = min(fewest, each[1][1])
        one_way = np.stack([bread @ part @ bread for part, _ in each])
        covariance = bread @ meat @ bread
        return _at_least(covariance, one_way), fewest
    return bread @ meat @ bread, fewest


def _at_least(covariance: np.ndarray, one_way: np.ndarray) -> np.ndarray:
    """The two-way covariance without negative eigenvalues, and no variance less than by clusters of one kind.

    What is missing of a variance is added to it alone: another parameter's keeps its own.
    """
    values, vectors = np.linalg.eigh(covariance)
    whole = (vectors * np.maximum(values, 0.0)) @ vectors.T
    least = np.diagonal(one_way, axis1=1, axis2=2).max(axis=0)
    return whole + np.diag(np.maximum(least - np.diag(whole), 0.0))


def _meat(score: np.ndarray, cluster: np.ndarray) -> tuple[np.ndarray, int]:
    """The sum over clusters of the squared sums of scores, corrected for few clusters, and their number.

    The correction is CR3's for clusters of one size: a fit is drawn to each cluster by a share 1 / clusters,
    so that its score is too small by that share (Bell and McCaffrey 2002).
    """
    index = np.unique(cluster, return_inverse=True)[1]
    count = int(index.max()) + 1
    sums = np.zeros((count, score.shape[1]))
    np.add.at(sums, index, score)
    return sums.T @ sums * (count / max(count - 1, 1)) ** 2, count
