"""Several devices and processes, in programs of their own: this one has its devices already."""

import json
import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import embedding, shards
from mammadai_jax.training import launch, sharding
from mammadai_jax.training.launch import LaunchError
from mammadai_jax.training.settings import SettingsError, check, overlay, preset
from mammadai_jax.training.sharding import DevicesError

CACHE = {name: os.environ[name] for name in os.environ if name.startswith("JAX_")}


def start(path, devices, *learners, shards=8, updates=2, processes=1, rank=0, address=None):
    """A process that trains; of several, each has its share of the devices."""
    flags = f"--xla_force_host_platform_device_count={devices // processes}"
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


def test_eight_devices_and_one_and_two_processes_learn_the_same_bits(tmp_path):
    one = finish(start(tmp_path / "one", 1, "gail"))
    assert finish(start(tmp_path / "eight", 8, "gail")) == one
    assert together(tmp_path / "processes", 2, "gail") == one
    assert (tmp_path / "one/log.jsonl").read_bytes() == (tmp_path / "processes/log.jsonl").read_bytes()


@pytest.mark.nightly
def test_every_learner_is_the_same_on_any_number_of_devices(tmp_path):
    exact = "prior", "cloning", "theory", "melodies", "transitions"
    attending = "embedding", "judge", "preference"
    one, eight = (finish(start(tmp_path / str(n), n, *exact, *attending)) for n in (1, 8))
    assert one.keys() == {*exact, *attending}
    assert [one[name] for name in exact] == [eight[name] for name in exact]
    # attention's sums are rounded as XLA happens to compile what is around them
    ours, theirs = metrics(tmp_path / "1"), metrics(tmp_path / "8")
    assert ours.keys() == theirs.keys() == {*exact, *attending}
    for name in attending:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5)


@pytest.mark.nightly
def test_a_run_goes_on_on_other_devices(tmp_path):
    straight = finish(start(tmp_path / "straight", 1, "theory", updates=4))
    finish(start(tmp_path / "moved", 4, "theory", updates=2))
    assert finish(start(tmp_path / "moved", 2, "theory", updates=4)) == straight


def test_without_shards_nothing_happens():
    rows = jnp.arange(6.0).reshape(3, 2)
    assert shards.gather(rows) is rows and shards.mean(rows) is rows
    assert shards.count() == 1 and shards.index() == 0


def of_shards(function, *rows):
    """A function of each shard's rows, as a device calls it for all its shards."""
    on_device = jax.vmap(function, axis_name=shards.SHARDS)
    mesh = jax.make_mesh((1,), (shards.DEVICES,), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
    spec = jax.sharding.PartitionSpec()
    program = jax.shard_map(on_device, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return jax.jit(program)(*rows)


def test_means_and_gathered_rows_are_of_all_shards(random):
    rows = random.normal(size=(4, 3, 2)).astype(np.float32)
    mean = of_shards(lambda x: shards.mean({"x": x})["x"], rows)
    np.testing.assert_allclose(mean, np.broadcast_to(rows.mean(axis=0), rows.shape), rtol=1e-6)
    gathered = of_shards(shards.gather, rows)
    np.testing.assert_array_equal(gathered, np.broadcast_to(rows.reshape(12, 2), (4, 12, 2)))
    np.testing.assert_array_equal(of_shards(lambda x: x + shards.index(), rows)[3], rows[3] + 3)


def test_a_weighted_gradient_is_that_of_all_examples(random):
    x, weight = (random.random((4, 5)).astype(np.float32) for _ in range(2))
    loss = lambda p, x, w: (w * (p * x - 1.0) ** 2).sum() / w.sum()

    def one(x, w):
        return shards.value_and_grad(loss, has_aux=False, weight=w.sum())(jnp.float32(2.0), x, w)

    expected = jax.value_and_grad(loss)(jnp.float32(2.0), x.ravel(), weight.ravel())
    for found, wanted in zip(of_shards(one, x, weight), expected, strict=True):
        np.testing.assert_allclose(found, np.full(4, wanted), rtol=1e-5)


def test_the_embedding_is_held_against_all_shards_melodies(random):
    config = embedding.Config(
        words=16, trigrams=8, text_width=8, text_heads=2, music_width=4, dimensions=8, dropout=0.0
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
        return shards.value_and_grad(embedding.loss)(*known, embedding._everybody(*known))

    found = jax.tree.map(lambda x: x[0], of_shards(one, parts))
    expected = jax.jit(jax.value_and_grad(embedding.loss, has_aux=True))(params, config, batch, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


def test_placing():
    assert sharding.place(1, None) == sharding.place(1, 1) == sharding.ALONE
    assert sharding.place(8, 1) == sharding.place(8, None) == sharding.Placement(8, 1)
    with pytest.raises(DevicesError, match=r"--devices 2, but there is 1.*device_count=2"):
        sharding.place(1, 2)


@pytest.mark.parametrize(
    ("devices", "before", "expected"),
    [
        (3, {}, 3),
        (None, {}, 1),
        (0, {}, 1),
        (3, {"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, 5),
        (3, {"JAX_NUM_CPU_DEVICES": "4"}, 4),
    ],
)
def test_a_cpu_is_as_many_devices_as_are_asked_for(devices, before, expected):
    assert divided(f"divide_cpu({devices})", before) == expected


def test_a_cpu_in_use_is_as_it_is():
    assert divided("import jax; jax.devices(); divide_cpu(2)") == 1


def divided(code, before=None):
    """How many devices a new process has after some code."""
    program = f"from mammadai_jax.training import sharding; divide_cpu = sharding.divide_cpu; {code}\n"
    program += "import jax; print(jax.device_count())"
    told = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", **(before or {})}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **told}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("devices", [0, -1])
def test_fewer_devices_than_one_are_refused(devices):
    with pytest.raises(DevicesError, match=f"--devices {devices}: at least 1"):
        sharding.place(1, devices)


def test_batches_are_shared(monkeypatch):
    settings = preset("quick")
    part = overlay(settings, {"shards": 4}, "here").shard
    assert part.prior.learner.batch == settings.prior.learner.batch // 4
    assert part.imitation.learner.policy.melodies == settings.imitation.learner.policy.melodies // 4
    assert part.theory.learner.capacity == settings.theory.learner.capacity // 4
    assert settings.shard is settings
    with pytest.raises(SettingsError, match=r"prior.learner.batch 32 cannot be shared by 3 shards.*it 33"):
        check(overlay(settings, {"shards": 3}, "here"))


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
