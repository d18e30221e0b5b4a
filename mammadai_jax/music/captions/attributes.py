"""The attributes that a caption can claim, and their measurement from tokens of `MAGENTA`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.captions.kinds import KINDS, KindProbe
from mammadai_jax.music.traits import traits

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "mode": ("major", "minor"),
    "register": ("low", "middle", "high"),
    "range": ("narrow", "medium", "wide"),
    "density": ("calm", "moderate", "busy"),
    "contour": ("level", "falling", "rising", "arch", "dip"),
    "repetition": ("varied", "repetitive"),
    "motion": ("stepwise", "mixed", "leaping"),
    "articulation": ("flowing", "pauses"),
    "meter": ("duple", "triple"),
    "ending": ("open", "tonic"),
    "kind": KINDS,
}
"""Values by attribute. "meter" is triple in bars of 12 steps, 3/4 as well as 6/8."""
MEASURED = tuple(name for name in ATTRIBUTES if name != "kind")  # of any melody
INPUTS = sum(len(ATTRIBUTES[name]) for name in MEASURED)

# Near the 33 % and 67 % quantiles (range: 25 % and 80 %) of excerpts of 96 steps of the folk melodies,
# each in all octaves that fit the alphabet.
REGISTER = (61.5, 68.5)  # mean MIDI pitch
RANGE = (9.5, 14.5)  # semitones
DENSITY = (4.5, 6.5)  # notes in 16 steps
LEAPS = (0.07, 0.14)  # share of intervals
SLOPE, ARCH = 2.0, 1.5  # semitones: a fifth of the excerpts rises by more, and a fifth falls by more
REPETITION = 0.15  # share of steps; the median
RESTS = 0.035  # share of steps: more than three of 96, as nearly half of the excerpts have


def attributes(tokens: jax.Array) -> dict[str, jax.Array]:
    """All attributes except the kind, each int32 (N,), an index in its values, of melodies int32 (N, T).

    Mode and meter are measured on the tokens (`traits.minor`, `traits.triple`), whatever the notation says.
    """
    measured = traits(tokens)

    def level(name: str, thresholds: tuple[float, ...]) -> jax.Array:
        return jnp.searchsorted(jnp.array(thresholds), measured[name], side="left")

    values = {
        "mode": measured["minor"] > 0,
        "register": level("register", REGISTER),
        "range": level("range", RANGE),
        "density": level("density", DENSITY),
        "contour": _contour(measured["slope"], measured["arch"]),
        "repetition": measured["repetition"] > REPETITION,
        "motion": level("leaps", LEAPS),
        "articulation": measured["rests"] > RESTS,
        "meter": measured["triple"] > 0,
        "ending": measured["tonic_end"] > 0,
    }
    return {name: value.astype(jnp.int32) for name, value in values.items()}


def _contour(slope: jax.Array, arch: jax.Array) -> jax.Array:
    """Rising or falling if the outer thirds differ enough, else an arch or a dip, else level."""
    bent = jnp.where(arch > ARCH, 3, jnp.where(arch < -ARCH, 4, 0))
    return jnp.where(slope < -SLOPE, 1, jnp.where(slope > SLOPE, 2, bent))


def measured(tokens: jax.Array, probe: KindProbe | None = None) -> jax.Array:
    """What could be claimed of melodies (N, T), int32 (N, attributes) as `encode` writes it.

    Without a `probe` no kind can be.
    """
    kind = jnp.full(tokens.shape[:1], -1) if probe is None else probe.predict(tokens)
    values = attributes(tokens) | {"kind": kind}
    return jnp.stack([values[name] for name in ATTRIBUTES], axis=-1).astype(jnp.int32)


def inputs_of(codes: jax.Array) -> jax.Array:
    """Claims int (N, attributes) as inputs of a network, float32 (N, INPUTS): 1 for each value claimed.

    The kind of tune, which cannot be measured, is left out.
    """
    codes = jnp.asarray(codes)
    columns = {name: codes[:, list(ATTRIBUTES).index(name)] for name in MEASURED}
    rows = [jax.nn.one_hot(column, len(ATTRIBUTES[name])) for name, column in columns.items()]
    return jnp.concatenate(rows, axis=-1)


def encode(claims: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Claims as int32 (N, attributes): the index of the claimed value, -1 where there is no claim.

    ValueError for an unknown attribute or value.
    """
    names = list(ATTRIBUTES)
    codes = np.full((len(claims), len(names)), -1, np.int32)
    for row, claim in enumerate(claims):
        for name, value in claim.items():
            if value not in ATTRIBUTES.get(name, ()):
                options = ", ".join(ATTRIBUTES.get(name, names))
                raise ValueError(f"no claim {name!r}: {value!r}; there are {options}")
            codes[row, names.index(name)] = ATTRIBUTES[name].index(value)
    return codes


def holds(codes: jax.Array, tokens: jax.Array, probe: KindProbe | None = None) -> jax.Array:
    """Whether each attribute of melodies (N, T) has the claimed value, `codes` (N, attributes): bool.

    False where nothing is claimed, and for kinds without a `probe`. It works under jit.
    """
    return (codes >= 0) & (codes == measured(tokens, probe))


def adherence(codes: jax.Array, tokens: jax.Array, probe: KindProbe | None = None) -> jax.Array:
    """The share of the claims (N, attributes) that hold of melodies (N, T), float32 (N,); 1 without any.

    Claims of a kind count only with a `probe`, which predicts it.
    """
    codes = jnp.asarray(codes)
    if probe is None:
        codes = codes.at[:, list(ATTRIBUTES).index("kind")].set(-1)
    count = (codes >= 0).sum(-1)
    return jnp.where(count > 0, holds(codes, tokens, probe).sum(-1) / jnp.maximum(count, 1), 1.0)
