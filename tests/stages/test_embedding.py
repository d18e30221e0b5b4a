import dataclasses

import pytest

from mammadai_jax.stages import STAGES, divided, embedding, prompted
from mammadai_jax.text import sentences
from mammadai_jax.text.vocabulary import Vocabulary
from mammadai_jax.training import teach
from mammadai_jax.training.context import context_of
from mammadai_jax.training.settings import overlay
from tests.stages.conftest import EXCERPTS, OWN
from tests.training.tiny import ROAD


def test_a_table_with_fewer_rows_than_words_is_refused(monkeypatch):
    many = Vocabulary(tuple(map(str, range(500))), 32)
    monkeypatch.setattr(Vocabulary, "fit", lambda *_: many)
    with pytest.raises(ValueError, match=r"embedding.learner.vocab_size is 256, less than .* 502"):
        embedding.read_captions(OWN, EXCERPTS)


def test_sentences_and_codes_are_dry_run(folder, tmp_path):
    settings = overlay(ROAD, {"embedding": {"sentence_encoder": str(folder), "rvq_levels": 2}}, "here")
    spaces = []

    def remember(own, context):
        spaces.append(context.learned("embedding"))
        return prompted.data(own, context)

    stages = tuple(
        dataclasses.replace(spec, data=remember) if spec.name == "prompted" else spec for spec in STAGES
    )
    parts = divided(settings, stages)
    teach.dry_run(parts[1], context_of(*parts, tmp_path))
    (joint,) = spaces
    assert joint.reader.digest == sentences.load(str(folder)).digest and joint.codebooks.shape == (2, 64, 8)
    assert embedding.files(settings.embedding) == {"sentences": joint.reader.digest}
