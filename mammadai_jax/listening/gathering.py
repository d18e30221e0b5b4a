"""Sources of comparisons: a `Gatherer` is given pairs of melodies and returns listeners' choices.

Simulated listeners and a file of ratings by people have this one interface.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.listening.pairs import read
from mammadai_jax.objectives import spread

# at module level, so that later calls find the programs compiled
_utility = jax.jit(panels.utility)
_choose = jax.jit(panels.choose)
_opinions = jax.jit(panels.opinions)


class Request(NamedTuple):
    """A pair of melodies to be compared for a prompt.

    Attributes:
        prompt: the text that the melodies were composed for.
        a: tokens of the first, a row of integers 0..37.
        b: tokens of the second.
        system_a: the system that composed a.
        system_b: the system that composed b.
        propensity: probability with which the pair was selected, if known.

    """

    prompt: str
    a: tuple[int, ...] | np.ndarray
    b: tuple[int, ...] | np.ndarray
    system_a: str = ""
    system_b: str = ""
    propensity: float | None = None


class Gatherer(Protocol):
    """Anything that returns comparisons of given pairs."""

    def gather(self, requests: Sequence[Request]) -> list[Comparison]:
        """Comparisons of the requested pairs: none, one or several for each, with the request's a as a."""
        ...


# tokens (N, T) -> traits by name, each (N,)
Traits = Callable[[np.ndarray], Mapping[str, jax.Array]]
# N prompts and tokens (N, T) -> share of each prompt's claims that hold, (N,)
Adherence = Callable[[Sequence[str], np.ndarray], np.ndarray | jax.Array]
# a panel of L listeners, traits by name, adherence (N,) -> each one's utility of each melody, (L, N)
Utility = Callable[[Any, Mapping[str, jax.Array], jax.Array], jax.Array]


@dataclasses.dataclass
class SimulatedListeners:
    """A panel as a gatherer; every record says that it is simulated.

    `votes` different listeners hear each pair, half of them with a first (with an odd number of votes, over
    two pairs). The choices are a function of the key, the requests and the number of earlier calls.

    Attributes:
        panel: the listeners, of any kind that `utility_fn` is of.
        key: of the assignment of listeners and of their choices.
        traits: measures melodies, as `music.traits.traits` does.
        adherence: measures how well melodies match their prompts; None ignores the prompts.
        votes: listeners a pair.
        name: of the panel, in the listeners' identifiers "simulated-NAME-7".
        utility_fn: what melodies are worth to the listeners; by default that of a `Panel`.
        calls: how often `gather` and `rate` were called.

    """

    panel: panels.Listeners
    key: jax.Array
    traits: Traits
    adherence: Adherence | None = None
    votes: int = 1
    name: str = "panel"
    utility_fn: Utility = _utility
    calls: int = dataclasses.field(default=0, init=False)

    def __post_init__(self):
        if not 1 <= self.votes <= self.panel.listeners:
            count = self.panel.listeners
            raise ValueError(f"votes should be 1 to {count}, the listeners of the panel, got {self.votes}")

    def __repr__(self) -> str:
        count = self.panel.listeners
        return f"SimulatedListeners(simulated, {count} listeners {self.name!r}, {self.votes} votes a pair)"

    def gather(self, requests: Sequence[Request]) -> list[Comparison]:
        """`votes` comparisons of each pair, in the order of the requests; ValueError for unequal lengths."""
        if not requests:
            return []
        key, key_choice = jax.random.split(jax.random.fold_in(self.key, self.calls))
        self.calls += 1
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        listeners = draw_listeners(random, self.panel.listeners, len(requests), self.votes)
        first_a = draw_positions(random, len(requests), self.votes)
        pairs = np.arange(len(requests))[:, None]
        utilities = (np.asarray(self.utility(requests, side))[listeners, pairs] for side in ("a", "b"))
        choice = np.asarray(_choose(key_choice, self.panel, listeners, *utilities, first_a))
        rows = zip(requests, listeners, first_a, choice, strict=True)
        return [
            self._record(request, *vote)
            for request, *votes in rows
            for vote in zip(*(x.tolist() for x in votes), strict=True)
        ]

    def rate(self, tokens: np.ndarray) -> np.ndarray:
        """Mean opinion score 1..5 of each melody (N, T), by `votes` listeners without prompts: float32 (N,).

        A listener's 3 is the mean utility of these melodies.
        """
        key, key_opinion = jax.random.split(jax.random.fold_in(self.key, self.calls))
        self.calls += 1
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        listeners = draw_listeners(random, self.panel.listeners, len(tokens), self.votes)
        utilities = self.utility_fn(self.panel, self.traits(tokens), jnp.zeros(len(tokens)))
        own = np.asarray(utilities)[listeners, np.arange(len(tokens))[:, None]]
        scale = utilities.mean(axis=1), spread.scale(utilities, axis=1)
        scores = _opinions(key_opinion, self.panel, listeners, own, *scale)
        return np.asarray(scores, np.float32).mean(axis=1)

    def utility(self, requests: Sequence[Request], side: str) -> jax.Array:
        """Each listener's utility of the melodies a or b (`side`) of R requests, float32 (L, R)."""
        lengths = {len(getattr(request, side)) for request in requests}
        if len(lengths) != 1:
            raise ValueError(
                "simulated listeners need melodies of one length, got "
                f"{min(lengths)} to {max(lengths)} steps: cut them to one length"
            )
        tokens = np.array([getattr(request, side) for request in requests], np.int32)
        prompts = [request.prompt for request in requests]
        adherence = np.zeros(len(requests)) if self.adherence is None else self.adherence(prompts, tokens)
        return self.utility_fn(self.panel, self.traits(tokens), jnp.asarray(adherence))

    def _record(self, request: Request, listener: int, first_a: bool, choice: int) -> Comparison:
        first = "a" if first_a else "b"
        return Comparison(
            **request._asdict(),
            choice={1: "a", 0: "tie", -1: "b"}[choice],
            simulated=True,
            listener=f"simulated-{self.name}-{listener}",
            shown_left=first,
            played_first=first,
        )


def draw_listeners(random: np.random.Generator, listeners: int, pairs: int, votes: int) -> np.ndarray:
    """The listeners of each pair: int (pairs, votes) in 0..listeners-1, without repetition within a pair."""
    return random.permuted(np.tile(np.arange(listeners), (pairs, 1)), axis=1)[:, :votes]


def draw_positions(random: np.random.Generator, pairs: int, votes: int) -> np.ndarray:
    """Whether a is played first: bool (pairs, votes), true for half of each pair and of each column.

    With an odd number of votes the halves of a pair differ by one, alternating over the pairs.
    """
    first = random.permutation(np.arange(pairs) % 2)
    return (first[:, None] + np.arange(votes)) % 2 == 0


class FromFile:
    """Existing comparisons, from a JSONL file (see `listening.pairs`).

    Errors: those of `pairs.read`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.comparisons = read(path)

    def __repr__(self) -> str:
        simulated = sum(comparison.simulated for comparison in self.comparisons)
        counts = f"{len(self.comparisons)} comparisons, {simulated} of them simulated"
        return f"FromFile({str(self.path)!r}, {counts})"

    def gather(self, requests: Sequence[Request]) -> list[Comparison]:
        """The file's comparisons of the requested pairs, matched by prompt and tokens in either order.

        Where the file names no system, the request's is used. ValueError if no pair is in the file.
        """
        by_pair: dict[tuple, list[Comparison]] = {}
        for one in self.comparisons:
            by_pair.setdefault((one.prompt, one.a, one.b), []).append(one)
            if one.a != one.b:
                by_pair.setdefault((one.prompt, one.b, one.a), []).append(one.swapped())
        comparisons = [
            dataclasses.replace(
                one, system_a=one.system_a or request.system_a, system_b=one.system_b or request.system_b
            )
            for request in requests
            for one in by_pair.get((request.prompt, _row(request.a), _row(request.b)), ())
        ]
        if requests and not comparisons:
            raise ValueError(
                f"{self.path} has none of the {len(requests)} requested pairs: check that it is of these "
                "melodies and prompts; .comparisons holds all of its pairs"
            )
        return comparisons


def _row(tokens: Sequence[int] | np.ndarray) -> tuple[int, ...]:
    return tuple(np.asarray(tokens).tolist())
