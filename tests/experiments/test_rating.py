import numpy as np
import pytest

from experiments import rating_load, rating_statistics


def test_every_part_gives_numbers():
    random = np.random.default_rng(0)
    numbers = {}
    for part in ("position", "weighting"):
        numbers |= rating_statistics.PARTS[part][0](random, 20)
    assert numbers["naive difference of equal systems, log odds"] > 0.15
    assert abs(numbers["ours"]) < 0.2 and numbers["ours that have 0"] >= 0.8
    assert numbers["error of the win rate of active pairs, plain"] < -0.03
    assert abs(numbers["error, weighted by propensities"]) < 0.05


def test_votes_have_the_effects_that_they_are_made_with():
    v = rating_statistics.votes(np.random.default_rng(0), 5.0, raters=30, first=0.0)
    assert (v.outcome == 0).mean() > 0.8 and len(v.outcome) == 30 * rating_statistics.EACH
    assert all(len(set(v.prompt[v.rater == r])) == rating_statistics.EACH for r in range(30))


@pytest.mark.nightly
def test_no_acknowledged_answer_is_lost_when_the_server_is_killed(tmp_path):
    import asyncio

    with rating_load.filled(tmp_path / "study", raters=20, pairs=60) as study:
        server = rating_load.Server(tmp_path / "study", "")
        try:
            given = asyncio.run(rating_load.load(server, study.raters(), 20.0, kills=2))
        finally:
            server.stop()
        found = rating_load.compared(study, given)
    assert found["acknowledged"] > 20 and found["lost"] == found["doubled"] == 0
