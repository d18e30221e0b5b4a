import json
import shutil
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

from mammadai_jax.training.checkpoints import CheckpointError, Checkpoints


def state(seed=0, width=3):
    """Everything a learner's state may hold."""
    key = jax.random.key(seed)
    return {
        "params": {"w": jax.random.normal(key, (4, width)), "half": jnp.full(5, 1.5 + seed, jnp.bfloat16)},
        "count": jnp.int32(7 + seed),
        "flags": jnp.array([True, False]),
        "keys": jax.random.split(key, 2),
        "nothing": (None, ()),
    }


def bits(tree):
    def raw(leaf):
        leaf = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        return str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()

    return jax.tree.map(raw, tree, is_leaf=lambda x: isinstance(x, jax.Array))


def warned(checkpoints, template=None):
    said = []
    return checkpoints.restore(state() if template is None else template, said.append), said


def files_of(checkpoints, update):
    return sorted(p for p in (checkpoints.directory / f"{update:09d}").rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two checkpoints, to be copied and damaged."""
    checkpoints = Checkpoints(tmp_path_factory.mktemp("written") / "prior")
    checkpoints.save(10, state(1))
    checkpoints.save(20, state(2))
    return checkpoints.directory


@pytest.fixture
def two(written, tmp_path):
    shutil.copytree(written, tmp_path / "prior", symlinks=True)
    return Checkpoints(tmp_path / "prior")


def test_round_trip_keeps_every_bit_and_type(two):
    template = jax.eval_shape(state)
    update, restored = two.restore(template)
    assert update == 20
    assert bits(restored) == bits(state(2))
    assert jax.tree.structure(restored) == jax.tree.structure(state())


def test_no_checkpoint_is_none_and_relative_directories_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints("a/b")
    assert checkpoints.restore(state()) is None
    checkpoints.save(3, state())
    monkeypatch.chdir("/")
    assert warned(checkpoints)[0][0] == 3


def test_the_last_two_stay_and_saving_again_replaces(two):
    two.save(30, state(3))
    assert two.updates() == [20, 30]
    assert not (two.directory / "000000010").exists()
    two.save(30, state(4))
    assert bits(two.restore(state())[1]) == bits(state(4))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))


def test_a_flipped_bit_in_any_file_falls_back_to_the_checkpoint_before(two):
    files = [path for path in files_of(two, 20) if path.stat().st_size]
    assert len(files) > 5
    for path in files:
        sound = path.read_bytes()
        flip(path)
        (update, restored), said = warned(two)
        path.write_bytes(sound)
        assert update == 10 and bits(restored) == bits(state(1))
        assert len(said) == 1 and "000000020 is damaged" in said[0]
    assert warned(two)[0][0] == 20


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def to_link(path):
    path.rename(path.with_suffix(".away"))
    path.symlink_to(path.with_suffix(".away"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "damaged"),
        (lambda path: path.unlink(), "damaged"),
        (lambda path: (path.parent / "more").write_bytes(b""), "damaged"),
        (to_link, "symbolic link"),
    ],
)
def test_other_damage_falls_back(two, damage, reason):
    damage(max(files_of(two, 20), key=lambda path: path.stat().st_size))
    (update, _), said = warned(two)
    assert update == 10
    assert reason in said[0]


def test_a_linked_step_directory_is_refused(two):
    to_link(two.directory / "000000020")
    assert warned(two)[0][0] == 10


DEEP = "[" * 100_000
MANIFESTS = [
    "",
    "{",
    "[]",
    "3",
    "{}",
    DEEP,
    '"format leaves files"',
    '{"format": 1, "leaves": [], "files": {}}',
]


@pytest.mark.parametrize("text", [*MANIFESTS, '{"format": 1, "leaves": {"a": []}, "files": {}}', "\xff"])
def test_a_manifest_that_is_none_falls_back(two, text):
    (two.directory / "000000020.json").write_bytes(text.encode("latin-1"))
    (update, _), said = warned(two)
    assert update == 10
    assert "000000020.json is no manifest" in said[0]


def test_another_format_is_named(two):
    for update in (10, 20):
        path = two.directory / f"{update:09d}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(CheckpointError, match=r"format 99, this version reads 1"):
        warned(two)


def test_a_step_without_a_manifest_was_never_finished(two):
    (two.directory / "000000020.json").unlink()
    assert two.updates() == [10]
    (update, _), said = warned(two)
    assert update == 10 and not said


def test_what_was_left_half_written_is_removed_by_the_next_save(two):
    shutil.copytree(two.directory / "000000020", two.directory / "000000030.orbax-checkpoint-tmp")
    shutil.copytree(two.directory / "000000020", two.directory / "000000040")
    (two.directory / ".000000040.json.1.part").write_bytes(b"{")
    two.save(50, state(5))
    names = sorted(path.name for path in two.directory.iterdir())
    assert names == ["000000020", "000000020.json", "000000050", "000000050.json"]


def test_an_old_step_that_is_gone_hinders_no_save(two):
    shutil.rmtree(two.directory / "000000010")
    two.save(30, state(3))
    assert two.updates() == [20, 30]


def test_strange_names_beside_checkpoints_are_no_checkpoints(two):
    for name in ("1x.json", "note.json", "5.json"):
        (two.directory / name).write_text("{}")
    assert two.updates() == [10, 20]


def test_a_save_that_fails_leaves_the_one_before(two, monkeypatch):
    def no_space(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("mammadai_jax.training.checkpoints.files.write_atomically", no_space)
    with pytest.raises(OSError, match=r"No space"):
        two.save(30, state(3))
    assert warned(two)[0][0] == 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_waits_until_a_save_is_whole(two, monkeypatch, number):
    class Interrupted(orbax.checkpoint.StandardCheckpointer):
        def save(self, *arguments, **named):
            super().save(*arguments, **named)
            signal.raise_signal(number)

    monkeypatch.setattr(orbax.checkpoint, "StandardCheckpointer", Interrupted)
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            two.save(30, state(3))
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert not list(two.directory.glob("*tmp*"))
    assert warned(two)[0][0] == 30


def test_saving_from_another_thread(two):
    thread = threading.Thread(target=two.save, args=(30, state(3)))
    thread.start()
    thread.join()
    assert warned(two)[0][0] == 30


@pytest.mark.parametrize(
    "other",
    [
        state(width=5),
        state() | {"count": jnp.float32(1)},
        state() | {"more": jnp.zeros(1)},
        {name: leaf for name, leaf in state().items() if name != "flags"},
        state() | {"keys": jax.random.key_data(state()["keys"])},
    ],
)
def test_another_configuration_is_one_clear_error(two, other):
    with pytest.raises(CheckpointError, match=r"another configuration.*use the configuration of run.json"):
        warned(two, other)


def test_when_all_are_damaged_the_error_says_why_and_what_to_do(two):
    for update in (10, 20):
        flip(files_of(two, update)[0])
    with pytest.raises(CheckpointError, match=r"000000020 is damaged.*000000010 is damaged.*Put back a copy"):
        warned(two)
