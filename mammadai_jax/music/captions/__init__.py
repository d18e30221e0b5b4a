"""Captions of melodies: English that makes claims about one, each of which can be checked on the music.

attributes   what can be claimed, and how it is judged from tokens
kinds        what kind of tune it is, by its source, or judged from tokens by a fitted model
wording      from claims to English and back
"""

from mammadai_jax.music.captions.attributes import ATTRIBUTES, adherence, attributes, encode, holds
from mammadai_jax.music.captions.kinds import KINDS, KindProbe, kind
from mammadai_jax.music.captions.parsing import parse
from mammadai_jax.music.captions.wording import Captioned, Wording, caption, colour, describe, describe_all
from mammadai_jax.music.excerpts import Excerpts, excerpts

__all__ = [
    "ATTRIBUTES",
    "KINDS",
    "Captioned",
    "Excerpts",
    "KindProbe",
    "Wording",
    "adherence",
    "attributes",
    "caption",
    "colour",
    "describe",
    "describe_all",
    "encode",
    "excerpts",
    "holds",
    "kind",
    "parse",
]
