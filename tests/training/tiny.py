"""The smallest settings that the whole road of a training run can go with."""

from mammadai_jax.training.settings import overlay, preset

EMBEDDING = {
    "words": 256,
    "trigrams": 32,
    "text_width": 8,
    "text_heads": 2,
    "music_width": 4,
    "dimensions": 8,
    "batch": 4,
    "updates": 2,
    "warmup": 1,
}
# as many excerpts and pairs as melodies are judged, so that they share their programs
PREFERENCE = {
    "excerpts": 8,
    "captions": 2,
    "listeners": 4,
    "pairs": 8,
    "chunk": 1,
    "embedding": EMBEDDING,
    "composer": {"width": 8, "heads": 2, "batch": 2, "updates": 2, "warmup": 1},
    "judge": {"heads": 2, "batch": 4},
    "learner": {
        "melodies": 4,
        "epochs": 1,
        "updates": 2,
        "settling": 0,
    },
}
# what the fixture `taught` has learned, see conftest.py
ROAD = overlay(
    preset("smoke"),
    {
        "samples": 1,
        "prior": {"chunk": 2, "learner": {"width": 8, "batch": 2, "window": 16, "updates": 4, "warmup": 1}},
        "imitation": {
            "updates": 2,
            "chunk": 1,
            "warm_start": 2,
            "cloning": {"batch": 8},
            "learner": {"policy": {"melodies": 2, "epochs": 1}, "batch": 8, "updates": 2},
        },
        "theory": {
            "updates": 3,
            "chunk": 1,
            "length": 16,
            "learner": {"melodies": 2, "minibatches": 1, "batch": 2, "capacity": 4},
        },
        "preference": PREFERENCE,
    },
    "tiny",
)
