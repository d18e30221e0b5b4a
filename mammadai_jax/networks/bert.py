"""BERT (Devlin et al. 2019), frozen, as sentence encoders use it: the mean over the tokens at unit length.

    h = norm(word + place + kind);   h = norm(h + attend(h));   h = norm(h + W' gelu(W h))   in each layer

All-MiniLM-L6-v2 (Reimers & Gurevych 2019; Wang et al. 2020) has 6 layers of 384 units and 12 heads.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.networks.towers import unit
from mammadai_jax.networks.transformer import CLOSED

TABLES = {"word": "word_embeddings", "place": "position_embeddings", "kind": "token_type_embeddings"}
# our names of a layer's parts, and theirs
PARTS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "mixed": "attention.output.dense",
    "mixed_norm": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "outer_norm": "output.LayerNorm",
}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of a BERT.

    Attributes:
        words: tokens there are.
        places: the longest text, in tokens.
        kinds: of texts; ours are all of the first.
        width: units of a token.
        layers, heads: of attention.
        inner: units of a layer's inside.
        epsilon: of layer normalisation.

    """

    words: int
    places: int
    kinds: int
    width: int
    layers: int
    heads: int
    inner: int
    epsilon: float

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that is needed, as published files name it: matrices are (out, in)."""
        square, row = (self.width, self.width), (self.width,)
        parts = dict.fromkeys(PARTS, square) | {
            "mixed_norm": row,
            "inner": (self.inner, self.width),
            "outer": (self.width, self.inner),
            "outer_norm": row,
        }
        rows = {"word": self.words, "place": self.places, "kind": self.kinds}
        found = {f"embeddings.{TABLES[name]}.weight": (count, self.width) for name, count in rows.items()}
        places = {"embeddings.LayerNorm": row}
        for layer in range(self.layers):
            places |= {f"encoder.layer.{layer}.{PARTS[name]}": shape for name, shape in parts.items()}
        for place, shape in places.items():
            found |= {f"{place}.weight": shape, f"{place}.bias": shape[:1]}
        return found


def arrange(tensors: Mapping[str, np.ndarray], sizes: Sizes) -> dict[str, Any]:
    """Tensors of the shapes that the sizes tell -> parameters, those of all layers in one array."""

    def of(*places: str) -> dict[str, jax.Array]:
        weights, biases = (
            np.stack([tensors[f"{place}.{name}"].T for place in places]).astype(np.float32)
            for name in ("weight", "bias")
        )
        return {"weight": jnp.asarray(weights), "bias": jnp.asarray(biases)}

    each = {
        name: [f"encoder.layer.{n}.{place}" for n in range(sizes.layers)] for name, place in PARTS.items()
    }
    return {
        **{
            name: jnp.asarray(tensors[f"embeddings.{place}.weight"], jnp.float32)
            for name, place in TABLES.items()
        },
        "norm": jax.tree.map(lambda x: x[0], of("embeddings.LayerNorm")),
        "layers": {name: of(*places) for name, places in each.items()},
    }


@functools.partial(jax.jit, static_argnames="sizes")
def embed(params: Any, sizes: Sizes, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Texts as token ids int (B, L), of which bool (B, L) are there -> unit length, float32 (B, width).

    A text of which nothing is there has no meaning, but a finite one.
    """
    chex.assert_rank([ids, mask], 2)
    # a frozen encoder says the same on every device
    with jax.default_matmul_precision("highest"):
        hidden = params["word"][ids] + params["place"][: ids.shape[1]] + params["kind"][0]
        hidden = _norm(params["norm"], hidden, sizes)
        hidden, _ = jax.lax.scan(lambda h, p: (_layer(p, h, mask, sizes), None), hidden, params["layers"])
        weights = mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
        return unit(jnp.einsum("bl,blw->bw", weights, hidden))


def _layer(params, hidden, mask, sizes):
    """What tokens (B, L, width) become by hearing those that are there, and by a layer of each its own."""
    hidden = _norm(params["mixed_norm"], hidden + _attend(params, hidden, mask, sizes), sizes)
    inner = jax.nn.gelu(_linear(params["inner"], hidden), approximate=False)
    return _norm(params["outer_norm"], hidden + _linear(params["outer"], inner), sizes)


def _attend(params, hidden, mask, sizes):
    """What each token (B, L, width) hears from those that are there."""
    shape = (*hidden.shape[:2], sizes.heads, -1)
    query, key, value = (_linear(params[name], hidden).reshape(shape) for name in ("query", "key", "value"))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(mask[:, None, None, :], scores, CLOSED), axis=-1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(hidden.shape)
    return _linear(params["mixed"], mixed)


def _linear(params, rows):
    return rows @ params["weight"] + params["bias"]


def _norm(params, rows, sizes):
    apart = rows - rows.mean(axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(apart**2, axis=-1, keepdims=True) + sizes.epsilon)
    return apart * scale * params["weight"] + params["bias"]
