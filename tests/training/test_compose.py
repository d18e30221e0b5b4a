import dataclasses
import os
import shutil

import pytest

from mammadai_jax.music.controls import Controls, Range
from mammadai_jax.stages import STAGES
from mammadai_jax.training import checkpoints
from mammadai_jax.training.compose import compose, last_stage, refuse_unfit
from mammadai_jax.training.run import RunError
from mammadai_jax.training.stage import ComposeRequest
from tests.stages.toy import STAGE as TOY

SPECS = {spec.name: spec for spec in STAGES}
KEY, RANGE = Controls(0, "major"), Controls(range=Range(60, 72))


@pytest.mark.parametrize(
    ("stage", "request_", "said"),
    [
        ("gail", ComposeRequest(1, controls=KEY), "gail cannot keep a key: prior, theory, prompted, pref"),
        ("gail", ComposeRequest(1, controls=Controls(form="AABA")), "gail cannot keep a form: prior, theory"),
        ("chorales", ComposeRequest(1, controls=RANGE), "chorales cannot keep a range: prior,"),
        (
            "prior",
            ComposeRequest(1, controls=Controls(meter="3/4")),
            "meter of 3/4: prompted, preference can",
        ),
        ("prior", ComposeRequest(1, controls=Controls(density="low")), "no guidance and no density"),
        ("prompted", ComposeRequest(1, prompt="999 bars"), "prompted composes 1 to 256, not 999"),
        ("theory", ComposeRequest(1, bars=0), "theory composes 1 to 256, not 0"),
    ],
)
def test_what_a_stage_cannot_do_is_refused_and_others_are_named(stage, request_, said):
    with pytest.raises(ValueError, match=said):
        refuse_unfit(SPECS[stage], request_, STAGES)


def test_without_a_stage_the_last_that_keeps_what_is_asked_composes(taught):
    without_prompts = tuple(
        dataclasses.replace(s, takes_key=not s.takes_prompt and s.takes_key) for s in STAGES
    )
    assert last_stage(taught, STAGES) == last_stage(taught, STAGES, asked=KEY) == "preference"
    assert last_stage(taught, without_prompts, asked=RANGE) == "theory"
    none = tuple(dataclasses.replace(s, takes_key=False) for s in STAGES)
    with pytest.raises(RunError, match="no trained stage that composes and keeps a range: no other stage"):
        last_stage(taught, none, asked=RANGE)
    assert not TOY.takes_key


def test_sections_of_a_letter_are_the_same_and_others_are_not(taught):
    for stage in ("prior", "prompted"):
        request = ComposeRequest(3, bars=8, controls=Controls(meter="4/4", form="AABA"))
        for sample in compose(taught, STAGES, stage, request, seed=1):
            first, second, third, last = sample.melody.events.reshape(4, 32).tolist()
            assert first == second == last != third


def test_a_form_in_a_prompt_has_bars_for_its_sections(taught):
    request = ComposeRequest(1, prompt="a tune in triple time in the form AABA")
    (sample,) = compose(taught, STAGES, "prompted", request)
    sections = sample.melody.events.reshape(4, -1)
    assert len(sample.melody.events) % (4 * 12) == 0 and (sections[0] == sections[1]).all()


def test_a_form_that_bars_or_memory_have_no_room_for_is_refused(taught):
    compose_prior = lambda **asked: compose(taught, STAGES, "prior", ComposeRequest(1, **asked))
    with pytest.raises(ValueError, match="9 bars have no 4 equal sections for the form AABA"):
        compose_prior(bars=9, controls=Controls(form="AABA"))
    with pytest.raises(ValueError, match="the form ABA returns to what lies 256 steps back, and the comp"):
        compose_prior(bars=24, controls=Controls(form="ABA"))


def test_tempo_and_instrument_are_for_every_stage(taught):
    for stage in ("noise", "prior", "chorales"):
        request = ComposeRequest(1, bars=1, controls=Controls(tempo=72.0, program=73))
        (sample,) = compose(taught, STAGES, stage, request)
        assert (sample.music.tempo, sample.program) == (72, 73)


def test_a_run_is_restored_once_while_its_files_are_the_same(taught, tmp_path, monkeypatch):
    run, restored = tmp_path / "run", []
    shutil.copytree(taught, run)
    load = checkpoints._load
    monkeypatch.setattr(
        checkpoints, "_load", lambda step, template: restored.append(step) or load(step, template)
    )
    tokens = lambda: compose(run, STAGES, "prior", ComposeRequest(1), seed=5)[0].melody.events.tolist()
    first = tokens()
    assert tokens() == first and len(restored) == 1
    os.utime(next((run / "checkpoints" / "prior").glob("*.json")), ns=(0, 0))
    assert tokens() == first and len(restored) == 2
    shutil.rmtree(run / "checkpoints" / "prior")
    with pytest.raises(RunError, match="has no stage 'prior' yet"):
        tokens()
