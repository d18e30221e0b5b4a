"""The smallest settings that all stages of a training run can be trained with."""

from mammadai_jax.stages import preset
from mammadai_jax.training.settings import overlay

EMBEDDING = {
    "vocab_size": 256,
    "trigram_buckets": 32,
    "text_width": 8,
    "text_heads": 2,
    "music_width": 4,
    "embedding_dim": 8,
    "batch_size": 4,
    "num_updates": 2,
    "lr_warmup_steps": 1,
}
# what the fixture `taught` was trained with, see conftest.py
ROAD = overlay(
    preset("smoke"),
    {
        "saved_samples": 1,
        "prior": {
            "log_every": 2,
            "learner": {
                "width": 8,
                "batch_size": 2,
                "sequence_length": 16,
                "num_updates": 4,
                "lr_warmup_steps": 1,
            },
        },
        "cloning": {"num_updates": 2, "learner": {"batch_size": 8}},
        "gail": {
            "num_updates": 2,
            "log_every": 1,
            "learner": {"ppo": {"num_envs": 2, "num_epochs": 1}, "batch_size": 8, "disc_updates": 2},
        },
        "theory": {
            "num_updates": 3,
            "log_every": 1,
            "length": 16,
            "learner": {"num_envs": 2, "num_minibatches": 1, "batch_size": 2},
        },
        "chorales": {
            "log_every": 2,
            "learner": {
                "width": 4,
                "match_steps": 4,
                "batch_size": 2,
                "sequence_length": 8,
                "num_updates": 2,
                "lr_warmup_steps": 1,
            },
        },
        "polyphony": {
            "num_updates": 1,
            "bars": 8,
            "learner": {"num_envs": 2, "num_minibatches": 1, "batch_size": 2, "buffer_size": 2},
        },
        # as many excerpts and pairs as melodies are evaluated, so that they share their programs
        "embedding": {
            "num_excerpts": 8,
            "captions_per_excerpt": 2,
            "log_every": 10,
            "learner": EMBEDDING,
        },
        "prompted": {
            "log_every": 10,
            "learner": {"width": 8, "num_heads": 2, "batch_size": 2, "num_updates": 2, "lr_warmup_steps": 1},
        },
        "reward_model": {
            "num_listeners": 4,
            "num_pairs": 8,
            "log_every": 10,
            "learner": {"ensemble_size": 2, "batch_size": 4},
        },
        "preference": {
            "log_every": 1,
            "learner": {"num_envs": 4, "num_epochs": 1, "num_updates": 2, "critic_warmup_steps": 0},
        },
    },
    "tiny",
)
