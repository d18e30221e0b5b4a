"""The stages of MammadAI in their order, one file each; this is the only list of them.

A stage of your own is a StageSpec (training/stage.py): pass it along with others to `teach`, `compose` and
`sweep`.
"""

from __future__ import annotations

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
