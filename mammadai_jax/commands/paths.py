"""What the commands share: paths as users write them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mammadai_jax.music.files import expanded


class WithPaths:
    """A command whose paths may begin with `~`, also where no shell has seen them (`--out=~/x`)."""

    def __post_init__(self):
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            if isinstance(value, Path):
                object.__setattr__(self, field.name, expanded(value))
