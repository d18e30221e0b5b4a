import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import learning, magenta_peer, measure, operations, playing, table
from benchmarks.__main__ import choose, main, with_optional
from benchmarks.measure import Contest, Job
from benchmarks.workloads import beside_float32, workloads
from mammadai_jax import environments
from mammadai_jax.agents import gail, ppo, prior, projection, reward_model, tuner
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.kernels import products
from mammadai_jax.networks.mlp import MLP
from mammadai_jax.networks.note_rnn import NoteRNN

BLANK = jnp.zeros((1, 1), jnp.int32)
NETWORKS = {
    "lstm": Composer(38, "lstm", 64, 2, lookback=()),
    "transformer": Composer(38, "transformer", 64, 2, attention_window=32, lookback=()),
    "note rnn": NoteRNN(38, 64),
}


def analysed(function, *arguments):
    """XLA's count, of everything, of a program without loops (it counts a loop's body once)."""
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


def parameters(network):
    return jax.eval_shape(network.init, jax.random.key(0), BLANK, BLANK)


@pytest.mark.parametrize("name", NETWORKS)
def test_writing_a_note_is_counted_as_xla_counts_it(name):
    network, melodies = NETWORKS[name], 64
    note = jnp.zeros(melodies, jnp.int32)
    write = lambda params, carry: network.apply(params, carry, note, note, method="step")[0].logits
    found = analysed(write, parameters(network), jax.eval_shape(lambda: network.initial_carry(melodies)))
    counted = melodies * operations.write(network, 1)
    assert counted <= found <= 1.15 * counted


def test_reading_and_learning_are_counted_as_xla_counts_them():
    network, melodies, steps = NETWORKS["transformer"], 4, 64
    rows = jnp.zeros((steps, melodies), jnp.int32)
    loss = lambda params: network.apply(params, rows, rows).logits.sum()
    counted = melodies * operations.read(network, steps, head=operations.heads(network, value=False))
    for function, times in ((loss, 1), (jax.grad(loss), operations.LEARNING)):
        found = analysed(function, parameters(network))
        # softmax, norms and activations weigh more in so narrow a network
        assert times * counted <= found <= 1.2 * times * counted


def test_a_feed_forward_network_is_counted_as_xla_counts_it():
    network, rows = MLP((64, 64), 32), jnp.zeros((256, 128))
    params = jax.eval_shape(network.init, jax.random.key(0), rows)
    loss = lambda params: jnp.square(network.apply(params, rows)).sum()
    for function, learned in ((loss, False), (jax.grad(loss), True)):
        counted = 256 * operations.mlp(128, 64, 64, 32, learning=learned)
        assert counted <= analysed(function, params) <= 1.1 * counted


@pytest.mark.parametrize("batch", [1, 5])
def test_the_scan_by_hand_sees_what_the_environment_shows(batch, random):
    env, params = environments.make("rl_tuner")
    keys = jax.random.split(jax.random.key(0), batch)
    _, state = jax.vmap(env.reset, (0, None))(keys, params)
    time, last = np.zeros(batch, np.int32), np.full(batch, 38, np.int32)
    step = jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
    for action in random.integers(0, 38, (2 * playing.LENGTH + 3, batch)):
        observation, state, _, terminated, *_ = step(keys, state, action, params)
        time, last, ends, seen = playing.note(np, time, last, action)
        for ours, theirs in (
            (observation, seen),
            (state.time, time),
            (state.token, last),
            (terminated, ends),
        ):
            np.testing.assert_array_equal(ours, theirs)


def sleeper(seconds, units, **counted):
    return Job(lambda: seconds, units, **counted)


def test_a_row_tells_the_limit_that_is_met_first_and_each_peer():
    most = {
        measure.PRODUCTS: sleeper(1.0, 100, operations=100.0),
        measure.MEMORY: sleeper(1.0, 10, bytes=10.0),
    }
    ours = sleeper(4.0, 8, operations=100.0, bytes=20.0)
    contest = Contest(ours, peers={"slow": sleeper(8.0, 4), "quick": sleeper(1.0, 8)})
    rows, _ = table.contest_rows("x", "notes/s", contest, most, rounds=3)
    assert [(row.peer, row.ratio) for row in rows] == [("slow", 4.0), ("quick", 0.25)]
    assert {(row.value, row.limit, row.fraction) for row in rows} == {(2.0, measure.MEMORY, 0.5)}
    contest = Contest(ours._replace(bytes=1.0), by_hand=sleeper(2.0, 8))
    (row,) = table.contest_rows("x", "s", contest, most, rounds=3)[0]
    assert (row.value, row.limit, row.fraction) == (4.0, table.BY_HAND, 0.5)


def test_a_peer_that_is_not_installed_is_left_out_and_told(capsys):
    def absent():
        raise ModuleNotFoundError("No module named 'peer'")

    contest = Contest(sleeper(1.0, 1), optional={"absent": absent, "there": lambda: sleeper(2.0, 1)})
    assert list(with_optional(contest).peers) == ["there"]
    assert "without absent (No module named 'peer')" in capsys.readouterr().err


def absent():
    raise ModuleNotFoundError("No module named 'peer'")


def test_a_peer_in_a_process_of_its_own_is_measured_there():
    job = magenta_peer.apart(Job, time.perf_counter, 3)
    assert job.units == 3 and 0 < job.clock() < job.clock()
    with pytest.raises(ModuleNotFoundError, match="'peer'"):
        magenta_peer.apart(absent)


def test_a_job_of_updates_goes_on_from_its_state():
    seen = []
    step = lambda state: (jax.debug.callback(lambda x: seen.append(int(x)), state), state + 1)[1]
    job = measure.job(step, jnp.int32(0), units=1, updates=True)
    for _ in range(3):
        job.clock()
    jax.effects_barrier()
    assert seen == [0, 1, 2]


LEARNERS = {
    "prior": lambda: learning.composer_prior(
        prior.Config(width=8, batch_size=2, sequence_length=16), jnp.bfloat16
    ),
    "gail": lambda: learning.imitation(gail.Config(ppo=ppo.Config(num_envs=2), context_length=2)),
    "paper": lambda: learning.rl_tuner(
        tuner.PAPER.replace(num_envs=2, num_minibatches=2, batch_size=4, buffer_size=64), *learning.note_rnn()
    ),
    "projection": lambda: learning.projected(
        projection.SHORT.replace(num_envs=4, num_minibatches=2, batch_size=2), *learning.note_rnn()
    ),
    "judge": lambda: learning.reward_model_of_pairs(
        NETWORKS["transformer"], reward_model.Config(batch_size=2), 16
    ),
    "rollout": lambda: playing.composer_rollout("lstm", 2, 4),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_workloads_run_and_are_counted(name):
    job = LEARNERS[name]().ours
    assert job.clock() > 0 and job.clock() > 0
    assert job.units > 0 and job.operations > 0 and job.bytes > 0 and job.memory


def test_the_command_writes_rows(tmp_path, capsys):
    files = tmp_path / "rows.json", tmp_path / "rows.md"
    given = ["--quick", "--only", "environment/1", "--json", str(files[0]), "--markdown", str(files[1])]
    assert main(given) == 0
    rows = json.loads(files[0].read_text())
    assert {row["workload"].split("/")[0] for row in rows} == {"environment", "limit"}
    for row in rows:
        assert {"workload", "value", "unit", "limit", "fraction", "peer", "ratio"} <= row.keys()
        assert row["value"] > 0 and row["jax"] == jax.__version__
    first = rows[0]
    assert (first["unit"], first["limit"], first["peer"]) == ("steps/s", "hand-written scan", "NumPy loop")
    assert first["fraction"] > 0 and first["ratio"] > 0 and first["compiling"] > 0
    told = capsys.readouterr()
    assert "environment/1" in told.out and "[1/1] environment/1" in told.err
    assert files[1].read_text().count("\n|") == len(rows) + 2


def test_workloads_are_chosen_by_name_and_family(capsys):
    found = workloads()
    names = [workload.name for workload in found]
    assert len(names) == len(set(names))
    quick = {workload.name.split("/")[0] for workload in choose(found, None, quick=True)}
    assert {"environment", "rules", "lstm-rollout", "gail", "tuner-paper", "ppo", "generation"} <= quick
    assert [w.name for w in choose(found, ["environment/1"], quick=True)] == ["environment/1"]
    assert len(choose(found, ["rules"], quick=False)) == 5
    assert {"ppo-bfloat16/64x96", "prior-transformer-bfloat16/32x192"} <= set(names)
    assert main(["--only", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err


def test_rounded_work_is_held_against_the_same_by_default():
    def make():
        return Contest(measure.Job(lambda: 1.0, units=1 + products.rounds_operands()))

    contest = beside_float32(make)
    assert (contest.ours.units, contest.ours.products) == (2, measure.BFLOAT16)
    assert {name: job.units for name, job in contest.peers.items()} == {"float32": 1}


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [(28.23e6, "steps/s", "28.2 Msteps/s"), (7, "B", "7.00 B"), (0.034, "s", "0.034 s"), (None, "B", "")],
)
def test_numbers_are_told_in_three_digits(value, unit, told):
    assert table.human(value, unit) == told
