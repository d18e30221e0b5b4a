import sys
from pathlib import Path

import jax
import pytest

import mammadai_jax
from mammadai_jax.stages import STAGES, divided, noise, preset, teach
from mammadai_jax.training import teach as training
from mammadai_jax.training.compose import compose
from mammadai_jax.training.context import context_of
from mammadai_jax.training.settings import overlay, settings_type
from mammadai_jax.training.stage import ComposeRequest, key_of
from mammadai_jax.training.sweep import sweep
from tests.stages import toy

ROOT = Path(mammadai_jax.__file__).parent

FEW = {"corpus": "embedded", "embedding": {"num_excerpts": 4}}


@pytest.mark.parametrize(
    "name", ["quick", *(pytest.param(n, marks=pytest.mark.nightly) for n in ("smoke", "full"))]
)
def test_every_preset_fits_together(name, tmp_path):
    settings = overlay(preset(name), FEW, "here")
    run, parts = divided(settings)
    traced = training.dry_run(parts, context_of(run, parts, tmp_path))
    assert set(traced) == {spec.name for spec in STAGES if spec.make_learner}
    prepared = {name for name, known in traced.items() if known.data is not None}
    assert prepared == {spec.name for spec in STAGES if spec.make_learner and not spec.depends_on}


def test_keys_depend_on_purpose_and_seed_alone():
    purposes = [spec.name for spec in STAGES] + [f"{spec.name} samples" for spec in STAGES]
    keys = [key_of(seed, purpose) for seed in (0, 1) for purpose in purposes]
    assert len({jax.random.key_data(key).tobytes() for key in keys}) == len(keys)
    assert jax.random.key_data(key_of(0, purposes[0])).tolist() == jax.random.key_data(keys[0]).tolist()


def test_the_whole_tree_of_settings_stays_above_training(tmp_path):
    """What is called while a run is taught, composes and is swept has a stage's part or the run's own."""
    few, handed = (noise.STAGE, toy.STAGE), set()
    tree = settings_type(few)(corpus="embedded", num_samples=1, saved_samples=0)

    def watch(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(ROOT)):
            given = [frame.f_locals[name] for name in code.co_varnames[: code.co_argcount]]
            if any(type(value) is type(tree) for value in given):
                handed.add(Path(code.co_filename).relative_to(ROOT).parts[0])

    sys.setprofile(watch)
    try:
        teach(tree, tmp_path / "run", few)
        compose(tmp_path / "run", few, "toy", ComposeRequest(1))
        sweep(tmp_path / "run", few, "toy", tmp_path / "swept", {"toy.learner.learning_rate": (0.1,)})
    finally:
        sys.setprofile(None)
    assert handed == {"stages"}


def test_stages_depend_on_earlier_ones():
    seen = set()
    for spec in STAGES:
        assert spec.name not in seen and set(spec.depends_on) <= seen
        seen.add(spec.name)


def test_a_stage_that_learns_can_be_restored_and_one_that_composes_is_described(taught):
    context = context_of(*divided(overlay(preset("smoke"), {}, "here")), taught)
    for spec in STAGES:
        assert (spec.make_learner is None) == (spec.template is None) == (spec.settings_type is None)
        if spec.compose:
            own = getattr(preset("smoke"), spec.name, None)
            described = spec.describe(own, context, [])
            assert described.endswith(".") and "{" not in described
