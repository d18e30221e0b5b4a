"""An agent that learns to compose, from noise to music people prefer, in JAX.

`make` gives an environment, `teach` trains all stages and writes the report, `compose` lets a trained stage
write melodies, `evaluate` computes statistics of melodies. They and the packages are imported when they are
first used, so that `import mammadai_jax` itself imports nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mammadai_jax.version import __version__

if TYPE_CHECKING:
    from mammadai_jax import (
        agents,
        environments,
        learning,
        listening,
        music,
        networks,
        objectives,
        stages,
        text,
        training,
    )
    from mammadai_jax.environments import make
    from mammadai_jax.music.statistics import table as evaluate
    from mammadai_jax.stages import teach
    from mammadai_jax.training.compose import compose

__all__ = [
    "__version__",
    "agents",
    "compose",
    "environments",
    "evaluate",
    "learning",
    "listening",
    "make",
    "music",
    "networks",
    "objectives",
    "stages",
    "teach",
    "text",
    "training",
]

# functions by name: the module below this package, and their name there
_FUNCTIONS = {
    "compose": ("training.compose", "compose"),
    "evaluate": ("music.statistics", "table"),
    "make": ("environments", "make"),
    "teach": ("stages", "teach"),
}


def __getattr__(name: str) -> Any:
    """Import what `__all__` names when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _FUNCTIONS.get(name, (name, ""))
    found = importlib.import_module(f"{__name__}.{module}")
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted(__all__)
