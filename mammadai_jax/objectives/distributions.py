"""Distributions over actions, imported when they are first used.

`distributions.Categorical` is distrax's with another sampler (inversion.py). distrax imports TensorFlow
Probability, which takes about as long as importing jax; a command that samples nothing does not wait for it.
So use `distributions.Categorical`, and do not import the name itself from this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mammadai_jax.objectives.inversion import Categorical

__all__ = ["Categorical"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mammadai_jax.objectives import inversion

    return inversion.Categorical
