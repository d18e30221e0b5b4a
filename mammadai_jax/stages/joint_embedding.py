"""The joint embedding of captions and melodies: how it reads prompts, and its file in a run directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import embedding
from mammadai_jax.music import captions
from mammadai_jax.networks import quantiser
from mammadai_jax.networks.towers import l2_normalize
from mammadai_jax.stages.captioned import claims_of
from mammadai_jax.text import sentences
from mammadai_jax.text.sentences import SentenceEncoder
from mammadai_jax.text.vocabulary import Reading, Vocabulary
from mammadai_jax.training import sealed
from mammadai_jax.training.context import way_on
from mammadai_jax.training.run import identity

WORDS = 48  # of a caption; later ones are ignored
# in a run directory: the vocabulary or the encoder's digest, the centres of text and music, the codebooks
FILE = "embedding.json"
FORMAT = 1
MAX_BYTES = 8 << 20
CENTRES = ("text_centre", "music_centre")
CODES = 64  # in a codebook
Reader = Vocabulary | SentenceEncoder


def read(reader: Reader, texts: Sequence[str]) -> np.ndarray:
    """Texts as inputs of the text tower, (N, ...); ValueError for a text without words."""
    return reader.encode(texts, WORDS) if isinstance(reader, Vocabulary) else reader.encode(texts)


class JointEmbedding(NamedTuple):
    """The joint embedding of captions and melodies, which conditions a composer.

    Attributes:
        reader: of texts: a vocabulary, or a frozen sentence encoder.
        embedding: the towers.
        codebooks: float32 (levels, codes, D) of residual vector quantisation: embeddings are replaced by the
            nearest points that the codes represent, as MusicLM's composer reads tokens of MuLan's vectors.
            None for no quantisation.
        tells_claims: whether a condition also has the claims of a text, or the attributes of a melody.

    """

    reader: Reader
    embedding: embedding.Embedding
    codebooks: jax.Array | None = None
    tells_claims: bool = False

    def condition(self, texts: Sequence[str]) -> jax.Array:
        """What a composer is told of texts, float32 (N, C): their vectors, and their claims.

        Claims as inputs make a composer keep them, as attributes that are read from a text do in MuseCoco
        (Lu et al. 2023).
        """
        vectors = self.text(texts)
        if not self.tells_claims:
            return vectors
        return jnp.concatenate([vectors, captions.inputs_of(jnp.asarray(claims_of(texts)))], axis=-1)

    def condition_of(self, tokens: np.ndarray | jax.Array) -> jax.Array:
        """The same of melodies int (N, T), float32 (N, C): all that could be claimed of each."""
        vectors = self.music(tokens)
        if not self.tells_claims:
            return vectors
        return jnp.concatenate([vectors, _inputs(jnp.asarray(tokens))], axis=-1)

    def text(self, texts: Sequence[str]) -> jax.Array:
        """Texts -> float32 (N, D), of unit length; ValueError for a text without words."""
        return self._quantised(self.embedding.text(jnp.asarray(read(self.reader, texts))))

    def music(self, tokens: np.ndarray | jax.Array) -> jax.Array:
        """Tokens int (N, T) -> float32 (N, D), of unit length."""
        return self._quantised(self.embedding.music(jnp.asarray(tokens)))

    def reading(self, text: str) -> Reading:
        """Which words of a text count."""
        return (
            self.reader.reading(text, WORDS)
            if isinstance(self.reader, Vocabulary)
            else self.reader.reading(text)
        )

    def _quantised(self, vectors: jax.Array) -> jax.Array:
        """The nearest points (N, D) that the codebooks represent; without codebooks the vectors."""
        if self.codebooks is None:
            return vectors
        return l2_normalize(quantiser.reconstruct(self.codebooks, vectors))


_inputs = jax.jit(lambda tokens: captions.inputs_of(captions.measured(tokens)))


def condition_size(config: embedding.Config, tells_claims: bool) -> int:
    """The numbers of a condition (C)."""
    return config.embedding_dim + captions.INPUTS * tells_claims


def save_joint_embedding(path: Path, joint: JointEmbedding) -> None:
    """Write all that the checkpoint of the towers does not hold, whole or not at all."""
    contents: dict[str, Any] = {name: _plain(getattr(joint.embedding, name)) for name in CENTRES}
    if joint.codebooks is not None:
        contents["codebooks"] = _plain(joint.codebooks)
    reader = joint.reader
    contents |= reader.to_dict() if isinstance(reader, Vocabulary) else {"encoder": reader.digest}
    sealed.write(path / FILE, FORMAT, {"run": identity(path), **contents})


def _plain(numbers: jax.Array) -> list[Any]:
    """Numbers of 32 bits with as many digits as tell them from all others."""
    return np.asarray(numbers).astype(str).astype(float).tolist()


def load_reader(path: Path, config: embedding.Config, place: str = "") -> Reader:
    """The reader of a run's texts: its vocabulary, or the sentence encoder in the folder `place`.

    Raises:
        ValueError: if the run's file is missing or damaged, or `place` holds no encoder or another one.

    """
    stored = _read_file(path)
    if place:
        return _encoder(path, stored.get("encoder"), place)
    try:
        vocabulary = Vocabulary.from_dict(stored)
    except ValueError as error:
        raise ValueError(f"{path / FILE} is not what a run writes there: {error}") from None
    if vocabulary.size > config.vocab_size or vocabulary.buckets != config.trigram_buckets:
        raise ValueError(f"{path / FILE} has a vocabulary of another size than the run's settings")
    return vocabulary


def load_joint_embedding(
    path: Path, config: embedding.Config, params: Any, reader: Reader | None = None, levels: int = 0
) -> JointEmbedding:
    """The joint embedding of a run.

    Args:
        path: the run directory.
        config: of the towers.
        params: of the towers.
        reader: of texts, see `load_reader`; by default the run's vocabulary.
        levels: number of codebooks; 0 for none.

    Raises:
        ValueError: if the run's file is missing or damaged.

    """
    reader = reader or load_reader(path, config)
    stored, width = _read_file(path), config.embedding_dim
    centres = [_numbers(path, stored, name, (width,)) for name in CENTRES]
    codebooks = _numbers(path, stored, "codebooks", (levels, CODES, width)) if levels else None
    return JointEmbedding(reader, embedding.Embedding(config, params, *centres), codebooks)


def _read_file(path: Path) -> dict[str, Any]:
    """The contents of a run's file."""
    try:
        stored = sealed.read(path / FILE, FORMAT, MAX_BYTES)
    except FileNotFoundError:
        raise ValueError(f"{path / FILE} is missing: {way_on(path)}, which writes it again") from None
    if stored.get("run") != identity(path):
        raise ValueError(f"{path / FILE} is of another run: {way_on(path)}, which writes it again")
    return stored


def _encoder(path: Path, digest: Any, place: str) -> SentenceEncoder:
    """The sentence encoder in a folder, if its files have the SHA-256 that a run was trained with."""
    if not isinstance(digest, str):
        raise ValueError(f"{path / FILE} is not what a run writes there: it names no sentence encoder")
    to_do = "bring it back, or let `mammadai compose --sentences FOLDER` say where it is"
    try:
        encoder = sentences.load(place)
    except sentences.EncoderError as error:
        raise ValueError(f"{path} was trained with a sentence encoder, and {error}: {to_do}") from None
    if encoder.digest != digest:
        raise ValueError(
            f"{path} was trained with another sentence encoder than that of {place}: SHA-256 {digest:.64}, "
            f"not {encoder.digest}: {to_do}"
        )
    return encoder


def _numbers(path: Path, stored: dict[str, Any], name: str, shape: tuple[int, ...]) -> jax.Array:
    """The finite numbers of a shape that a run's file holds by a name; ValueError if it does not."""
    try:
        numbers = np.array(stored[name], np.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path / FILE} is not what a run writes there: {error}") from None
    if numbers.shape != shape or not np.isfinite(numbers).all():
        of = " x ".join(map(str, shape))
        raise ValueError(f"{path / FILE} is not what a run writes there: {name} are not {of} numbers")
    return jnp.asarray(numbers)
