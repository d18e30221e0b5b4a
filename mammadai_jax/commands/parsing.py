"""Command lines: parsed by tyro or argparse, with errors of one line and `~` in every path."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mammadai_jax.music.files import expanded

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
RULE = re.compile(r"(?m)^(?:[╭╰].*|[─-]{4,})$")  # between the parts of a box


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors of one line."""

    def error(self, message: str) -> NoReturn:
        """ValueError with the message, and with where the options are described."""
        raise ValueError(f"{message}: see `{self.prog} --help`")


def parsed(kind: Any, prog: str, argv: Sequence[str], *, advice: str = "--help", **options: Any) -> Any:
    """The command of a command line, parsed by tyro; ValueError for one that is not understood.

    Args:
        kind: a dataclass, whose fields are the options.
        prog: the name of the command.
        argv: what follows it.
        advice: the flag that describes the options.
        options: others of tyro.cli.

    """
    import tyro

    errors, asks_for_help = io.StringIO(), bool({"-h", "--help"} & set(argv))
    try:
        with contextlib.redirect_stderr(errors), contextlib.nullcontext() if asks_for_help else _unbroken():
            command = tyro.cli(kind, prog=prog, args=argv, **options)
    except SystemExit as ended:
        if not ended.code:
            raise
    else:
        values = {field.name: getattr(command, field.name) for field in dataclasses.fields(command)}
        paths = {name: expanded(value) for name, value in values.items() if isinstance(value, Path)}
        return dataclasses.replace(command, **paths)
    raise ValueError(f"{_summary(errors.getvalue())}: see `{prog} {advice}`")


@contextlib.contextmanager
def _unbroken() -> Iterator[None]:
    """Within, tyro breaks no long words."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000000"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        os.environ.update({} if before is None else {"COLUMNS": before})


def _summary(boxed: str) -> str:
    """What an error says below its title, and the options that it proposes, in one line."""
    lines = [COLOUR.sub("", line).strip(" │") for line in boxed.strip().splitlines()]
    _, what, *others = RULE.split("\n".join(lines))
    proposed = [re.findall(r"(?m)^\s*(--[\w.-]+)", part) for part in others if "Perhaps" in part]
    meant = f" (perhaps {' or '.join(proposed[0])})" if proposed else ""
    return f"{' '.join(what.split()).rstrip('.')}{meant}"
