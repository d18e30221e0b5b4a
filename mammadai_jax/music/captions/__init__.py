"""Captions of melodies: English texts whose claims can be checked on the music.

attributes   the claims, and how they are measured from tokens
kinds        the kind of tune, by its source or by a model fitted on tokens
wording      claims to English
parsing      English to claims
"""

from mammadai_jax.music.captions.attributes import (
    ATTRIBUTES,
    INPUTS,
    MEASURED,
    adherence,
    attributes,
    encode,
    holds,
    inputs_of,
    measured,
)
from mammadai_jax.music.captions.kinds import KINDS, KindProbe, kind
from mammadai_jax.music.captions.parsing import parse
from mammadai_jax.music.captions.wording import Captioned, Wording, caption, colour, describe, describe_all
from mammadai_jax.music.excerpts import Excerpts, excerpts

__all__ = [
    "ATTRIBUTES",
    "INPUTS",
    "KINDS",
    "MEASURED",
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
    "inputs_of",
    "kind",
    "measured",
    "parse",
]
