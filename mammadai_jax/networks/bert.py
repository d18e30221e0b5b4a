"""BERT (Devlin et al. 2019), frozen, as a sentence encoder: the mean over the tokens at unit length.

    h = norm(word + position + type);  h = norm(h + attention(h));   h = norm(h + W' gelu(W h))   each layer

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

from mammadai_jax.networks.towers import l2_normalize
from mammadai_jax.networks.transformer import MASKED

# Our names of the embedding tables and of a layer's parts, and their names in published files.
TABLES = {"word": "word_embeddings", "position": "position_embeddings", "type": "token_type_embeddings"}
PARTS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of a BERT.

    Attributes:
        vocab_size: tokens in the vocabulary.
        max_length: the longest text, in tokens.
        num_types: rows of the token type table; only the first type is used.
        width: units of a token.
        num_layers: attention layers.
        num_heads: attention heads.
        inner_width: units of a layer's position-wise network.
        epsilon: of layer normalisation.

    """

    vocab_size: int
    max_length: int
    num_types: int
    width: int
    num_layers: int
    num_heads: int
    inner_width: int
    epsilon: float

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all tensors by their published names; matrices are (out, in)."""
        matrices = dict.fromkeys(PARTS, (self.width, self.width)) | {
            "attention_norm": (self.width,),
            "inner": (self.inner_width, self.width),
            "output": (self.width, self.inner_width),
            "output_norm": (self.width,),
        }
        modules = {"embeddings.LayerNorm": (self.width,)}
        for layer in range(self.num_layers):
            modules |= {f"encoder.layer.{layer}.{PARTS[name]}": shape for name, shape in matrices.items()}
        rows = {"word": self.vocab_size, "position": self.max_length, "type": self.num_types}
        shapes = {f"embeddings.{TABLES[name]}.weight": (count, self.width) for name, count in rows.items()}
        for module, shape in modules.items():
            shapes |= {f"{module}.weight": shape, f"{module}.bias": shape[:1]}
        return shapes


def params_of(tensors: Mapping[str, np.ndarray], config: Config) -> dict[str, Any]:
    """Tensors of the shapes `config.shapes` -> parameters, matrices as (in, out) and layers stacked."""

    def stack(*modules: str) -> dict[str, jax.Array]:
        weights, biases = (
            np.stack([tensors[f"{module}.{name}"].T for module in modules]).astype(np.float32)
            for name in ("weight", "bias")
        )
        return {"weight": jnp.asarray(weights), "bias": jnp.asarray(biases)}

    layers = range(config.num_layers)
    tables = {name: tensors[f"embeddings.{published}.weight"] for name, published in TABLES.items()}
    return {
        **{name: jnp.asarray(table, jnp.float32) for name, table in tables.items()},
        "norm": jax.tree.map(lambda x: x[0], stack("embeddings.LayerNorm")),
        "layers": {
            name: stack(*(f"encoder.layer.{n}.{part}" for n in layers)) for name, part in PARTS.items()
        },
    }


@functools.partial(jax.jit, static_argnames="config")
def embed(params: Any, config: Config, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Token ids int (B, L), with mask bool (B, L) false for padding -> unit length, float32 (B, width).

    The vector of a text without tokens has no meaning, but is finite.
    """
    chex.assert_rank([ids, mask], 2)
    chex.assert_equal_shape([ids, mask])
    # full precision, so that a frozen encoder returns the same on every device
    with jax.default_matmul_precision("highest"):
        hidden = params["word"][ids] + params["position"][: ids.shape[1]] + params["type"][0]
        hidden = _norm(params["norm"], hidden, config)
        hidden, _ = jax.lax.scan(lambda h, p: (_layer(p, h, mask, config), None), hidden, params["layers"])
        weights = mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
        return l2_normalize(jnp.einsum("bl,blw->bw", weights, hidden))


def _layer(params, hidden, mask, config):
    """One layer over tokens (B, L, width): attention, then the position-wise network."""
    hidden = _norm(params["attention_norm"], hidden + _attend(params, hidden, mask, config), config)
    inner = jax.nn.gelu(_linear(params["inner"], hidden), approximate=False)
    return _norm(params["output_norm"], hidden + _linear(params["output"], inner), config)


def _attend(params, hidden, mask, config):
    """Attention of each token (B, L, width) over the tokens where `mask` is true."""
    shape = (*hidden.shape[:2], config.num_heads, -1)
    query, key, value = (_linear(params[name], hidden).reshape(shape) for name in ("query", "key", "value"))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(mask[:, None, None, :], scores, MASKED), axis=-1)
    attended = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(hidden.shape)
    return _linear(params["attention_output"], attended)


def _linear(params, rows):
    return rows @ params["weight"] + params["bias"]


def _norm(params, rows, config):
    centred = rows - rows.mean(axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + config.epsilon)
    return centred * scale * params["weight"] + params["bias"]
