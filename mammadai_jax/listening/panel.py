# pyright: reportAttributeAccessIssue=false, reportReturnType=false
"""Simulated listeners: what they like in a melody and how they choose between two.

They stand in for people where an experiment needs to know the taste it is after; what they say is never to be
shown as a rating by people. A listener hears traits, standardised by the mean and the standard deviation that
real melodies have, and likes each one less the further it is from an ideal:

    u(x) = sum_k weight_k exp(-((z_k - ideal_k) / width_k)^2 / 2) + adherence * share of the prompt's claims

Each term saturates: more of a good thing is worse again, so a learned stand-in for the taste can be
over-optimised. With `d` = u(a) - u(b), plus what the listener adds to the melody heard first, over the
listener's noise, the choice follows Davidson (1970), the model of Bradley and Terry with ties:

    p(a) : p(tie) : p(b)  =  exp(d / 2) : tie : exp(-d / 2)

and with the probability `inattention` it is one of the three at random.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

static = functools.partial(struct.field, pytree_node=False)


class Liking(NamedTuple):
    """Of one trait, in standard deviations from the mean of real melodies: what is best, and how narrowly.

    `weight` is what the best is worth, in units of utility.
    """

    ideal: float
    width: float
    weight: float


# The taste that the listeners of a panel have in common: a tune that sings. Steps with some leaps among them,
# motifs that return but not endlessly, a rhythm that is neither even nor restless, few long silences, a range
# of about an octave (as real melodies have), hardly a note out of the scale, and an end on the tonic.
# Traits with a small weight are matters of personal taste.
TASTE = {
    "stepwise": Liking(0.4, 1.2, 1.2),
    "leaps": Liking(-0.1, 1.2, 0.6),
    "density": Liking(0.1, 1.2, 1.0),
    "repetition": Liking(0.5, 1.0, 1.2),
    "rests": Liking(-0.2, 1.0, 0.8),
    "chromatic": Liking(-0.3, 1.2, 1.0),
    "tonic_end": Liking(0.8, 1.0, 1.2),
    "range": Liking(0.0, 1.0, 1.0),
    "syncopation": Liking(0.0, 1.2, 0.5),
    "rhythm_variety": Liking(0.2, 1.2, 0.6),
    "pitch_variety": Liking(0.2, 1.2, 0.6),
    "arch": Liking(0.5, 1.5, 0.4),
    "register": Liking(0.0, 1.5, 0.3),
    "slope": Liking(-0.3, 1.5, 0.2),
    "minor": Liking(0.0, 1.5, 0.2),
    "triple": Liking(0.0, 1.5, 0.1),
}


@struct.dataclass
class Panel:
    """Listeners: each array has them, L in number, on its leading axis; K is the number of traits.

    Attributes:
        ideal: (L, K), in the units of the traits.
        width: (L, K), likewise.
        weight: (L, K), in units of utility.
        adherence: (L,), utility of a melody of which every claim of the prompt holds.
        noise: (L,), differences in utility are judged in units of this.
        position: (L,), utility added to the melody that is heard first.
        tie: (L,), Davidson's nu: equal melodies tie with the probability nu / (2 + nu).
        inattention: (L,), share of choices made at random.
        names: of the K traits (static).

    """

    ideal: jax.Array
    width: jax.Array
    weight: jax.Array
    adherence: jax.Array
    noise: jax.Array
    position: jax.Array
    tie: jax.Array
    inattention: jax.Array
    names: tuple[str, ...] = static(default=())

    @property
    def listeners(self) -> int:
        """How many there are."""
        return self.noise.shape[0]


class Reference(NamedTuple):
    """What real melodies are like: K traits, their `mean` (K,) and their standard deviation `scale` (K,)."""

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray


def reference(traits: Mapping[str, jax.Array]) -> Reference:
    """Mean and scale of the traits, each (N,), of real melodies; those that `TASTE` has not are left out.

    A trait that does not vary gets a scale of 0.05, else no listener could hear anything new in it.
    """
    names = tuple(name for name in TASTE if name in traits)
    values = np.stack([np.asarray(traits[name], np.float64) for name in names], axis=-1)
    scale = values.std(axis=0)
    return Reference(names, values.mean(axis=0), np.where(scale > 1e-6, scale, 0.05))


def panel(
    key: jax.Array,
    listeners: int,
    names: Sequence[str],
    mean: jax.Array | np.ndarray,
    scale: jax.Array | np.ndarray,
    taste: Mapping[str, Liking] = TASTE,
    difference: float = 1.0,
) -> Panel:
    """A panel of listeners who share a taste and differ in it.

    Arguments: `mean` and `scale` (K,) of the traits in real melodies (see `reference`); `difference`
    multiplies how far listeners are apart, 0 makes them all alike. ValueError for a trait that `taste` does
    not have, for a scale that is not above 0 and for less than one listener.
    """
    unknown = [name for name in names if name not in taste]
    if unknown:
        raise ValueError(f"no liking is known for {', '.join(unknown)}; traits with one: {', '.join(taste)}")
    mean, scale = np.asarray(mean, np.float32), np.asarray(scale, np.float32)
    chex.assert_shape([mean, scale], (len(names),))
    if listeners < 1 or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError(f"a panel needs a listener or more and scales above 0, got {listeners} and {scale}")
    likings = np.array([taste[name] for name in names], np.float32)
    ideal, width, weight = jnp.asarray(likings.T)
    keys = jax.random.split(key, 8)
    draw = lambda k, shape: difference * jax.random.normal(keys[k], shape)
    each, one = (listeners, len(names)), (listeners,)
    return Panel(
        ideal=mean + scale * (ideal + 0.5 * draw(0, each)),
        width=scale * width * jnp.exp(0.2 * draw(1, each)),
        weight=weight * jnp.exp(0.4 * draw(2, each)),
        adherence=2.0 * jnp.exp(0.4 * draw(3, one)),
        noise=0.45 * jnp.exp(0.3 * draw(4, one)),
        position=0.1 + 0.1 * draw(5, one),
        tie=1.1 * jnp.exp(0.4 * draw(6, one)),
        inattention=jnp.minimum(0.03 * jnp.exp(0.7 * draw(7, one)), 0.5),
        names=tuple(names),
    )


def split(panel: Panel, held_out: int) -> tuple[Panel, Panel]:
    """The panel without its last `held_out` listeners, and those; ValueError if one part would be empty."""
    if not 0 < held_out < panel.listeners:
        raise ValueError(
            f"of {panel.listeners} listeners 1 to {panel.listeners - 1} are held out, not {held_out}"
        )
    first, last = slice(None, -held_out), slice(-held_out, None)
    return jax.tree.map(lambda x: x[first], panel), jax.tree.map(lambda x: x[last], panel)


def utility(panel: Panel, traits: Mapping[str, jax.Array], adherence: jax.Array) -> jax.Array:
    """What each melody is worth to each listener, float32 (L, N).

    Arguments: `traits`, each (N,), with every name that the panel has (others are not heard); `adherence`
    (N,) or (L, N), share of the prompt's claims that hold. ValueError if a trait is missing.
    """
    missing = [name for name in panel.names if name not in traits]
    if missing:
        raise ValueError(f"the listeners judge by traits that are missing: {', '.join(missing)}")
    total = panel.adherence[:, None] * jnp.asarray(adherence, jnp.float32)
    for k, name in enumerate(panel.names):  # one after the other: (L, N, K) would be large
        z = (jnp.asarray(traits[name])[None, :] - panel.ideal[:, k, None]) / panel.width[:, k, None]
        total += panel.weight[:, k, None] * jnp.exp(-0.5 * z**2)
    return total


def gold(panel: Panel, traits: Mapping[str, jax.Array], adherence: jax.Array) -> jax.Array:
    """The taste of a panel, float32 (N,): its mean utility. That of held-out listeners is the gold reward."""
    return utility(panel, traits, adherence).mean(axis=0)


def probabilities(
    panel: Panel, listener: jax.Array, utility_a: jax.Array, utility_b: jax.Array, first_a: jax.Array
) -> jax.Array:
    """Of choosing a, a tie, b: float32 (P, 3).

    Arguments, (P,) each or shapes that go together: `listener` is an index into the panel, the utilities are
    those *that listener* has of the two melodies, `first_a` says whether a is heard first.
    """
    who = jax.tree.map(lambda x: x[listener], (panel.noise, panel.position, panel.tie, panel.inattention))
    noise, position, tie, inattention = who
    heard = utility_a - utility_b + jnp.where(first_a, position, -position)
    d = heard / noise
    tied = jnp.broadcast_to(jnp.log(jnp.maximum(tie, 1e-30)), d.shape)
    attentive = jax.nn.softmax(jnp.stack([d / 2, tied, -d / 2], axis=-1), axis=-1)
    share = inattention[..., None]
    return (1 - share) * attentive + share / 3


def choose(
    key: jax.Array,
    panel: Panel,
    listener: jax.Array,
    utility_a: jax.Array,
    utility_b: jax.Array,
    first_a: jax.Array,
) -> jax.Array:
    """Choices int32 (P,): 1 for a, 0 for a tie, -1 for b. Arguments as of `probabilities`."""
    chances = probabilities(panel, listener, utility_a, utility_b, first_a)
    drawn = jax.random.categorical(key, jnp.log(jnp.maximum(chances, 1e-30)), axis=-1)
    return (1 - drawn).astype(jnp.int32)


def opinions(
    key: jax.Array, panel: Panel, listener: jax.Array, utility: jax.Array, mean: jax.Array, scale: jax.Array
) -> jax.Array:
    """Opinion scores int32 (P,), 1 (bad) to 5 (excellent), as of a listening test of quality (ITU-T P.800).

    3 is given to what a listener finds ordinary, and a point more to what is a deviation better. What is
    heard has Gumbel noise, which of two melodies makes the choice between them Bradley's and Terry's; with
    the probability `inattention` the score is any.

    Args:
        key: consumed.
        panel: of L listeners.
        listener: int (P,), who is asked.
        utility: (P,), what the melody is worth to that listener.
        mean, scale: (L,), of what such melodies are worth to each listener.

    """
    key_noise, key_lapse, key_any = jax.random.split(key, 3)
    noise = panel.noise[listener] * (jax.random.gumbel(key_noise, utility.shape) - np.euler_gamma)
    points = 3 + (utility + noise - mean[listener]) / scale[listener]
    points = jnp.clip(jnp.round(points), 1, 5).astype(jnp.int32)
    lapses = jax.random.bernoulli(key_lapse, panel.inattention[listener])
    return jnp.where(lapses, jax.random.randint(key_any, points.shape, 1, 6), points)


class Ceiling(NamedTuple):
    """How well choices can be predicted at best, each a scalar; ties do not count.

    Attributes:
        taste: accuracy of knowing what share of the panel takes which melody, but not who is asked. A reward
            model cannot be better.
        listener: accuracy of knowing who is asked, too (but not which melody was heard first).
        agreement: probability that two different listeners who both decide take the same melody.
        ties: share of ties.

    """

    taste: jax.Array
    listener: jax.Array
    agreement: jax.Array
    ties: jax.Array


def ceiling(panel: Panel, utility_a: jax.Array, utility_b: jax.Array) -> Ceiling:
    """The raters' ceiling on pairs, of which the utilities (L, P) are every listener's.

    An expectation, not a simulation: over listeners, each as likely, and over which melody is heard first.
    With a single listener there is no agreement: it is NaN.
    """
    chex.assert_equal_shape([utility_a, utility_b])
    who = jnp.arange(panel.listeners)[:, None]
    orders = [probabilities(panel, who, utility_a, utility_b, jnp.asarray(first)) for first in (True, False)]
    a, tie, b = jnp.moveaxis((orders[0] + orders[1]) / 2, -1, 0)
    decided = (a + b).sum()
    # sums over different listeners l, m of p_l p_m are the square of the sum without the squares
    others = lambda p: (p.sum(axis=0) ** 2 - (p**2).sum(axis=0)).sum()
    return Ceiling(
        taste=jnp.maximum(a.sum(axis=0), b.sum(axis=0)).sum() / decided,
        listener=jnp.maximum(a, b).sum() / decided,
        agreement=(others(a) + others(b)) / others(a + b),
        ties=tie.mean(),
    )
