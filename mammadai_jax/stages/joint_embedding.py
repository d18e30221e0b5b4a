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
from mammadai_jax.music.files import write_atomically
from mammadai_jax.networks import quantiser
from mammadai_jax.networks.towers import l2_normalize
from mammadai_jax.text import sentences
from mammadai_jax.text.sentences import SentenceEncoder
from mammadai_jax.text.vocabulary import Vocabulary

WORDS = 48  # of a caption that are read
# in a run directory: the vocabulary or the encoder's digest, the centres of text and music, the codebooks
SPACE = "embedding.json"
CENTRES = ("text_centre", "music_centre")
CODES = 64  # in a codebook
Reader = Vocabulary | SentenceEncoder


def read(reader: Reader, texts: Sequence[str]) -> np.ndarray:
    """Texts as the towers take them, (N, ...); ValueError for a text without words."""
    return reader.encode(texts, WORDS) if isinstance(reader, Vocabulary) else reader.encode(texts)


class JointEmbedding(NamedTuple):
    """The joint space of captions and melodies, as a composer is told of it.

    Attributes:
        reader: of texts: the words that are known, or a frozen encoder of sentences.
        embedding: the towers.
        codebooks: float32 (levels, codes, D). With them the space has only those points that codes can say,
            as MusicLM's composer reads tokens of MuLan's vectors.

    """

    reader: Reader
    embedding: embedding.Embedding
    codebooks: jax.Array | None = None

    def text(self, texts: Sequence[str]) -> jax.Array:
        """Texts -> float32 (N, D), of unit length; ValueError for a text without words."""
        return self._said(self.embedding.text(jnp.asarray(read(self.reader, texts))))

    def music(self, tokens: np.ndarray | jax.Array) -> jax.Array:
        """Tokens int (N, T) -> float32 (N, D), of unit length."""
        return self._said(self.embedding.music(jnp.asarray(tokens)))

    def _said(self, vectors: jax.Array) -> jax.Array:
        """The nearest points (N, D) that codes can say."""
        return (
            vectors
            if self.codebooks is None
            else l2_normalize(quantiser.reconstruct(self.codebooks, vectors))
        )


def save_joint_embedding(path: Path, joint: JointEmbedding) -> None:
    """Write what the checkpoint of the towers lacks, whole or not at all."""
    told = {name: np.asarray(getattr(joint.embedding, name)).tolist() for name in CENTRES}
    if joint.codebooks is not None:
        told["codebooks"] = np.asarray(joint.codebooks).tolist()
    reader = joint.reader
    told |= reader.to_dict() if isinstance(reader, Vocabulary) else {"weights": reader.digest}
    write_atomically(path / SPACE, json.dumps(told).encode())


def load_reader(path: Path, config: embedding.Config, place: str = "") -> Reader:
    """What a run's texts are read by: its vocabulary, or the sentence encoder in a place.

    ValueError if the run's file is missing or unsound, or the encoder is not there or another one.
    """
    told = _told(path)
    if place:
        return _encoder(path, told.get("weights"), place)
    try:
        vocabulary = Vocabulary.from_dict(told)
    except ValueError as error:
        raise ValueError(f"{path / SPACE} is not what a run writes there: {error}") from None
    if vocabulary.size > config.vocab_size or vocabulary.buckets != config.trigram_buckets:
        raise ValueError(f"{path / SPACE} has a vocabulary of another size than the run's settings")
    return vocabulary


def load_joint_embedding(
    path: Path, config: embedding.Config, params: Any, reader: Reader | None = None, levels: int = 0
) -> JointEmbedding:
    """The space of a run, given its towers' parameters; ValueError if its file is missing or unsound.

    `reader` is what `load_reader` gives, by default the vocabulary; `levels` are the codebooks', 0 for none.
    """
    reader = reader or load_reader(path, config)
    told, wide = _told(path), config.embedding_dim
    centres = [_numbers(path, told, name, (wide,)) for name in CENTRES]
    codebooks = _numbers(path, told, "codebooks", (levels, CODES, wide)) if levels else None
    return JointEmbedding(reader, embedding.Embedding(config, params, *centres), codebooks)


def _told(path: Path) -> dict[str, Any]:
    """What a run's file says."""
    try:
        told = json.loads((path / SPACE).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path / SPACE} is not what a run writes there: {error}") from None
    if not isinstance(told, dict):
        raise ValueError(f"{path / SPACE} is not what a run writes there: a table")
    return told


def _encoder(path: Path, weights: Any, place: str) -> SentenceEncoder:
    """The sentence encoder that a run learned with, whose weights have that SHA-256."""
    if not isinstance(weights, str):
        raise ValueError(f"{path / SPACE} is not what a run writes there: it names no sentence encoder")
    to_do = "bring it back, or let `mammadai compose --sentences FOLDER` say where it is"
    try:
        encoder = sentences.load(place)
    except sentences.EncoderError as error:
        raise ValueError(f"{path} learned with a sentence encoder, and {error}: {to_do}") from None
    if encoder.digest != weights:
        raise ValueError(
            f"{path} learned with another sentence encoder than that of {place}: SHA-256 {weights:.64}, not "
            f"{encoder.digest}: {to_do}"
        )
    return encoder


def _numbers(path: Path, told: dict[str, Any], name: str, shape: tuple[int, ...]) -> jax.Array:
    """Finite numbers of a shape that a run's file tells by a name; ValueError if it does not."""
    try:
        found = np.array(told[name], np.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path / SPACE} is not what a run writes there: {error}") from None
    if found.shape != shape or not np.isfinite(found).all():
        of = " x ".join(map(str, shape))
        raise ValueError(f"{path / SPACE} is not what a run writes there: {name} are not {of} numbers")
    return jnp.asarray(found)
