"""Command lines: parsed by tyro, whose boxes around errors become one line."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import tyro

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SIDES = ("│", "|")  # of a box
RULE = re.compile(r"(?m)^\s*[─-]{4,}\s*$")


def parsed(kind: Any, prog: str, argv: Sequence[str], *, advice: str = "--help", **options: Any) -> Any:
    """The command of a command line; ValueError for one that is not understood.

    Args:
        kind: a dataclass, whose fields are the options.
        prog: the name of the command.
        argv: what follows it.
        advice: the flag that describes the options.
        options: others of tyro.cli.

    """
    errors, asks_for_help = io.StringIO(), bool({"-h", "--help"} & set(argv))
    try:
        with contextlib.redirect_stderr(errors), contextlib.nullcontext() if asks_for_help else _unbroken():
            return tyro.cli(kind, prog=prog, args=argv, **options)
    except SystemExit as ended:
        if not ended.code:
            raise
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
    """What an error says, and the options that it proposes, in one line."""
    lines = [COLOUR.sub("", line).strip() for line in boxed.splitlines()]
    what, *others = RULE.split("\n".join(line[1:-1] for line in lines if line.startswith(SIDES)))
    proposed = [re.findall(r"(?m)^\s*(--[\w.-]+)", part) for part in others if "Perhaps" in part]
    meant = f" (perhaps {' or '.join(proposed[0])})" if proposed else ""
    return f"{' '.join(what.split()).rstrip('.')}{meant}"
