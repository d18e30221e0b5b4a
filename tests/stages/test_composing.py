"""Every stage that composes keeps the promises that a command makes for it."""

import logging

import jax
import pytest

from mammadai_jax.music.controls import Controls, Range
from mammadai_jax.music.masks import scale_of
from mammadai_jax.stages import STAGES, divided
from mammadai_jax.training.context import context_of
from mammadai_jax.training.stage import ComposeRequest
from tests.training.tiny import ROAD


@pytest.mark.parametrize("spec", [s for s in STAGES if s.compose], ids=lambda spec: spec.name)
def test_composers_write_what_was_requested_and_the_same_for_the_same_key(taught, spec):
    context, own = context_of(*divided(ROAD), taught), getattr(ROAD, spec.name, None)
    learned = context.learned(spec.name) if spec.settings_type else None
    request = ComposeRequest(3, bars=2)
    one, same, other = (
        spec.compose(own, context, learned, jax.random.key(seed), request) for seed in (0, 0, 1)
    )
    assert [len(sample.melody.events) for sample in one] == [32] * 3
    played = [[sample.melody.events.tolist() for sample in samples] for samples in (one, same, other)]
    assert played[0] == played[1] != played[2]
    assert len({tuple(row) for row in played[0]}) == 3


@pytest.mark.parametrize("spec", [s for s in STAGES if s.compose], ids=lambda spec: spec.name)
def test_composing_again_compiles_nothing_again(taught, spec, caplog):
    def compose(seed, temperature):
        context, own = context_of(*divided(ROAD), taught), getattr(ROAD, spec.name, None)
        learned = context.learned(spec.name) if spec.settings_type else None
        return spec.compose(own, context, learned, jax.random.key(seed), ComposeRequest(3, 2, temperature))

    compose(0, 1.0)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        compose(1, 1.1)
    assert not [record.getMessage() for record in caplog.records if "ompil" in record.getMessage()]


def test_melodies_for_a_prompt_are_written_in_its_meter(taught):
    context = context_of(*divided(ROAD), taught)
    spec = next(spec for spec in STAGES if spec.name == "prompted")
    request = ComposeRequest(3, bars=2, prompt="a waltz in 3/4")
    samples = spec.compose(ROAD.prompted, context, context.learned("prompted"), jax.random.key(0), request)
    assert [(s.melody.meter, s.melody.steps_per_bar) for s in samples] == [("3/4", 12)] * 3


@pytest.mark.parametrize("spec", [s for s in STAGES if s.takes_key], ids=lambda spec: spec.name)
def test_key_meter_range_and_length_hold_in_every_melody(taught, spec):
    context, own = context_of(*divided(ROAD), taught), getattr(ROAD, spec.name)
    learned = context.learned(spec.name)
    for meter in spec.meters[::-2]:
        # in F sharp dorian notes are those of the scale of E, and D dorian's white keys a third higher
        controls = Controls(6, "dorian", meter=meter, range=Range(70, 86))
        request = ComposeRequest(8, bars=3, temperature=3.0, controls=controls)
        for sample in spec.compose(own, context, learned, jax.random.key(0), request):
            melody = sample.melody
            assert (melody.tonic, melody.mode, melody.meter) == (6, "dorian", meter)
            assert len(melody) == 3 * melody.steps_per_bar
            assert {note.pitch % 12 for note in melody.notes} <= {(c + 4) % 12 for c in scale_of("dorian")}
            assert melody.pitches.min() >= 70 and melody.pitches.max() <= 86
            assert melody.notes[-1].pitch % 12 == 6


def test_a_prompt_asks_for_what_an_option_asks_for(taught):
    context, spec = context_of(*divided(ROAD), taught), next(s for s in STAGES if s.name == "prompted")
    learned, key = context.learned("prompted"), jax.random.key(0)
    request = ComposeRequest(2, prompt="4 bars of a jig in Bb minor", guidance=1.5)
    for sample in spec.compose(ROAD.prompted, context, learned, key, request):
        melody = sample.melody
        assert (melody.tonic, melody.mode, melody.meter, len(melody)) == (10, "minor", "6/8", 48)
        assert melody.notes[-1].pitch % 12 == 10
