import numpy as np
import pytest

from mammadai_jax.music.keys import ESTIMATED
from mammadai_jax.music.notes import HOLD, OFF, Note
from mammadai_jax.music.transcription import (
    STEP,
    WHOLE,
    Skipped,
    Tune,
    Unsuitable,
    by_reason,
    reasons,
    to_melody,
)


def tune(lengths, lines=(), bar=WHOLE, **known):
    """A tune of notes C, C#, D... of so many steps, and bar lines after so many."""
    starts = np.cumsum([0, *lengths])
    notes = [Note(int(s * STEP), int(n * STEP), 60 + i) for i, (s, n) in enumerate(zip(starts, lengths))]  # noqa: B905
    return Tune(notes, [int(at * STEP) for at in lines], int(starts[-1] * STEP), bar, "4/4", **known)


def test_full_bars():
    melody = to_melody(tune([8, 8, 16], [16, 32], title="A", tonic=2, mode="dorian"), "a:1", "songs")
    assert [tuple(note) for note in melody.notes] == [(0, 8, 60), (8, 8, 61), (16, 16, 62)]
    assert (len(melody), melody.pickup, melody.steps_per_bar) == (32, 0, 16)
    assert (melody.title, melody.tonic, melody.mode) == ("A", 2, "dorian")
    assert (melody.source, melody.collection, melody.meter) == ("a:1", "songs", "4/4")


def test_a_pickup_and_an_unfinished_last_bar_are_filled_with_silence():
    melody = to_melody(tune([4, 16, 8], [4, 20]), "", "")
    assert melody.pickup == 4
    assert melody.events[:13].tolist() == [OFF] + [HOLD] * 11 + [60]
    assert melody.events[32:].tolist() == [62] + [HOLD] * 7 + [OFF] + [HOLD] * 7


def test_the_first_and_last_line_have_no_say():
    assert len(to_melody(tune([16, 4], [0, 16, 20]), "", "")) == 32


def test_bars_of_twelve_steps():
    melody = to_melody(tune([4, 12, 8], [4, 16], bar=WHOLE * 3 // 4), "", "")
    assert (melody.steps_per_bar, len(melody), melody.notes[1].onset) == (12, 36, 12)


@pytest.mark.parametrize(
    ("unsuitable", "reason"),
    [
        (tune([16, 12, 16], [16, 28]), "bar lines out of phase"),
        (tune([16], bar=0), "no meter"),
        (tune([]), "no notes"),
        (tune([16 / 3] * 3, [16]), "off the grid"),
        (tune([15.5, 0.5], [16]), "off the grid"),
    ],
)
def test_unsuitable(unsuitable, reason):
    with pytest.raises(Unsuitable, match=reason):
        to_melody(unsuitable, "", "")


def test_a_key_that_is_not_notated_is_estimated():
    melody = to_melody(tune([4, 4, 4, 4, 16], [16]), "", "")
    assert melody.tonic >= 0 and melody.mode and melody.remarks == (ESTIMATED,)
    assert to_melody(tune([16], [16], tonic=2, mode="dorian"), "", "").remarks == ()


def test_reasons_are_counted_without_their_details():
    skipped = [Skipped("a", "bad: at 3"), Skipped("b", "bad: at 5"), Skipped("c", "worse")]
    assert by_reason(skipped) == {"bad": 2, "worse": 1}
    assert reasons(skipped) == "2 bad, 1 worse"
    assert reasons(skipped, most=1) == "2 bad, 1 for other reasons"
    assert reasons([]) == ""
