"""Composing as a Markov decision process: one note a step.

`make("accompanied")`, `make("rl_tuner")`, `make("theory")` and, for several voices, `make("polyphonic")` give
`(env, params)` on gymnax 1.0's contract:

    obs, state = env.reset(key, params)
    obs, state, reward, terminated, truncated, info = env.step(key, state, action, params)

with automatic reset and `info["final_observation"]`. The melody's length is part of the task, so a melody
that reached it has *terminated*; `truncated` is left to whoever cuts one short. Agents do not pay for the
automatic reset: they scan the plain functions `env.initial`, `env.advance` and `env.observe` underneath.

States are a few small integers: a step costs the same at note 10 and at note 10,000.
"""

from __future__ import annotations

from typing import Any

from mammadai_jax.environments.accompanied import (
    Accompanied,
    AccompaniedParams,
    AccompaniedState,
    Representation,
    Source,
    default_accompaniments,
    frames_from_events,
    represent,
)
from mammadai_jax.environments.base import Environment, Params
from mammadai_jax.environments.contract import check
from mammadai_jax.environments.episodes import Episodes, Outcome
from mammadai_jax.environments.pieces import Piece, by_rules
from mammadai_jax.environments.polyphonic import Polyphonic, PolyphonicParams, PolyphonicState
from mammadai_jax.environments.rl_tuner import MelodyState, RLTuner
from mammadai_jax.environments.theory import Theory, TheoryState

__all__ = [
    "ENVIRONMENTS",
    "Accompanied",
    "AccompaniedParams",
    "AccompaniedState",
    "Environment",
    "Episodes",
    "MelodyState",
    "Outcome",
    "Params",
    "Piece",
    "Polyphonic",
    "PolyphonicParams",
    "PolyphonicState",
    "RLTuner",
    "Representation",
    "Source",
    "Theory",
    "TheoryState",
    "by_rules",
    "check",
    "default_accompaniments",
    "frames_from_events",
    "make",
    "represent",
]

ENVIRONMENTS: dict[str, type[Environment]] = {
    "accompanied": Accompanied,
    "polyphonic": Polyphonic,
    "rl_tuner": RLTuner,
    "theory": Theory,
}


def make(name: str, **kwargs) -> tuple[Environment, Any]:
    """An environment by name with its default params; keywords go to its class; ValueError if unknown."""
    if name not in ENVIRONMENTS:
        raise ValueError(f"no environment is called {name!r}; there are {sorted(ENVIRONMENTS)}")
    env = ENVIRONMENTS[name](**kwargs)
    return env, env.default_params
