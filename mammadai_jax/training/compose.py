"""Composing with a run: any of its stages, from its newest checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax

from mammadai_jax.music.files import expanded
from mammadai_jax.music.sample import Sample
from mammadai_jax.training.context import context_of, is_left_out, is_trained, settings_of_run, way_on
from mammadai_jax.training.run import RunError
from mammadai_jax.training.settings import Parts, Stages, at, replaced
from mammadai_jax.training.stage import ComposeRequest, Part, StageSpec


def compose(
    path: Path,
    stages: Stages,
    stage: str,
    request: ComposeRequest,
    *,
    seed: int = 0,
    places: Mapping[str, str] | None = None,
) -> list[Sample]:
    """New melodies from a run's stage; the same arguments give the same melodies.

    Args:
        path: the run directory.
        stages: that the run was trained with.
        stage: the name of the one that composes.
        request: what is to be composed.
        seed: of all randomness.
        places: where files that the run was trained with are now, by the dotted name of their setting.

    Raises:
        RunError: if the run has no such stage, or was trained without such a file.
        CheckpointError: if its checkpoint cannot be used.
        ValueError: if the stage cannot do what is requested.

    """
    path = expanded(path)
    run, parts = settings_of_run(path, stages)
    parts = moved(parts, places or {}, path)
    spec = composing(stages, stage)
    refuse_unfit(spec, request)
    context = context_of(run, parts, path)
    if is_left_out(parts[stage]):
        raise RunError(f"{path} was trained without stage {stage!r}: its settings ask for no updates")
    learned = context.learned(stage) if spec.make_learner else None
    assert spec.compose
    with jax.default_matmul_precision(run.precision):
        return spec.compose(parts[stage].settings, context, learned, jax.random.key(seed), request)


def moved(parts: Parts, places: Mapping[str, str], path: Path) -> Parts:
    """Stages with other places of files in their settings; RunError for one that the run has not."""
    for name, place in places.items():
        stage, _, setting = name.partition(".")
        spec, own = parts[stage]
        if not at(own, setting):
            raise RunError(f"{path} was trained without {name}: leave its place out")
        parts = {**parts, stage: Part(spec, replaced(own, {setting: place}))}
    return parts


def last_stage(path: Path, stages: Stages, *, prompted: bool = False) -> str:
    """The last stage of a run that was trained and composes; if `prompted`, the last that follows a prompt.

    RunError if there is none.
    """
    _, parts = settings_of_run(path, stages)
    able = [s for s in stages if s.compose and s.make_learner and (s.takes_prompt or not prompted)]
    left = [s.name for s in able if not is_left_out(parts[s.name]) and is_trained(path, s.name)]
    if not left:
        does = "follows a prompt" if prompted else "composes"
        raise RunError(f"{path} has no trained stage that {does}: {way_on(path)}")
    return left[-1]


def composing(stages: Stages, name: str) -> StageSpec:
    """The stage of that name; ValueError if there is none, or it does not compose."""
    able = {spec.name: spec for spec in stages if spec.compose}
    if name not in able:
        raise ValueError(f"no stage {name!r} composes; there are {', '.join(able)}")
    return able[name]


def refuse_unfit(spec: StageSpec, request: ComposeRequest) -> None:
    """ValueError if a stage cannot compose so many bars, or for a prompt, or from so many candidates."""
    if request.bars is not None and not 1 <= request.bars <= spec.max_bars:
        raise ValueError(f"bars: stage {spec.name} composes 1 to {spec.max_bars}, not {request.bars}")
    if not spec.takes_prompt and (request.prompt, request.guidance, request.prompts) != (None, None, ()):
        raise ValueError(f"stage {spec.name} takes no prompt and no guidance")
    if request.candidates != 1 and not (spec.takes_prompt and request.candidates > 1):
        raise ValueError(f"stage {spec.name} cannot pick from {request.candidates} candidates")
