"""Words of captions as numbers: each by its identity and by its spelling."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammadai_jax.networks.towers import UNKNOWN

TRIGRAMS = 8  # of a word that are looked at
RESERVED = 2  # ids for padding and for words that are not known
_WORD = re.compile(r"\d+/\d+|[^\W_]+")  # a meter is one word


def words(text: str) -> list[str]:
    """The words of a text, in lower case: letters and digits, and meters such as 6/8."""
    return _WORD.findall(text.lower())


def spoken(texts: Sequence[str]) -> list[list[str]]:
    """The words of each text; ValueError, which says which, for a text without words."""
    if isinstance(texts, str):
        raise ValueError("texts are a sequence of strings, got one string: put it into a list")
    found = [words(text) for text in texts]
    for text, its in zip(texts, found, strict=True):
        if not its:
            raise ValueError(f"there are no words in the text {text!r}: describe the music in words")
    return found


@functools.lru_cache(maxsize=65536)
def spelling(word: str, buckets: int) -> tuple[int, ...]:
    """Ids 1..buckets-1 of the first eight trigrams of a word with its ends marked; the rest are 0."""
    marked = f"<{word}>"
    ids = [1 + zlib.crc32(marked[i : i + 3].encode()) % (buckets - 1) for i in range(len(word))][:TRIGRAMS]
    return (*ids, *(0,) * (TRIGRAMS - len(ids)))


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The known words, whose ids are 2, 3, ..., and how many buckets trigrams are hashed to.

    Words that are not known have id 1, and their spelling.
    """

    known: tuple[str, ...]
    buckets: int = 2048

    @classmethod
    def fit(cls, texts: Sequence[str], size: int = 2048, buckets: int = 2048) -> Vocabulary:
        """The most frequent words of the texts, so many that ids are below `size`."""
        counts = collections.Counter(word for text in texts for word in words(text))
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ordered[: size - RESERVED]), buckets)

    @property
    def size(self) -> int:
        """Ids there are: rows that a table of words needs at least."""
        return len(self.known) + RESERVED

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: RESERVED + i for i, word in enumerate(self.known)}

    def encode(self, texts: Sequence[str], width: int = 32) -> np.ndarray:
        """Of each of the first `width` words its id and its trigrams': int32 (B, width, 1 + 8), 0 for none.

        ValueError, which says which, for a text without words.
        """
        rows = np.zeros((len(texts), width, 1 + TRIGRAMS), np.int32)
        for row, found in zip(rows, spoken(texts), strict=True):
            found = found[:width]
            row[: len(found)] = [(self._ids.get(w, UNKNOWN), *spelling(w, self.buckets)) for w in found]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary that JSON can hold."""
        return {"known": list(self.known), "buckets": self.buckets}

    @classmethod
    def from_dict(cls, data: Any) -> Vocabulary:
        """What `to_dict` gave; ValueError if it is something else."""
        known, buckets = (data.get("known"), data.get("buckets")) if isinstance(data, Mapping) else (None, 0)
        words_only = isinstance(known, list) and all(isinstance(word, str) for word in known)
        if not words_only or not isinstance(buckets, int) or buckets < 2:
            raise ValueError("a vocabulary has 'known', a list of words, and 'buckets', a number from 2 on")
        return cls(tuple(known or ()), buckets)
