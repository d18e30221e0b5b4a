"""A log-linear mixture of count models that are told what the prior's networks are told.

Each count model is an interpolated chain (see `ngram`) over some facts about a step, the most telling first:
the tokens before it, its place in the bar, the tokens 1, 2, 4 and 8 bars ago. Every second order of every
chain is an expert, and the mixture multiplies their powers (Klakow 1998; Hinton 1999, product of experts):

    p(w | facts)  ~  prod_k p_k(w | facts) ** weight[place, k]

The weights are fitted on melodies that no expert has learned from. The objective is convex, so that there the
mixture is at least as good as its best expert. A network can be an expert too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import ngram
from mammadai_jax.networks import longest_match
from mammadai_jax.networks.composer import STEPS_PER_BAR

# Facts; positive numbers are the tokens so many steps before.
TOKEN, PLACE, MATCH, MATCH_KIND = -3, 0, -1, -2
Chains = Sequence[tuple[int, ...]]
CHAINS: Chains = (
    tuple(range(1, 11)),
    (PLACE, *range(1, 9)),
    (16, 1, 17, 2, 18, 3, 19, PLACE, 4, 20),
    (32, 1, 33, 2, 34, 3, 35, PLACE, 4, 36),
    (64, 1, 65, 2, 66, 3, 67, PLACE, 4, 68),
    (128, 1, 129, 2, 130, 3, 131, PLACE, 4, 132),
    (16, 64, 32, 128, 1, PLACE, 2, 3),
    (1, PLACE, 64, 16, 32, 2, 128, 3),
)
MATCHES: Chains = ((MATCH, MATCH_KIND, 1, 2, 3, 4, 5), (MATCH_KIND, MATCH, PLACE, 16, 1, 64, 2))
STEPS_BACK = sorted({fact for chain in CHAINS for fact in chain if fact > 0})
REACH = 128  # of matches, in steps
ORDERS = slice(2, None, 2)  # of a chain are experts: those of order 3, 5, ...
CAUTION = 5.0  # nats, of all steps together, that a weight must save to move by one from where it starts
GROUP = 64  # melodies heard at once
Array = np.ndarray | jax.Array
Melodies = Sequence[np.ndarray]
Expert = Callable[[Melodies], np.ndarray]
"""Melodies -> log-probabilities of all tokens at all their steps, by one or several: (N, K, size)."""


class Steps(NamedTuple):
    """All steps of some melodies: experts' log-probabilities (N, K, size), tokens (N,), places (N,)."""

    log_probs: Array
    tokens: Array
    places: Array


def count(melodies: Melodies, size: int, chains: Chains = CHAINS) -> Expert:
    """Experts that have counted melodies: the chain of tokens by Kneser-Ney, the others by Witten-Bell."""
    told = facts(melodies, size)
    kind = lambda chain: "kneser_ney" if chain == CHAINS[0] else "witten_bell"
    models = {
        chain: ngram.fit_windows(windows(told, chain, size), len(chain) + 1, size, kind(chain))
        for chain in chains
    }

    def say(melodies: Melodies) -> np.ndarray:
        told = facts(melodies, size)
        each = (ngram.distributions(model, windows(told, chain, size)) for chain, model in models.items())
        return np.log(np.stack([said for orders in each for said in list(orders)[ORDERS]], axis=1))

    return say


def facts(melodies: Melodies, size: int) -> Mapping[int, np.ndarray]:
    """Every fact at every step of melodies, int64 (all steps,)."""
    told = [_facts(np.asarray(melody, np.int64), size) for melody in melodies]
    return {fact: np.concatenate([one[fact] for one in told]) for fact in told[0]}


def _facts(melody: np.ndarray, size: int) -> dict[int, np.ndarray]:
    length, back = len(melody), max(STEPS_BACK)
    padded = np.concatenate([np.full(back, size), melody])
    before = {steps: padded[back - steps :][:length] for steps in STEPS_BACK}
    followed, kind = _match(np.append(before[1], np.zeros(-length % 128, int)), size)
    heard = {MATCH: followed[:length], MATCH_KIND: kind[:length]}
    return {TOKEN: melody, PLACE: np.arange(length) % STEPS_PER_BAR, **before, **heard}


def _match(tokens: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    followed, length = _find(tokens[:, None], size)
    return np.asarray(followed)[:, 0], np.asarray(longest_match.kind(length))[:, 0]


@functools.partial(jax.jit, static_argnums=1)
def _find(tokens: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    return longest_match.find(tokens, tokens == size, REACH, size)


def windows(told: Mapping[int, np.ndarray], chain: Sequence[int], size: int) -> np.ndarray:
    """Every step as digits of one integer, int64 (all steps,): its token last, before it the facts."""
    return np.sum([told[fact] * (size + 1) ** digit for digit, fact in enumerate((TOKEN, *chain))], axis=0)


def listen(experts: Sequence[Expert], melodies: Melodies) -> Steps:
    """What the experts say of every step of melodies."""
    places = [np.arange(len(melody)) % STEPS_PER_BAR for melody in melodies]
    said = np.concatenate([expert(melodies) for expert in experts], axis=1)
    return Steps(said, np.concatenate(list(melodies)), np.concatenate(places))


def fit(experts: Sequence[Expert], melodies: Melodies, updates: int = 60) -> jax.Array:
    """The weights (places, experts) that suit melodies best, by L-BFGS from those of the best expert."""
    steps = listen(experts, melodies)
    own = np.take_along_axis(steps.log_probs, np.asarray(steps.tokens)[:, None, None], axis=2)[..., 0].mean(
        axis=0
    )
    start = jnp.zeros((STEPS_PER_BAR, len(own))).at[:, own.argmax()].set(1.0)
    return _minimise(start, Steps(*map(jnp.asarray, steps)), updates)


def bits(weights: Array, experts: Sequence[Expert], melodies: Melodies) -> float:
    """Mean bits a token of melodies, by the mixture."""
    parts = (listen(experts, melodies[begin : begin + GROUP]) for begin in range(0, len(melodies), GROUP))
    nats = np.concatenate([np.asarray(cost(weights, steps)) for steps in parts])
    return float(nats.mean(dtype=np.float64) / np.log(2))


@jax.jit
def mix(weights: Array, steps: Steps) -> jax.Array:
    """The mixture's log-probabilities of all tokens at every step (N, size)."""
    return jax.nn.log_softmax(jnp.einsum("nk,nkw->nw", jnp.asarray(weights)[steps.places], steps.log_probs))


def cost(weights: Array, steps: Steps) -> jax.Array:
    """Nats of every step (N,)."""
    return -jnp.take_along_axis(mix(weights, steps), jnp.asarray(steps.tokens)[:, None], axis=1)[:, 0]


@functools.partial(jax.jit, static_argnums=2)
def _minimise(start: jax.Array, steps: Steps, updates: int) -> jax.Array:
    def objective(weights):
        return cost(weights, steps).mean() + CAUTION * ((weights - start) ** 2).sum() / len(steps.tokens)

    def update(_, carry):
        weights, state = carry
        value, gradient = value_and_grad(weights, state=state)
        told = {"value": value, "grad": gradient, "value_fn": objective}
        change, state = optimiser.update(gradient, state, weights, **told)
        return optax.apply_updates(weights, change), state

    optimiser, value_and_grad = optax.lbfgs(), optax.value_and_grad_from_state(objective)
    return jax.lax.fori_loop(0, updates, update, (start, optimiser.init(start)))[0]
