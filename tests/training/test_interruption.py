import os
import signal

import pytest

from mammadai_jax.training import interruption


@pytest.fixture
def process(monkeypatch):
    """What the signals do here: handlers by number, timers that were set, messages, and how it ended."""

    class Process:
        handlers = dict.fromkeys(interruption.ENDING, signal.SIG_DFL)
        timers, said = [], []
        time = 0.0

        def arrive(self, number, after=0.0):
            self.time += after
            self.handlers[number](number, None)

    process = Process()
    monkeypatch.setattr(interruption._Asked, "since", None)
    monkeypatch.setattr(signal, "getsignal", process.handlers.get)
    monkeypatch.setattr(signal, "signal", process.handlers.__setitem__)
    monkeypatch.setattr(signal, "setitimer", lambda _, seconds: process.timers.append(seconds))
    monkeypatch.setattr(interruption.time, "monotonic", lambda: process.time)
    monkeypatch.setattr(os, "write", lambda _, data: process.said.append(data.decode()))

    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)
    return process


@pytest.mark.parametrize("number", interruption.ENDING)
def test_a_signal_interrupts_and_comes_again_if_it_was_swallowed(process, number):
    interruption.install()
    assert not interruption.requested()
    with pytest.raises(KeyboardInterrupt):
        process.arrive(number)
    assert interruption.requested() and process.timers == [interruption.AGAIN]
    with pytest.raises(KeyboardInterrupt):
        process.arrive(signal.SIGALRM, after=2.0)


@pytest.mark.parametrize("number", interruption.ENDING)
def test_while_a_learner_is_driven_a_signal_waits_for_the_state_to_be_saved(process, number):
    interruption.install()
    with interruption.deferred():
        process.arrive(number)
        assert interruption.requested() and process.timers == [interruption.GRACE]
        assert bool(process.said) == (number == signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):  # which took too long
            process.arrive(signal.SIGALRM, after=interruption.GRACE)


@pytest.mark.parametrize("number", interruption.ENDING)
def test_a_second_ctrl_c_ends_at_once_and_a_signal_that_is_sent_twice_is_one(process, number):
    interruption.install()
    with interruption.deferred():
        for _ in range(2):
            process.arrive(number, after=0.1)
        process.arrive(signal.SIGTERM, after=5.0)
        with pytest.raises(SystemExit) as ended:
            process.arrive(signal.SIGINT, after=1.0)
    assert ended.value.code == 130 and process.said[-1] == "\nmammadai: interrupted\n"


def test_what_a_process_was_started_to_ignore_is_ignored(process):
    process.handlers[signal.SIGHUP] = signal.SIG_IGN  # as nohup does
    interruption.install()
    assert process.handlers[signal.SIGHUP] is signal.SIG_IGN


def test_at_the_end_everything_is_ignored(process):
    interruption.install()
    interruption.ignore()
    assert set(process.handlers.values()) == {signal.SIG_IGN} and process.timers == [0]


def test_while_modules_are_imported_ctrl_c_ends_at_once(process):
    process.handlers[signal.SIGINT] = signal.default_int_handler
    interruption.leave_on_interrupt()
    with pytest.raises(SystemExit, match="130"):
        process.arrive(signal.SIGINT)
    assert process.said == ["\nmammadai: interrupted\n"]
