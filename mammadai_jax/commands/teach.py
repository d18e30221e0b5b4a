"""`mammadai teach`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from mammadai_jax.commands.interruption import until_interrupted
from mammadai_jax.training import settings as settings_module
from mammadai_jax.training.settings import PresetName, Settings


@dataclasses.dataclass(frozen=True)
class Teach:
    """Train MammadAI from noise to what listeners prefer, and write a page where it is heard.

    Attributes:
        preset: smoke (a minute or two), quick (minutes on two cores) or full (the README's results).
        out: the run directory.
        resume: go on with the run that is there.
        config: a TOML file of settings, or the run.json of another run, laid over the preset.
        save_seconds: between checkpoints of the whole state; makes no difference to the result.
        devices: that share the training: by default as many as can share the shards, and all of several
            processes. One shard becomes as many shards as devices. A CPU is as many as are asked for, by
            default one.
        settings: everything that decides the result.
    """

    preset: PresetName = "quick"
    out: Path = Path("runs/mammadai")
    resume: bool = False
    config: Path | None = None
    save_seconds: float = 20.0
    devices: int | None = None
    settings: Annotated[Settings, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Settings)

    def run(self) -> int:
        """Teach, and say where the page is; interrupted, or asked to end, say how to go on."""
        from mammadai_jax.training import launch, sharding

        launch.join()
        sharding.divide_cpu(self.devices)
        from mammadai_jax.training.teach import teach

        def work() -> None:
            page = teach(self.settings, self.out, self.resume, self.save_seconds, self.devices)
            if launch.leads():
                print(f"open {page}")

        return until_interrupted(work, self.out, self.resume)


def settings_below(argv: Sequence[str]) -> Settings:
    """The settings that flags are laid over: those of --preset and --config."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # without a value they are left to the parser of everything, which says so
    early.add_argument("--preset", nargs="?", const="quick", default="quick")
    early.add_argument("--config", nargs="?", type=Path)
    known, _ = early.parse_known_args(argv)
    base = settings_module.preset(known.preset)
    return base if known.config is None else settings_module.read(known.config, base)
