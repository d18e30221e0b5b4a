import hashlib
import json
import os
import resource
import shutil
import signal
import threading
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

from mammadai_jax.training import checkpoints, sealed
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


def to_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "damaged"),
        (lambda path: path.unlink(), "damaged"),
        (to_link, "symbolic link"),
        (to_pipe, "not a regular file"),
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


def manifest_of(of, update):
    return of.directory / f"{update:09d}.json"


def forge(of, step, **changes):
    """Change a manifest, with a right digest of its own."""
    path = manifest_of(of, step)
    contents = json.loads(path.read_text()) | changes
    sealed.write(path, contents.pop("format"), contents)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", "[" * 100_000, '"format"', "\xff"])
def test_a_manifest_that_is_none_falls_back(two, text):
    manifest_of(two, 20).write_bytes(text.encode("latin-1"))
    (update, _), said = warned(two)
    assert update == 10
    assert "no manifest of a checkpoint" in said[0] and "000000020.json" in said[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 99}, "has format 99, not 2"),
        ({"update": 10}, "of another update: 10, not 20"),
        ({"run": "x"}, "of another run: 'x', not ''"),
        ({"stage": "gail"}, "of another stage: 'gail', not 'prior'"),
        ({"files": []}, "lacks leaves, files"),
        ({"files": {"a": 1}}, "lacks leaves, files"),
        ({"logged": None}, "lacks leaves, files"),
        ({"files": {"../../run.json": "0"}}, "cannot be read"),
        ({"files": {"/dev/zero": "0"}}, "not a regular file"),
        ({"files": {"\0": "0"}}, "cannot be read"),
        ({"leaves": {"x" * 10: "float32(3,)"}}, "another configuration"),
    ],
)
def test_a_forged_manifest_falls_back(two, changes, reason):
    forge(two, 20, **changes)
    (update, _), said = warned(two)
    assert update == 10
    assert len(said) == 1 and reason in said[0]


def rename(checkpoints, one, other):
    manifest_of(checkpoints, one).rename(manifest_of(checkpoints, other))


def swap(checkpoints):
    for one, other in ((10, 15), (20, 10), (15, 20)):
        rename(checkpoints, one, other)


def rename_both(checkpoints):
    rename(checkpoints, 20, 30)
    (checkpoints.directory / "000000020").rename(checkpoints.directory / "000000030")


def old_as_new(checkpoints):
    shutil.rmtree(checkpoints.directory / "000000020")
    shutil.copytree(checkpoints.directory / "000000010", checkpoints.directory / "000000020")
    shutil.copy(manifest_of(checkpoints, 10), manifest_of(checkpoints, 20))


@pytest.mark.parametrize(
    ("move", "reason"),
    [
        (lambda two: manifest_of(two, 20).unlink(), "000000020 has no manifest"),
        (lambda two: rename(two, 20, 30), "000000030.json is of another update: 20, not 30"),
        (rename_both, "000000030.json is of another update: 20, not 30"),
        (old_as_new, "000000020.json is of another update: 10, not 20"),
    ],
)
def test_a_manifest_that_was_moved_or_removed_is_told(two, move, reason):
    move(two)
    (update, restored), said = warned(two)
    assert update == 10 and bits(restored) == bits(state(1))
    assert any(reason in line for line in said)


def test_swapped_manifests_are_refused(two):
    swap(two)
    with pytest.raises(CheckpointError, match=r"another update: 10, not 20.*another update: 20, not 10"):
        warned(two)


def test_the_only_step_without_its_manifest_is_told(two):
    manifest_of(two, 10).unlink()
    manifest_of(two, 20).unlink()
    restored, said = warned(two)
    assert restored is None and len(said) == 2


@pytest.mark.parametrize("name", ["_METADATA", "manifest.ocdbt", "_CHECKPOINT_METADATA"])
def test_what_orbax_cannot_read_falls_back(two, name):
    """Its files are those of the manifest, and nevertheless nonsense."""
    path = two.directory / "000000020" / name
    path.write_bytes(b"{" + b"9" * 50)
    table = json.loads(manifest_of(two, 20).read_text())["files"]
    forge(two, 20, files=table | {name: hashlib.sha256(path.read_bytes()).hexdigest()})
    (update, restored), said = warned(two)
    assert (update, bits(restored)) in [(10, bits(state(1))), (20, bits(state(2)))]
    assert update == 20 or "000000020 cannot be restored" in said[0]


def test_files_far_larger_than_their_state_are_not_read(two):
    with (two.directory / "000000020" / "manifest.ocdbt").open("r+b") as file:
        file.truncate(1 << 40)  # a sparse file
    (update, _), said = warned(two)
    assert update == 10 and "no learner wrote that" in said[0]


def test_a_state_far_larger_than_its_files_is_not_allocated(two):
    large = state() | {"params": {"w": jax.ShapeDtypeStruct((10**6, 10**6), jnp.float32)}}
    forge(two, 20, leaves=checkpoints._leaves(large))
    forge(two, 10, leaves=checkpoints._leaves(large))
    with pytest.raises(CheckpointError, match=r"no learner wrote that"):
        warned(two, large)


FOREIGN = (
    ".DS_Store",
    "notes.txt",
    "best.json",
    "1x.json",
    "5.json",
    "x.tmp",
    "000000020.backup",
    ".git/HEAD",
)


def test_foreign_files_neither_harm_nor_vanish(two):
    for folder in (two.directory, two.directory / "000000020", two.directory / "000000020" / "d"):
        for name in FOREIGN:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("mine")
    shutil.copytree(two.directory / "000000010", two.directory / "best")
    (two.directory / "000000020" / "link").symlink_to("/dev/zero")
    (update, restored), said = warned(two)
    assert update == 20 and bits(restored) == bits(state(2)) and not said
    two.save(30, state(3))
    two.save(40, state(4))
    assert two.updates() == [30, 40]
    assert {name for name in FOREIGN if (two.directory / name).exists()} == set(FOREIGN)
    assert (two.directory / "best" / "manifest.ocdbt").exists()


def test_a_linked_folder_of_a_stage_is_refused_and_left_alone(tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "000000001").write_text("mine")
    (tmp_path / "prior").symlink_to("documents")
    with pytest.raises(CheckpointError, match=r"prior is a symbolic link"):
        Checkpoints(tmp_path / "prior")
    assert (tmp_path / "documents" / "000000001").read_text() == "mine"


def test_what_was_logged_is_kept_with_the_state(two):
    two.save(30, state(3), {"log.jsonl": "abc"})
    assert two.logged(30) == {"log.jsonl": "abc"}
    assert two.logged(20) == two.logged(0) == {}


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


def test_a_save_that_fails_leaves_the_one_before(two, monkeypatch):
    def no_space(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("mammadai_jax.training.sealed.files.write_atomically", no_space)
    with pytest.raises(CheckpointError, match=r"000000030 cannot be saved: No space .*go on with --resume"):
        two.save(30, state(3))
    assert warned(two)[0][0] == 20


def test_a_full_disk_is_one_error_with_the_advice_to_resume(two, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(CheckpointError, match=r"cannot be saved: .*No space .* 1,000 free.*--resume"):
        two.save(30, state(3))
    assert warned(two)[0][0] == 20


def test_orbax_cannot_write_either(two, capfd):
    """Files that end after a kilobyte, as on a full disk: one error, and nothing on the terminal."""
    large, before = state(3, width=1000), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"000000030 cannot be saved: .*go on with --resume"):
            two.save(30, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert capfd.readouterr() == ("", "")
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
