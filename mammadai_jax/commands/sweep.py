"""`mammadai sweep`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mammadai_jax.commands.interruption import until_interrupted
from mammadai_jax.music.files import visible
from mammadai_jax.stages import STAGES
from mammadai_jax.training import sweep

SWEPT = {spec.name: spec for spec in STAGES if spec.metrics}


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Train one stage with many seeds and hyperparameters at once, and print a table of the results.

    Attributes:
        stage: the stage that is swept; what earlier stages learned is taken from the run.
        run_directory: the --out of `mammadai teach`, from which the settings are taken too.
        set: a hyperparameter and its values, `theory.learner.temperature=1,2`; all --set are combined
            with each other. Only settings that do not change the compiled program can be swept.
        seeds: number of seeds for each combination, counted from the run's own.
        updates: number of updates; by default that of the run.
        out: the sweep's own directory; its sweep.csv has every metric of every learner.
        resume: continue the sweep in --out.

    """

    stage: tyro.conf.Positional[Literal[tuple(SWEPT)]]  # pyright: ignore
    run_directory: Annotated[Path, tyro.conf.arg(name="from")] = Path("runs/mammadai")
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    seeds: int = 1
    updates: int | None = None
    out: Path = Path("runs/sweep")
    resume: bool = False

    def run(self) -> int:
        """Sweep, and print the table, its cost, and where all of it is."""
        return until_interrupted(self._sweep, self.out, self.resume)

    def _sweep(self) -> None:
        axes = self._axes()
        for name, value in (("seeds", self.seeds), ("updates", self.updates)):
            if value is not None and value < 1:
                raise ValueError(f"--{name} is at least 1, not {value}")
        rows, cost = sweep.sweep(
            self.run_directory,
            STAGES,
            self.stage,
            self.out,
            axes,
            seeds=self.seeds,
            updates=self.updates,
            resume=self.resume,
        )
        print(sweep.table(rows, SWEPT[self.stage].metrics, list(axes)))
        print(f"\n{cost}\nall of it is in {visible(self.out / 'sweep.csv')}")

    def _axes(self) -> dict[str, tuple[float, ...]]:
        """Values by the setting's name; ValueError for what is not understood."""
        axes: dict[str, tuple[float, ...]] = {}
        for given in self.set:
            name, _, values = given.partition("=")
            try:
                axes[name.strip().replace("-", "_")] = tuple(map(float, values.split(",")))
            except ValueError:
                raise ValueError(
                    f"--set names a setting and numbers, as theory.learner.reward_scale=0.5,1; not {given!r}"
                ) from None
        return axes
