"""Shards on several devices of this process, and several processes that train together."""

import json
import os
import socket
import subprocess
import sys
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import embedding
from mammadai_jax.learning import collectives
from mammadai_jax.training import launch, sharding
from mammadai_jax.training.checkpoints import Checkpoints
from mammadai_jax.training.launch import LaunchError
from mammadai_jax.training.sharding import DevicesError, Placement
from tests.agents.learners import LEARNERS, numbers
from tests.conftest import QUICK_TO_COMPILE
from tests.training import sharded


def start(path, devices, *learners, shards=8, updates=2, processes=1, rank=0, address=None, compiler=""):
    """A process that trains; of several, each has its share of the devices."""
    flags = f"{compiler} --xla_force_host_platform_device_count={devices // processes}"
    together = {
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(rank),
        "JAX_COORDINATOR_ADDRESS": address,
    }
    environment = {**os.environ, "XLA_FLAGS": flags, **(together if processes > 1 else {})}
    arguments = [str(path), str(shards), str(devices), str(updates), *learners]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.sharded", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(process):
    """What it printed, by learner; gloo says on the same channel that it is connected."""
    told, errors = process.communicate(timeout=1200)
    assert process.returncode == 0, errors[-4000:]
    rows = [line.split() for line in told.splitlines() if not line.startswith("[Gloo]")]
    return {name: digests for name, *digests in rows}


def together(path, devices, *learners, processes=2, **more):
    """What the first of several processes printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    each = [
        start(path, devices, *learners, processes=processes, rank=rank, address=address, **more)
        for rank in range(processes)
    ]
    told = [finish(process) for process in each]
    return told[0]


def metrics(path):
    """The rows of a run's log, by stage."""
    rows = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    return {row.pop("stage"): row for row in rows}


def test_two_processes_learn_the_same_bits_as_one(tmp_path):
    one = sharded.train(tmp_path / "one", Placement(2, 1), 2, "cloning")
    two = together(tmp_path / "two", 2, "cloning", shards=2, compiler=QUICK_TO_COMPILE)
    assert two == one
    assert (tmp_path / "one/log.jsonl").read_bytes() == (tmp_path / "two/log.jsonl").read_bytes()


def test_a_run_goes_on_on_other_devices(tmp_path):
    straight = sharded.train(tmp_path / "straight", Placement(4, 1), 4, "cloning")
    sharded.train(tmp_path / "moved", Placement(4, 4), 2, "cloning")
    assert sharded.train(tmp_path / "moved", Placement(4, 2), 4, "cloning") == straight


@pytest.mark.nightly
def test_every_learner_is_the_same_on_any_number_of_devices(tmp_path):
    """As a user's compiler has them."""
    exact = "prior", "cloning", "gail", "theory", "melodies", "transitions"
    attending = "embedding", "reward_model", "preference"
    one, eight = (finish(start(tmp_path / str(n), n, *exact, *attending)) for n in (1, 8))
    assert one.keys() == {*exact, *attending}
    assert [one[name] for name in exact] == [eight[name] for name in exact]
    # attention's sums are rounded as XLA happens to compile what is around them
    ours, theirs = metrics(tmp_path / "1"), metrics(tmp_path / "8")
    assert ours.keys() == theirs.keys() == {*exact, *attending}
    for name in attending:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5)


@pytest.mark.nightly
def test_theory_goes_on_on_other_devices(tmp_path):
    straight = finish(start(tmp_path / "straight", 1, "theory", updates=4))
    finish(start(tmp_path / "moved", 4, "theory", updates=2))
    assert finish(start(tmp_path / "moved", 2, "theory", updates=4)) == straight


# Placement


def tuner_of(placement):
    """A learner with a replay buffer of each shard's own: its first state, and the function that made it."""
    learner = LEARNERS["melodies"]
    one = jax.jit(learner.init)(jax.random.key(0), learner.config)
    return one, placement.first(lambda: one), lambda: one


def test_what_is_a_shards_own_is_spread_and_all_else_is_the_same():
    placement = Placement(4, 2)
    one, state, init = tuner_of(placement)
    found, expected = numbers(state), numbers(one)
    chex.assert_trees_all_equal(found.replace(replay=(), key=()), expected.replace(replay=(), key=()))
    chex.assert_trees_all_equal(found.replay, jax.tree.map(lambda x: np.stack([x] * 4), expected.replay))
    own = [jax.random.key_data(jax.random.fold_in(one.key, number)) for number in range(4)]
    np.testing.assert_array_equal(found.key, np.stack(own))
    for own, part in [(True, state.replay), (True, state.key), (False, state.params), (False, state.update)]:
        for leaf in jax.tree.leaves(part):
            assert len(leaf.sharding.device_set) == 2
            assert leaf.sharding.is_fully_replicated != own
    template = placement.template(init)
    for leaf, kind in zip(jax.tree.leaves(state), jax.tree.leaves(template), strict=True):
        assert (leaf.shape, leaf.dtype) == (kind.shape, kind.dtype)
        assert kind.sharding.is_equivalent_to(leaf.sharding, leaf.ndim)
    here = placement.here(state)
    assert here.replay is state.replay and len(here.update.sharding.device_set) == 1
    chex.assert_trees_all_equal(numbers(here), found)


def test_a_checkpoint_is_restored_on_another_number_of_devices(tmp_path):
    _, state, init = tuner_of(Placement(4, 4))
    Checkpoints(tmp_path).save(1, state)
    for devices in (2, 1):
        _, restored = Checkpoints(tmp_path).restore(Placement(4, devices).template(init))
        assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(restored)} == {devices}
        chex.assert_trees_all_equal(numbers(restored), numbers(state))


def test_one_shard_is_placed_nowhere():
    one = {"x": np.arange(3.0)}
    alone = sharding.ALONE
    init, advance = lambda: one, lambda state, data: (state, data)
    assert alone.spread(init) is init and alone.everywhere(advance, one) is advance
    assert alone.replicate(one) is one and alone.here(one) is one
    assert alone.template(init)["x"].sharding is None
    replicated = Placement(4, 2).replicate(one)["x"]
    assert replicated.sharding.is_fully_replicated and len(replicated.sharding.device_set) == 2


# What shards ask of each other


def test_without_shards_nothing_happens():
    rows = jnp.arange(6.0).reshape(3, 2)
    assert collectives.gather(rows) is rows and collectives.mean(rows) is rows
    assert collectives.count() == 1 and collectives.index() == 0


def of_shards(function, *rows, devices=2):
    """A function of each shard's rows, as devices call it for all shards: on each of several devices some."""
    on_device = jax.vmap(function, axis_name=collectives.SHARDS)
    spec = jax.sharding.PartitionSpec(collectives.DEVICES)
    mesh = Placement(len(jax.tree.leaves(rows)[0]), devices).mesh
    program = jax.shard_map(on_device, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return jax.jit(program)(*rows)


def test_means_and_gathered_rows_are_of_all_shards(random):
    rows = random.normal(size=(4, 3, 2)).astype(np.float32)
    mean = of_shards(lambda x: collectives.mean({"x": x})["x"], rows)
    np.testing.assert_allclose(mean, np.broadcast_to(rows.mean(axis=0), rows.shape), rtol=1e-6)
    gathered = of_shards(collectives.gather, rows)
    np.testing.assert_array_equal(gathered, np.broadcast_to(rows.reshape(12, 2), (4, 12, 2)))
    numbers = of_shards(lambda x: x[0, 0] * 0 + collectives.index() + 10 * collectives.count(), rows)
    np.testing.assert_array_equal(numbers, 40 + np.arange(4))
    everybody = rows.reshape(12, 2)
    shared = of_shards(lambda x: collectives.share(x.sum() * 0 + everybody), rows)
    np.testing.assert_array_equal(shared, rows)
    with pytest.raises(ValueError, match="11 rows cannot be shared by 4 shards equally"):
        of_shards(lambda x: collectives.share(x.sum() * 0 + everybody[1:]), rows)


def test_each_shard_computes_by_itself(random):
    rows = random.normal(size=(4, 3)).astype(np.float32)
    found = of_shards(lambda x: collectives.each(lambda a, b: {"sum": a.sum() + b, "own": a}, x, 2.0), rows)
    np.testing.assert_allclose(found["sum"], rows.sum(axis=1) + 2, rtol=1e-6)
    np.testing.assert_array_equal(found["own"], rows)


def test_a_weighted_gradient_is_that_of_all_examples(random):
    x, weight = (random.random((4, 5)).astype(np.float32) for _ in range(2))
    loss = lambda p, x, w: (w * (p * x - 1.0) ** 2).sum() / w.sum()

    def one(x, w):
        return collectives.value_and_grad(loss, has_aux=False, weight=w.sum())(jnp.float32(2.0), x, w)

    expected = jax.value_and_grad(loss)(jnp.float32(2.0), x.ravel(), weight.ravel())
    for found, wanted in zip(of_shards(one, x, weight), expected, strict=True):
        np.testing.assert_allclose(found, np.full(4, wanted), rtol=1e-5)


def test_the_embedding_is_held_against_all_shards_melodies(random):
    config = embedding.Config(
        vocab_size=16,
        trigram_buckets=8,
        text_width=8,
        text_heads=2,
        music_width=4,
        embedding_dim=8,
        dropout=0.0,
    )
    data = embedding.Data(
        tokens=jnp.asarray(random.integers(0, 38, (8, 48)), jnp.int32),
        captions=jnp.asarray(random.integers(0, 8, (8, 1, 6, 4)), jnp.int32),
        group=jnp.arange(8),
    )
    params = jax.jit(lambda: embedding.init(jax.random.key(0), config, data).params)()
    batch = data.replace(captions=data.captions[:, 0])
    parts = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), batch)
    key = jax.random.key(1)

    def one(part):
        known = params, config, part, key
        return collectives.value_and_grad(embedding.contrast)(*known, embedding.gather_shards(*known))

    found = jax.tree.map(lambda x: x[0], of_shards(one, parts))
    expected = jax.jit(jax.value_and_grad(embedding.contrast, has_aux=True))(params, config, batch, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


def test_placing():
    assert sharding.place(1, None) == sharding.place(1, 1) == sharding.ALONE
    assert sharding.place(8, 1) == Placement(8, 1)
    assert sharding.place(8, None) == Placement(8, 8)
    assert sharding.place(12, None) == Placement(12, 6)  # as many as can share them
    assert sharding.place(1, 2) == Placement(2, 2)
    with pytest.raises(DevicesError, match="4 devices cannot share 6 shards: --devices divides --shards"):
        sharding.place(6, 4)
    with pytest.raises(DevicesError, match=r"--devices 9, but there are 8: .*device_count=9"):
        sharding.place(1, 9)


def test_placing_on_one_device(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert sharding.place(8, None) == Placement(8, 1)
    with pytest.raises(DevicesError, match=r"--devices 2, but there is 1: .*device_count=2"):
        sharding.place(1, 2)


def test_several_processes_use_all_devices(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert sharding.place(1, None) == sharding.place(1, 8) == Placement(8, 8)
    assert sharding.place(16, None) == Placement(16, 8)
    with pytest.raises(DevicesError, match="--devices 4, but 2 processes have 8: leave it out"):
        sharding.place(8, 4)
    with pytest.raises(DevicesError, match="8 devices cannot share 4 shards"):
        sharding.place(4, None)


def test_a_cpu_is_as_many_devices_as_are_asked_for_and_in_use_as_it_is():
    code = """
from mammadai_jax.training import sharding
sharding.divide_cpu(3)
import jax
before = jax.device_count()
sharding.divide_cpu(2)
print(before, jax.device_count())
"""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3", "3"]


@pytest.mark.parametrize(
    ("devices", "flags", "number", "processes", "expected"),
    [
        (3, "", -1, False, [("jax_num_cpu_devices", 3)]),
        (1, "--xla_other", -1, False, [("jax_num_cpu_devices", 1)]),
        (None, "", -1, False, []),
        (0, "", -1, False, []),
        (3, "--xla_force_host_platform_device_count=5", -1, False, []),
        (3, "", 4, False, []),
        (3, "", 0, False, []),
        (3, "", -1, True, []),
    ],
)
def test_a_cpu_is_divided_unless_somebody_has_said_how(
    devices, flags, number, processes, expected, monkeypatch
):
    updates = []
    config = types.SimpleNamespace(jax_num_cpu_devices=number, update=lambda *told: updates.append(told))
    monkeypatch.setattr(jax, "config", config)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: processes)
    monkeypatch.setenv("XLA_FLAGS", flags)
    sharding.divide_cpu(devices)
    assert updates == expected


@pytest.mark.parametrize("devices", [0, -1])
def test_fewer_devices_than_one_are_refused(devices):
    with pytest.raises(DevicesError, match=f"--devices {devices}: at least 1"):
        sharding.place(1, devices)


def test_launchers_that_make_no_sense(monkeypatch):
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_COORDINATOR_ADDRESS", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    launch.join()  # nobody launched us
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_PROCID", "0")
    launch.join()
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    with pytest.raises(LaunchError, match="JAX_NUM_PROCESSES is a whole number, not 'two'"):
        launch.join()


@pytest.mark.parametrize(
    ("size", "rank", "address", "method"),
    [
        ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "host:1234", "deactivate"),
        ("SLURM_NTASKS", "SLURM_PROCID", None, None),
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", None, None),
    ],
)
def test_several_processes_join_as_their_launcher_says(size, rank, address, method, monkeypatch):
    for name in (*(name for pair in launch.LAUNCHERS for name in pair), launch.ADDRESS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(size, "3")
    launch.join()  # one that does not say which process this is
    monkeypatch.setenv(rank, "2")
    if address:
        monkeypatch.setenv(launch.ADDRESS, address)
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **told: calls.append(told))
    launch.join()
    assert calls == [{"num_processes": 3, "process_id": 2, "cluster_detection_method": method}]

    def refuse(**_):
        raise ValueError("no coordinator")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    with pytest.raises(
        LaunchError, match=r"process 2 of 3 cannot join the others \(no coordinator\).*HOST:PORT"
    ):
        launch.join()


def test_what_the_first_process_does_alone(monkeypatch):
    def fail():
        raise OSError("disk full")

    assert launch.leads() and launch.agree(True) and not launch.agree(False)
    assert launch.first(lambda: 7) == 7
    with pytest.raises(OSError, match="disk full"):
        launch.first(fail)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert not launch.leads()
    for failed in (False, True):
        monkeypatch.setattr(launch, "agree", lambda flag, failed=failed: failed)
        if failed:
            with pytest.raises(LaunchError, match="the first process failed"):
                launch.first(fail)
        else:
            assert launch.first(fail) is None
