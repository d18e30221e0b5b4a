"""Composing with a run: any of its stages, from its newest checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax

from mammadai_jax.music.controls import Controls
from mammadai_jax.music.files import expanded
from mammadai_jax.music.sample import Sample
from mammadai_jax.training import box
from mammadai_jax.training.context import context_of, has_learned, settings_of_run, way_on
from mammadai_jax.training.run import RunError
from mammadai_jax.training.settings import Parts, RunSettings, Stages, at, is_left_out, replaced
from mammadai_jax.training.stage import ComposeRequest, Context, Part, StageSpec


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
    run, parts, context = opened(path, stages, places or {})
    spec = composing(stages, stage)
    refuse_unfit(spec, request, stages)
    if is_left_out(parts[stage]):
        raise RunError(f"{path} was trained without stage {stage!r}: its settings ask for no updates")
    learned = context.learned(stage) if spec.make_learner else None
    assert spec.compose
    with jax.default_matmul_precision(run.precision):
        samples = spec.compose(parts[stage].settings, context, learned, jax.random.key(seed), request)
    return [sample.played(request.asked.tempo, request.asked.program) for sample in samples]


class Opened(NamedTuple):
    """A run that is composed with: its settings, its stages, and what they share and learned."""

    run: RunSettings
    parts: Parts
    context: Context


_last: dict[tuple, Opened] = {}  # the run that was opened last


def opened(path: Path, stages: Stages, places: Mapping[str, str]) -> Opened:
    """A run, with what it has learned; that of the call before while its records and manifests are the same.

    Errors as of `compose`.
    """
    key = path.resolve(), tuple(map(id, stages)), tuple(sorted(places.items())), _stamps(path)
    if key not in _last:
        run, parts = settings_of_run(path, stages)
        parts = moved(parts, places, path)
        found = Opened(run, parts, context_of(run, parts, path))
        _last.clear()
        _last[key] = found
    return _last[key]


def _stamps(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Name, inode, size and time of a run's records, manifests, folders of checkpoints, and weights."""
    places = "*.json*", "checkpoints/*/*", f"{box.FOLDER}/*"
    stats = ((str(file), file.lstat()) for each in places for file in path.glob(each))
    return tuple(sorted((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


def moved(parts: Parts, places: Mapping[str, str], path: Path) -> Parts:
    """Stages with other places of files in their settings; RunError for one that the run has not."""
    for name, place in places.items():
        stage, _, setting = name.partition(".")
        spec, own = parts[stage]
        if not at(own, setting):
            raise RunError(f"{path} was trained without {name}: leave its place out")
        parts = {**parts, stage: Part(spec, replaced(own, {setting: place}))}
    return parts


def last_stage(path: Path, stages: Stages, *, prompted: bool = False, asked: Controls | None = None) -> str:
    """The last stage of a run that was trained, composes, and can keep what is asked.

    If `prompted`, it also follows a prompt. RunError if there is none.
    """
    _, parts = settings_of_run(path, stages)
    able = [s for s in stages if s.compose and s.make_learner and (s.takes_prompt or not prompted)]
    lacks = {s.name: _cannot_keep(s, asked or Controls()) for s in able}
    able = [s for s in able if not lacks[s.name]]
    left = [s.name for s in able if has_learned(path, parts[s.name])]
    if not left:
        does = "follows a prompt" if prompted else "composes"
        does += "".join(f" and keeps {what}" for what in dict.fromkeys(lacks.values()) if what)
        waits = any(not is_left_out(parts[s.name]) for s in able)
        left_out = "its settings leave such stages out" if able else "no other stage does either"
        way = way_on(path) if waits else left_out
        raise RunError(f"{path} has no trained stage that {does}: {way}")
    return left[-1]


def composing(stages: Stages, name: str) -> StageSpec:
    """The stage of that name; ValueError if there is none, or it does not compose."""
    able = {spec.name: spec for spec in stages if spec.compose}
    if name not in able:
        raise ValueError(f"no stage {name!r} composes; there are {', '.join(able)}")
    return able[name]


def refuse_unfit(spec: StageSpec, request: ComposeRequest, stages: Stages = ()) -> None:
    """ValueError if a stage cannot do what is requested; it names those of `stages` that can."""
    asked = request.asked
    bars = asked.bars if request.bars is None else request.bars
    if bars is not None and not 1 <= bars <= spec.max_bars:
        raise ValueError(f"bars: stage {spec.name} composes 1 to {spec.max_bars}, not {bars}")
    worded = (request.prompt, request.guidance, request.prompts, asked.density)
    if not spec.takes_prompt and worded != (None, None, (), None):
        raise ValueError(f"stage {spec.name} takes no prompt, no guidance and no density")
    if request.candidates != 1 and not (spec.takes_prompt and request.candidates > 1):
        raise ValueError(f"stage {spec.name} cannot pick from {request.candidates} candidates")
    if lacks := _cannot_keep(spec, asked):
        able = [s.name for s in stages if s.compose and not _cannot_keep(s, asked)]
        others = f": {', '.join(able)} can" if able else ""
        raise ValueError(f"stage {spec.name} cannot keep {lacks}{others}")


def _cannot_keep(spec: StageSpec, asked: Controls) -> str:
    """What of it a stage cannot keep, in words; empty if it can keep all."""
    if asked.meter and asked.meter not in spec.meters:
        return f"a meter of {asked.meter}"
    given = {"a key": asked.tonic, "a range": asked.range, "a form": asked.form}
    return "" if spec.takes_key else next((name for name, value in given.items() if value is not None), "")
