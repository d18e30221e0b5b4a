"""People as a gatherer, with the interface of the simulated listeners."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.listening.gathering import Request
from mammadai_jax.listening.study.making import SamplePair, add_pairs
from mammadai_jax.listening.study.store import Study
from mammadai_jax.music.sample import unaccompanied

POLL_SECONDS = 0.5


@dataclasses.dataclass
class HumanGatherer:
    """The raters of a study, to whom requested pairs are given; it is served by another process or thread.

    Attributes:
        study: where the pairs are put and the answers come from.
        votes: answers to each pair that `gather` waits for.
        seconds: that it waits at most; None for as long as it takes, 0 for what is answered already.

    """

    study: Study
    votes: int = 1
    seconds: float | None = None

    def gather(self, requests: Sequence[Request]) -> list[Comparison]:
        """Comparisons of the pairs, in their order: `votes` or more of each, unless time is up."""
        pairs = [self._pair(request) for request in requests]
        numbers = add_pairs(self.study, pairs, number=self.study.count("rounds"))
        begun = time.monotonic()
        while True:
            answers = self._answers()
            rows = [answers.get(number, []) for number in numbers]
            late = self.seconds is not None and time.monotonic() - begun >= self.seconds
            if late or all(len(row) >= self.votes for row in rows):
                return [
                    self._of(request, one) for request, row in zip(requests, rows, strict=True) for one in row
                ]
            time.sleep(POLL_SECONDS)

    def _pair(self, request: Request) -> SamplePair:
        a, b = (
            unaccompanied(np.array([tokens]), "", [request.prompt])[0] for tokens in (request.a, request.b)
        )
        return SamplePair(request.prompt, a, b, (request.system_a, request.system_b), request.propensity)

    def _answers(self) -> dict[int, list[Comparison]]:
        answers: dict[int, list[Comparison]] = {}
        for one in self.study.comparisons():
            answers.setdefault(one.extra["pair"], []).append(one)
        return answers

    def _of(self, request: Request, one: Comparison) -> Comparison:
        """The comparison with the request's own melodies."""
        rows = (tuple(np.asarray(tokens).tolist()) for tokens in (request.a, request.b))
        return dataclasses.replace(one, **dict(zip("ab", rows, strict=True)))
