import jax
import numpy as np

from mammadai_jax.music.notes import PIANO
from mammadai_jax.music.tunes import ACCOMPANIMENTS
from mammadai_jax.stages.noise import noise


def test_noise_is_every_action_alike_over_every_accompaniment():
    samples = noise(jax.random.key(0), 10)
    tokens = np.concatenate([PIANO.encode(sample.melody.events) for sample in samples])
    assert set(tokens.tolist()) == set(range(PIANO.size))
    names = [ACCOMPANIMENTS[i % len(ACCOMPANIMENTS)].name for i in range(10)]
    assert [sample.title for sample in samples] == [
        f"Noise {i + 1} over {name}" for i, name in enumerate(names)
    ]
    for sample in samples:
        assert sample.line is not None and len(sample.line) == len(sample.melody.events) == 256
        assert sample.drums and all(0 <= step < 256 for steps in sample.drums.values() for step in steps)
