import numpy as np

from experiments import human, human_accuracy
from experiments.human_choices import Pairs, Study
from mammadai_jax.music.notes import HOLD, MAGENTA


def tune(pitch):
    events = np.full(96, HOLD)
    events[::4] = pitch + np.arange(24) % 5
    return MAGENTA.encode(events)


def study(pitches):
    """Higher melodies are preferred."""
    items = np.arange(len(pitches))
    a, b = np.nonzero(np.subtract.outer(pitches, pitches) > 0)
    return Study(
        "one", tuple(map(tune, pitches)), items, {"songs": items}, {"all": Pairs(a, b, np.ones(len(a)))}
    )


def test_what_is_fitted_to_one_set_scores_another():
    score = human.transferred(study([50, 55, 60, 65, 70]), 96)
    found = np.asarray(score(np.stack([tune(52), tune(67), tune(58)])))
    assert found.argsort().tolist() == [0, 2, 1]


def test_each_trait_alone_is_a_baseline():
    rows = list(human_accuracy.accuracies({}, 96, [study(range(50, 70))], alone=["register", "minor"]))
    accuracy = {row["predictor"]: row["accuracy"] for row in rows}
    assert list(accuracy) == [
        "sixteen traits, fitted to other songs",
        "register alone, fitted to other songs",
        "minor alone, fitted to other songs",
    ]
    assert accuracy["register alone, fitted to other songs"] == 1.0


def test_the_table_shows_the_best_trait_of_each_column():
    row = lambda pairs, predictor, accuracy: {
        **{"study": "survey104", "pairs": pairs, "predictor": predictor, "accuracy": accuracy},
        **{"low": accuracy - 0.1, "high": accuracy + 0.1, "reference": "others .7", "count": 9},
    }
    rows = [
        row(pairs, name, 0.5 + 0.1 * (name[0] == pairs[0]))
        for pairs in ("all", "one instrument")
        for name in ("reward model", "arch alone, fitted to other songs", "oboe alone, fitted to other songs")
    ]
    lines = human.table(rows).splitlines()
    assert lines[0] == "|  | survey104: all | survey104: one instrument |"
    assert lines[2] == "| reward model | 50.0 (40-60) | 50.0 (40-60) |"
    assert lines[3].endswith("chosen afterwards | 60.0 (50-70) arch | 60.0 (50-70) oboe |")
    assert lines[4] == "| measured before | others .7 | others .7 |" and len(lines) == 5
