import pytest

from mammadai_jax.music.controls import (
    BARS,
    Controls,
    Range,
    for_captions,
    key_name,
    of_prompt,
    parse_key,
    parse_meter,
    parse_range,
)
from mammadai_jax.music.corpus import DEGREES
from mammadai_jax.music.notes import Melody

NATURALS = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))


@pytest.mark.parametrize("mode", DEGREES)
def test_every_key_is_read_by_the_name_that_it_is_written_with(mode):
    for tonic in range(12):
        name = key_name(Melody([60], tonic=tonic, mode=mode))
        assert parse_key(name) == (tonic, mode) == parse_key(name.lower())
        (asked,) = [of_prompt(f"a tune in {name}, please")]
        assert (asked.tonic, asked.mode) == (tonic, mode)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        *(("G", (7, "major")), ("Bb", (10, "major")), ("b", (11, "major")), ("F#m", (6, "minor"))),
        *(("bbm", (10, "minor")), ("E-flat major", (3, "major")), ("c sharp min", (1, "minor"))),
        *(("Dmaj", (2, "major")), ("A aeolian", (9, "minor")), ("C♯ ionian", (1, "major"))),
    ],
)
def test_short_names_of_keys(text, key):
    assert parse_key(text) == key


@pytest.mark.parametrize("text", ["", "H", "C4", "in C", "F# jazz", "minor", "C##"])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match=r"no key .* write one such as"):
        parse_key(text)


def test_ranges():
    for letter, natural in NATURALS.items():
        assert parse_range(f"{letter}3-{letter}5") == Range(48 + natural, 72 + natural)
    assert parse_range("bb3 to F#5") == parse_range("Bb3..F♯5") == Range(58, 78)
    assert parse_range("C-1-G9") == Range(0, 127)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *(("A5-C4", "upside down"), ("C4-E4", "has 4 semitones: give it 5"), ("C4", "no range 'C4'")),
        *(("G9-A9", "leaves MIDI's pitches"), ("C-2-C4", "leaves MIDI"), ("high", "no range")),
    ],
)
def test_what_is_no_range_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        parse_range(text)


def test_meters():
    assert [parse_meter(meter) for meter in BARS] == [*BARS]
    with pytest.raises(ValueError, match="no meter '7/8': there are 4/4, 2/2, 2/4, 3/4, 6/8"):
        parse_meter("7/8")


# a prompt, what it asks for, and what is left of it for captions
PROMPTS = [
    (
        "a lively jig in D major for flute",
        Controls(2, "major", tempo=138, meter="6/8", program=73),
        "a lively jig in major",
    ),
    ("a slow waltz in D dorian", Controls(2, "dorian", tempo=72, meter="3/4"), "a slow waltz in minor"),
    ("in G major at 90 bpm", Controls(7, "major", tempo=90), "in major"),
    (
        "8 bars in F# minor from C4 to A5",
        Controls(6, "minor", bars=8, range=Range(60, 81)),
        "in minor",
    ),
    ("a sad tune in b flat minor on the violin", Controls(10, "minor", program=40), None),
    ("a falling G major polka", Controls(7, "major", meter="2/4"), "a falling major polka"),
    ("A tune in A.", Controls(9, "major"), "A tune in major."),
    ("a very slow tune in duple time", Controls(tempo=50, meter="4/4"), "a very slow tune in duple time"),
    ("a lively tune in the form AABA", Controls(tempo=138, form="AABA"), "a lively tune"),
    ("a slow AAB form", Controls(tempo=72, form="AAB"), "a slow"),
    ("a BAD form, in the form a", Controls(), "a BAD form, in the form a"),
    # articles, names, and words that only look like a key, a tempo or an instrument
    ("a tune in a minor key", Controls(), "a tune in a minor key"),
    ("A minor tune in a minor mode", Controls(), "A minor tune in a minor mode"),
    ('a hymn called "A slow waltz in D minor for flute"', Controls(), None),
    ("a tune in minor on a hill for dancing, 0 bars", Controls(), None),
    ("7/8 at 999 bpm", Controls(), "7/8"),
    ("8 bars at 90 bpm, for flute", Controls(tempo=90, bars=8, program=73), "a tune"),
]


@pytest.mark.parametrize(("prompt", "asked", "rest"), PROMPTS, ids=[prompt for prompt, *_ in PROMPTS])
def test_prompts_ask_for_what_they_say(prompt, asked, rest):
    assert of_prompt(prompt) == asked
    assert rest is None or for_captions(prompt) == rest


def test_given_controls_count_before_others():
    asked = of_prompt("a slow tune in D dorian for flute")
    given = Controls(tonic=0, mode="major", tempo=100.0)
    assert given.over(asked) == Controls(0, "major", 100.0, program=73)
    assert Controls().over(asked) == asked


def test_controls_in_the_words_of_captions():
    assert Controls(2, "dorian", meter="6/8", density="low").in_words() == (
        "in minor, in triple time, with few notes"
    )
    assert Controls(2, "lydian").in_words() == "in major" and Controls(tempo=90).in_words() == ""
