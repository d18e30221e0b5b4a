import shutil

import numpy as np
import pytest

from experiments import damage
from mammadai_jax.training.checkpoints import CheckpointError
from mammadai_jax.training.run import RunError


def raising(error):
    def reader():
        raise error

    return reader


def test_what_becomes_of_damage_is_told_apart():
    readers = {
        "harmless": lambda: 1,
        "SILENT": lambda: 2,
        "fell back": raising(damage.FellBack("older")),
        "refused": raising(CheckpointError("damaged")),
        "CRASH KeyError": raising(KeyError("x")),
    }
    assert {name: damage.outcome(reader, 1) for name, reader in readers.items()} == {n: n for n in readers}


def test_flipped_bits_are_counted_and_put_back(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(8))
    counts = damage.flips(path, path.read_bytes, 20, np.random.default_rng(0))
    assert counts == {"SILENT": 20} and path.read_bytes() == bytes(8)


@pytest.mark.parametrize(
    "name", ["run.json", "embedding.json", "comparisons.jsonl", "log.jsonl", "timing.jsonl"]
)
def test_no_flipped_bit_of_a_run_is_silent(taught, tmp_path, name):
    run = shutil.copytree(taught, tmp_path / "run", ignore=shutil.ignore_patterns("samples", "report.html"))
    readers = {path.name: reader for path, reader in damage.read_from(run, "cloning")}
    counts = damage.flips(run / name, readers[name], 8, np.random.default_rng(0))
    assert set(counts) <= {"harmless", "refused"} and sum(counts.values()) == 8


@pytest.mark.nightly
def test_every_kind_of_damage_to_a_checkpoint_is_told(taught, tmp_path):
    run = shutil.copytree(taught, tmp_path / "run", ignore=shutil.ignore_patterns("samples", "report.html"))
    two = damage.two_checkpoints(run, "cloning")
    outcomes = damage.damaged(two, "cloning", np.random.default_rng(0))
    assert len(outcomes) >= 60
    assert not {name: kind for name, kind in outcomes.items() if kind.startswith(damage.WRONG)}
    assert {"harmless", "fell back", "refused"} == set(outcomes.values())


def test_a_lost_log_stops_a_resumed_training(taught, tmp_path):
    run = shutil.copytree(taught, tmp_path / "run", ignore=shutil.ignore_patterns("samples", "report.html"))
    (run / "log.jsonl").unlink()
    with pytest.raises(
        RunError, match=r"log\.jsonl is not what was logged of stage prior: it ends at 0 of 4"
    ):
        damage.logs(run)
