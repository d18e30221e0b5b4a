"""The words for each claim, by their role in a sentence.

Roles: an *adjective* stands before the noun, a *phrase* after it, a *verb* follows "it" or "that".
`HELD_OUT` words are used, beside those of `TRAIN`, only in test captions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

Roles = Mapping[str, tuple[str, ...]]
Words = Mapping[str, Mapping[str, Roles]]

TRAIN: Words = {
    "mode": {
        "major": {"adjective": ("major",), "phrase": ("in major", "in a major key")},
        "minor": {"adjective": ("minor",), "phrase": ("in minor", "in a minor key")},
    },
    "register": {
        "low": {"adjective": ("low",), "phrase": ("in a low register",), "verb": ("lies low",)},
        "middle": {"phrase": ("in the middle register", "at middle height"), "verb": ("lies in the middle",)},
        "high": {"adjective": ("high",), "phrase": ("in a high register",), "verb": ("lies high",)},
    },
    "range": {
        "narrow": {
            "adjective": ("narrow",),
            "phrase": ("with a narrow range",),
            "verb": ("keeps to a small range",),
        },
        "medium": {"phrase": ("with a medium range", "of moderate range")},
        "wide": {"phrase": ("with a wide range", "of large range"), "verb": ("spans a wide range",)},
    },
    "density": {
        "calm": {"adjective": ("calm", "slow"), "phrase": ("with few notes",), "verb": ("moves slowly",)},
        "moderate": {"adjective": ("moderately paced",), "phrase": ("at a moderate pace",)},
        "busy": {
            "adjective": ("busy", "lively"),
            "phrase": ("with many notes",),
            "verb": ("moves quickly",),
        },
    },
    "contour": {
        "level": {"phrase": ("with a level contour",), "verb": ("stays level",)},
        "falling": {
            "adjective": ("falling",),
            "phrase": ("with a falling contour",),
            "verb": ("falls at the end", "falls"),
        },
        "rising": {
            "adjective": ("rising",),
            "phrase": ("with a rising contour",),
            "verb": ("rises at the end", "rises"),
        },
        "arch": {"phrase": ("in the shape of an arch",), "verb": ("rises and falls again",)},
        "dip": {"phrase": ("with a dip in the middle",), "verb": ("falls and rises again",)},
    },
    "repetition": {
        "varied": {
            "adjective": ("varied",),
            "phrase": ("with little repetition",),
            "verb": ("hardly repeats",),
        },
        "repetitive": {
            "adjective": ("repetitive",),
            "phrase": ("with much repetition",),
            "verb": ("repeats its motifs",),
        },
    },
    "motion": {
        "stepwise": {"adjective": ("stepwise",), "phrase": ("with small steps",), "verb": ("moves by step",)},
        "mixed": {"phrase": ("with steps and some leaps",), "verb": ("mixes steps and leaps",)},
        "leaping": {"adjective": ("leaping",), "phrase": ("with many leaps",), "verb": ("leaps a lot",)},
    },
    "articulation": {
        "flowing": {"adjective": ("flowing",), "phrase": ("without pauses",), "verb": ("flows on",)},
        "pauses": {"phrase": ("with pauses", "with rests"), "verb": ("pauses for breath",)},
    },
    "meter": {
        "duple": {"phrase": ("in duple time", "counted in two or four")},
        "triple": {"phrase": ("in triple time", "counted in three or six")},
    },
    "ending": {
        "open": {"phrase": ("with an open ending",), "verb": ("ends away from the tonic",)},
        "tonic": {
            "phrase": ("with a closed ending",),
            "verb": ("ends on the tonic", "comes home at the end"),
        },
    },
    "kind": {
        "song": {"noun": ("song", "folk song")},
        "chorale": {"noun": ("chorale", "hymn")},
        "reel": {"noun": ("reel",)},
        "jig": {"noun": ("jig",)},
        "air": {"noun": ("air",)},
        "Chinese song": {"noun": ("Chinese song", "Chinese folk song")},
    },
}

HELD_OUT: Words = {
    "mode": {"major": {"phrase": ("in the major mode",)}, "minor": {"phrase": ("in the minor mode",)}},
    "register": {
        "low": {"adjective": ("deep",)},
        "middle": {"phrase": ("in a middle register",)},
        "high": {"phrase": ("up high",)},
    },
    "range": {"narrow": {"phrase": ("of small range",)}, "wide": {"adjective": ("wide-ranging",)}},
    "density": {
        "calm": {"adjective": ("quiet",)},
        "busy": {"adjective": ("fast",), "verb": ("is full of notes",)},
    },
    "contour": {
        "falling": {"phrase": ("falling at the end",), "adjective": ("descending",)},
        "rising": {"phrase": ("rising at the end",), "adjective": ("ascending",)},
        "arch": {"phrase": ("with an arch-like contour",)},
    },
    "repetition": {
        "varied": {"phrase": ("without much repetition",)},
        "repetitive": {"phrase": ("with repeated motifs",)},
    },
    "motion": {"stepwise": {"phrase": ("in small steps",)}, "leaping": {"phrase": ("full of leaps",)}},
    "articulation": {"flowing": {"phrase": ("without rests",)}, "pauses": {"phrase": ("with some pauses",)}},
    "meter": {"duple": {"phrase": ("in even time",)}, "triple": {"phrase": ("in bars of three or six",)}},
    "ending": {"tonic": {"verb": ("closes on the tonic",)}, "open": {"verb": ("does not end on the tonic",)}},
}

# Further expressions that people may use in prompts. Longer expressions take precedence, see `parsing`.
LOOSE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "mode": {"major": ("happy", "cheerful", "bright"), "minor": ("sad", "dark", "mournful", "melancholy")},
    "register": {"low": ("bass",), "middle": ("middle",), "high": ("treble",)},
    "range": {
        "narrow": ("small range",),
        "medium": ("medium range", "moderate range"),
        "wide": ("wide", "large range"),
    },
    "density": {
        "calm": ("gentle", "peaceful", "sparse", "slowly"),
        "moderate": ("medium pace", "moderate pace"),
        "busy": ("quick", "rapid", "dense", "quickly"),
    },
    "contour": {
        "level": ("flat", "level"),
        "falling": ("descends", "goes down", "sinks", "fall"),
        "rising": ("ascends", "goes up", "climbs", "rise"),
        "arch": ("arch", "arched", "arching"),
        "dip": ("dip", "valley"),
    },
    "repetition": {
        "varied": ("no repetition",),
        "repetitive": ("repeating", "repeats", "repetition", "repeated"),
    },
    "motion": {"stepwise": ("by step", "steps", "smooth"), "leaping": ("leaps", "jumps", "jumping", "jumpy")},
    "articulation": {"flowing": ("continuous", "flows", "legato"), "pauses": ("pauses", "rests", "breaks")},
    "meter": {
        "duple": ("2/4", "4/4", "2/2", "four-four", "duple"),
        "triple": ("3/4", "6/8", "waltz", "three-four", "six-eight", "triple"),
    },
    "ending": {
        "tonic": ("ending on the tonic", "ends at home", "closed"),
        "open": ("ends open", "unresolved", "open ending"),
    },
    "kind": {"reel": ("hornpipe",), "Chinese song": ("Chinese",)},
}


def expressions() -> Iterator[tuple[str, str, str]]:
    """Every (expression, attribute, value) of any role, trained, held out or loose."""
    for words in (TRAIN, HELD_OUT):
        for name, values in words.items():
            for value, roles in values.items():
                yield from ((text, name, value) for texts in roles.values() for text in texts)
    for name, values in LOOSE.items():
        for value, texts in values.items():
            yield from ((text, name, value) for text in texts)
