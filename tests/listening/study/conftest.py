"""Studies of two short tunes, without any learning."""

import numpy as np
import pytest

from mammadai_jax.listening.study import Study, StudySettings, clip_of
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.sample import Sample

QUICK = StudySettings(minimum_seconds=0, catch_every=0, overlap=1)


def sample(*pitches, bars=4, tempo=240.0):
    """Quarter notes, over and over."""
    events = np.full(16 * bars, -2, np.int16)
    events[::4] = np.resize(pitches, 4 * bars)
    return Sample(Melody(events, tempo=tempo), "a tune")


@pytest.fixture(scope="session")
def clips():
    """Six clips of four bars."""
    return [clip_of(sample(60 + step, 64, 67 + step), sheet=False) for step in range(6)]


@pytest.fixture
def study(tmp_path, clips):
    """Three pairs of the systems new and old."""
    with filled(tmp_path / "study", clips) as made:
        yield made


def filled(folder, clips, settings=QUICK):
    """A study of three pairs."""
    made = Study.create(folder, settings)
    for index in range(3):
        made.add(f"tune {index}", clips[index], clips[index + 3], systems=("new", "old"))
    return made
