"""The quality of a reward model: accuracy against the raters' ceiling, calibration, confounding.

Probabilities are those of `reward_model.probabilities`, (N, 3): a preferred, tie, b preferred. Figures of
decided pairs leave ties out; P(a) is then the probability given that there is no tie.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import reward_model
from mammadai_jax.networks.composer import Composer


class Bin(NamedTuple):
    """Decided pairs of similar predicted P(a): their number, mean prediction, and share of choices of a."""

    pairs: int
    predicted: float
    observed: float


@dataclasses.dataclass(frozen=True)
class Report:
    """A reward model on held-out pairs.

    Attributes:
        pairs: their number.
        decided: the number of pairs without a tie.
        accuracy: share of decided pairs whose chosen melody has the higher reward; equal rewards count half.
        accuracy_ties_half: over all pairs, where a tie counts half.
        ceiling: the highest expected accuracy of any model, if known; see `ceiling_of` and
            `ceiling_of_repeats`.
        log_loss: mean nats of decided choices; log 2 is chance.
        calibration_error: expected calibration error of P(a) over the bins (Guo et al. 2017).
        bins: of the reliability diagram, equally wide, without empty ones.
        ties: share of ties observed.
        ties_predicted: share of ties that the model expects.

    """

    pairs: int
    decided: int
    accuracy: float
    accuracy_ties_half: float
    ceiling: float | None
    log_loss: float
    calibration_error: float
    bins: tuple[Bin, ...]
    ties: float
    ties_predicted: float

    @property
    def share_of_ceiling(self) -> float | None:
        """Accuracy divided by the ceiling; None if that is unknown."""
        return None if self.ceiling is None else self.accuracy / self.ceiling


def report(
    probabilities: np.ndarray, choice: np.ndarray, ceiling: float | None = None, bins: int = 10
) -> Report:
    """The report of predicted probabilities (N, 3) and choices (N,) in {1: a, 0: tie, -1: b}.

    ValueError if no pair is decided or the shapes do not match.
    """
    probabilities, choice = np.asarray(probabilities, np.float64), np.asarray(choice)
    if probabilities.shape != (*choice.shape, 3):
        raise ValueError(f"{choice.shape} choices need probabilities (N, 3), not {probabilities.shape}")
    decided = choice != 0
    if not decided.any():
        raise ValueError("every pair is a tie: there is no choice to compare with")
    decided_mass = np.maximum(probabilities[:, 0] + probabilities[:, 2], 1e-12)
    prefers_a = np.clip(probabilities[:, 0] / decided_mass, 1e-7, 1 - 1e-7)[decided]
    # 1 correct, -1 wrong, 0 undecided
    agreement = choice * np.sign(probabilities[:, 0] - probabilities[:, 2])
    chose_a = choice[decided] > 0
    parts = reliability(prefers_a, chose_a, bins)
    return Report(
        pairs=len(choice),
        decided=int(decided.sum()),
        accuracy=float((1 + agreement[decided]).mean() / 2),
        accuracy_ties_half=float((1 + agreement).mean() / 2),
        ceiling=ceiling,
        log_loss=float(-np.log(np.where(chose_a, prefers_a, 1 - prefers_a)).mean()),
        calibration_error=calibration_error(parts),
        bins=parts,
        ties=float(1 - decided.mean()),
        ties_predicted=float(probabilities[:, 1].mean()),
    )


def reliability(predicted: np.ndarray, observed: np.ndarray, bins: int = 10) -> tuple[Bin, ...]:
    """Predicted probabilities (N,) and outcomes, bool (N,), in equally wide bins."""
    bin_index = np.minimum((np.asarray(predicted) * bins).astype(int), bins - 1)
    parts = [bin_index == index for index in range(bins)]
    return tuple(
        Bin(int(part.sum()), float(predicted[part].mean()), float(observed[part].mean()))
        for part in parts
        if part.any()
    )


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Mean over the pairs of |observed - predicted| of their bin. It is biased upward in small samples."""
    pairs = sum(part.pairs for part in bins)
    return sum(part.pairs * abs(part.observed - part.predicted) for part in bins) / pairs


def ceiling_of(probability: np.ndarray) -> float:
    """Best accuracy given the true P(a | no tie) (N,) of decided pairs: the mean of max(p, 1 - p)."""
    probability = np.asarray(probability)
    return float(np.maximum(probability, 1 - probability).mean())


def ceiling_of_repeats(choice: np.ndarray, again: np.ndarray) -> float:
    """An upper bound of the ceiling from two independent choices (N,) on the same pairs.

    They agree with the probability q = E[p^2 + (1 - p)^2] = (1 + E[(2p - 1)^2]) / 2, and the ceiling is
    (1 + E|2p - 1|) / 2 <= (1 + sqrt(2q - 1)) / 2, with equality if all pairs are equally hard. Pairs with a
    tie in either are left out; ValueError if that leaves none.
    """
    choice, again = np.asarray(choice), np.asarray(again)
    decided = (choice != 0) & (again != 0)
    if not decided.any():
        raise ValueError("no pair was decided twice: the raters' ceiling cannot be known from these")
    agreement = float((choice == again)[decided].mean())
    return (1 + math.sqrt(max(0.0, 2 * agreement - 1))) / 2


def confounding(rewards: np.ndarray, measures: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Spearman's correlation of rewards (N,) with measures (N,), such as note density; 0 for constants."""
    from scipy import stats  # slow to import

    rewards = np.asarray(rewards)
    varies = lambda values: np.ptp(values) > 0
    return {
        name: float(np.asarray(stats.spearmanr(rewards, values))[0])
        if varies(values) and varies(rewards)
        else 0.0
        for name, values in measures.items()
    }


@functools.partial(jax.jit, static_argnames=("composer", "batch"))
def predict(
    params: reward_model.Params,
    config: reward_model.Config,
    composer: Composer,
    data: reward_model.Pairs,
    batch: int = 128,
) -> jax.Array:
    """`reward_model.probabilities` of all pairs, float32 (N, 3), `batch` at a time."""

    def one(pair):
        alone = jax.tree.map(lambda x: x[None], pair)
        return reward_model.probabilities(params, config, composer, alone)[0]

    return jax.lax.map(one, data, batch_size=min(batch, jnp.shape(data.choice)[0]))
