"""Kinds of tune: by a melody's source, and by a model that predicts them from the notes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.notes import Melody
from mammadai_jax.music.traits import traits

KINDS = ("song", "chorale", "reel", "jig", "air", "Chinese song")
_REEL = re.compile(r"\b(reel|hornpipe|strathspey|clog)s?\b", re.IGNORECASE)
_CHINESE = re.compile(r"China|\b(Xiaodiao|Shange|minge|Haozi|diao|Wuge|geming)\b", re.IGNORECASE)
_SOURCES = re.compile(r"/(han|natmin|shanxi|xinhua)\d*\.abc")


def kind(melody: Melody) -> str:
    """One of `KINDS`, by a melody's collection and what its source calls it.

    Bach's are chorales. Fiddle tunes in 6/8 are jigs; those called reels, hornpipes or strathspeys and the
    others in cut time (2/2) are reels; the rest are airs. Essen's are songs, Chinese or other; so is any
    melody without information.
    """
    if melody.collection == "bach":
        return "chorale"
    if melody.collection == "essenFolksong":
        chinese = _CHINESE.search(f"{melody.origin} {melody.rhythm}") or _SOURCES.search(f"/{melody.source}")
        return "Chinese song" if chinese else "song"
    if re.search(r"\bjig\b", melody.rhythm, re.IGNORECASE):
        return "jig"
    if _REEL.search(f"{melody.rhythm} {melody.title}"):
        return "reel"
    if not melody.collection or melody.collection == "nottingham-dataset":
        return "song"
    return "jig" if melody.meter == "6/8" else "reel" if melody.meter in ("C|", "2/2") else "air"


class KindProbe(NamedTuple):
    """Multinomial logistic regression of the kind on the standardised traits and their squares.

    Attributes:
        mean, scale: float32 (K,), of the K traits in order of their names.
        weights: float32 (2 K + 1, kinds); the last row is the bias.

    """

    mean: jax.Array
    scale: jax.Array
    weights: jax.Array

    @classmethod
    def fit(cls, tokens: np.ndarray, kinds: Sequence[str], decay: float = 1e-4) -> KindProbe:
        """Maximum likelihood fit to melodies int32 (N, T) and the kind of each.

        ValueError for an unknown kind.
        """
        from scipy.optimize import minimize  # slow to import

        if unknown := set(kinds) - set(KINDS):
            raise ValueError(
                f"unknown kinds of tune {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}"
            )
        columns = np.asarray(_columns(tokens), np.float64)
        mean, scale = columns.mean(0), columns.std(0) + 1e-6
        inputs = np.asarray(_features(jnp.asarray(columns), mean, scale), np.float64)
        target = np.eye(len(KINDS))[[KINDS.index(k) for k in kinds]]

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(-1, len(KINDS))
            logits = inputs @ weights
            logits -= logits.max(1, keepdims=True)
            log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            gradient = inputs.T @ (np.exp(log_probs) - target) / len(inputs) + 2 * decay * weights
            return -(target * log_probs).sum() / len(inputs) + decay * (weights**2).sum(), gradient.ravel()

        best = minimize(loss, np.zeros(inputs.shape[1] * len(KINDS)), jac=True, method="L-BFGS-B")
        weights = best.x.reshape(-1, len(KINDS))
        return cls(*(jnp.asarray(array, jnp.float32) for array in (mean, scale, weights)))

    def logits(self, tokens: jax.Array) -> jax.Array:
        """Logits of the kinds, float32 (N, kinds), of melodies int32 (N, T)."""
        return _features(_columns(tokens), self.mean, self.scale) @ self.weights

    def predict(self, tokens: jax.Array) -> jax.Array:
        """The most likely kind of melodies int32 (N, T), as an index in `KINDS`: int32 (N,)."""
        return self.logits(tokens).argmax(-1).astype(jnp.int32)


@jax.jit
def _columns(tokens: jax.Array) -> jax.Array:
    values = traits(tokens)
    return jnp.stack([values[name] for name in sorted(values)], axis=-1)


def _features(columns: jax.Array, mean: jax.typing.ArrayLike, scale: jax.typing.ArrayLike) -> jax.Array:
    """Columns (N, K) standardised, clipped at four deviations, with their squares and a one: (N, 2 K + 1)."""
    z = jnp.clip((columns - mean) / scale, -4, 4)
    return jnp.concatenate([z, z**2, jnp.ones_like(z[:, :1])], axis=-1)
