"""From claims to English, in many wordings, of which some are kept for testing.

Wordings "train" and "held_out" share most words, since a small encoder of text cannot know words that it
never read. What is new in held-out captions is how sentences are built and ordered, some expressions (known
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
    """What else is known of a melody, by `COLOURS`, as far as given."""
    place = next((english for name, english in _PLACES.items() if name in about.origin), "")
    title = re.sub(r'[",(\[]|\bS\. ?\d+.*|\bBWV.*', " ", about.title).split()
    name = " ".join(title[:5]).rstrip(".")
    known = (
        place or _COLLECTIONS.get(about.collection, ""),
        name.title() if name.isupper() else name,
        f"{about.tempo:.0f}" if about.tempo != 120 else "",
        {"C": "4/4", "C|": "2/2"}.get(about.meter, about.meter),
    )
    return {name: text for name, text in zip(COLOURS, known, strict=True) if text}


def describe(
    tokens: np.ndarray, about: Melody, rng: np.random.Generator, wording: Wording = "train"
) -> Captioned:
    """A caption with 3 to 9 of the claims that hold of one melody, int32 (T,), which is (part of) `about`."""
    return describe_all(tokens[None], [about], rng, wording)[0]


def describe_all(
    tokens: np.ndarray, about: Sequence[Melody], rng: np.random.Generator, wording: Wording = "train"
) -> list[Captioned]:
    """`describe` for a batch, tokens int32 (N, T): the music is judged in one go."""
    measured = {name: np.asarray(value).tolist() for name, value in _measure(tokens).items()}
    known = {melody: (kind(melody), colour(melody)) for melody in set(about)}
    names = [*measured, "kind"]
    orders = rng.random((len(about), len(names))).argsort(axis=1).tolist()
    counts = rng.integers(FEWEST, MOST + 1, len(about)).tolist()
    coloured = (rng.random((len(about), len(COLOURS))) < 0.25).tolist()
    captions = []
    for row, melody in enumerate(about):
        of_kind, colours = known[melody]
        true = {name: ATTRIBUTES[name][values[row]] for name, values in measured.items()} | {"kind": of_kind}
        claims = {name: true[name] for name in (names[i] for i in orders[row][: counts[row]])}
        said = (name for name, drawn in zip(COLOURS, coloured[row], strict=True) if drawn)
        extra = {name: colours[name] for name in said if name in colours}
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

    KeyError for an attribute or value that there is not.
    """
    # one call for all that is drawn: a call for each would take most of the time
    draws = iter(rng.random(3 * len(claims) + 2).tolist())
    pick = lambda options: options[int(next(draws) * len(options))]
    said = dict(colour or {})
    parts: dict[str, list[str]] = {"noun": [], "adjective": [], "phrase": [], "verb": []}
    for name in sorted(sorted(claims), key=lambda _: next(draws)):
        value = claims[name]
        if name == "meter" and METERS.get(said.get("signature", "")) == value:
            parts["phrase"].append(f"in {said['signature']}")
            continue
        roles = _roles(name, value, wording)
        role = pick(list(roles))
        if len(parts[role]) >= 2 and len(roles) > 1:  # more than two of a role in a row are clumsy
            role = min(roles, key=lambda other: len(parts[other]))
        parts[role].append(pick(roles[role]))
    noun = parts["noun"][0] if parts["noun"] else pick(NOUNS[wording])
    if "origin" in said and not (noun.startswith("Chinese") and said["origin"] == "China"):
        noun += f" from {said['origin']}"
    if "title" in said:
        noun += f' called "{said["title"]}"'
    if "tempo" in said:
        parts["phrase"].append(f"marked {said['tempo']} beats a minute")
    templates = _TRAIN_TEMPLATES if wording == "train" else _HELD_OUT_TEMPLATES
    text = pick(templates)(noun, parts["adjective"], parts["phrase"], parts["verb"])
    return text[0].upper() + text[1:]


@functools.cache
def _roles(name: str, value: str, wording: Wording) -> dict[str, tuple[str, ...]]:
    """Expressions by role: held-out captions have those of their own where there are any."""
    own = HELD_OUT.get(name, {}).get(value, {}) if wording == "held_out" else {}
    return {**TRAIN[name][value], **own}


def _list(words: Sequence[str], last: str = " and ") -> str:
    return last.join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _with_article(adjectives: Sequence[str], noun: str) -> str:
    in_order = sorted(adjectives, key=lambda word: word in ("major", "minor"))  # these stand next to the noun
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
