import dataclasses
import hashlib
import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from experiments import boxed
from mammadai_jax import cli
from mammadai_jax.stages import STAGES
from mammadai_jax.training import box, sealed
from mammadai_jax.training.compose import compose, last_stage
from mammadai_jax.training.context import context_of, settings_of_run
from mammadai_jax.training.run import FORMAT, RunError, is_box, read
from mammadai_jax.training.stage import ComposeRequest


@pytest.fixture(scope="module")
def packed(taught, tmp_path_factory):
    return boxed.pack(taught, tmp_path_factory.mktemp("packed") / "box")


@pytest.fixture
def copy(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "box")


def context(path):
    return context_of(*settings_of_run(path, STAGES), path)


def tokens(path, stage, **asked):
    (sample,) = compose(path, STAGES, stage, ComposeRequest(1, **asked), seed=3)
    return sample.melody.events.tolist()


def reseal(path, **changes):
    """A box's record with other values, under a digest of its own."""
    record = {name: value for name, value in read(path).items() if name not in ("format", sealed.SEAL)}
    sealed.write(path / "run.json", FORMAT, record | changes)


def rewrite(path, stage, data):
    """Another file of weights, of which the record knows."""
    (path / "weights" / f"{stage}.safetensors").write_bytes(data)
    reseal(path, weights={**box.digests(path), stage: hashlib.sha256(data).hexdigest()})


def test_a_box_holds_the_weights_in_half_precision_and_nothing_else(taught, packed):
    names = {str(path.relative_to(packed)) for path in packed.rglob("*") if path.is_file()}
    weights = {f"weights/{stage}.safetensors" for stage in boxed.STAGES}
    assert names == {"run.json", "embedding.json", *weights}
    assert is_box(packed) and not is_box(taught) and not is_box(packed / "weights")
    of_run, of_box = context(taught).learned("theory"), context(packed).learned("theory")
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16).astype(jnp.float32), of_run)
    jax.tree.map(np.testing.assert_array_equal, of_box, half)
    stored = safetensors.numpy.load_file(packed / "weights" / "theory.safetensors")
    assert {leaf.dtype for leaf in stored.values()} == {np.dtype(np.float16)}


@pytest.mark.parametrize("stage", ["prior", "preference", "polyphony"])
def test_a_box_composes_as_its_run_does_with_rounded_weights(taught, packed, stage):
    run, parts = settings_of_run(taught, STAGES)
    of_run, (spec, own) = context_of(run, parts, taught), parts[stage]

    def rounded(name):
        halved = lambda leaf: leaf.astype(jnp.float16).astype(jnp.float32)
        learned = of_run.learned(name)
        if name == "embedding":
            towers = learned.embedding
            params = jax.tree.map(halved, towers.params)
            return learned._replace(embedding=dataclasses.replace(towers, params=params))
        return jax.tree.map(halved, learned)

    here = dataclasses.replace(of_run, learned=rounded)
    (sample,) = spec.compose(own, here, rounded(stage), jax.random.key(3), ComposeRequest(1))
    assert tokens(packed, stage) == sample.melody.events.tolist()


def test_stages_are_chosen_among_those_in_the_box(packed):
    assert last_stage(packed, STAGES) == "preference"
    assert tokens(packed, "noise")
    only_gail = tuple(s if s.name == "gail" else dataclasses.replace(s, compose=None) for s in STAGES)
    with pytest.raises(RunError, match=r"holds no weights of stage 'gail', but those of prior, theory"):
        tokens(packed, "gail")
    with pytest.raises(RunError, match="has no trained stage that composes: train a run of your own"):
        last_stage(packed, only_gail)


def flipped(copy):
    file = copy / "weights" / "prior.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def foreign(copy):
    shutil.copy(copy / "weights" / "theory.safetensors", copy / "weights" / "prior.safetensors")


def absent(copy):
    (copy / "weights" / "prior.safetensors").unlink()


def enormous(copy):
    with (copy / "weights" / "prior.safetensors").open("ab") as file:
        file.truncate(64 << 20)


def pickled(copy):
    rewrite(copy, "prior", pickle.dumps({"a": 1}))


def without_an_array(copy):
    arrays = safetensors.numpy.load_file(copy / "weights" / "prior.safetensors")
    arrays.pop(min(arrays))
    rewrite(copy, "prior", safetensors.numpy.save(arrays))


def with_another_array(copy):
    arrays = safetensors.numpy.load_file(copy / "weights" / "prior.safetensors")
    rewrite(copy, "prior", safetensors.numpy.save({**arrays, "zzz": np.zeros(3, np.float16)}))


def of_another_width(copy):
    settings = read(copy)["settings"]
    learner = {**settings["prior"]["learner"], "width": 16}
    reseal(copy, settings={**settings, "prior": {**settings["prior"], "learner": learner}})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flipped, r"prior\.safetensors is damaged or of another box: its SHA-256 is not that of run\.json"),
        (foreign, "is damaged or of another box"),
        (absent, r"prior\.safetensors cannot be read: No such file or directory"),
        (enormous, "cannot be read: larger than 2 MiB"),
        (pickled, r"prior\.safetensors holds no weights"),
        (without_an_array, r"is of another configuration: .* is absent there and float16\("),
        (with_another_array, r"zzz is float16\(3,\) there and absent by run\.json"),
        (of_another_width, "is of another configuration: "),
    ],
)
def test_weights_that_were_not_written_are_refused(copy, damage, said):
    damage(copy)
    with pytest.raises(box.BoxError, match=said) as refused:
        tokens(copy, "prior")
    assert "\n" not in str(refused.value)


def test_an_embedding_of_the_run_is_not_that_of_the_box(taught, copy):
    shutil.copy(taught / "embedding.json", copy)
    with pytest.raises(ValueError, match=r"embedding\.json is of another run"):
        tokens(copy, "prompted")


@pytest.mark.parametrize("argv", [["teach", "--out"], ["teach", "--resume", "--out"], ["rate", "--learn"]])
def test_a_box_learns_no_more(copy, capsys, argv):
    more = ["--preset", "smoke"] if argv == ["teach", "--out"] else []
    assert cli.main([*argv, str(copy), *more]) == 2
    assert f"{copy} is a box of weights, which learns no more" in capsys.readouterr().err
    assert not (copy / "checkpoints").exists() and is_box(copy)


def test_a_box_takes_the_place_of_a_box_and_of_nothing_else(taught, copy, tmp_path):
    assert list(box.digests(boxed.pack(taught, copy, ("prior",)))) == ["prior"]
    assert [path.name for path in (copy / "weights").iterdir()] == ["prior.safetensors"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    for place in (tmp_path / "mine", taught):
        with pytest.raises(box.BoxError, match="is not empty and holds no box: choose another --out"):
            boxed.pack(taught, place)


@pytest.mark.parametrize("number", [1e6, np.nan])
def test_numbers_without_half_precision_are_refused(taught, tmp_path, number):
    with pytest.raises(box.BoxError, match=r"^a\.b holds a number that half precision has not"):
        box.write(tmp_path / "box", taught, {"prior": {"a": {"b": jnp.full(2, number)}}})
