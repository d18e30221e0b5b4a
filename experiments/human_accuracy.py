"""Accuracy on real people's choices: of reward models that simulated listeners trained, and of the traits.

None has learned from people. What is fitted to them, on other items of the same study, is a baseline: the
Bradley-Terry model on the sixteen traits, which is a logistic regression on their differences. A reward
model is asked without a prompt: its condition is zero and the cosine of music and prompt that of the base's
melodies on average. Melodies longer than what the models have learned from are heard in windows of that
length, and their score is the mean.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import second_jury
from experiments.human_choices import Pairs, Study
from experiments.preference_world import World
from mammadai_jax.agents import quality, reward_model
from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.win_rates import LEVEL, Interval
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.traits import SHORTEST, TYPICAL
from mammadai_jax.stages.captioned import hear
from mammadai_jax.stages.prompted import composer_of, width_of
from mammadai_jax.training.stage import Context

FOLDS = 5
RIDGE = 1.0  # times half the squared weights of standardised traits, against nats
RESAMPLES = 1000
GROUP = 64  # windows scored at once
Score = Callable[[jax.Array], jax.Array]
"""Tokens (N, T) -> float32 (N,)."""


def accuracies(
    predictors: Mapping[str, Score], length: int, studies: Sequence[Study], alone: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """A row for each study, kind of pairs and predictor: the accuracy and its interval over items.

    Predictors score windows of so many steps. Beside them stand baselines that are fitted to other items: the
    sixteen traits, and those that are named, each alone.
    """
    baselines = {"sixteen traits": [*range(len(TYPICAL))]}
    baselines |= {f"{name} alone": [list(TYPICAL).index(name)] for name in alone}
    for study in studies:
        each = {name: scored(study.melodies, score, length) for name, score in predictors.items()}
        columns = scored(study.melodies, traits_of, length)
        first = next(iter(study.pairs.values()))
        fitted = {
            f"{title}, fitted to other {name}": cross_fitted(columns[:, chosen], first, fold(group, FOLDS))
            for title, chosen in baselines.items()
            for name, group in study.held_out.items()
        }
        for kind, pairs in study.pairs.items():
            right = {name: ordered_right(own[pairs.a] - own[pairs.b]) for name, own in each.items()}
            right |= {name: ordered_right(predict(pairs)) for name, predict in fitted.items()}
            for name, values in right.items():
                found = interval(pairs, values, study.group)._asdict()
                about = {"study": study.name, "pairs": kind, "count": len(pairs.a), "predictor": name}
                names = {"accuracy": found["share"], "low": found["low"], "high": found["high"]}
                yield {**about, **names, "reference": pairs.reference}


def scores(world: World) -> dict[str, Score]:
    """What is asked: the reward model, the quality model, and what both juries prefer."""
    config, composer = world.settings.reward_model.learner, world.composer
    panel, measure = world.second

    def first(tokens):
        return panels.gold(world.jury, hear(tokens), jnp.zeros(len(tokens)))

    return {
        "reward model": reward_score(world.context, world.taste.reward_model, world.taste.likeness[0]),
        "quality model": jax.jit(lambda tokens: quality.score(world.quality, config, composer, tokens)[0]),
        "first jury": first,
        "second jury": lambda tokens: second_jury.utility(panel, measure(tokens)).mean(axis=0),
    }


def reward_score(context: Context, params: reward_model.Params, near: jax.Array) -> Score:
    """A run's reward model without a prompt, with `near` () in place of the cosine of music and prompt."""
    config, composer = context.settings_of("reward_model").learner, composer_of(context)
    width = width_of(context)

    def score(tokens):
        nothing, cosine = jnp.zeros((len(tokens), width)), jnp.broadcast_to(near, len(tokens))
        return reward_model.score(reward_model.rewards(params, config, composer, nothing, tokens, cosine))[0]

    return jax.jit(score)


def traits_of(tokens: jax.Array) -> jax.Array:
    """The traits of melodies (N, T), in the order of their names: (N, traits)."""
    return jnp.stack(list(hear(tokens).values()), axis=-1)


def scored(melodies: Sequence[np.ndarray], score: Score, length: int) -> np.ndarray:
    """The mean score of each melody's windows of `length` steps: (melodies,), or (melodies, K) of K scores.

    The windows follow each other, and one ends with the melody. A shorter melody is one window, with silence
    after it up to SHORTEST steps.
    """
    windows = [_windows(melody, length) for melody in melodies]
    sums: list[Any] = [0.0] * len(melodies)
    rows = [(owner, row) for owner, own in enumerate(windows) for row in own]
    for size in sorted({len(row) for _, row in rows}):
        alike = [(owner, row) for owner, row in rows if len(row) == size]
        for begin in range(0, len(alike), GROUP):
            part = alike[begin : begin + GROUP]
            tokens = np.stack([row for _, row in part] + [part[0][1]] * (GROUP - len(part)))
            for (owner, _), value in zip(part, np.asarray(score(jnp.asarray(tokens))), strict=False):
                sums[owner] = sums[owner] + value / len(windows[owner])
    return np.array(sums, float)


def _windows(melody: np.ndarray, length: int) -> list[np.ndarray]:
    """See `scored`."""
    if len(melody) < length:
        # few lengths, so that few programs are compiled
        size = min(SHORTEST * -(-len(melody) // SHORTEST), length)
        filled = np.full(size, MAGENTA.hold, np.int32)
        filled[: len(melody)] = melody
        filled[len(melody) : len(melody) + 1] = MAGENTA.silence
        return [filled]
    starts = {*range(0, len(melody) - length + 1, length), len(melody) - length}
    return [_begun(melody, start)[start : start + length] for start in sorted(starts)]


def _begun(melody: np.ndarray, start: int) -> np.ndarray:
    """The melody with the note or silence that sounds at a step begun there."""
    if melody[start] != MAGENTA.hold:
        return melody
    begins = np.flatnonzero(melody[:start] != MAGENTA.hold)
    return np.concatenate([melody[:start], melody[begins[-1:]], melody[start + 1 :]])


def ordered_right(difference: np.ndarray) -> np.ndarray:
    """1 where a score prefers what the person preferred, 1/2 where it is undecided, else 0: (P,)."""
    return (np.sign(difference) + 1) / 2


def fold(group: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each item, int (items,): whole groups, in a random order that never changes."""
    groups = np.unique(group)
    place = np.random.default_rng(0).permutation(len(groups))
    return place[np.searchsorted(groups, group)] % folds


def cross_fitted(columns: np.ndarray, pairs: Pairs, folds: np.ndarray) -> Callable[[Pairs], np.ndarray]:
    """Differences of a linear score of items, fitted on pairs without any item of the folds of a pair's two.

    Args:
        columns: of the items (items, K).
        pairs: that are fitted.
        folds: of the items, int (items,).

    Returns:
        Pairs (P,) -> the score of the preferred item less that of the other, (P,).

    """
    z = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-9)
    names = np.unique(folds)
    weights = {}
    for x, y in itertools.combinations_with_replacement(names, 2):
        outside = ~np.isin(folds, (x, y))
        kept = pairs.where(outside[pairs.a] & outside[pairs.b])
        weights[x, y] = weights[y, x] = bradley_terry(z[kept.a] - z[kept.b], kept.weight)

    def predict(others: Pairs) -> np.ndarray:
        own = zip(folds[others.a], folds[others.b], strict=True)
        chosen = np.array([weights[key] for key in own]).reshape(len(others.a), -1)
        return ((z[others.a] - z[others.b]) * chosen).sum(axis=1)

    return predict


def bradley_terry(difference: np.ndarray, weight: np.ndarray, updates: int = 20) -> np.ndarray:
    """Weights (K,) of the columns (P, K) of the preferred less the other item, by Newton's method.

    They minimise sum_p weight_p log(1 + exp(-w x_p)) + RIDGE |w|^2 / 2.
    """
    w = np.zeros(difference.shape[1])
    for _ in range(updates):
        miss = 1 / (1 + np.exp(np.clip(difference @ w, -500, 500)))
        gradient = RIDGE * w - difference.T @ (weight * miss)
        curvature = (difference.T * (weight * miss * (1 - miss))) @ difference + RIDGE * np.eye(len(w))
        w = w - np.linalg.solve(curvature, gradient)
    return w


def interval(pairs: Pairs, right: np.ndarray, group: np.ndarray) -> Interval:
    """The weighted mean of `right` (P,), with the interval by resampling groups of items (items,).

    A pair counts as often as the product of its groups' counts, or as its group does if they are the same.
    """
    groups, a, b = int(group.max()) + 1, group[pairs.a], group[pairs.b]
    total = lambda values, mask: np.bincount((a * groups + b)[mask], values[mask], groups**2)
    apart = a != b
    across = [total(values, apart).reshape(groups, groups) for values in (pairs.weight * right, pairs.weight)]
    within = [
        np.bincount(a[~apart], values[~apart], groups) for values in (pairs.weight * right, pairs.weight)
    ]
    random, shares = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        count = np.bincount(random.integers(groups, size=groups), minlength=groups)
        won, all_ = (count @ x @ count + count @ y for x, y in zip(across, within, strict=True))
        if all_:
            shares.append(won / all_)
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    share = float((pairs.weight * right).sum() / pairs.weight.sum())
    return Interval(share, float(low), float(high))
