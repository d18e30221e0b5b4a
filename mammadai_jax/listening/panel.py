# pyright: reportAttributeAccessIssue=false, reportReturnType=false
"""Simulated listeners: their utility of a melody and their choice between two.

They replace people in experiments that need to know the true preference. Their choices are never to be shown
as ratings by people. A listener's utility depends on a melody's traits, standardised by the mean and the
standard deviation of real melodies, and decreases with the distance of each from an ideal:

    u(x) = sum_k weight_k exp(-((z_k - ideal_k) / width_k)^2 / 2) + adherence * share of the prompt's claims

Each term has its maximum at the ideal, so a learned reward model can be over-optimised. Let `d` be
u(a) - u(b), plus the listener's `position` for the melody heard first, divided by the listener's `noise`. The
choice follows Davidson (1970), the Bradley-Terry model with ties:

    p(a) : p(tie) : p(b)  =  exp(d / 2) : tie : exp(-d / 2)

and with the probability `inattention` it is one of the three uniformly at random.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

static = functools.partial(struct.field, pytree_node=False)


class Liking(NamedTuple):
    """The utility of one trait: `weight` exp(-((z - `ideal`) / `width`)^2 / 2).

    Attributes:
        ideal: in standard deviations from the mean of real melodies.
        width: likewise.
        weight: in units of utility.

    """

    ideal: float
    width: float
    weight: float


# The mean taste of a panel, for singable tunes: steps with some leaps, moderate repetition of motifs, a
# moderately varied rhythm, few long rests, a range of about an octave (as real melodies have), few notes
# outside the scale, and an end on the tonic. Traits with a small weight differ between listeners.
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
    """L listeners, on the leading axis of each array, with likings for K traits.

    Attributes:
        ideal: (L, K), in the units of the traits.
        width: (L, K), likewise.
        weight: (L, K), in units of utility.
        adherence: (L,), utility of a melody for which every claim of the prompt holds.
        noise: (L,), scale of the differences in utility.
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
        """The number of listeners L."""
        return self.noise.shape[0]


class Listeners(Protocol):
    """What choices depend on beside the utilities: each as of a `Panel`."""

    noise: jax.Array
    position: jax.Array
    tie: jax.Array
    inattention: jax.Array

    @property
    def listeners(self) -> int:
        """The number of listeners L."""
        ...


class Reference(NamedTuple):
    """Statistics of K traits in real melodies: `mean` (K,) and standard deviation `scale` (K,)."""

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray


def reference(traits: Mapping[str, jax.Array]) -> Reference:
    """Mean and scale of the traits, each (N,), of real melodies; only those in `TASTE` are used.

    A constant trait gets a scale of 0.05, so that listeners can tell other values of it apart.
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
    *,
    taste: Mapping[str, Liking] = TASTE,
    difference: float = 1.0,
) -> Panel:
    """A panel of listeners whose parameters vary around a common taste.

    Arguments: `mean` and `scale` (K,) of the traits in real melodies (see `reference`); `difference`
    multiplies the deviations between listeners, and 0 makes them all equal. ValueError for a trait that is
    not in `taste`, for a scale that is not above 0 and for less than one listener.
    """
    unknown = [name for name in names if name not in taste]
    if unknown:
        raise ValueError(f"the taste has no liking for {', '.join(unknown)}, only for {', '.join(taste)}")
    mean, scale = np.asarray(mean, np.float32), np.asarray(scale, np.float32)
    chex.assert_shape([mean, scale], (len(names),))
    if listeners < 1 or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError(
            f"a panel needs at least one listener and scales above 0, got {listeners} and {scale}"
        )
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
    """The panel without its last `held_out` listeners, and these; ValueError if one part would be empty."""
    if not 0 < held_out < panel.listeners:
        raise ValueError(
            f"held_out should be 1 to {panel.listeners - 1} for {panel.listeners} listeners, got {held_out}"
        )
    first, last = slice(None, -held_out), slice(-held_out, None)
    return jax.tree.map(lambda x: x[first], panel), jax.tree.map(lambda x: x[last], panel)


def utility(panel: Panel, traits: Mapping[str, jax.Array], adherence: jax.Array) -> jax.Array:
    """Each listener's utility of each melody, float32 (L, N).

    Arguments: `traits`, each (N,), with every name that the panel has (others are ignored); `adherence`
    (N,) or (L, N), share of the prompt's claims that hold. ValueError if a trait is missing.
    """
    missing = [name for name in panel.names if name not in traits]
    if missing:
        raise ValueError(f"traits that the utility needs are missing: {', '.join(missing)}")
    total = panel.adherence[:, None] * jnp.asarray(adherence, jnp.float32)
    for k, name in enumerate(panel.names):  # one after the other: (L, N, K) would be large
        z = (jnp.asarray(traits[name])[None, :] - panel.ideal[:, k, None]) / panel.width[:, k, None]
        total += panel.weight[:, k, None] * jnp.exp(-0.5 * z**2)
    return total


def gold(panel: Panel, traits: Mapping[str, jax.Array], adherence: jax.Array) -> jax.Array:
    """The mean utility of a panel, float32 (N,). For held-out listeners this is the gold reward."""
    return utility(panel, traits, adherence).mean(axis=0)


def probabilities(
    panel: Listeners, listener: jax.Array, utility_a: jax.Array, utility_b: jax.Array, first_a: jax.Array
) -> jax.Array:
    """Probabilities of choosing a, a tie, b: float32 (P, 3).

    Arguments, each (P,) or of shapes that broadcast: `listener` is an index into the panel, the utilities are
    that listener's of the two melodies, `first_a` says whether a is heard first.
    """
    fields = (panel.noise, panel.position, panel.tie, panel.inattention)
    noise, position, tie, inattention = (field[listener] for field in fields)
    d = (utility_a - utility_b + jnp.where(first_a, position, -position)) / noise
    tied = jnp.broadcast_to(jnp.log(jnp.maximum(tie, 1e-30)), d.shape)
    attentive = jax.nn.softmax(jnp.stack([d / 2, tied, -d / 2], axis=-1), axis=-1)
    share = inattention[..., None]
    return (1 - share) * attentive + share / 3


def choose(
    key: jax.Array,
    panel: Listeners,
    listener: jax.Array,
    utility_a: jax.Array,
    utility_b: jax.Array,
    first_a: jax.Array,
) -> jax.Array:
    """Choices int32 (P,): 1 for a, 0 for a tie, -1 for b. Arguments as of `probabilities`."""
    chances = probabilities(panel, listener, utility_a, utility_b, first_a)
    index = jax.random.categorical(key, jnp.log(jnp.maximum(chances, 1e-30)), axis=-1)
    return (1 - index).astype(jnp.int32)


def opinions(
    key: jax.Array,
    panel: Listeners,
    listener: jax.Array,
    utility: jax.Array,
    mean: jax.Array,
    scale: jax.Array,
) -> jax.Array:
    """Opinion scores int32 (P,), 1 (bad) to 5 (excellent), as of a listening test of quality (ITU-T P.800).

    A listener gives 3 to a melody of mean utility and a point more for each standard deviation above. The
    utility has Gumbel noise, which makes the comparison of two melodies the Bradley-Terry model. With the
    probability `inattention` the score is uniformly random.

    Args:
        key: consumed.
        panel: of L listeners.
        listener: int (P,), index of the listener.
        utility: (P,), that listener's of the melody.
        mean: (L,), of each listener's utility of such melodies.
        scale: (L,), its standard deviation.

    """
    key_noise, key_lapse, key_any = jax.random.split(key, 3)
    noise = panel.noise[listener] * (jax.random.gumbel(key_noise, utility.shape) - np.euler_gamma)
    points = 3 + (utility + noise - mean[listener]) / scale[listener]
    points = jnp.clip(jnp.round(points), 1, 5).astype(jnp.int32)
    lapses = jax.random.bernoulli(key_lapse, panel.inattention[listener])
    return jnp.where(lapses, jax.random.randint(key_any, points.shape, 1, 6), points)


class Ceiling(NamedTuple):
    """The highest accuracies of predicting choices, each a scalar; ties do not count.

    Attributes:
        taste: of knowing which share of the panel chooses which melody, but not the listener. No reward model
            exceeds it.
        listener: of knowing the listener, too (but not which melody was heard first).
        agreement: probability that two different listeners who both decide choose the same melody.
        ties: share of ties.

    """

    taste: jax.Array
    listener: jax.Array
    agreement: jax.Array
    ties: jax.Array


def ceiling(panel: Panel, utility_a: jax.Array, utility_b: jax.Array) -> Ceiling:
    """The raters' ceiling on P pairs with the listeners' utilities (L, P).

    It is computed as an expectation, over listeners and over which melody is heard first, uniformly. The
    agreement of a single listener is NaN.
    """
    chex.assert_equal_shape([utility_a, utility_b])
    listeners = jnp.arange(panel.listeners)[:, None]
    orders = [
        probabilities(panel, listeners, utility_a, utility_b, jnp.asarray(first)) for first in (True, False)
    ]
    a, tie, b = jnp.moveaxis((orders[0] + orders[1]) / 2, -1, 0)
    decided = (a + b).sum()
    # the sum of p_l p_m over different listeners l, m is the square of the sum minus the squares
    others = lambda p: (p.sum(axis=0) ** 2 - (p**2).sum(axis=0)).sum()
    return Ceiling(
        taste=jnp.maximum(a.sum(axis=0), b.sum(axis=0)).sum() / decided,
        listener=jnp.maximum(a, b).sum() / decided,
        agreement=(others(a) + others(b)) / others(a + b),
        ties=tie.mean(),
    )
