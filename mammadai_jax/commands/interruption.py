"""Work in a run directory that can be interrupted and resumed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from mammadai_jax.music.files import visible
from mammadai_jax.training import interruption


def until_interrupted(work: Callable[[], None], out: Path, resumed: bool) -> int:
    """Do the work of a command with --out and --resume -> exit status; if interrupted, say how to resume."""
    interruption.install()
    try:
        work()
    except KeyboardInterrupt:
        interruption.ignore()
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"\nmammadai: interrupted; {_way_on(out, resumed)}", file=sys.stderr)
        return 130
    return 0


def _way_on(out: Path, resumed: bool) -> str:
    """How to go on, by what was written."""
    if not (out / "run.json").exists():
        return f"give the same command again: nothing was begun in {visible(out)}"
    flag = "" if resumed else " with --resume"
    saved = any(out.glob("checkpoints/*/*.json"))
    where = (
        f"from the last checkpoint in {out}"
        if saved
        else f"from the beginning: no checkpoint is in {out} yet"
    )
    return f"give the same command{flag} to go on {visible(where)}"
