"""Stage "noise": nothing is learned; what the untrained agent composes, for comparison."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from mammadai_jax.music.arrangements import BARS
from mammadai_jax.music.notes import PIANO
from mammadai_jax.music.sample import STEPS_PER_BAR, Sample, accompanied
from mammadai_jax.training.stage import ComposeRequest, Context, StageSpec


def compose(
    settings: None, context: Context, learned: Any, key: jax.Array, request: ComposeRequest
) -> list[Sample]:
    """Uniformly random notes over the accompaniments; 16 bars by default."""
    del settings, context, learned
    return noise(key, request.melodies, request.bars or BARS)


def noise(key: jax.Array, melodies: int, bars: int = BARS) -> list[Sample]:
    """So many melodies of uniformly random notes over the accompaniments."""
    tokens = jax.random.randint(key, (melodies, bars * STEPS_PER_BAR), 0, PIANO.size)
    return accompanied(np.asarray(tokens), "Noise")


STAGE = StageSpec(
    name="noise",
    title="Noise",
    describe=lambda *_: f"Nothing learned yet: every sixteenth is one of {PIANO.size} actions, at random.",
    compose=compose,
)
