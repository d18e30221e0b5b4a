import numpy as np
import pytest

from mammadai_jax.music import corpus
from mammadai_jax.music.controls import Controls, Range, of_prompt
from mammadai_jax.music.notation import Notation, in_words, notations
from mammadai_jax.music.notes import HOLD, MAGENTA, Melody
from mammadai_jax.music.sample import accompanied, unaccompanied
from mammadai_jax.music.traits import traits

DUPLE = [HOLD] * 96
for at, pitch in zip(range(0, 96, 8), [60, 64, 67, 60, 65, 69, 67, 64, 62, 67, 64, 60], strict=True):
    DUPLE[at : at + 4 : 4] = [pitch]
    DUPLE[at + 4] = pitch + 2 if at % 16 else pitch
WALTZ = [HOLD] * 96
for at, pitch in zip(range(0, 96, 12), [69, 72, 76, 69, 74, 77, 76, 69], strict=True):
    WALTZ[at], WALTZ[at + 8] = pitch, pitch
EVENTS = np.array([DUPLE, WALTZ])


def test_melodies_are_written_as_they_are_heard():
    duple, waltz = notations(EVENTS)
    assert duple == Notation("4/4", 16, 0, "major", 120)
    assert waltz == Notation("3/4", 12, 9, "minor", 120)


def test_real_melodies_are_written_as_their_traits_say():
    tunes = [m for m in corpus.embedded().in_key(0, MAGENTA, relative=True) if len(m) >= 96]
    events = np.stack([melody.events[:96] for melody in tunes])
    heard = traits(np.stack([MAGENTA.encode(row) for row in events]))
    for notation, triple, minor in zip(notations(events), heard["triple"], heard["minor"], strict=True):
        assert (notation.steps_per_bar == 12) == (triple > 0)
        assert (notation.tonic, notation.mode) == ((9, "minor") if minor > 0 else (0, "major"))


@pytest.mark.parametrize(
    ("prompt", "meter", "tempo"),
    [
        ("a waltz in 3/4", "3/4", 120),
        ("a low melody in triple time", "3/4", 120),
        ("a lively jig", "6/8", 138),
        ("a tune in 6/8, marked 90 beats a minute", "6/8", 90),
        ("a tune in 2/4 at 100 bpm", "2/4", 100),
        ("a reel in 2/2", "2/2", 120),
        ('a tune called "A Waltz in 3/4" at 9 bpm', "4/4", 120),
        ("a slow sad tune in minor", "4/4", 72),
        ("13/4 or 3/45", "4/4", 120),
    ],
)
def test_prompts_may_ask_for_meter_and_tempo(prompt, meter, tempo):
    (notation,) = notations(EVENTS[:1], [of_prompt(prompt)])
    assert (notation.meter, notation.tempo, notation.tonic) == (meter, tempo, 0)


def test_what_is_asked_for_is_written_whatever_is_heard():
    for prompt, meter in (("in 4/4", "4/4"), ("in 6/8", "6/8"), ("a jig in 2/4", "2/4"), ("", "3/4")):
        assert notations(EVENTS[1:], [of_prompt(prompt)])[0].meter == meter
    asked = notations(EVENTS[1:], [Controls(tonic=7, mode="dorian", tempo=50.0)])
    assert asked == [Notation("3/4", 12, 2, "dorian", 50.0)]  # in the scale of C


def test_short_melodies_are_in_four_and_none_are_none():
    assert notations(EVENTS[1:, :16])[0][:2] == ("4/4", 16)
    assert notations([]) == []


def test_samples_have_their_notation():
    rows = np.stack([MAGENTA.encode(row) for row in EVENTS])
    melodies = [sample.melody for sample in unaccompanied(rows, "Tune", ["in 3/4", ""])]
    assert [(m.meter, m.steps_per_bar, m.tonic) for m in melodies] == [("3/4", 12, 0), ("3/4", 12, 9)]
    (moved,) = unaccompanied(rows[:1], "Tune", controls=Controls(7, "major", range=Range(72, 90)))
    assert (moved.melody.tonic, moved.melody.notes[0].pitch) == (7, EVENTS[0][0] + 19)
    silent, low = np.zeros(96, int), np.where(EVENTS[1] >= 0, EVENTS[1] - 24 - 20, 0)
    both = [sample.melody for sample in accompanied(np.stack([silent, low]), "Tune")]
    assert [(m.meter, m.mode) for m in both] == [("4/4", "major"), ("4/4", "minor")]


def test_in_words():
    melody = Melody([60], tonic=10, mode="major", tempo=93.5, meter="6/8")
    assert in_words(melody) == "Bb major, 6/8, 93.5 quarter notes a minute"
    assert in_words(Melody([60], tonic=6, mode="dorian")) == "F# dorian, 4/4, 120 quarter notes a minute"
    assert in_words(Melody([60])) == "4/4, 120 quarter notes a minute"
