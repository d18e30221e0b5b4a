"""Form: which bars of a melody return to earlier ones, and how it closes.

A composer that learns note by note hardly ever returns to a whole bar, though it knows how one goes on, and
often misses the tonic at the end. So the form is decided first, and the notes follow: where a bar is to
return, the tokens of the earlier one are made likelier; where the melody is to close, its last note begins on
a strong beat and is a tonic. Forms are drawn as often as folk melodies have them, or asked for in letters,
such as "AABA".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.captions.parsing import parse
from mammadai_jax.music.controls import BARS, Controls
from mammadai_jax.music.masks import ENDINGS
from mammadai_jax.music.notes import MAGENTA

SECTION = 8  # bars
LIKELIER = 5.0  # added to a logit: odds of a token that returns are 150 times those of the composer
CERTAIN = 50.0  # the same, for a form that is asked for
LETTERS = re.compile(r"A[A-H]{1,15}")

# For each bar how many bars back (1, 2, 4 or 8; the farthest) the one lies that it returns to, "." if it is
# new; and how many melodies have it, of the 630 that begin with a full bar in the folk corpus's families of
# seed 0 to learn from: all forms of the first eight bars that six or more have, and of the next eight, which
# 277 have, that four or more have.
FIRST: Mapping[str, int] = {
    "........": 283,
    "....4444": 51,
    "....444.": 31,
    "..2.....": 26,
    "....44..": 25,
    "......2.": 17,
    "..2...2.": 16,
    "......22": 15,
    "..2.4444": 12,
    ".....4..": 11,
    "....4...": 11,
    "..22....": 10,
    ".......4": 10,
    "..2.44..": 9,
    "..2.444.": 9,
    "......44": 6,
    "..2...24": 6,
}
"""Forms of the first eight bars."""

LATER: Mapping[str, int] = {
    "........": 74,
    "....8888": 10,
    "....44..": 9,
    ".......8": 9,
    "....444.": 8,
    "..2.44..": 8,
    "...8....": 7,
    "..2.4...": 6,
    "88888888": 5,
    "....4...": 5,
    "....4488": 5,
    "..2.....": 5,
    "....4444": 4,
    "..888888": 4,
    "..2.44.8": 4,
}
"""Forms of eight later bars, from bar 9 on."""


FINALS: Mapping[str, tuple[int, ...]] = {"major": (0,), "minor": (9,), "": (0, 9)}
"""Pitch classes on which a melody in the scale of C closes, by the mode that its prompt claims."""


class Form(NamedTuple):
    """What melodies return to, and how they close.

    Attributes:
        distance: int32 (T, N), how many steps before each step of N melodies lies the one that it returns to;
            0 where the melody is new.
        strength: (N,), added to the logit of the token there.
        last: int32 (N,), steps of the last note; 0 leaves an end free, None all ends.
        finals: bool (12, N), the pitch classes that the last note may have.

    """

    distance: jax.Array | np.ndarray
    strength: jax.Array | np.ndarray
    last: jax.Array | np.ndarray | None = None
    finals: jax.Array | np.ndarray | None = None

    def of(self, rows: slice) -> Form:
        """The form of some of the melodies."""
        last, finals = (None if part is None else part[..., rows] for part in (self.last, self.finals))
        return Form(self.distance[:, rows], self.strength[rows], last, finals)

    def closing(self, time: jax.Array) -> jax.Array:
        """The tokens of MAGENTA that a melody may have at times (N,), so that it closes: bool (N, tokens)."""
        classes = np.arange(MAGENTA.lowest, MAGENTA.highest + 1) % 12
        finals = jnp.pad(jnp.asarray(self.finals).T[:, classes], ((0, 0), (MAGENTA.first, 0)))
        left, last = len(self.distance) - time, jnp.asarray(self.last)
        kept = jnp.where((left == last)[:, None], finals, np.arange(MAGENTA.size) == MAGENTA.hold)
        return kept | ((left > last) | (last == 0))[:, None]


class Plan(NamedTuple):
    """The form of one melody: distances (T,), strength, last, and pitch classes of the last note."""

    distance: np.ndarray
    strength: float
    last: int = 0
    finals: tuple[int, ...] = FINALS[""]


def together(plans: Sequence[Plan]) -> Form:
    """The forms of melodies as one."""
    distance, strength, last, finals = zip(*plans, strict=True)
    return Form(
        np.stack(distance, axis=1).astype(np.int32),
        np.array(strength, np.float32),
        np.array(last, np.int32),
        np.stack([np.isin(np.arange(12), classes) for classes in finals], axis=1),
    )


def form_of(random: np.random.Generator, asked: Controls, prompt: str, steps: int, reach: int) -> Plan:
    """The form of a melody: in the letters that are asked for, or drawn.

    A drawn form follows what the prompt claims of repetition, of the ending and of the mode. Without a meter
    no bar returns: nobody knows where the bars are; the melody closes as in 4/4. An end is free where it is
    part of what returns, and where a key is asked for, whose tonic it has anyway. ValueError if the letters
    return to what lies more than `reach` steps back, which is all that a composer remembers.
    """
    claims = parse(prompt)
    distance, strength = _returning(random, asked, claims.get("repetition", ""), steps, reach)
    is_free = distance[-1:].any() or asked.tonic is not None or claims.get("ending") == "open"
    last = 0 if is_free else _last(random, asked.meter or "4/4", steps)
    return Plan(distance, strength, last, FINALS[claims.get("mode", "")])


def _last(random: np.random.Generator, meter: str, steps: int) -> int:
    """Steps of the last note, drawn among those that leave something before it; 0 if there are none."""
    endings = {size: count for size, count in ENDINGS[meter].items() if size < steps}
    counts = np.array([*endings.values()], float)
    return int(random.choice([*endings], p=counts / counts.sum())) if endings else 0


def _returning(
    random: np.random.Generator, asked: Controls, claim: str, steps: int, reach: int
) -> tuple[np.ndarray, float]:
    """Distances (T,) and their strength, see form_of."""
    if asked.form:
        distance, strength = in_letters(asked.form, steps, BARS[asked.meter or "4/4"])
        if distance.max() > reach:
            raise ValueError(
                f"the form {asked.form} returns to what lies {distance.max()} steps back, and the composer "
                f"remembers {reach}: give fewer --bars, or letters that return sooner"
            )
        return distance, strength
    if not asked.meter:
        return np.zeros(steps, int), 0.0
    returns = {"repetitive": True, "varied": False}.get(claim)
    return drawn(random, steps, BARS[asked.meter], returns)


def drawn(
    random: np.random.Generator, steps: int, bar: int, returns: bool | None = None
) -> tuple[np.ndarray, float]:
    """The form of a melody, as often as folk melodies have it -> distances (T,), and their strength.

    The last bar is always new, so that the melody can close.

    Args:
        random: source of randomness.
        steps: of the melody.
        bar: steps of a bar.
        returns: whether it shall return to a bar of its first SECTION ones, where that is possible; None if
            it may.

    """
    bars, plan = -(-steps // bar), []
    for first in range(0, bars, SECTION):
        forms = LATER if first else FIRST
        plans, counts = np.array([_distances(form) for form in forms]), np.array([*forms.values()], float)
        plans[:, bars - first - 1 :] = 0
        is_new = ~plans.any(axis=1)
        suits = is_new if returns is False else ~is_new
        if returns is False or (returns and not first and suits.any()):
            counts *= suits
        plan.extend(plans[random.choice(len(counts), p=counts / counts.sum())])
    return _by_step(plan[:bars], bar, steps), LIKELIER


def in_letters(letters: str, steps: int, bar: int) -> tuple[np.ndarray, float]:
    """Sections of equal length, such as "AABA" -> distances (T,), and their strength.

    A section returns to the last one of the same letter. ValueError where it is no whole number of bars.
    """
    bars, count = -(-steps // bar), len(letters)
    if bars % count:
        raise ValueError(f"{bars} bars have no {count} equal sections for the form {letters}")
    size, places = bars // count, range(count)
    last = [letters.rfind(letters[place], 0, place) for place in places]
    apart = [size * (place - last[place]) if last[place] >= 0 else 0 for place in places]
    return _by_step(np.repeat(apart, size), bar, steps), CERTAIN


def parse_form(text: str) -> str:
    """A form in letters, "AABA"; ValueError for other texts."""
    if not LETTERS.fullmatch(text.upper()):
        raise ValueError(f"no form {text!r}: write a letter for each section, such as AABA")
    return text.upper()


def _distances(form: str) -> list[int]:
    return [0 if bar == "." else int(bar) for bar in form]


def _by_step(bars_back: Sequence[int] | np.ndarray, bar: int, steps: int) -> np.ndarray:
    """How many bars back each bar returns, as the steps of each step, (T,)."""
    return np.repeat(np.asarray(bars_back) * bar, bar)[:steps]
