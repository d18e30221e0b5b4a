"""Work in a run directory that can be interrupted and resumed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path


def until_interrupted(work: Callable[[], None], out: Path, resumed: bool) -> int:
    """Do the work of a command with --out and --resume -> exit status; if interrupted, say how to resume."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _interrupt)
    try:
        work()
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        how = f"give the same command{'' if resumed else ' with --resume'} to go on"
        print(f"\nmammadai: interrupted; {how} from the last checkpoint in {out}", file=sys.stderr)
        return 130
    return 0


def _interrupt(number, frame) -> None:
    """Raise KeyboardInterrupt, and again soon: one raised in a callback of a compiled library is lost."""
    del number, frame
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    raise KeyboardInterrupt
