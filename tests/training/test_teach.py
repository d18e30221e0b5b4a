import json
import shutil

import pytest

from mammadai_jax.music import corpus
from mammadai_jax.training import teach
from mammadai_jax.training.checkpoints import CheckpointError
from mammadai_jax.training.run import Run, RunError
from mammadai_jax.training.settings import SettingsError, overlay, preset

TINY = overlay(
    preset("smoke"),
    {
        "samples": 1,
        "judged": 2,
        "prior": {"chunk": 2, "learner": {"width": 8, "batch": 2, "window": 16, "updates": 4, "warmup": 1}},
        "imitation": {
            "updates": 2,
            "chunk": 1,
            "warm_start": 100,
            "learner": {"policy": {"melodies": 2, "epochs": 1}},
        },
        "theory": {
            "updates": 3,
            "chunk": 1,
            "length": 16,
            "learner": {"melodies": 2, "minibatches": 1, "batch": 2, "capacity": 4},
        },
    },
    "tiny",
)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    out = tmp_path_factory.mktemp("taught") / "run"
    assert teach.teach(TINY, out) == out / "report.html"
    return out


def contents(path, *names):
    files = [file for name in names for file in [path / name, *(path / name).rglob("*")] if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(files)}


def test_what_a_run_leaves(taught):
    rows = [json.loads(line) for line in (taught / "log.jsonl").read_text().splitlines()]
    expected = [("prior", 2), ("prior", 4), ("cloning", 100), ("gail", 1), ("gail", 2)]
    expected += [("theory", 1), ("theory", 2), ("theory", 3)]
    assert [(row["stage"], row["update"]) for row in rows] == expected
    assert "held_out_bits" in rows[1]
    assert {"theory", "log_prior", "key", "high_low_unique"} <= set(rows[-1])
    for stage in ("noise", "prior", "gail", "theory"):
        assert (taught / "samples" / stage / "1.mid").read_bytes()[:4] == b"MThd"
        assert (taught / "samples" / stage / "1.wav").read_bytes()[:4] == b"RIFF"
    assert b"<html" in (taught / "report.html").read_bytes()
    assert not list(taught.rglob("*.part"))


def test_resuming_what_is_finished_changes_nothing(taught, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(taught, again)
    teach.teach(TINY, again, resume=True)
    names = ("log.jsonl", "run.json", "samples")
    assert contents(again, *names) == contents(taught, *names)


class Killed(Exception):
    pass


def test_interrupted_in_the_last_stage_it_ends_with_the_same_bytes(taught, tmp_path, monkeypatch):
    again = tmp_path / "again"
    shutil.copytree(taught, again)
    shutil.rmtree(again / "checkpoints" / "theory")
    log = Run.log

    def dying(self, stage, update, *given):
        log(self, stage, update, *given)
        if (stage, update) == ("theory", 2):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", dying)
        with pytest.raises(Killed):
            teach.teach(TINY, again, resume=True, save_seconds=0.0)
    assert (again / "checkpoints" / "theory" / "000000001").exists()
    shutil.rmtree(again / "samples")
    teach.teach(TINY, again, resume=True)
    names = ("log.jsonl", "run.json", "samples")
    assert contents(again, *names) == contents(taught, *names)


def test_checkpoints_of_theory_stay_small(taught):
    assert sum(map(len, contents(taught / "checkpoints", "theory").values())) < 500_000


def test_without_bars_a_theory_piece_is_as_long_as_those_that_were_learned(taught):
    for bars, steps in ((None, 16), (3, 48)):
        (sample,) = teach.compose(taught, "theory", 7, 1, bars, 1.0)
        assert len(sample.melody.events) == steps


def test_composing_twice_gives_the_same_bytes(taught, tmp_path):
    for stage in ("noise", "prior", "gail", "theory"):
        for name in ("a", "b"):
            (sample,) = teach.compose(taught, stage, 7, 1, 2, 1.0)
            teach.save(sample, tmp_path / name / stage)
    assert list(contents(tmp_path / "a", ".")) == list(contents(tmp_path / "b", "."))
    assert contents(tmp_path / "a", ".") == contents(tmp_path / "b", ".")
    assert {".mid", ".wav", ".svg"} <= {path.suffix for path in (tmp_path / "a").iterdir()}


def test_composing_from_what_is_not_there(taught, tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        teach.compose(tmp_path, "gail", 0, 1, 2, 1.0)
    (tmp_path / "run.json").write_bytes((taught / "run.json").read_bytes())
    with pytest.raises(RunError, match=r"has no stage 'gail' yet.*--resume"):
        teach.compose(tmp_path, "gail", 0, 1, 2, 1.0)
    (tmp_path / "checkpoints" / "gail").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="holds no finished checkpoint"):
        teach.compose(tmp_path, "gail", 0, 1, 2, 1.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "settings is a table of settings, not None"),
        ({"settings": 5}, "settings is a table of settings, not 5"),
        ({"settings": {"seed": "x"}}, "settings: seed asks for int"),
        ({"settings": {"prior": {"learner": {"width": 0}}}}, "prior.learner.width is between 1"),
        ({"settings": {"nonsense": 1}}, "nonsense is not a setting"),
    ],
)
def test_composing_from_a_hostile_record(tmp_path, settings, said):
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, **settings}))
    (tmp_path / "checkpoints" / "prior").mkdir(parents=True)
    with pytest.raises(ValueError) as caught:
        teach.compose(tmp_path, "prior", 0, 1, 2, 1.0)
    assert said in str(caught.value)


def test_composing_from_another_configuration_than_the_checkpoint(taught, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(taught, other)
    record = json.loads((other / "run.json").read_text())
    record["settings"]["prior"]["learner"]["width"] = 12
    (other / "run.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="another configuration"):
        teach.compose(other, "prior", 0, 1, 2, 1.0)


def test_settings_that_do_not_fit_are_refused_before_anything_is_learned(tmp_path):
    wrong = overlay(TINY, {"imitation": {"learner": {"policy": {"minibatches": 7}}}}, "wrong")
    with pytest.raises(ValueError, match="7 minibatches"):
        teach.teach(wrong, tmp_path / "run")
    assert not (tmp_path / "run" / "log.jsonl").exists()
    with pytest.raises(SettingsError, match="seed is between"):
        teach.teach(overlay(TINY, {"seed": -1}, "wrong"), tmp_path / "run")


def test_without_music21_the_embedded_tunes_are_used(monkeypatch, capsys):
    def missing(**_):
        raise corpus.CorpusMissing("music21 is missing; pip install it")

    monkeypatch.setattr(corpus, "folk", missing)
    assert teach.load_corpus("folk").name == "embedded"
    assert "music21 is missing" in capsys.readouterr().err
