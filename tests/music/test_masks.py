import itertools

import numpy as np
import pytest

from mammadai_jax.music.controls import BARS, Controls, Range
from mammadai_jax.music.corpus import DEGREES
from mammadai_jax.music.masks import ends_on, free, mask_of, scale_of, shift_to
from mammadai_jax.music.notes import HOLD, MAGENTA, Melody
from mammadai_jax.music.sample import unaccompanied

KEYS = list(itertools.product(range(12), DEGREES))


def drawn(random, mask, count=4):
    """Rows (count, T) of tokens drawn evenly from what a mask allows."""
    return np.array([[random.choice(np.flatnonzero(row)) for row in mask] for _ in range(count)])


def test_nothing_asked_allows_all_that_begins_with_a_note():
    mask = mask_of(Controls(tempo=90.0, program=3), 16)
    assert mask[1:].all() and mask[0, MAGENTA.first :].all() and not mask[0, : MAGENTA.first].any()
    assert free(3).all() and free(3).shape == (3, MAGENTA.size)


@pytest.mark.parametrize("meter", BARS)
def test_whatever_is_drawn_keeps_key_meter_and_range(random, meter):
    for number, (tonic, mode) in enumerate(KEYS):
        low = int(random.integers(30, 80))
        pitches = Range(low, low + int(random.integers(12, 30)))
        controls = Controls(tonic, mode, meter=meter, range=pitches if number % 2 else None)
        mask = mask_of(controls, 4 * BARS[meter])
        assert mask is not None and mask.any(axis=1).all()
        for sample in unaccompanied(drawn(random, mask, 2), "", controls=controls):
            melody = sample.melody
            assert (melody.tonic, melody.mode, melody.meter) == (tonic, mode, meter)
            classes = {(c - DEGREES[mode] + tonic) % 12 for c in scale_of(mode)}
            assert {note.pitch % 12 for note in melody.notes} <= classes
            assert melody.notes[-1].pitch % 12 == tonic
            if controls.range:
                assert pitches.low <= melody.pitches.min() and melody.pitches.max() <= pitches.high


def test_no_note_is_held_into_a_bar(random):
    for meter, size in BARS.items():
        mask = mask_of(Controls(meter=meter), 3 * size)
        assert not mask[::size, MAGENTA.hold].any() and mask[1:size].all() and mask[size, MAGENTA.silence]


def test_a_range_without_a_key_moves_by_octaves_and_a_key_without_a_range_by_little():
    for low in range(0, 110):
        shift = shift_to(Controls(range=Range(low, low + 12)))
        assert shift % 12 == 0 and low - shift >= 48 and low + 12 - shift <= 83
    shifts = {shift_to(Controls(tonic, mode)) for tonic, mode in KEYS}
    assert shifts == set(range(-5, 7))
    for tonic, mode in KEYS:
        assert (DEGREES[mode] + shift_to(Controls(tonic, mode))) % 12 == tonic


def test_a_range_without_the_tonic_has_no_last_note_to_force():
    mask = free(16)
    mask[:, MAGENTA.first :] = False
    before = mask.copy()
    ends_on(mask, 0, 8)
    np.testing.assert_array_equal(mask, before)
    events = MAGENTA.decode(np.argmax(mask, axis=1))
    assert Melody(events).notes == [] and (events[1:] == HOLD).all()
