"""Words of captions as integers: an id for each word, and ids for its spelling."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mammadai_jax.networks.towers import UNKNOWN

TRIGRAMS = 8  # of a word that are used
SHOWN = 20  # words of a kind that are named to users
RESERVED = 2  # ids for padding and for unknown words
WORD = re.compile(r"\d+/\d+|[^\W_]+")  # a meter is one word


def tokenize(text: str) -> list[str]:
    """The words of a text in lower case: letters and digits, and meters such as 6/8."""
    return WORD.findall(text.lower())


def tokenize_all(texts: Sequence[str]) -> list[list[str]]:
    """The words of each text; ValueError, naming the text, for one without words."""
    if isinstance(texts, str):
        raise ValueError("texts are a sequence of strings, got one string: put it into a list")
    rows = [tokenize(text) for text in texts]
    for text, row in zip(texts, rows, strict=True):
        if not row:
            raise ValueError(f"there are no words in the text {text!r}: describe the music in words")
    return rows


class Reading(NamedTuple):
    """The words of a text: those that a reader knows, others, and those past the length that it reads."""

    understood: list[str]
    unknown: list[str]
    ignored: list[str]

    @property
    def is_partial(self) -> bool:
        """Whether there are words that do not count."""
        return bool(self.unknown or self.ignored)

    def __str__(self) -> str:
        """The words by kind."""
        kinds = {
            "understood": self.understood,
            "not understood": self.unknown,
            "past the length that is read": self.ignored,
        }
        return "; ".join(f"{kind}: {_named(words)}" for kind, words in kinds.items() if words)


def reading_of(words: Sequence[str], ignored: Sequence[str], is_understood: Callable[[str], bool]) -> Reading:
    """The words that are read, by whether they are understood, and those that are not read."""
    understood = [word for word in words if is_understood(word)]
    return Reading(understood, [word for word in words if word not in understood], list(ignored))


def _named(words: Sequence[str]) -> str:
    """The first different ones of the words, and how many there are beside them."""
    names = list(dict.fromkeys(words))
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join([*names[:SHOWN], *more])


@functools.lru_cache(maxsize=65536)
def spelling(word: str, buckets: int) -> tuple[int, ...]:
    """Ids 1..buckets-1 of the first eight trigrams of "<word>", by CRC-32; padded with 0 to eight."""
    marked = f"<{word}>"
    ids = [1 + zlib.crc32(marked[i : i + 3].encode()) % (buckets - 1) for i in range(len(word))][:TRIGRAMS]
    return (*ids, *(0,) * (TRIGRAMS - len(ids)))


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words that have an id of their own. Other words have id 1 and their spelling.

    Attributes:
        words: their ids are 2, 3, ... in this order.
        buckets: how many ids trigrams are hashed to.

    """

    words: tuple[str, ...]
    buckets: int = 2048

    @classmethod
    def fit(cls, texts: Sequence[str], size: int = 2048, buckets: int = 2048) -> Vocabulary:
        """The most frequent words of the texts, as many as leave all ids below `size`."""
        counts = collections.Counter(word for text in texts for word in tokenize(text))
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ordered[: size - RESERVED]), buckets)

    @property
    def size(self) -> int:
        """How many ids there are: the least number of rows of a word table."""
        return len(self.words) + RESERVED

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: RESERVED + i for i, word in enumerate(self.words)}

    def encode(self, texts: Sequence[str], width: int = 32) -> np.ndarray:
        """Ids of the first `width` words and of their trigrams: int32 (B, width, 1 + 8), 0 for padding.

        ValueError, naming the text, for one without words.
        """
        rows = np.zeros((len(texts), width, 1 + TRIGRAMS), np.int32)
        for row, words in zip(rows, tokenize_all(texts), strict=True):
            words = words[:width]
            row[: len(words)] = [(self._ids.get(w, UNKNOWN), *spelling(w, self.buckets)) for w in words]
        return rows

    def reading(self, text: str, width: int = 32) -> Reading:
        """What `encode` makes of the words of a text."""
        words = tokenize(text)
        return reading_of(words[:width], words[width:], self._ids.__contains__)

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary that JSON can hold."""
        return {"words": list(self.words), "buckets": self.buckets}

    @classmethod
    def from_dict(cls, data: Any) -> Vocabulary:
        """The inverse of `to_dict`; ValueError for anything else."""
        words, buckets = (data.get("words"), data.get("buckets")) if isinstance(data, Mapping) else (None, 0)
        all_text = isinstance(words, list) and all(isinstance(word, str) for word in words)
        if not all_text or not isinstance(buckets, int) or buckets < 2:
            raise ValueError(
                "a vocabulary has 'words', a list of strings, and 'buckets', an integer from 2 on"
            )
        return cls(tuple(words or ()), buckets)
