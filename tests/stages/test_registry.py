import jax
import pytest

from mammadai_jax.stages import STAGES, preset
from mammadai_jax.training import teach
from mammadai_jax.training.context import context_of
from mammadai_jax.training.settings import overlay
from mammadai_jax.training.stage import key_of

FEW = {"corpus": "embedded", "embedding": {"num_excerpts": 4}}


@pytest.mark.parametrize("name", ["smoke", "quick", "full"])
def test_every_preset_fits_together(name, tmp_path):
    settings = overlay(preset(name), FEW, "here")
    prepared = teach.dry_run(STAGES, context_of(settings, STAGES, tmp_path))
    assert set(prepared) == {spec.name for spec in STAGES if spec.make_learner and not spec.depends_on}


def test_keys_depend_on_purpose_and_seed_alone():
    purposes = [spec.name for spec in STAGES] + [f"{spec.name} samples" for spec in STAGES]
    keys = [key_of(seed, purpose) for seed in (0, 1) for purpose in purposes]
    assert len({jax.random.key_data(key).tobytes() for key in keys}) == len(keys)
    assert jax.random.key_data(key_of(0, purposes[0])).tolist() == jax.random.key_data(keys[0]).tolist()


def test_stages_depend_on_earlier_ones():
    seen = set()
    for spec in STAGES:
        assert spec.name not in seen and set(spec.depends_on) <= seen
        seen.add(spec.name)


def test_a_stage_that_learns_can_be_restored_and_one_that_composes_is_described(taught):
    context = context_of(overlay(preset("smoke"), {}, "here"), STAGES, taught)
    for spec in STAGES:
        assert (spec.make_learner is None) == (spec.template is None) == (spec.settings_type is None)
        if spec.compose:
            own = getattr(preset("smoke"), spec.name, None)
            described = spec.describe(own, context, [])
            assert described.endswith(".") and "{" not in described
