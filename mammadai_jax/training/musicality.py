"""The musicality of what a run's stages compose, against tunes that none of them learned from.

For evaluation only, see `music.statistics.musicality`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mammadai_jax.music.notes import Melody
from mammadai_jax.music.sample import Sample
from mammadai_jax.music.statistics.musicality.distance import Musicality, musicality
from mammadai_jax.training.settings import Parts
from mammadai_jax.training.stage import Context

HELD_OUT = 0.1  # of the melodic families, unless a stage of the run holds out fewer
FEWEST = 20  # tunes held out; with fewer, all tunes of the corpus are taken


def real_tunes(parts: Parts, context: Context) -> tuple[str, tuple[Melody, ...]]:
    """What they are called, and the tunes of a run's corpus that no stage has learned from.

    Of a small corpus it is all tunes. A family that is held out stays so where more are held out.
    """
    corpus, settings = context.corpus(), [part.settings for part in parts.values()]
    least = min([HELD_OUT, *(own.held_out for own in settings if hasattr(own, "held_out"))])
    try:
        tunes = corpus.split(least, int(context.seed))[1].melodies
    except ValueError:
        tunes = ()
    if len(tunes) < FEWEST:
        return f"Real tunes ({corpus.name})", corpus.melodies
    return f"Held-out tunes ({corpus.name})", tunes


def of_samples(samples: Sequence[Sample], tunes: tuple[Melody, ...]) -> Musicality:
    """How far composed music is from real tunes; of several voices the highest is the melody."""
    return musicality([each.melody for each in samples], tunes, [each.line for each in samples])
