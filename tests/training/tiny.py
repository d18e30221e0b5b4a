"""The smallest settings that all of the preference stage runs with."""

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
PREFERENCE = {
    "excerpts": 12,
    "captions": 2,
    "listeners": 4,
    "pairs": 8,
    "chunk": 1,
    "embedding": EMBEDDING,
    "composer": {"width": 8, "heads": 2, "batch": 2, "updates": 2, "warmup": 1},
    "judge": {"heads": 2, "batch": 4},
    "learner": {"melodies": 4, "epochs": 1, "updates": 2, "critic": 8, "critic_epochs": 1, "settling": 0},
}
