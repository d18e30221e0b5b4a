"""The stages of MammadAI in their order, one file each; this is the only list of them.

A stage of your own is a StageSpec (training/stage.py): pass it along with others to `teach`, `compose` and
`sweep`. Only here, in the files beside and on the command line is the whole tree of settings known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mammadai_jax.stages import (
    chorales,
    cloning,
    embedding,
    gail,
    noise,
    polyphony,
    preference,
    prior,
    prompted,
    reward_model,
    theory,
)
from mammadai_jax.training import settings as _settings
from mammadai_jax.training.settings import Parts, RunSettings, SettingsError, Stages
from mammadai_jax.training.stage import Part

STAGES = (
    noise.STAGE,
    prior.STAGE,
    cloning.STAGE,
    gail.STAGE,
    theory.STAGE,
    chorales.STAGE,
    polyphony.STAGE,
    embedding.STAGE,
    prompted.STAGE,
    reward_model.STAGE,
    preference.STAGE,
)
Settings = _settings.settings_type(STAGES)


def preset(name: str) -> Any:
    """The settings called smoke, quick or full, see training.settings.preset."""
    return _settings.preset(name, STAGES)


def divided(settings: Any, stages: Stages = STAGES) -> tuple[RunSettings, Parts]:
    """A run's settings, of `settings_type(stages)`, as those of the run itself and those of each stage."""
    own = {field.name: getattr(settings, field.name) for field in dataclasses.fields(RunSettings)}
    return RunSettings(**own), {spec.name: Part(spec, getattr(settings, spec.name, None)) for spec in stages}


def only(settings: Any, names: Sequence[str]) -> Any:
    """Settings by which only the stages of these names learn, and those that they need; no other updates.

    SettingsError for a name that no stage that learns has.
    """
    learning = {spec.name: spec for spec in STAGES if spec.make_learner}
    needed, waiting = set(), list(names)
    while waiting:
        if (name := waiting.pop()) not in learning:
            raise SettingsError(f"the stages that learn are {', '.join(learning)}, not {name!r}")
        needed.add(name)
        waiting += set(learning[name].depends_on) - needed
    others = {name: spec for name, spec in learning.items() if name not in needed}
    return _settings.replaced(settings, {f"{name}.{spec.updates}": 0 for name, spec in others.items()})


def teach(settings: Any, out: Path, stages: Stages = STAGES, **options: Any) -> Path:
    """Train every stage and write the report -> the report's path.

    Args:
        settings: what decides the result; of `settings_type(stages)`.
        out: the run directory.
        stages: in their order.
        options: of `training.teach.teach`.

    Raises:
        ValueError: if the settings, the directory or the checkpoints in it cannot be used.
        Diverged: if training does.

    """
    from mammadai_jax.training.teach import teach  # which imports what only training needs

    return teach(*divided(settings, stages), out, **options)
