import numpy as np

from mammadai_jax.music import corpus
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.stages import prior


def test_the_corpus_is_split_once_and_cut():
    settings = prior.Settings(max_length=40)
    train, held_out = prior.split(settings, corpus.embedded(), 0)
    assert len(train) + len(held_out) == 10 and train and held_out
    assert all(0 < len(row) <= 40 and row.max() < MAGENTA.size for row in train + held_out)
    again = prior.split(settings, corpus.embedded(), 0)
    for rows, same in zip((train, held_out), again, strict=True):
        np.testing.assert_array_equal(np.concatenate(rows), np.concatenate(same))
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in held_out}
