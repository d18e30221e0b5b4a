"""`mammadai replay-nan`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from mammadai_jax.stages import STAGES
from mammadai_jax.training.replay import replay


@dataclasses.dataclass(frozen=True)
class ReplayNan:
    """Make an update again that was not finite, and name the operation where the first such number arose.

    Attributes:
        dump: the file that the training wrote when it stopped, in the directory of its run.

    """

    dump: tyro.conf.Positional[Path]

    def run(self) -> int:
        """Print where the number arose."""
        print(replay(self.dump, STAGES))
        return 0
