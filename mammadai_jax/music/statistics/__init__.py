"""Statistics of melodies, and one table of them for the terminal."""

from mammadai_jax.music.statistics.chords import chord_entropy, copied_frames
from mammadai_jax.music.statistics.features import (
    distinct_pitches,
    features,
    note_density,
    out_of_scale_rate,
    rest_rate,
)
from mammadai_jax.music.statistics.novelty import (
    Novelty,
    distinct,
    distinct_runs,
    ngram_overlap,
    novelty,
    self_overlap,
    vendi_score,
)
from mammadai_jax.music.statistics.overlap import (
    OverlapResult,
    compare_samples,
    kl_divergence,
    log_density,
    mean_overlap,
    overlap,
    overlap_area,
)
from mammadai_jax.music.statistics.report import format_table, table
from mammadai_jax.music.statistics.tuner_table import autocorrelation, rl_tuner_statistics, rl_tuner_table

__all__ = [
    "Novelty",
    "OverlapResult",
    "autocorrelation",
    "chord_entropy",
    "compare_samples",
    "copied_frames",
    "distinct",
    "distinct_pitches",
    "distinct_runs",
    "features",
    "format_table",
    "kl_divergence",
    "log_density",
    "mean_overlap",
    "ngram_overlap",
    "note_density",
    "novelty",
    "out_of_scale_rate",
    "overlap",
    "overlap_area",
    "rest_rate",
    "rl_tuner_statistics",
    "rl_tuner_table",
    "self_overlap",
    "table",
    "vendi_score",
]
