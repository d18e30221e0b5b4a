"""A stage of one's own, written in one file (toy.py), does all that the stages of the package do."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from mammadai_jax.stages import noise, teach
from mammadai_jax.training.compose import compose
from mammadai_jax.training.loop import SAVE_SECONDS
from mammadai_jax.training.run import Run, RunError
from mammadai_jax.training.settings import SettingsError, overlay, settings_type
from mammadai_jax.training.stage import ComposeRequest
from mammadai_jax.training.sweep import sweep
from tests.stages import toy

STAGES = (noise.STAGE, toy.STAGE)
SETTINGS = settings_type(STAGES)(corpus="embedded", num_samples=2, saved_samples=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("toy") / "run"
    assert teach(SETTINGS, out, STAGES) == out / "report.html"
    return out


def test_it_is_written_in_one_short_file():
    assert len(Path(toy.__file__).read_text().splitlines()) < 60


def test_it_is_taught_and_reported(run):
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["update"]) for row in rows] == [("toy", 2), ("toy", 4)]
    assert rows[1]["error"] < rows[0]["error"]
    page = (run / "report.html").read_text()
    assert "from noise to toy" in page and f"It ends {rows[1]['error']:.1f} away." in page
    assert (run / "samples" / "toy" / "1.mid").exists() and (run / "samples" / "noise" / "1.mid").exists()
    assert json.loads((run / "run.json").read_text())["settings"]["toy"]["learner"]["num_updates"] == 4


def test_it_composes_from_its_checkpoint(run):
    request = ComposeRequest(3, bars=2)
    one, same, other = (compose(run, STAGES, "toy", request, seed=seed) for seed in (0, 0, 1))
    events = [np.stack([sample.melody.events for sample in samples]) for samples in (one, same, other)]
    assert events[0].shape == (3, 32)
    np.testing.assert_array_equal(events[0], events[1])
    assert events[0].tolist() != events[2].tolist()


def test_it_is_interrupted_and_resumed_to_the_same_bytes(run, tmp_path, monkeypatch):
    log = Run.log

    def dying(self, name, update, *rest):
        log(self, name, update, *rest)
        if update == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "log", dying)
        teach(SETTINGS, tmp_path, STAGES, save_seconds=0.0)
    assert [path.stem for path in (tmp_path / "checkpoints" / "toy").glob("*.json")] == ["000000002"]
    teach(SETTINGS, tmp_path, STAGES, resume=True, save_seconds=SAVE_SECONDS)
    for name in ("log.jsonl", "run.json", "samples/toy/1.mid"):
        assert (tmp_path / name).read_bytes() == (run / name).read_bytes()


def test_it_is_swept(run, tmp_path):
    rows, _ = sweep(run, STAGES, "toy", tmp_path, {"toy.learner.learning_rate": (0.1, 1.0)}, seeds=2)
    assert len(rows) == 4 and rows[2]["error"] < rows[0]["error"]


def test_it_is_left_out_where_it_makes_no_updates(tmp_path):
    none = dataclasses.replace(SETTINGS, toy=toy.Settings(learner=toy.Config(num_updates=0)))
    never = dataclasses.replace(toy.STAGE, tables=lambda *_: pytest.fail("there is nothing to compare"))
    teach(none, tmp_path, (noise.STAGE, never))
    assert not (tmp_path / "log.jsonl").exists() and not (tmp_path / "samples" / "toy").exists()
    with pytest.raises(RunError, match="trained without stage 'toy'"):
        compose(tmp_path, STAGES, "toy", ComposeRequest(1))


def test_its_settings_are_checked_and_a_run_of_other_stages_is_refused(run, tmp_path):
    with pytest.raises(SettingsError, match=r"toy.learner.learning_rate is between 0 and 1, not 2"):
        teach(overlay(SETTINGS, {"toy": {"learner": {"learning_rate": 2}}}, "here"), tmp_path, STAGES)
    with pytest.raises(SettingsError, match="toy is not a setting"):
        compose(run, STAGES[:1], "noise", ComposeRequest(1))
    with pytest.raises(RunError, match="has no stage 'toy' yet"):
        (tmp_path / "run.json").write_bytes((run / "run.json").read_bytes())
        compose(tmp_path, STAGES, "toy", ComposeRequest(1))
