"""A listening study: people hear two pieces of music and say which is better; every answer is kept at once.

A study is a folder with a database and the sound of its clips. It can be used without any server:

    study = Study.create(folder, StudySettings(question="Which is sadder?"))
    study.add("a sad tune", clip_of(first), clip_of(second), systems=("old", "new"))
    rater = study.invite()
    trial = study.next_trial(rater)
    study.answer(rater, Answer(trial.nonce, "a"), [Heard("a", 0, 8), Heard("b", 0, 8)])
    study.comparisons()
"""

from __future__ import annotations

from mammadai_jax.listening.study.clips import Clip, clip_of
from mammadai_jax.listening.study.database import StudyError
from mammadai_jax.listening.study.records import (
    Answer,
    Heard,
    Rater,
    Refused,
    Side,
    StudySettings,
    Trial,
    checked_answer,
    checked_heard,
)
from mammadai_jax.listening.study.store import Study

__all__ = [
    "Answer",
    "Clip",
    "Heard",
    "Rater",
    "Refused",
    "Side",
    "Study",
    "StudyError",
    "StudySettings",
    "Trial",
    "checked_answer",
    "checked_heard",
    "clip_of",
]
