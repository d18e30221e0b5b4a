"""What the stages from "embedding" to "preference" share: captioned excerpts, and simulated listeners."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from mammadai_jax.listening import gathering
from mammadai_jax.listening import panel as panels
from mammadai_jax.music import captions
from mammadai_jax.music import corpus as corpora
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.draws import draw
from mammadai_jax.music.excerpts import excerpts, usable
from mammadai_jax.music.traits import SHORTEST, traits
from mammadai_jax.music.transcription import reasons
from mammadai_jax.training.stage import Context

GROUP = 256  # melodies composed at once
HEARD = 2560  # excerpts from which listeners learn what melodies are like
HELD_OUT = 0.14  # of the melodic families: the test asks for their prompts, and nothing learns from them


class Captioned(NamedTuple):
    """Excerpts and their captions.

    Attributes:
        tokens: int32 (N, T).
        group: int32 (N,), the same for excerpts of one melody.
        texts: K captions of each.
        collection: of each excerpt's melody, str (N,).
        ends: bool (N,), whether the melody ends with the excerpt.

    """

    tokens: np.ndarray
    group: np.ndarray
    texts: list[list[str]]
    collection: np.ndarray
    ends: np.ndarray

    @property
    def prompts(self) -> list[str]:
        """One caption of each excerpt."""
        return [each[0] for each in self.texts]

    def take(self, rows: np.ndarray) -> Captioned:
        """Some of the excerpts, int (M,)."""
        texts = [self.texts[row] for row in rows]
        return Captioned(self.tokens[rows], self.group[rows], texts, self.collection[rows], self.ends[rows])

    def draw(self, random: np.random.Generator, count: int) -> np.ndarray:
        """Rows of so many excerpts at random from every collection, int (count,); see `draw`."""
        return draw(random, count, self.collection)

    def draw_prompts(self, random: np.random.Generator, count: int) -> list[str]:
        """The prompts of `draw`."""
        return [self.texts[row][0] for row in self.draw(random, count)]


def captioned_of(context: Context) -> Captioned:
    """The captioned excerpts that a run learns from: of its corpus, all meters if that is the folk corpus."""
    return _side_of(context, 0, "train")


def held_out_of(context: Context) -> Captioned:
    """Those of the melodic families held out, in other wordings; no prompt is a caption of `captioned_of`."""
    test = _side_of(context, 1, "held_out")
    learned = {text for texts in captioned_of(context).texts for text in texts}
    return test.take(np.array([row for row, text in enumerate(test.prompts) if text not in learned], int))


def _side_of(context: Context, side: int, wording: captions.Wording) -> Captioned:
    settings, seed = context.settings_of("embedding"), int(context.seed)
    corpus = sides(all_meters(context.corpus()), settings.length, seed)[side]
    counts = settings.num_excerpts, settings.captions_per_excerpt
    return captioned(corpus, settings.length, *counts, seed=seed, wording=wording)


@functools.lru_cache(maxsize=2)
def sides(corpus: Corpus, length: int, seed: int) -> tuple[Corpus, Corpus]:
    """The melodies of a corpus with excerpts of so many steps: those to learn from, and those held out.

    Raises:
        ValueError: if no melody is long enough, or all of them are of one family.

    """
    found = usable(corpus, length)
    if not len(found):
        raise _no_excerpt(corpus, length)
    return found.split(HELD_OUT, seed)


def _no_excerpt(corpus: Corpus, length: int) -> ValueError:
    """The error of a corpus without any excerpt of so many steps, with the reasons."""
    skipped = excerpts(corpus, length).skipped
    why = f"left out are {reasons(skipped)}" if skipped else "it is empty"
    return ValueError(
        f"no melody of the corpus {corpus.name!r} has an excerpt of {length} steps: {why}; `mammadai corpus "
        "NAME --skipped` names each. Give another corpus, or another --embedding.length"
    )


@functools.lru_cache(maxsize=1)
def all_meters(corpus: Corpus) -> Corpus:
    """The folk corpus in all its meters, for prompts that ask for them; any other corpus as it is."""
    return corpora.folk_all() if corpus.name == "folk" else corpus


@functools.lru_cache(maxsize=4)
def captioned(
    corpus: Corpus,
    length: int,
    num_excerpts: int,
    captions_per_excerpt: int,
    *,
    seed: int,
    wording: captions.Wording = "train",
) -> Captioned:
    """At most so many captioned excerpts of a corpus, chosen by the seed; the result is cached.

    Raises:
        ValueError: if no melody of the corpus is long enough and in range.

    """
    found = excerpts(corpus, length)
    if not len(found):
        raise _no_excerpt(corpus, length)
    random = np.random.default_rng([seed, len(found)])
    chosen = np.sort(random.permutation(len(found))[:num_excerpts])
    tokens, group = found.tokens[chosen], found.melody[chosen]
    about = [found.melodies[index] for index in group]
    each = [captions.describe_all(tokens, about, random, wording) for _ in range(captions_per_excerpt)]
    texts = [[caption.text for caption in row] for row in zip(*each, strict=True)]
    ends = found.start[chosen] + length == [len(melody) for melody in about]
    return Captioned(tokens, group, texts, np.array([melody.collection for melody in about]), ends)


def listeners_of(context: Context) -> tuple[panels.Panel, panels.Panel]:
    """Simulated listeners, who know what a run's excerpts are like: those who compare, those held out."""
    number = context.settings_of("reward_model").num_listeners
    everybody = panels.panel(context.key("listeners"), number, *reference_of(context))
    return panels.split(everybody, max(1, number // 4))


def reference_of(context: Context) -> panels.Reference:
    """The traits of a run's excerpts, from which listeners know what real melodies are like."""
    given = captioned_of(context)
    rows = given.draw(context.random("heard"), min(HEARD, len(given.tokens)))
    return panels.reference(hear(given.tokens[rows]))


def simulated(panel: panels.Panel, key: jax.Array, votes: int = 1, name: str = "panel") -> gathering.Gatherer:
    """Listeners who hear a melody's traits, and whether what its prompt claims is true."""
    return gathering.SimulatedListeners(panel, key, hear, claims_that_hold, votes, name)


def claims_that_hold(prompts: Sequence[str], tokens: np.ndarray) -> np.ndarray:
    """The share of each prompt's claims that hold of its melody, tokens (N, T): float32 (N,)."""
    return np.asarray(_adherence(claims_of(prompts), tokens))


def claims_of(prompts: Sequence[str]) -> np.ndarray:
    """What N prompts claim, as `captions.encode` writes it: int32 (N, attributes)."""
    return captions.encode([captions.parse(prompt) for prompt in prompts])


def claims_by_name(prompts: Sequence[str], tokens: np.ndarray) -> list[dict[str, bool]]:
    """What N prompts claim, such as "mode: minor", and whether it holds of their melodies, tokens (N, T).

    Empty for melodies that are too short to check it, and without the kind of tune, which no rule can check.
    """
    if tokens.shape[-1] < SHORTEST:
        return [{} for _ in prompts]
    codes = claims_of(prompts)
    held = np.asarray(_holds(codes, tokens))
    return [
        {
            f"{name}: {values[code]}": bool(holds)
            for (name, values), code, holds in zip(captions.ATTRIBUTES.items(), *row, strict=True)
            if code >= 0 and name != "kind"
        }
        for row in zip(codes, held, strict=True)
    ]


def in_groups(number: int, key: jax.Array, write: Callable[[jax.Array, slice], jax.Array]) -> np.ndarray:
    """So many melodies, int32 (N, T), of which `write` composes GROUP at once, by a key and their places."""
    starts = range(0, number, GROUP)
    parts = (write(jax.random.fold_in(key, start), slice(start, start + GROUP)) for start in starts)
    return np.concatenate([np.asarray(part) for part in parts])


_adherence = jax.jit(captions.adherence)
_holds = jax.jit(captions.holds)
hear = jax.jit(traits)


def requests(
    prompts: Sequence[str], a: np.ndarray, b: np.ndarray, names: tuple[str, str] = ("", "")
) -> list[gathering.Request]:
    """Which is better for each of N prompts, of melodies (N, T) of two systems."""
    rows = zip(prompts, a, b, strict=True)
    return [gathering.Request(prompt, x, y, *names) for prompt, x, y in rows]
