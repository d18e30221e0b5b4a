"""Fixtures that several tests of the stages share: joint embeddings of which the towers are untrained."""

import jax
import pytest

from mammadai_jax.agents import embedding as towers
from mammadai_jax.music import corpus
from mammadai_jax.stages import embedding
from mammadai_jax.stages.captioned import captioned
from mammadai_jax.training.settings import overlay
from tests.text import tiny_bert
from tests.training.tiny import ROAD

OWN = ROAD.embedding
EXCERPTS = captioned(corpus.embedded(), OWN.length, OWN.num_excerpts, OWN.captions_per_excerpt, seed=0)


def untrained(settings):
    """A joint embedding of untrained towers, with centres that are not zero."""
    data = embedding.read_captions(settings, EXCERPTS)
    key = jax.random.key(0)
    state = jax.jit(lambda: towers.init(key, settings.learner, data[1]))()
    return embedding.fit_joint_embedding(settings, key, state.average, data)


@pytest.fixture(scope="package")
def joint():
    return untrained(OWN)


@pytest.fixture(scope="package")
def coded():
    """Of two levels of codes."""
    return untrained(overlay(OWN, {"rvq_levels": 2}, "here"))


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    """Of a sentence encoder."""
    return tiny_bert.write(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="package")
def read(folder):
    """A joint embedding whose texts a sentence encoder reads."""
    return untrained(overlay(OWN, {"sentence_encoder": str(folder)}, "here"))
