import threading

import numpy as np
import pytest

from mammadai_jax.listening.gathering import Request
from mammadai_jax.listening.study import Answer, Study
from mammadai_jax.listening.study import gatherer as gatherers
from mammadai_jax.listening.study.gatherer import HumanGatherer
from tests.listening.study.conftest import QUICK

TOKENS = np.array([14, 0, 16, 0, 18, 0, 14, 0] * 4)


@pytest.fixture
def empty(tmp_path):
    with Study.create(tmp_path / "study", QUICK) as made:
        yield made


def test_people_answer_what_is_requested_while_it_is_waited_for(empty, monkeypatch):
    monkeypatch.setattr(gatherers, "POLL_SECONDS", 0.01)
    requests = [
        Request("a calm tune", TOKENS, TOKENS[::-1], "new", "old", 0.25),
        Request("a busy tune", TOKENS[4:], TOKENS[:-4]),
    ]

    def rate():
        rater, given = empty.invite(), 0
        while given < 2:
            if trial := empty.next_trial(rater):
                empty.answer(rater, Answer(trial.nonce, "a"))
                given += 1

    person = threading.Thread(target=rate)
    person.start()
    comparisons = HumanGatherer(empty, seconds=60).gather(requests)
    person.join()
    assert [one.prompt for one in comparisons] == ["a calm tune", "a busy tune"]
    for request, one in zip(requests, comparisons, strict=True):
        assert one.a == tuple(request.a) and one.b == tuple(request.b) and not one.simulated
    assert (comparisons[0].system_a, comparisons[0].system_b) == ("new", "old")
    assert 0 < comparisons[0].propensity <= 0.25 < comparisons[1].propensity


def test_time_that_is_up_gives_what_is_there(empty):
    request = Request("a calm tune", TOKENS, TOKENS[::-1])
    gatherer = HumanGatherer(empty, seconds=0)
    assert gatherer.gather([request]) == [] and gatherer.gather([]) == []
    rater = empty.invite()
    empty.answer(rater, Answer(empty.next_trial(rater).nonce, "tie"))
    assert [one.choice for one in gatherer.gather([request])] == ["tie"]
    assert empty.count("pairs") == 1
