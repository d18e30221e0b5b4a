"""Claims to English, in many wordings, of which some are held out for testing.

The wordings "train" and "held_out" share most words, since a small text encoder cannot know words that it was
not trained on. New in held-out captions are the sentence structures and their order, some expressions (known
words in other combinations), and a few synonyms.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np

from mammadai_jax.music.captions.attributes import ATTRIBUTES, attributes
from mammadai_jax.music.captions.kinds import kind
from mammadai_jax.music.captions.phrases import HELD_OUT, TRAIN
from mammadai_jax.music.notes import Melody

Wording = Literal["train", "held_out"]
NOUNS = {"train": ("melody", "tune", "piece"), "held_out": ("melody", "tune", "theme")}
FEWEST, MOST = 3, 9  # claims in a caption
COLOURS: tuple[str, ...] = ("origin", "title", "tempo", "signature")
METERS = {"2/4": "duple", "4/4": "duple", "2/2": "duple", "3/4": "triple", "6/8": "triple"}
_PLACES = {
    "Luxemburg": "Luxembourg", "Lothringen": "Lorraine", "Elsass": "Alsace", "Schweiz": "Switzerland",
    "Oesterreich": "Austria", "Tirol": "Tyrol", "Niederlande": "the Netherlands", "Schweden": "Sweden",
    "Daenemark": "Denmark", "Ungarn": "Hungary", "Polen": "Poland", "Frankreich": "France",
    "Irland": "Ireland", "China": "China", "Deutschland": "Germany",
}  # fmt: skip
_COLLECTIONS = {
    "oneills1850": "Ireland", "airdsAirs": "Scotland", "ryansMammoth": "America", "bach": "Germany"
}  # fmt: skip


class Captioned(NamedTuple):
    """A caption and the claims that it makes, value by attribute."""

    text: str
    claims: dict[str, str]


def colour(about: Melody) -> dict[str, str]:
    """Other information about a melody, by `COLOURS`, as far as its source has it."""
    place = next((english for name, english in _PLACES.items() if name in about.origin), "")
    title = re.sub(r'[",(\[]|\bS\. ?\d+.*|\bBWV.*', " ", about.title).split()
    name = " ".join(title[:5]).rstrip(".")
    texts = (
        place or _COLLECTIONS.get(about.collection, ""),
        name.title() if name.isupper() else name,
        f"{about.tempo:.0f}" if about.tempo != 120 else "",
        {"C": "4/4", "C|": "2/2"}.get(about.meter, about.meter),
    )
    return {name: text for name, text in zip(COLOURS, texts, strict=True) if text}


def describe(
    tokens: np.ndarray, about: Melody, rng: np.random.Generator, wording: Wording = "train"
) -> Captioned:
    """A caption with 3 to 9 of the claims that hold of one melody, int32 (T,), which is (part of) `about`."""
    return describe_all(tokens[None], [about], rng, wording)[0]


def describe_all(
    tokens: np.ndarray, about: Sequence[Melody], rng: np.random.Generator, wording: Wording = "train"
) -> list[Captioned]:
    """`describe` for a batch, tokens int32 (N, T), whose attributes are measured at once."""
    measured = {name: np.asarray(value).tolist() for name, value in _measure(tokens).items()}
    by_melody = {melody: (kind(melody), colour(melody)) for melody in set(about)}
    names = [*measured, "kind"]
    orders = rng.random((len(about), len(names))).argsort(axis=1).tolist()
    counts = rng.integers(FEWEST, MOST + 1, len(about)).tolist()
    coloured = (rng.random((len(about), len(COLOURS))) < 0.25).tolist()
    captions = []
    for row, melody in enumerate(about):
        of_kind, colours = by_melody[melody]
        true = {name: ATTRIBUTES[name][values[row]] for name, values in measured.items()} | {"kind": of_kind}
        claims = {name: true[name] for name in (names[i] for i in orders[row][: counts[row]])}
        names_drawn = (name for name, drawn in zip(COLOURS, coloured[row], strict=True) if drawn)
        extra = {name: colours[name] for name in names_drawn if name in colours}
        captions.append(Captioned(caption(claims, rng, wording, extra), claims))
    return captions


_measure = jax.jit(attributes)


def caption(
    claims: Mapping[str, str],
    rng: np.random.Generator,
    wording: Wording = "train",
    colour: Mapping[str, str] | None = None,
) -> str:
    """English that makes exactly these claims, and adds some `colour` (see the function of that name).

    KeyError for an unknown attribute or value.
    """
    # one call for all random numbers: a call for each would take most of the time
    draws = iter(rng.random(3 * len(claims) + 2).tolist())
    pick = lambda options: options[int(next(draws) * len(options))]
    extra = dict(colour or {})
    parts: dict[str, list[str]] = {"noun": [], "adjective": [], "phrase": [], "verb": []}
    for name in sorted(sorted(claims), key=lambda _: next(draws)):
        value = claims[name]
        if name == "meter" and METERS.get(extra.get("signature", "")) == value:
            parts["phrase"].append(f"in {extra['signature']}")
            continue
        roles = _roles(name, value, wording)
        role = pick(list(roles))
        if len(parts[role]) >= 2 and len(roles) > 1:  # more than two of one role read badly
            role = min(roles, key=lambda other: len(parts[other]))
        parts[role].append(pick(roles[role]))
    noun = parts["noun"][0] if parts["noun"] else pick(NOUNS[wording])
    if "origin" in extra and not (noun.startswith("Chinese") and extra["origin"] == "China"):
        noun += f" from {extra['origin']}"
    if "title" in extra:
        noun += f' called "{extra["title"]}"'
    if "tempo" in extra:
        parts["phrase"].append(f"marked {extra['tempo']} beats a minute")
    templates = _TRAIN_TEMPLATES if wording == "train" else _HELD_OUT_TEMPLATES
    text = pick(templates)(noun, parts["adjective"], parts["phrase"], parts["verb"])
    return text[0].upper() + text[1:]


@functools.cache
def _roles(name: str, value: str, wording: Wording) -> dict[str, tuple[str, ...]]:
    """Expressions by role; held-out captions use their own where there are any."""
    own = HELD_OUT.get(name, {}).get(value, {}) if wording == "held_out" else {}
    return {**TRAIN[name][value], **own}


def _list(words: Sequence[str], last: str = " and ") -> str:
    return last.join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _with_article(adjectives: Sequence[str], noun: str) -> str:
    in_order = sorted(adjectives, key=lambda word: word in ("major", "minor"))  # these are next to the noun
    words = f"{', '.join(in_order)} {noun}".strip()
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"


def _after(phrases: Sequence[str]) -> str:
    return f" {_list(phrases)}" if phrases else ""


def _clause(noun: str, adjectives: list[str], phrases: list[str], verbs: list[str]) -> str:
    that = f"{',' if len(phrases) > 1 else ''} that {_list(verbs)}" if verbs else ""
    return f"{_with_article(adjectives, noun)}{_after(phrases)}{that}."


def _two_sentences(noun: str, adjectives: list[str], phrases: list[str], verbs: list[str]) -> str:
    second = f" It {_list(verbs)}." if verbs else ""
    return f"{_with_article(adjectives, noun)}{_after(phrases)}.{second}"


def _predicate(noun: str, adjectives: list[str], phrases: list[str], verbs: list[str]) -> str:
    first = f"this is {_with_article([], noun)}{_after(phrases)}."
    about = ([f"is {_list(adjectives)}"] if adjectives else []) + verbs
    return f"{first} It {_list(about)}." if about else first


def _wish(noun: str, adjectives: list[str], phrases: list[str], verbs: list[str]) -> str:
    return f"play me {_clause(noun, adjectives, phrases, verbs)}"


def _verbs_first(noun: str, adjectives: list[str], phrases: list[str], verbs: list[str]) -> str:
    said = f"it {_list(verbs)}: " if verbs else "listen: "
    return f"{said}{_with_article(adjectives, noun)}{_after(phrases)}."


_TRAIN_TEMPLATES = (_clause, _two_sentences, _predicate)
_HELD_OUT_TEMPLATES = (_wish, _verbs_first)
