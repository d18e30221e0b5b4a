import json
import os
import pty
import re
import sys
import termios

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.training import dumps, loop
from mammadai_jax.training.checkpoints import Checkpoints
from mammadai_jax.training.loop import Diverged, Learner
from mammadai_jax.training.run import Run

ABOUT = {"settings": {}}


def init():
    return {"x": jnp.zeros(3), "update": jnp.int32(0), "key": jax.random.key(0)}


def step(state, data):
    """Adds noise; its metric "count" is the update's number."""
    key, noise = jax.random.split(state["key"])
    x = state["x"] + data * jax.random.normal(noise, (3,))
    update = state["update"] + 1
    return {"x": x, "update": update, "key": key}, {"count": update, "x": x[0]}


def stage(**changes):
    given = {
        "name": "walk",
        "init": init,
        "step": step,
        "data": jnp.float32(0.1),
        "updates": 10,
        "chunk": 3,
        "notes": 100,
        "shown": "x",
    }
    return Learner(**given | changes)


def finish(path, which=None, save_seconds=0.0, resume=False):
    with Run(path, ABOUT, resume) as run:
        state = loop.train(which or stage(), run, save_seconds)
    return state, (path / "log.jsonl").read_bytes()


def raw(state):
    return [
        np.asarray(leaf).tobytes()
        for leaf in (state["x"], state["update"], jax.random.key_data(state["key"]))
    ]


def test_chunks_and_the_means_of_their_metrics(tmp_path):
    state, log = finish(tmp_path)
    rows = [json.loads(line) for line in log.splitlines()]
    assert [row["update"] for row in rows] == [3, 6, 9, 10]
    assert [row["count"] for row in rows] == [2.0, 5.0, 8.0, 10.0]
    assert int(state["update"]) == 10
    timing = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    assert [row["update"] for row in timing] == [3, 6, 9, 10]
    assert all(row["seconds"] > 0 and row["notes_per_second"] > 0 for row in timing)


def test_measured_every_so_many_chunks_and_at_the_end(tmp_path):
    measured = stage(measure=lambda state: {"total": float(state["update"])}, measure_every=2)
    rows = [json.loads(line) for line in finish(tmp_path, measured)[1].splitlines()]
    assert [row.get("total") for row in rows] == [None, 6.0, None, 10.0]


def test_the_result_is_that_of_steps_one_by_one(tmp_path):
    expected = init()
    for _ in range(10):
        expected, _ = jax.jit(step)(expected, jnp.float32(0.1))
    assert raw(finish(tmp_path)[0]) == raw(expected)


class Killed(Exception):
    pass


def killing(monkeypatch, owner, name, call, when):
    """Make the `call`-th call of a method die before or after it has done its work."""
    method, calls = getattr(owner, name), [0]

    def dying(*arguments, **named):
        calls[0] += 1
        if calls[0] == call and when == "before":
            raise Killed
        result = method(*arguments, **named)
        if calls[0] == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, dying)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run without an interruption ends with."""
    return finish(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("owner", "name", "save_seconds", "calls"),
    [
        (Run, "log", 0.0, (1, 2, 4)),
        (Run, "log", 1000.0, (1, 2, 4)),
        (Checkpoints, "save", 0.0, (1, 2, 4)),
        (Checkpoints, "save", 1000.0, (1,)),
        (Run, "rewind", 0.0, (1,)),
    ],
)
def test_interrupted_anywhere_it_ends_with_the_same_bits_and_log(
    whole, tmp_path, owner, name, save_seconds, calls, when
):
    expected, log = whole
    for call in calls:
        out = tmp_path / str(call)
        with pytest.MonkeyPatch.context() as patch:
            killing(patch, owner, name, call, when)
            with pytest.raises(Killed):
                finish(out, save_seconds=save_seconds)
        state, found = finish(out, save_seconds=save_seconds, resume=True)
        assert raw(state) == raw(expected)
        assert found == log


def test_asked_to_end_it_saves_first_and_goes_on_from_there(whole, tmp_path, monkeypatch):
    asked = iter([False, True])
    with monkeypatch.context() as patch:
        patch.setattr(loop.interruption, "requested", lambda: next(asked))
        with pytest.raises(KeyboardInterrupt):
            finish(tmp_path, save_seconds=1000.0)
    assert Checkpoints(tmp_path / "checkpoints" / "walk").updates() == [6]
    state, log = finish(tmp_path, save_seconds=1000.0, resume=True)
    assert raw(state) == raw(whole[0]) and log == whole[1]


def test_interrupted_at_every_chunk_in_turn(whole, tmp_path):
    expected, log = whole
    out = tmp_path / "out"
    for resume in (False, True, True):
        with pytest.MonkeyPatch.context() as patch:
            killing(patch, Run, "log", 2, "after")
            with pytest.raises(Killed):
                finish(out, resume=resume)
    state, found = finish(out, resume=True)
    assert raw(state) == raw(expected) and found == log


def test_a_finished_stage_is_not_trained_again(tmp_path):
    expected, log = finish(tmp_path)
    calls = []
    again = stage(step=lambda state, data: calls.append(1) or step(state, data))
    state, found = finish(tmp_path, again, resume=True)
    assert not calls
    assert raw(state) == raw(expected) and found == log


def test_a_step_is_traced_once_for_each_length_of_chunk(tmp_path):
    traces = []

    def counted(state, data):
        traces.append(1)
        return step(state, data)

    finish(tmp_path, stage(step=counted))
    assert len(traces) == 2  # chunks of 3 and the last of 1


def broken(where, value, when, **changes):
    """The walk with a value in the state or in a metric of the updates for which when(number) holds."""

    def broken_step(state, data):
        after, metrics = step(state, data)
        bad = lambda x: jnp.where(when(after["update"]), value, x)
        if where == "state":
            return after | {"x": after["x"].at[1].set(bad(after["x"][1]))}, metrics
        return after, metrics | {"x": bad(metrics["x"])}

    return stage(step=broken_step, **changes)


@pytest.mark.parametrize(("where", "value"), [("state", -jnp.inf), ("metric", jnp.nan)])
def test_an_update_that_is_not_finite_is_skipped_and_counted(tmp_path, where, value):
    state, log = finish(tmp_path, broken(where, value, lambda number: (number == 5) | (number == 6)))
    rows = [json.loads(line) for line in log.splitlines()]
    assert [row.get("skipped_updates") for row in rows] == [None, 2.0, None, None]
    counts = [row["count"] for row in rows]
    np.testing.assert_allclose(counts, [2.0, 4.0, 8.0, 10.0], rtol=1e-6)  # of those that were made
    expected = init()
    for number in range(1, 11):
        after, _ = jax.jit(step)(expected, jnp.float32(0.1))
        expected = after if number not in (5, 6) else expected | {k: after[k] for k in ("key", "update")}
    assert raw(state) == raw(expected)


@pytest.mark.parametrize(
    ("where", "value", "chunk"), [("state", jnp.nan, 1), ("metric", jnp.inf, 3), ("state", jnp.inf, 10)]
)
def test_too_many_in_a_row_stop_the_run_with_what_the_last_began_with(tmp_path, where, value, chunk):
    held_up = broken(where, value, lambda number: number >= 3, chunk=chunk)
    with pytest.raises(
        Diverged, match=r"stage walk: 5 updates in a row, the last of them update 7, .*replay-nan"
    ):
        finish(tmp_path, held_up)
    dump = dumps.read(tmp_path / "nonfinite" / "walk-000000007.npz")
    state = dump.fill("state", jax.eval_shape(init))
    assert int(state["update"]) == 6 and np.isfinite(state["x"]).all()
    after, metrics = held_up.step(state, dump.fill("data", jnp.float32(0.0)))
    assert not np.isfinite(after["x"]).all() or not np.isfinite(metrics["x"])
    # none is saved in the middle of a row of them, so that a resumed run stops at the same update
    assert all(update <= 3 for update in Checkpoints(tmp_path / "checkpoints" / "walk").updates())
    (tmp_path / "nonfinite" / "walk-000000007.npz").unlink()
    with pytest.raises(Diverged, match=r"update 7"):
        finish(tmp_path, held_up, resume=True)
    again = dumps.read(tmp_path / "nonfinite" / "walk-000000007.npz").arrays
    assert {name: x.tobytes() for name, x in again.items()} == {
        n: x.tobytes() for n, x in dump.arrays.items()
    }


def test_shorter_rows_never_stop_a_run(tmp_path):
    state, log = finish(tmp_path, broken("metric", jnp.nan, lambda number: number % 5 != 0, updates=20))
    assert sum(json.loads(line).get("skipped_updates", 0) for line in log.splitlines()) == 16
    assert int(state["update"]) == 20


def test_a_metric_so_large_that_nothing_was_learned_is_refused(tmp_path):
    large = broken("metric", 1e21, lambda number: number == 8)
    with pytest.raises(Diverged, match=r"x is 3.333e\+20 by update 9, beyond 1e\+12.*has diverged"):
        finish(tmp_path, large)
    with pytest.raises(Diverged, match=r"x is .* by update 3, beyond 0.001"):
        finish(tmp_path / "worst", stage(worst=1e-3))


def test_a_measure_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(Diverged, match=r"total is inf"):
        finish(tmp_path, stage(measure=lambda state: {"total": float("inf")}))


def test_a_rehearsal_finds_what_a_step_refuses_without_computing(tmp_path):
    def refusing(state, data):
        raise ValueError("these do not fit")

    with pytest.raises(ValueError, match=r"these do not fit"):
        loop.dry_run(stage(step=refusing))
    number = jax.ShapeDtypeStruct((), jnp.float32)
    computing = lambda state, data: step(state, jax.pure_callback(pytest.fail, number, data))
    loop.dry_run(stage(step=computing))


def test_lines_where_there_is_no_terminal(tmp_path, capsys):
    finish(tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "walk: compiling"
    assert re.fullmatch(r"walk: 10/10 updates, [\d,]+ notes/s, 0 s left, x -?\d\.\d{3}", said[-1])


def test_between_the_first_line_and_the_last_there_are_none_within_seconds(tmp_path, capsys):
    finish(tmp_path, stage(updates=9))
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_the_bar_of_a_resumed_stage_begins_where_it_was():
    bar = loop.Progress(stage(), 4).bar
    assert (bar.n, bar.total) == (400, 1000)


def test_a_stage_that_is_beyond_its_updates_is_not_trained(tmp_path):
    state, log = finish(tmp_path, stage(updates=9))
    again, same = finish(tmp_path, stage(updates=6), resume=True)
    assert raw(again) == raw(state) and same == log


def test_processes_that_do_not_lead_say_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop.launch, "leads", lambda: False)
    assert loop.Progress(stage(), 0).bar.disable
    loop._say("walk: compiling")
    assert capsys.readouterr().err == ""


def test_a_bar_with_notes_a_second_and_time_left_on_a_terminal(tmp_path, monkeypatch):
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 120))
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        finish(tmp_path, stage(updates=12))
    shown = b""
    while b"100%" not in shown:
        shown += os.read(leader, 4096)
    os.close(leader)
    text = shown.decode()
    assert "compiling" in text and "walk: compiling" not in text  # the bar has the name already
    assert re.search(r"1\.20k/1\.20k \[\d\d:\d\d<\d\d:\d\d, *[\d.]+[kM]? notes/s, x -?\d\.\d{3}\]", text), (
        text
    )


def test_a_long_run_holds_no_more_arrays_than_a_short_one(tmp_path):
    held = []

    def measure(state):
        held.append(sum(array.nbytes for array in jax.live_arrays()))
        return {}

    finish(tmp_path / "run", stage(updates=24, measure=measure))
    assert len(held) == 8 and len(set(held[1:])) == 1
