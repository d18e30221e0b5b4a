"""Signals that ask this process to end: what they do, and when.

While a learner is driven they are heeded between two chunks of updates, once its state is saved. Otherwise,
and when that takes too long, they raise KeyboardInterrupt. A second Ctrl-C ends the process at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 20.0  # seconds in which the state has to be saved: schedulers wait for 30
AGAIN = 2.0  # seconds after which an interruption that a compiled library has swallowed comes again
APART = 0.5  # seconds between two signals that are not one, sent to a process and to its group


class _Asked:
    """What has happened so far: when a signal came first, and whether a learner is driven."""

    since: float | None = None
    deferred = False


def install() -> None:
    """Let signals end this process in order; those that it was started to ignore are ignored."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _heed)
    signal.signal(signal.SIGALRM, _heed)


def leave_on_interrupt() -> None:
    """End at once on Ctrl-C: while modules are imported nothing can be lost, and they would show errors."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def ignore() -> None:
    """Ignore further signals that were heeded, since all is said and the process is about to end."""
    for number in (*ENDING, signal.SIGALRM):
        if signal.getsignal(number) in (_heed, _leave):
            signal.signal(number, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within, whoever drives a learner asks `requested` between two chunks."""
    _Asked.deferred = True
    try:
        yield
    finally:
        _Asked.deferred = False


def requested() -> bool:
    """Whether a signal has asked this process to end."""
    return _Asked.since is not None


def _heed(number: int, _frame: object) -> None:
    now = time.monotonic()
    if _Asked.since is not None and number in ENDING:
        if number == signal.SIGINT and now - _Asked.since > APART:
            _leave(number, _frame)
        return
    _Asked.since = _Asked.since or now
    if _Asked.deferred and number in ENDING:
        if number == signal.SIGINT:
            _write("stops when these updates are saved; Ctrl-C again stops at once")
        signal.setitimer(signal.ITIMER_REAL, GRACE)
        return
    signal.setitimer(signal.ITIMER_REAL, AGAIN)
    raise KeyboardInterrupt


def _leave(_number: int, _frame: object) -> None:
    """End without unwinding, which compiled libraries answer with tracebacks."""
    _write("interrupted")
    os._exit(130)


def _write(message: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(2, f"\nmammadai: {message}\n".encode())
