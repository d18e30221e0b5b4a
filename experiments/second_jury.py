# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportCallIssue=false
# pyright: reportArgumentType=false
# (flax adds constructors and `replace` to its dataclasses, and declares that apply returns a tuple)
"""A second jury of simulated listeners, whose utility is made of nothing that a learner has as an input.

The utility of the first jury is made of the traits that the reward model, the critic and the music tower
read, and of the claims of the prompt. A listener l of the second one hears no prompt, and has the utility

    u_l(x) = SCALE sum_k w_lk clip(z_lk(x)),   w_l >= 0, of length 1

of three parts, each standardised for each listener on real tunes:

held-out traits   a panel's likings (`listening.panel`) of the measures of `held_out_traits`, with the ideals
                  near real tunes' means
random features   a linear functional, of the listener's own, of what networks make of the notes that have
                  fixed random parameters and are never trained
likelihood        the log-likelihood a step by a prior that was trained for this jury alone: of another body,
                  width and seed than the composer, on melodic families that nothing else learns from

Choices are made as those of the first jury (`panel.choose`), with noise, ties, position bias and inattention
of the same distributions. Every constant was fixed before any system was judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from experiments.held_out_traits import NAMES, held_out_traits
from mammadai_jax.agents import prior
from mammadai_jax.learning import sequences
from mammadai_jax.listening import gathering
from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.panel import Liking
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.networks.towers import MusicTower
from mammadai_jax.training.loop import Learner

PARTS = ("held_out_traits", "random_features", "likelihood")
# All measures alike: none is preferred to another, and the ideal is what real tunes are. Listeners differ
# from it by half a deviation, as those of the first jury from theirs.
TASTE: Mapping[str, Liking] = dict.fromkeys(NAMES, Liking(ideal=0.0, width=1.0, weight=1.0))
# The mean deviation of a listener's utility over real tunes is 1.1 in the first jury; so the noise, which is
# drawn from the same distribution, makes the choices of both equally uncertain.
SCALE = 1.1
# Of the logarithms of the parts' weights, as of the weights in the first jury; on average all weigh the same.
SPREAD = 0.4
# Deviations of each part. A melody that is likelier than most real tunes gains nothing from being likelier
# still: the likeliest melody is one held note. Otherwise a part that is far from all real tunes must not
# outweigh the others.
LOWEST, HIGHEST = -4.0, {"held_out_traits": 4.0, "random_features": 4.0, "likelihood": 1.0}
# Random networks: what they hear around a note is from two steps to two bars long.
NETWORKS = (
    {"kernel_sizes": (4, 4), "strides": (2, 2), "width": 32},
    {"kernel_sizes": (8, 6, 6), "strides": (4, 2, 2), "width": 32},
    {"kernel_sizes": (32, 3), "strides": (8, 2), "width": 32},
)
FEATURES, NETWORK_SEED = 32, 20_001  # of each network; the seed is the first one's
PRIOR = prior.Config(body="lstm", width=96, num_layers=1, num_updates=500, batch_size=32, sequence_length=96)
PRIOR_SEED = 10_007  # added to the experiment's


@struct.dataclass
class SecondPanel:
    """L listeners, on the leading axis of each array.

    Attributes:
        likings: of the held-out traits.
        functional: of F random features, float32 (L, F).
        weight: of the parts, float32 (L, 3), of length 1.
        mean: of the parts on real tunes, float32 (L, 3).
        scale: their standard deviation, float32 (L, 3).
        noise: and position, tie, inattention, float32 (L,): as of a `Panel`.

    """

    likings: panels.Panel
    functional: jax.Array
    weight: jax.Array
    mean: jax.Array
    scale: jax.Array
    noise: jax.Array
    position: jax.Array
    tie: jax.Array
    inattention: jax.Array

    @property
    def listeners(self) -> int:
        """The number of listeners L."""
        return self.likings.listeners


Measures = Callable[[Any], Mapping[str, jax.Array]]


def panel(key: jax.Array, listeners: int, real: Mapping[str, jax.Array]) -> SecondPanel:
    """Listeners who know what real tunes are like, of which these are the measures (see `measures`)."""
    key_likings, key_functional, key_weight = jax.random.split(key, 3)
    values = np.stack([np.asarray(real[name]) for name in NAMES], axis=-1)
    scale = np.where(values.std(axis=0) > 1e-6, values.std(axis=0), 0.05)
    likings = panels.panel(key_likings, listeners, NAMES, values.mean(axis=0), scale, taste=TASTE)
    size = real["random_features"].shape[-1]
    weight = jnp.exp(SPREAD * jax.random.normal(key_weight, (listeners, len(PARTS))))
    drawn = SecondPanel(
        likings=likings,
        functional=jax.random.normal(key_functional, (listeners, size)) / np.sqrt(size),
        weight=weight / jnp.linalg.norm(weight, axis=-1, keepdims=True),
        mean=jnp.zeros((listeners, len(PARTS))),
        scale=jnp.ones((listeners, len(PARTS))),
        **{name: getattr(likings, name) for name in ("noise", "position", "tie", "inattention")},
    )
    raw = _raw(drawn, real)
    return drawn.replace(mean=raw.mean(axis=-1), scale=jnp.maximum(raw.std(axis=-1), 1e-6))


def parts(panel: SecondPanel, measures: Mapping[str, jax.Array]) -> jax.Array:
    """The three parts of each listener's utility of N melodies, standardised and clipped: (L, 3, N)."""
    z = (_raw(panel, measures) - panel.mean[..., None]) / panel.scale[..., None]
    highest = jnp.array([HIGHEST[name] for name in PARTS])
    return jnp.clip(z, LOWEST, highest[:, None])


def utility(panel: SecondPanel, measures: Mapping[str, jax.Array], adherence: Any = None) -> jax.Array:
    """Each listener's utility of each melody, float32 (L, N); the prompt's claims are not asked for."""
    del adherence
    return SCALE * jnp.einsum("lk,lkn->ln", panel.weight, parts(panel, measures))


def gold(panel: SecondPanel, measures: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The mean utility of the panel and the mean of each of its parts, each float32 (N,)."""
    means = parts(panel, measures).mean(axis=0)
    return {
        "second_gold": utility(panel, measures).mean(axis=0),
        **{f"second_{name}": mean for name, mean in zip(PARTS, means, strict=True)},
    }


def _raw(panel: SecondPanel, measures: Mapping[str, jax.Array]) -> jax.Array:
    """The parts as they are, (L, 3, N)."""
    liked = panels.utility(panel.likings, measures, jnp.zeros(measures["likelihood"].shape))
    random = panel.functional @ measures["random_features"].T
    return jnp.stack([liked, random, jnp.broadcast_to(measures["likelihood"], liked.shape)], axis=1)


def measures(params: Any) -> Measures:
    """What the listeners hear of melodies (N, T), with the parameters of their prior."""

    @jax.jit
    def measure(tokens):
        tokens = jnp.asarray(tokens)
        return {
            **held_out_traits(tokens),
            "random_features": random_features(tokens),
            "likelihood": likelihood(params, tokens),
        }

    return measure


def random_features(tokens: jax.Array) -> jax.Array:
    """What networks with fixed random parameters make of melodies (N, T): float32 (N, 3 * FEATURES).

    They are music towers without traits, whose outputs are vectors of unit length, here times sqrt(FEATURES).
    """
    towers = [MusicTower(use_traits=False, embedding_dim=FEATURES, **shape) for shape in NETWORKS]
    each = [
        tower.apply(tower.init(jax.random.key(NETWORK_SEED + number), tokens[:1]), tokens)
        for number, tower in enumerate(towers)
    ]
    return np.sqrt(FEATURES) * jnp.concatenate(each, axis=-1)


def likelihood(params: Any, tokens: jax.Array) -> jax.Array:
    """Mean log-likelihood of a step of melodies (N, T) by the jury's prior, nats: float32 (N,)."""
    composer = prior.make_composer(PRIOR, MAGENTA.size)
    return -sequences.negative_log_likelihood(composer, params, tokens.T).mean(axis=0)


def prior_learner(seed: int, excerpts: np.ndarray, num_updates: int = PRIOR.num_updates) -> Learner:
    """Training of the jury's prior on excerpts (N, T)."""
    config = PRIOR.replace(num_updates=num_updates, lr_warmup_steps=min(50, num_updates // 2))
    return Learner(
        name="jury-prior",
        init=lambda: prior.init(jax.random.key(seed + PRIOR_SEED), config, MAGENTA.size),
        step=lambda state, data: prior.step(state, config, data, MAGENTA.size),
        data=prior.stream(list(excerpts), MAGENTA.size),
        updates=num_updates,
        chunk=min(50, num_updates),
        notes=config.batch_size * config.sequence_length,
        shown="bits",
    )


def jury(panel: SecondPanel, measure: Measures, key: jax.Array, votes: int) -> gathering.Gatherer:
    """The second jury as a gatherer, beside `stages.captioned.simulated` for the first."""
    own = {"votes": votes, "name": "second-jury", "utility_fn": _utility}
    return gathering.SimulatedListeners(panel, key, measure, **own)


_utility = jax.jit(utility)
