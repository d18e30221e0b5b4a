"""Are the statistics of a listening study right? Simulated studies whose truth is known.

    python -m experiments.rating_statistics --out runs/rating [--studies 2000]

Writes `statistics.csv` and prints it:

* coverage of the 95 % intervals of the difference of two systems, where raters and prompts differ in what
  they like: clustered by rater and prompt, and an i.i.d. bootstrap of the answers;
* what a system gains in a naive Bradley-Terry fit when it is heard first more often by raters of whom the
  first has 70 %, and what is left of that in ours;
* the share of studies without any difference that the stopping rule stops, looking after every vote;
* votes until two systems at 65 to 35 among six are told apart, with active and with random pairs; and the win
  rate that is estimated when pairs were chosen actively, with and without their propensities.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mammadai_jax.listening import davidson
from mammadai_jax.listening.stopping import VOTES_EACH, confidence_sequence
from mammadai_jax.listening.study.selection import decision_gain, propensities, select
from mammadai_jax.music.files import write_atomically

RATERS, PROMPTS, EACH = 20, 40, 20
OF_RATER, OF_PROMPT = 0.8, 0.6  # standard deviations of what raters, and prompts, add to a difference
DIFFERENCE, FIRST, LOG_NU = 0.6, 0.3, -0.7
CONTRAST = np.array([1.0, 0.0])


class Votes(NamedTuple):
    """Votes between two systems: covariates (N, 2), outcomes (N,), raters (N,) and prompts (N,)."""

    covariates: np.ndarray
    outcome: np.ndarray
    rater: np.ndarray
    prompt: np.ndarray


def votes(
    random: np.random.Generator, difference: float, raters: int = RATERS, *, first: float = FIRST,
    first_share: float = 0.5,
) -> Votes:  # fmt: skip
    """A study of two systems, each rater with EACH of the prompts; the first is heard first so often."""
    rater = np.repeat(np.arange(raters), EACH)
    prompt = np.concatenate([random.permutation(PROMPTS)[:EACH] for _ in range(raters)])
    is_first = np.where(random.uniform(size=len(rater)) < first_share, 1.0, -1.0)
    likes = OF_RATER * random.normal(size=raters)[rater] + OF_PROMPT * random.normal(size=PROMPTS)[prompt]
    outcome = drawn(random, difference + likes + first * is_first)
    return Votes(np.stack([np.ones(len(rater)), is_first], axis=1), outcome, rater, prompt)


def drawn(random: np.random.Generator, d: np.ndarray, log_nu: float = LOG_NU) -> np.ndarray:
    """Outcomes at log odds d (N,)."""
    chance = np.cumsum(davidson.probabilities(d, log_nu), axis=-1)
    return (random.uniform(size=(*np.shape(d), 1)) > chance).sum(axis=-1).clip(max=2)


def coverage(random: np.random.Generator, studies: int, resampled: int = 100) -> dict[str, float]:
    """Shares of studies whose intervals have the truth, which is what infinitely many raters would give."""
    truth = _truth(random)
    clustered = []
    for _ in range(studies):
        v = votes(random, DIFFERENCE)
        fitted = davidson.fit(v.covariates, v.outcome, [v.rater, v.prompt])
        clustered.append(_covers(fitted.interval(CONTRAST), truth))
    single = []
    for _ in range(max(1, studies // 10)):
        each = votes(random, DIFFERENCE)
        chosen = random.integers(len(each.outcome), size=(resampled, len(each.outcome)))
        values = [davidson.fit(each.covariates[rows], each.outcome[rows]).beta[0] for rows in chosen]
        single.append(_covers((0.0, *np.quantile(values, [0.025, 0.975])), truth))
    return {
        "covered by clustered intervals": float(np.mean(clustered)),
        "covered by an i.i.d. bootstrap": float(np.mean(single)),
    }


def _truth(random: np.random.Generator, answers: int = 400_000) -> float:
    """The coefficient of answers each by another rater to another prompt."""
    is_first = np.where(random.uniform(size=answers) < 0.5, 1.0, -1.0)
    likes = np.hypot(OF_RATER, OF_PROMPT) * random.normal(size=answers)
    outcome = drawn(random, DIFFERENCE + likes + FIRST * is_first)
    return float(davidson.fit(np.stack([np.ones(answers), is_first], axis=1), outcome).beta[0])


def _covers(interval: tuple[float, float, float], truth: float) -> bool:
    return interval[1] <= truth <= interval[2]


def position(random: np.random.Generator, studies: int) -> dict[str, float]:
    """Equal systems, raters who take the first in 70 % of decided pairs; one system is first in 70 %."""
    naive, ours = [], []
    for _ in range(studies):
        v = votes(random, 0.0, first=np.log(0.7 / 0.3), first_share=0.7)
        clusters = [v.rater, v.prompt]
        naive.append(davidson.fit(v.covariates[:, :1], v.outcome, clusters).interval(CONTRAST[:1]))
        ours.append(davidson.fit(v.covariates, v.outcome, clusters).interval(CONTRAST))
    return {
        "naive difference of equal systems, log odds": float(np.mean([one[0] for one in naive])),
        "ours": float(np.mean([one[0] for one in ours])),
        "naive intervals that have 0": float(np.mean([_covers(one, 0.0) for one in naive])),
        "ours that have 0": float(np.mean([_covers(one, 0.0) for one in ours])),
    }


def false_stops(random: np.random.Generator, studies: int, raters: int = 40) -> dict[str, float]:
    """Equal systems: how many studies ever stop; and how many with a difference, after how many raters."""
    stopped = {0.0: 0, 1.0: 0}
    after = []
    for difference in stopped:
        for _ in range(studies):
            v = votes(random, difference, raters)
            signs = (1.0 - v.outcome).reshape(raters, EACH)[:, :VOTES_EACH]
            low, high = confidence_sequence(signs.mean(axis=1))
            out = np.flatnonzero((low > 0) | (high < 0))
            stopped[difference] += bool(out.size)
            after += [int(out[0]) + 1] if difference and out.size else []
    return {
        "equal systems that were stopped": stopped[0.0] / studies,
        "different systems that were stopped": stopped[1.0] / studies,
        "raters until then, median": float(np.median(after)) if after else float("nan"),
    }


STRENGTHS = np.array([np.log(65 / 35) / 2, -np.log(65 / 35) / 2, -1.6, -2.4, -3.2, -4.0])
PAIRS = np.array([(a, b) for a in range(6) for b in range(a + 1, 6)])
COVARIATES = np.eye(6)[PAIRS[:, 0]] - np.eye(6)[PAIRS[:, 1]]
BATCH, MOST = 20, 4000


def active(random: np.random.Generator, studies: int) -> dict[str, float]:
    """Votes until the best two of six systems are told apart."""
    numbers = {share: [_votes_needed(random, share) for _ in range(studies)] for share in (1.0, 0.25)}
    middle = {share: float(np.median(each)) for share, each in numbers.items()}
    return {
        "votes to tell 65 from 35 apart, random pairs": middle[1.0],
        "active pairs": middle[0.25],
        "ratio": middle[0.25] / middle[1.0],
    }


def _votes_needed(random: np.random.Generator, random_share: float) -> int:
    gains, chosen, outcomes = np.ones(len(PAIRS)), [], []
    while len(chosen) < MOST:
        chosen += [select(random, gains, random_share).index for _ in range(BATCH)]
        outcomes += drawn(random, COVARIATES[chosen[-BATCH:]] @ STRENGTHS, LOG_NU).tolist()
        fitted = davidson.fit(COVARIATES[chosen], np.array(outcomes))
        _, low, high = fitted.interval(np.array([1.0, -1.0, 0, 0, 0, 0]), 0.99)  # for looks are many
        if low > 0 or high < 0:
            break
        gains = _gains(random, fitted)
    return len(chosen)


def _gains(random: np.random.Generator, fitted: davidson.Fit) -> np.ndarray:
    """What an answer to each pair is worth to telling the best two systems apart, whichever they are."""
    covariance = fitted.covariance[:-1, :-1]
    best = np.argsort(-random.multivariate_normal(fitted.beta, covariance, size=64))[:, :2]
    contrasts = np.eye(6)[best[:, 0]] - np.eye(6)[best[:, 1]]
    information = davidson.information_in(COVARIATES @ fitted.beta, fitted.log_nu)
    return decision_gain(COVARIATES, information, covariance, contrasts)


def weighting(
    random: np.random.Generator, studies: int, pairs: int = 200, answers: int = 100
) -> dict[str, float]:
    """The mean win rate of a pool of pairs, of which those near one half were asked about more often."""
    errors = {"plain": [], "weighted": []}
    for _ in range(studies):
        chance = random.beta(2, 1, size=pairs)
        chances = propensities(np.exp(-8 * (chance - 0.45) ** 2), 0.25)
        chosen = random.choice(pairs, size=answers, p=chances)
        won = random.uniform(size=answers) < chance[chosen]
        weight = 1 / (pairs * chances[chosen])
        errors["plain"].append(won.mean() - chance.mean())
        errors["weighted"].append((weight * won).mean() - chance.mean())
    return {
        "error of the win rate of active pairs, plain": float(np.mean(errors["plain"])),
        "error, weighted by propensities": float(np.mean(errors["weighted"])),
        "its standard error": float(np.std(errors["weighted"]) / np.sqrt(studies)),
    }


Part = Callable[[np.random.Generator, int], dict[str, float]]
PARTS: dict[str, tuple[Part, int]] = {
    "coverage": (coverage, 1),
    "position": (position, 5),
    "stopping": (false_stops, 1),
    "active": (active, 20),
    "weighting": (weighting, 1),
}


def run(studies: int, parts: list[str]) -> Iterator[tuple[str, str, int, float]]:
    """Rows of part, quantity, number of studies and value."""
    for part in parts:
        function, divided = PARTS[part]
        number = max(1, studies // divided)
        for name, value in function(np.random.default_rng(0), number).items():
            yield part, name, number, value


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in run(options.studies, options.parts):
        rows.append(row)
        print(f"{row[0]:10} {row[1]:48} {row[2]:6} {row[3]:8.3f}", flush=True)
    lines = [",".join(["part", "quantity", "studies", "value"])]
    lines += [f'{part},"{name}",{number},{value:.4f}' for part, name, number, value in rows]
    write_atomically(options.out / "statistics.csv", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
