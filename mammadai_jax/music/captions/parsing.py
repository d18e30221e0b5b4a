"""The claims in a text about a melody."""

from __future__ import annotations

import functools
import re

from mammadai_jax.music.captions.phrases import expressions

QUOTED = re.compile(r'"[^"]*"')


def parse(text: str) -> dict[str, str]:
    """The claims of a text, by known expressions: value by attribute.

    Of overlapping expressions the longest counts, of two claims about one attribute the first. Text in double
    quotes is a name and makes no claim; unknown words make none either.
    """
    pattern, meanings = _grammar()
    claims: dict[str, str] = {}
    for match in pattern.finditer(QUOTED.sub(" ", text.lower())):
        name, value = meanings[match.group()]
        claims.setdefault(name, value)
    return claims


@functools.cache
def _grammar() -> tuple[re.Pattern[str], dict[str, tuple[str, str]]]:
    meanings = {text.lower(): (name, value) for text, name, value in expressions()}
    longest_first = sorted(meanings, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])"), meanings
