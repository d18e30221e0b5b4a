"""The front door: `mammadai COMMAND`, where a command is one of COMMANDS."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mammadai_jax.commands.parsing import Parser, parsed
from mammadai_jax.music.files import user_cache, visible
from mammadai_jax.training import interruption
from mammadai_jax.version import __version__

# by module of mammadai_jax.commands, with _ for -; the class of a command has its words capitalised
COMMANDS = {
    "teach": "train all stages and write a page on which they can be heard",
    "sweep": "train a stage with many seeds and hyperparameters in one program",
    "compose": "let a trained stage compose: MIDI, WAV and pictures",
    "harmonise": "give a tune its other voices: MIDI, WAV and sheet music",
    "continue": "go on with a tune: new bars after it, in its key, meter and tempo",
    "infill": "write bars of a tune anew, so that the rest fits",
    "vary": "write some bars of a tune anew, chosen at random",
    "score": "print what a run says of a tune",
    "rate": "serve a page on which people compare music, and the agent can learn from it",
    "evaluate": "print the statistics of a folder of MIDI, or compare it with another",
    "corpus": "read a corpus and print what it contains",
    "replay-nan": "name where the first number arose that was not finite and stopped a training",
    "doctor": "print what is installed and what that makes possible",
}
# modules of several commands
_DESK: dict[str, str] = dict.fromkeys(("continue", "infill", "vary", "score"), "desk")
INTERRUPTED = 130  # exit status


def parse(argv: Sequence[str]) -> Any:
    """Parse a command line -> the command, to be `run`; ValueError if it is not understood."""
    name, *rest = argv or [""]
    if name not in COMMANDS:
        _front().parse_args(argv)
    module = importlib.import_module(f"mammadai_jax.commands.{_DESK.get(name, name.replace('-', '_'))}")
    if name == "teach":
        return module.parse(rest)
    command = getattr(module, name.title().replace("-", ""))
    return parsed(command, f"mammadai {name}", rest)


def _front() -> Parser:
    """The parser of what comes before a command."""
    front = Parser("mammadai", description="An agent that learns to compose.")
    front.add_argument("--version", action="version", version=__version__)
    commands = front.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, description in COMMANDS.items():
        commands.add_parser(name, help=description)
    front.epilog = "`mammadai COMMAND --help` describes the options of a command."
    return front


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command: of this process, or with `argv` of a program that calls it."""
    words = sys.argv[1:] if argv is None else list(argv)
    if argv is None:
        interruption.leave_on_interrupt()
        _open_streams()

    def run() -> int:
        command = parse(words)
        keep_programs()
        if argv is None:
            interruption.install()
        return command.run()

    status = answered(run)
    if argv is None and status == INTERRUPTED:
        sys.stdout.flush()
        os._exit(status)  # at an orderly end, threads that still compile may crash
    return status


def _open_streams() -> None:
    """Make the standard streams take any name of a file, also where they were closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
        stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)


def answered(run: Callable[[], int | None], name: str = "mammadai") -> int:
    """Run something -> its exit status; an error that the user can fix is one line, and exit status 2."""
    try:
        status = run()
        sys.stdout.flush()
        return status or 0
    except KeyboardInterrupt:
        interruption.ignore()
        print(f"\n{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of our output has left, as `head` does; what is still buffered must not fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if not isinstance(error, _user_errors()) or os.environ.get("MAMMADAI_TRACEBACK"):
            raise
        print(f"{name}: {visible(' '.join(str(error).split())) or type(error).__name__}", file=sys.stderr)
        return 2


def _user_errors() -> tuple[type[Exception], ...]:
    """Errors that a user can do something about."""
    own = ValueError, ArithmeticError, OSError, MemoryError
    return (*own, sys.modules["jax"].errors.JaxRuntimeError) if "jax" in sys.modules else own


def keep_programs() -> None:
    """Keep compiled programs in the user's cache, so that a second start is fast."""
    import jax

    place = user_cache()
    if place and not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(place / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


if __name__ == "__main__":
    sys.exit(main())
