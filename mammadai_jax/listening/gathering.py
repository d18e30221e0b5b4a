"""Where comparisons come from: a `Gatherer` is asked which of two melodies is better, and brings choices.

Simulated listeners and a file of ratings by people come in by this one door.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.pairs import Comparison, read

# outside of the class, so that what is asked later finds the programs compiled
_utility = jax.jit(panels.utility)
_choose = jax.jit(panels.choose)
_opinions = jax.jit(panels.opinions)


class Request(NamedTuple):
    """Which of two melodies is better for a prompt?

    Attributes:
        prompt: what the melodies were asked to be.
        a: tokens of the first, a row of integers 0..37.
        b: tokens of the second.
        system_a: what composed a.
        system_b: what composed b.
        propensity: probability with which the pair was picked, where it is known.

    """

    prompt: str
    a: tuple[int, ...] | np.ndarray
    b: tuple[int, ...] | np.ndarray
    system_a: str = ""
    system_b: str = ""
    propensity: float | None = None


class Gatherer(Protocol):
    """Anything that brings comparisons."""

    def gather(self, requests: Sequence[Request]) -> list[Comparison]:
        """Choices between the pairs asked for: none, one or several for each, with its a as a."""
        ...


# of tokens (N, T): traits by name, each (N,)
Traits = Callable[[np.ndarray], Mapping[str, jax.Array]]
# of N prompts and tokens (N, T): share of each prompt's claims that hold, (N,)
Adherence = Callable[[Sequence[str], np.ndarray], np.ndarray | jax.Array]


@dataclasses.dataclass
class SimulatedListeners:
    """A panel that is asked; every record says that it is simulated.

    Each pair is heard by `votes` different listeners, as many times a first as b first (with an odd number of
    votes over two pairs). What is chosen is a function of the key, the requests and how often the object was
    asked before.

    Attributes:
        panel: who is asked.
        key: of who hears what, and what is chosen.
        traits: measures melodies, as `music.traits.traits` does.
        adherence: measures how far melodies are what was asked for; None: prompts do not matter.
        votes: listeners a pair.
        name: of the panel, in the listeners' identifiers "simulated-NAME-7".

    """

    panel: panels.Panel
    key: jax.Array
    traits: Traits
    adherence: Adherence | None = None
    votes: int = 1
    name: str = "panel"
    asked: int = dataclasses.field(default=0, init=False)

    def __post_init__(self):
        if not 1 <= self.votes <= self.panel.listeners:
            count = self.panel.listeners
            raise ValueError(f"votes is 1 to {count}, the listeners of the panel, got {self.votes}")

    def __repr__(self) -> str:
        count = self.panel.listeners
        return f"SimulatedListeners(simulated, {count} listeners {self.name!r}, {self.votes} votes a pair)"

    def gather(self, requests: Sequence[Request]) -> list[Comparison]:
        """`votes` comparisons of each pair, in the requests' order; ValueError unless lengths are all one."""
        if not requests:
            return []
        key, key_choice = jax.random.split(jax.random.fold_in(self.key, self.asked))
        self.asked += 1
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        who = draw_listeners(random, self.panel.listeners, len(requests), self.votes)
        first_a = draw_positions(random, len(requests), self.votes)
        places = np.arange(len(requests))[:, None]
        worth = (np.asarray(self.utility(requests, side))[who, places] for side in ("a", "b"))
        choice = np.asarray(_choose(key_choice, self.panel, who, *worth, first_a))
        rows = zip(requests, who, first_a, choice, strict=True)
        return [
            self._record(request, *vote)
            for request, *votes in rows
            for vote in zip(*(x.tolist() for x in votes), strict=True)
        ]

    def rate(self, tokens: np.ndarray) -> np.ndarray:
        """Mean opinion of how well made each melody (N, T) is, 1..5, of `votes` listeners each: float32 (N,).

        They are not told a prompt. Each listener's 3 is what is ordinary among these melodies.
        """
        key, key_opinion = jax.random.split(jax.random.fold_in(self.key, self.asked))
        self.asked += 1
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        who = draw_listeners(random, self.panel.listeners, len(tokens), self.votes)
        worth = _utility(self.panel, self.traits(tokens), jnp.zeros(len(tokens)))
        own = np.asarray(worth)[who, np.arange(len(tokens))[:, None]]
        usual = worth.mean(axis=1), jnp.maximum(worth.std(axis=1), 1e-6)
        return np.asarray(_opinions(key_opinion, self.panel, who, own, *usual), np.float32).mean(axis=1)

    def utility(self, requests: Sequence[Request], side: str) -> jax.Array:
        """What the melodies a or b (`side`) of R requests are worth to each listener, float32 (L, R)."""
        lengths = {len(getattr(request, side)) for request in requests}
        if len(lengths) != 1:
            raise ValueError(
                "simulated listeners hear melodies of one length, these have "
                f"{min(lengths)} to {max(lengths)} steps: cut them to one length"
            )
        tokens = np.array([getattr(request, side) for request in requests], np.int32)
        prompts = [request.prompt for request in requests]
        holds = np.zeros(len(requests)) if self.adherence is None else self.adherence(prompts, tokens)
        return _utility(self.panel, self.traits(tokens), jnp.asarray(holds))

    def _record(self, request: Request, who: int, first_a: bool, choice: int) -> Comparison:
        first = "a" if first_a else "b"
        return Comparison(
            **request._asdict(),
            choice={1: "a", 0: "tie", -1: "b"}[choice],
            simulated=True,
            listener=f"simulated-{self.name}-{who}",
            shown_left=first,
            played_first=first,
        )


def draw_listeners(random: np.random.Generator, listeners: int, pairs: int, votes: int) -> np.ndarray:
    """Who hears each pair: int (pairs, votes) in 0..listeners-1, different ones within a pair."""
    return random.permuted(np.tile(np.arange(listeners), (pairs, 1)), axis=1)[:, :votes]


def draw_positions(random: np.random.Generator, pairs: int, votes: int) -> np.ndarray:
    """Whether a is heard first: bool (pairs, votes), half of them in each pair and in each column.

    Of an odd number of votes the two halves differ by one, and over the pairs that evens out.
    """
    begin = random.permutation(np.arange(pairs) % 2)
    return (begin[:, None] + np.arange(votes)) % 2 == 0


class FromFile:
    """Comparisons that were made before, from a JSONL file (see `listening.pairs`).

    Errors: those of `pairs.read`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.comparisons = read(path)

    def __repr__(self) -> str:
        made = sum(comparison.simulated for comparison in self.comparisons)
        return f"FromFile({str(self.path)!r}, {len(self.comparisons)} comparisons, {made} of them simulated)"

    def gather(self, requests: Sequence[Request]) -> list[Comparison]:
        """The file's comparisons of the pairs asked for, by prompt and notes, whichever it has as a.

        Systems that the file does not name are named as in the request. ValueError if it has no such pair.
        """
        found: dict[tuple, list[Comparison]] = {}
        for one in self.comparisons:
            found.setdefault((one.prompt, one.a, one.b), []).append(one)
            if one.a != one.b:
                found.setdefault((one.prompt, one.b, one.a), []).append(one.swapped())
        answers = [
            dataclasses.replace(
                one, system_a=one.system_a or request.system_a, system_b=one.system_b or request.system_b
            )
            for request in requests
            for one in found.get((request.prompt, _row(request.a), _row(request.b)), ())
        ]
        if requests and not answers:
            raise ValueError(
                f"{self.path} has none of the {len(requests)} pairs asked for: was it made of other melodies "
                "or prompts? All that it has is in .comparisons"
            )
        return answers


def _row(tokens: Sequence[int] | np.ndarray) -> tuple[int, ...]:
    return tuple(np.asarray(tokens).tolist())
