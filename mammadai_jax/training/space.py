"""The joint space of captions and melodies, as a run keeps it and as prompts are read in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import embedding
from mammadai_jax.agents.vocabulary import Vocabulary
from mammadai_jax.music.files import write_atomically

WORDS = 48  # of a caption that are read
SPACE = "embedding.json"  # in a run directory: the vocabulary, and the centres of text and music
CENTRES = ("text_centre", "music_centre")


class Space(NamedTuple):
    """The joint space of captions and melodies: the words that are known, and the towers."""

    vocabulary: Vocabulary
    embedding: embedding.Embedding

    def text(self, texts: Sequence[str]) -> jax.Array:
        """Texts -> float32 (N, D), of unit length; ValueError for a text without words."""
        return self.embedding.text(jnp.asarray(self.vocabulary.encode(texts, WORDS)))

    def music(self, tokens: np.ndarray | jax.Array) -> jax.Array:
        """Tokens int (N, T) -> float32 (N, D), of unit length."""
        return self.embedding.music(jnp.asarray(tokens))


def save_space(path: Path, space: Space) -> None:
    """Write what the checkpoint of the towers lacks, whole or not at all."""
    centres = {name: np.asarray(getattr(space.embedding, name)).tolist() for name in CENTRES}
    write_atomically(path / SPACE, json.dumps({**space.vocabulary.to_dict(), **centres}).encode())


def load_space(path: Path, config: embedding.Config, params: Any) -> Space:
    """The space of a run, given its towers' parameters; ValueError if its file is missing or unsound."""
    try:
        told = json.loads((path / SPACE).read_text())
        vocabulary = Vocabulary.from_dict(told)
        centres = [np.array(told[name], np.float32) for name in CENTRES]
    except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path / SPACE} is not what a run writes there: {error}") from None
    if vocabulary.size > config.words or vocabulary.buckets != config.trigrams:
        raise ValueError(f"{path / SPACE} has a vocabulary of another size than the run's settings")
    if any(centre.shape != (config.dimensions,) or not np.isfinite(centre).all() for centre in centres):
        raise ValueError(f"{path / SPACE} has centres that are not of {config.dimensions} numbers")
    return Space(vocabulary, embedding.Embedding(config, params, *map(jnp.asarray, centres)))
