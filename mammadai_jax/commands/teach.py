"""`mammadai teach`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import io
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from mammadai_jax.commands.interruption import until_interrupted
from mammadai_jax.commands.parsing import Parser, parsed
from mammadai_jax.music.files import expanded, visible
from mammadai_jax.stages import STAGES, Settings, only, preset, teach
from mammadai_jax.training import settings as settings_module
from mammadai_jax.training.context import settings_of_run
from mammadai_jax.training.run import refuse_nothing
from mammadai_jax.training.settings import PresetName

LEARNING = tuple(spec.name for spec in STAGES if spec.make_learner)


@dataclasses.dataclass(frozen=True)
class Teach:
    """Train all stages, and write a page on which they can be heard.

    Attributes:
        preset: complete settings: smoke (minutes on two cores), quick (a quarter of an hour) or full (the
            results of docs/results.md).
        out: the run directory.
        resume: continue the run in --out, with the settings that it was begun with unless --preset or
            --config are given.
        config: a TOML file of settings, or the run.json of another run, applied on top of the preset.
        save_seconds: time between checkpoints of the whole state; it does not change the result.
        stages: of which a run is begun, with those that they need; by default all.
        devices: how many devices train: by default as many as can divide the shards, with several processes
            all of theirs. A single shard becomes as many shards as devices. A CPU is divided into as many
            devices as requested, by default one.
        settings: everything that determines the result.

    """

    preset: PresetName = "quick"
    out: Path = Path("runs/mammadai")
    resume: bool = False
    config: Path | None = None
    save_seconds: float = 20.0
    stages: tuple[Literal[LEARNING], ...] = ()  # pyright: ignore
    devices: int | None = None
    settings: Annotated[Any, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Settings)

    def run(self) -> int:
        """Teach, and say where the page is; interrupted, or asked to end, say how to go on."""
        from mammadai_jax.training import launch, sharding

        if not self.save_seconds >= 0:
            raise ValueError(f"--save-seconds is 0 or more, not {self.save_seconds}")
        settings = only(self.settings, self.stages) if self.stages else self.settings
        launch.join()
        sharding.divide_cpu(self.devices)

        def work() -> None:
            page = teach(
                settings,
                self.out,
                resume=self.resume,
                save_seconds=self.save_seconds,
                devices=self.devices,
            )
            if launch.leads():
                print(f"open {visible(page)}")

        return until_interrupted(work, self.out, self.resume)


def settings_below(argv: Sequence[str]) -> Any:
    """The settings that flags are laid over: those of --preset and --config, or of the run that goes on."""
    early = Parser("mammadai teach", add_help=False, allow_abbrev=False)
    # without a value they are left to the parser of everything, which says so
    early.add_argument("--preset", nargs="?", const="quick")
    early.add_argument("--config", nargs="?")
    early.add_argument("--out", nargs="?", default=Teach.out)
    early.add_argument("--resume", action=argparse.BooleanOptionalAction)
    given, _ = early.parse_known_args(argv)
    if given.resume and given.out and not (given.preset or given.config):
        refuse_nothing(out := expanded(given.out))
        run, parts = settings_of_run(out, STAGES)
        return Settings(**vars(run), **{name: own for name, (_, own) in parts.items() if own})
    base = preset(given.preset or "quick")
    return base if given.config is None else settings_module.read(given.config, base)


def parse(argv: Sequence[str]) -> Teach:
    """The command; exits after printing help, of which --help-all describes every setting of every stage.

    ValueError for a command line that is not understood.
    """
    default = Teach(settings=settings_below(argv))
    if {"-h", "--help"} & set(argv):
        print(brief_help(default))
        raise SystemExit(0)
    argv = ["--help" if flag == "--help-all" else flag for flag in argv]
    return parsed(Teach, "mammadai teach", argv, advice="--help-all", default=default)


def brief_help(default: Teach) -> str:
    """The options of the run described, and the names of all settings of the stages by group."""
    written = io.TextIOWrapper(io.BytesIO(), sys.stdout.encoding or "utf-8")  # says how boxes are drawn
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        tyro.cli(Teach, prog="mammadai teach", args=["--help"], default=default)
    written.seek(0)
    run_options, *_ = re.split(r"(?m)^[^\w\n]+[\w.-]+ options\W*$", written.read())
    fill = functools.partial(textwrap.fill, width=80, subsequent_indent="      ", break_on_hyphens=False)
    groups = [fill(f"  {group}: {', '.join(names)}") for group, names in _groups(default.settings) if group]
    intro = "Settings of the stages, --GROUP.NAME VALUE; --help-all describes each of them."
    return "\n".join([run_options, intro, *groups])


def _groups(settings: Any, group: str = "") -> Iterator[tuple[str, list[str]]]:
    """The flags' names in a tree of settings, by group."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    inner = {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}
    yield group.replace("_", "-"), [name.replace("_", "-") for name in values if name not in inner]
    for name, value in inner.items():
        yield from _groups(value, f"{group}.{name}".lstrip("."))
