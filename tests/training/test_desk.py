import dataclasses

import numpy as np
import pytest

from mammadai_jax.learning.infill import Config
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.tunes import TUNES
from mammadai_jax.stages import STAGES
from mammadai_jax.training.desk import DeskRequest, fill_bars, go_on, score, traits_of, vary, writing_stage

TUNE = dataclasses.replace(TUNES[0].transpose(3).first(128), tempo=93.0)
WALTZ = Melody(
    np.repeat([[67, -2, -2, -2], [71, -2, -2, -2], [74, -2, -2, -2]], 3, axis=0).reshape(-1),
    steps_per_bar=12,
    meter="3/4",
    tonic=7,
    mode="major",
)
REQUEST = DeskRequest(number=2, config=Config(num_particles=8, temperature=1.5))


def test_a_tune_goes_on_in_its_key_meter_and_tempo(taught):
    samples = go_on(taught, STAGES, "prior", TUNE, 4, REQUEST)
    again = go_on(taught, STAGES, "prior", TUNE, 4, REQUEST)
    for sample, same in zip(samples, again, strict=True):
        melody = sample.melody
        np.testing.assert_array_equal(melody.events, same.melody.events)
        assert len(melody) == 192 and melody.notes[: len(TUNE.notes)] == TUNE.notes
        assert (melody.tempo, melody.tonic, melody.meter) == (93, TUNE.tonic, TUNE.meter)
        assert melody.notes[-1].pitch % 12 == TUNE.tonic and sample.title.startswith(
            f"{TUNE.title}, continued"
        )
    assert samples[0].melody.events.tolist() != samples[1].melody.events.tolist()


@pytest.mark.parametrize("stage", [spec.name for spec in STAGES if spec.writer])
def test_every_stage_that_writes_fills_bars_and_leaves_the_others(taught, stage):
    (sample,) = fill_bars(taught, STAGES, stage, TUNE, (3, 4), dataclasses.replace(REQUEST, number=1))
    given = np.r_[0:32, 64:128]
    np.testing.assert_array_equal(sample.melody.events[given], TUNE.events[given])
    assert sample.melody.events[32:64].tolist() != TUNE.events[32:64].tolist()


def test_a_variation_keeps_its_share_of_the_bars(taught):
    for sample in vary(taught, STAGES, "prior", TUNE, 0.25, REQUEST):
        changed = (sample.melody.events != TUNE.events).reshape(-1, 16).any(axis=1)
        assert 1 <= changed.sum() <= 2


def test_without_a_stage_the_nearest_to_the_corpus_that_fits_writes(taught):
    assert writing_stage(taught, STAGES, TUNE) == "prior"
    assert writing_stage(taught, STAGES, TUNE, "a calm tune") == "prompted"
    assert writing_stage(taught, STAGES, WALTZ) == "prompted"
    samples = go_on(
        taught, STAGES, "prompted", WALTZ, 2, DeskRequest(prompt="a waltz", config=REQUEST.config)
    )
    assert [len(sample.melody) for sample in samples] == [60]


def test_every_stage_says_its_figures_of_a_tune(taught):
    found = score(taught, STAGES, TUNE, "a calm tune in major")
    assert [*found] == ["Prior", "Theory", "Prompted", "Reward model"]
    assert all(np.isfinite(value) for figures in found.values() for value in figures.values())
    assert 0 < found["Prior"]["bits a step"] < 10 and "rule motif, a bar" in found["Theory"]
    assert 0 <= found["Reward model"]["share of 64 melodies composed for the prompt that it beats"] <= 1
    short = score(taught, STAGES, WALTZ.first(12), "x")  # and of one too short for traits
    assert [*short] == [*found] and traits_of(WALTZ.first(12)) == ({}, "a short tune")
    traits, caption = traits_of(TUNE)
    assert traits["density"] > 0 and len(caption.split()) > 3
