"""The front door: `mammadai teach | compose | evaluate | corpus | doctor`."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro

from mammadai_jax import __version__
from mammadai_jax.music.files import user_cache, write_atomically
from mammadai_jax.training import settings as settings_module
from mammadai_jax.training.settings import PresetName, Settings


@dataclasses.dataclass(frozen=True)
class Teach:
    """Train MammadAI from noise to theory and write a page where it is heard.

    Attributes:
        preset: smoke (a minute or two), quick (minutes on two cores) or full (the README's results).
        out: the run directory.
        resume: go on with the run that is there.
        config: a TOML file of settings, or the run.json of another run, laid over the preset.
        save_seconds: between checkpoints of the whole state; makes no difference to the result.
        settings: everything that decides the result.
    """

    preset: PresetName = "quick"
    out: Path = Path("runs/mammadai")
    resume: bool = False
    config: Path | None = None
    save_seconds: float = 20.0
    settings: Annotated[Settings, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Settings)

    def run(self) -> int:
        """Teach, and say where the page is; interrupted, or asked to end, say how to go on."""
        from mammadai_jax.training.teach import teach

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, _interrupt)
        try:
            page = teach(self.settings, self.out, self.resume, self.save_seconds)
        except KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, 0)
            how = f"give the same command{'' if self.resume else ' with --resume'} to go on"
            print(f"\nmammadai: interrupted; {how} from the last checkpoint in {self.out}", file=sys.stderr)
            return 130
        print(f"open {page}")
        return 0


def _interrupt(number, frame) -> None:
    """Raise KeyboardInterrupt, and again soon: one raised in a callback of a compiled library is lost."""
    del number, frame
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    raise KeyboardInterrupt


@dataclasses.dataclass(frozen=True)
class Compose:
    """Let a trained MammadAI compose: MIDI, WAV and pictures. The same seed gives the same bytes.

    Attributes:
        run_directory: as given to `mammadai teach --out`.
        stage: which composer.
        seed: of all randomness.
        melodies: how many.
        bars: of 16 sixteenths; GAIL's policy knows 16 of them. By default 16, but for theory and prompts as
            many as were learned from.
        prompt: what the melody should be, in words: "a calm slow tune in minor that falls at the end"; for
            the stages prompted and preference, of which the latter is then the default.
        guidance: above 1 follows the prompt more closely, at the price of variety; with a prompt only.
        temperature: below 1 plays safe, above 1 is adventurous.
        out: where the files go; by default `composed` in the run directory.
    """

    run_directory: tyro.conf.Positional[Path] = Path("runs/mammadai")
    stage: Literal["noise", "prior", "gail", "theory", "prompted", "preference"] | None = None
    seed: int = 0
    melodies: int = 1
    bars: int | None = None
    prompt: str | None = None
    guidance: float | None = None
    temperature: float = 1.0
    out: Path | None = None

    def run(self) -> int:
        """Compose and print the files' paths."""
        from mammadai_jax.agents.vocabulary import words
        from mammadai_jax.training import teach

        stage = self.stage or ("gail" if self.prompt is None else "preference")
        prompts = stage in ("prompted", "preference")
        if not prompts and (self.prompt is not None or self.guidance is not None):
            raise ValueError(f"--prompt and --guidance are for --stage prompted or preference, not {stage}")
        if self.prompt is not None and not words(self.prompt):
            raise ValueError(f"there are no words in --prompt {self.prompt!r}: describe the music in words")
        if self.guidance is not None and not 0 <= self.guidance <= 100:
            raise ValueError(f"--guidance is between 0 and 100, not {self.guidance}")
        bars = self.bars if self.bars is not None or prompts or stage == "theory" else 16
        for name, value, low, high in (("melodies", self.melodies, 1, 1000), ("bars", bars, 1, 256)):
            if value is not None and not low <= value <= high:
                raise ValueError(f"--{name} is between {low} and {high}, not {value}")
        if stage == "gail" and bars is not None and bars > 16:
            raise ValueError(f"GAIL's policy knows melodies of up to 16 bars, not {bars}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"--temperature is above 0, not {self.temperature}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"--seed is between 0 and 2147483647, not {self.seed}")
        samples = teach.compose(
            self.run_directory,
            stage,
            self.seed,
            self.melodies,
            bars,
            self.temperature,
            self.prompt,
            self.guidance,
        )
        out = self.out or self.run_directory / "composed"
        for number, sample in enumerate(samples, start=1):
            for path in teach.save(sample, out / f"{stage}-{self.seed}-{number}"):
                print(path)
        return 0


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Print the statistics of a folder of MIDI, or compare it with another.

    Attributes:
        a: a folder of MIDI files, or "folk" or "embedded".
        b: the reference that A is compared with: overlap areas, KL, novelty.
        json: also write the numbers to this file.
    """

    a: tyro.conf.Positional[str]
    b: tyro.conf.Positional[str | None] = None
    json: Path | None = None

    def run(self) -> int:
        """Print the table."""
        from mammadai_jax.music import corpus, statistics

        loaded = {name: corpus.load(name) for name in (self.a, self.b) if name is not None}
        for name, found in loaded.items():
            for skipped in found.skipped[:20] if name not in ("folk", "embedded") else ():
                print(f"passed over {skipped.source}: {skipped.reason}", file=sys.stderr)
        reference = loaded[self.b].melodies if self.b is not None else None
        columns = {self.a: statistics.table(loaded[self.a].melodies, reference)}
        if self.b is not None:
            columns[self.b] = statistics.table(loaded[self.b].melodies)
        print(statistics.format_table(columns))
        if self.json is not None:
            write_atomically(self.json, _json(columns))
        return 0


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Read a corpus and say what is in it.

    Attributes:
        name: "folk" (from the installed music21), "embedded", or a folder of MIDI files.
        refresh: read music21's files anew instead of the cached melodies.
        skipped: print every tune that was passed over, with the reason.
        midi: also write every melody to this folder as MIDI.
    """

    name: tyro.conf.Positional[str] = "folk"
    refresh: bool = False
    skipped: bool = False
    midi: Path | None = None

    def run(self) -> int:
        """Print counts, licence and digest."""
        from collections import Counter

        from mammadai_jax.music import corpus, midi

        found = corpus.folk(refresh=self.refresh) if self.name == "folk" else corpus.load(self.name)
        print(f"{found.name}: {len(found)} melodies in {len(set(found.families.tolist()))} families")
        for collection, count in Counter(m.collection or "-" for m in found).most_common():
            print(f"  {count:6} {collection}")
        print(f"licence: {found.licence}")
        print(f"digest: {found.digest}")
        print(f"passed over: {len(found.skipped)}")
        for reason, count in Counter(s.reason for s in found.skipped).most_common(12):
            print(f"  {count:6} {reason}")
        for skipped in found.skipped if self.skipped else ():
            print(f"{skipped.source}: {skipped.reason}")
        if self.midi is not None:
            self.midi.mkdir(parents=True, exist_ok=True)
            for number, melody in enumerate(found):
                midi.write(self.midi / f"{number:05d}.mid", melody)
            print(f"wrote {len(found)} files to {self.midi}")
        return 0


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Say what is installed and what it unlocks."""

    def run(self) -> int:
        """Print a line for everything that matters."""
        print(f"mammadai_jax {__version__}, Python {sys.version.split()[0]}")
        print(f"devices: {', '.join(str(device) for device in jax.devices())}")
        for package in ("jax", "flax", "optax", "orbax-checkpoint", "distrax", "rlax", "symusic"):
            print(f"  {package} {_version(package)}")
        for module, unlocks, extra in OPTIONAL:
            there = importlib.util.find_spec(module) is not None
            state = (
                f"found: {unlocks}"
                if there
                else f"missing; pip install 'mammadai-jax[{extra}]' for {unlocks}"
            )
            print(f"  {module}: {state}")
        print(f"caches: {user_cache()}")
        return 0


OPTIONAL = (
    ("music21", "the folk-song and chorale corpus", "corpus"),
    ("verovio", "sheet music", "score"),
    ("gymnax", "running other people's trainers in the tests", "test"),
)
Command = Teach | Compose | Evaluate | Corpus | Doctor
COMMANDS: dict[str, type[Command]] = {
    "teach": Teach,
    "compose": Compose,
    "evaluate": Evaluate,
    "corpus": Corpus,
    "doctor": Doctor,
}


def _version(package: str) -> str:
    """An installed package's version, for one that is not a word that says so."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing: reinstall mammadai-jax"


def _json(tree: object) -> bytes:
    """Plain values as indented JSON; numbers that are not finite become null."""

    def plain(value):
        if isinstance(value, dict):
            return {str(key): plain(part) for key, part in value.items()}
        return None if isinstance(value, float) and not abs(value) < float("inf") else value

    return json.dumps(plain(tree), indent=1).encode() + b"\n"


def parse(argv: Sequence[str]) -> Command:
    """A command of the command line; exits with a message where it cannot be understood."""
    if not argv or argv[0] not in COMMANDS:
        return tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="mammadai", args=argv)
    name, *rest = argv
    command, prog = COMMANDS[name], f"mammadai {name}"
    if command is Teach:
        return tyro.cli(Teach, prog=prog, args=rest, default=Teach(settings=_settings_below(rest)))
    return tyro.cli(command, prog=prog, args=rest)


def _settings_below(argv: Sequence[str]) -> Settings:
    """The settings that flags are laid over: those of --preset and --config."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # without a value they are left to the parser of everything, which says so
    early.add_argument("--preset", nargs="?", const="quick", default="quick")
    early.add_argument("--config", nargs="?", type=Path)
    known, _ = early.parse_known_args(argv)
    base = settings_module.preset(known.preset)
    return base if known.config is None else settings_module.read(known.config, base)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; a user's mistake is one line on standard error and exit status 2."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv == ["--version"]:
        print(__version__)
        return 0
    try:
        command = parse(argv)
        keep_programs()
        status = command.run()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("\nmammadai: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output has left, as `head` does; what is still buffered must not fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, ArithmeticError, OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
        if os.environ.get("MAMMADAI_TRACEBACK"):
            raise
        print(f"mammadai: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 2


def keep_programs() -> None:
    """Keep compiled programs in the user's cache, so that a second start is quick."""
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(user_cache() / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


if __name__ == "__main__":
    sys.exit(main())
