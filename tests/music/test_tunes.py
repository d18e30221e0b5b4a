import numpy as np
import pytest

from mammadai_jax.music import tunes
from mammadai_jax.music.notes import HOLD, OFF, PIANO_HOLD
from mammadai_jax.music.tunes import ACCOMPANIMENTS, TUNES, parse

BARS = {
    "Ode to Joy": 16,
    "Twinkle, Twinkle, Little Star": 12,
    "Frere Jacques": 8,
    "Yankee Doodle": 16,
    "The White Cockade": 17,
    "Soldier's Joy": 17,
    "Miss McLeod's Reel": 17,
    "Lightly Row (Alles neu macht der Mai)": 16,
    "O Sanctissima (O du froehliche)": 16,
    "Jesu, meine Freude": 13,
}


def test_ten_tunes_of_whole_bars():
    assert {tune.title: len(tune) / 16 for tune in TUNES} == BARS
    assert len({tune.source for tune in TUNES}) == 10
    assert all(PIANO_HOLD.covers(tune.events) and tune.steps_per_bar == 16 for tune in TUNES)


def test_known_first_notes():
    by_title = {tune.title: tune for tune in TUNES}
    ode = by_title["Ode to Joy"]
    assert [tuple(note) for note in ode.notes[:5]] == [
        (0, 4, 66), (4, 4, 66), (8, 4, 67), (12, 4, 69), (16, 4, 69)
    ]  # fmt: skip
    assert (ode.tonic, ode.mode, ode.tempo) == (2, "major", 120)
    assert by_title["Twinkle, Twinkle, Little Star"].pitches[:7].tolist() == [60, 60, 67, 67, 69, 69, 67]
    assert by_title["Frere Jacques"].pitches[8:11].tolist() == [69, 70, 72]
    assert (by_title["Jesu, meine Freude"].tonic, by_title["Jesu, meine Freude"].mode) == (4, "minor")


def test_a_pickup_ends_the_silent_first_bar():
    cockade = next(tune for tune in TUNES if tune.title == "The White Cockade")
    assert cockade.pickup == 4
    assert cockade.events[:16].tolist() == [OFF] + [HOLD] * 11 + [69, HOLD, 67, HOLD]
    assert cockade.events[16] == 71


def test_every_tune_ends_on_its_tonic_or_its_dominant_chord():
    for tune in TUNES:
        assert (tune.pitches[-1] - tune.tonic) % 12 in (0, 2, 4), tune.title


def test_accompaniments_are_one_bar_in_c():
    assert [a.name for a in ACCOMPANIMENTS] == [
        "march with oom-pah", "rock with Alberti bass", "habanera", "bossa nova", "son with tumbao"
    ]  # fmt: skip
    for accompaniment in ACCOMPANIMENTS:
        assert accompaniment.events.shape == (16,)
        assert accompaniment.events[0] % 12 == 0
        assert all(0 <= step < 16 for steps in accompaniment.drums.values() for step in steps)
    son = ACCOMPANIMENTS[-1]
    assert son.drums[tunes.CLAVES] == (0, 3, 6, 10, 12)
    with pytest.raises(TypeError):
        son.drums[36] = ()  # type: ignore[index]


def test_notation_known_answer():
    events = parse("Bb3:1 C4:2 R:1 | F#4:4", steps_per_bar=4)
    np.testing.assert_array_equal(events, [58, 60, HOLD, OFF, 66, HOLD, HOLD, HOLD])
    np.testing.assert_array_equal(parse("C4:1 | D4:4", 4, pickup=1), [OFF, HOLD, HOLD, 60, 62, -2, -2, -2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("C4:16 | C4:15", "bar 2 .* has 15 steps instead of 16"),
        ("C4:16 | H4:16", "bar 2: cannot read 'H4:16'"),
        ("C4:0 C4:16", "bar 1: cannot read 'C4:0'"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)
