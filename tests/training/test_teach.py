import functools
import json
import shutil

import jax
import numpy as np
import pytest

from mammadai_jax import cli, stages
from mammadai_jax.listening import pairs
from mammadai_jax.music import corpus
from mammadai_jax.music.sample import save
from mammadai_jax.stages import STAGES, divided, embedding
from mammadai_jax.training import checkpoints, sealed, teach
from mammadai_jax.training import compose as composing
from mammadai_jax.training import context as contexts
from mammadai_jax.training.checkpoints import CheckpointError, Checkpoints
from mammadai_jax.training.context import context_of
from mammadai_jax.training.live_page import LivePage
from mammadai_jax.training.run import FORMAT, Run, RunError, identity, read
from mammadai_jax.training.settings import SettingsError, as_dict, overlay
from mammadai_jax.training.stage import ComposeRequest
from tests.text import tiny_bert
from tests.training import tiny

COMPOSING = ("noise", "prior", "gail", "theory", "chorales", "polyphony", "prompted", "preference")
LEARNERS = (
    *("prior", "cloning", "gail", "theory", "chorales", "polyphony"),
    *("embedding", "prompted", "reward_model", "preference"),
)


# all that a run leaves, but for checkpoints and the page, which tells the time
LASTING = ("log.jsonl", "run.json", "samples", "comparisons.jsonl", "embedding.json")


def compose(path, stage, seed=7, places=None, **request):
    """One melody."""
    requested = ComposeRequest(1, **request)
    (sample,) = composing.compose(path, STAGES, stage, requested, seed=seed, places=places)
    return sample


def contents(path, *names):
    files = [file for name in names for file in [path / name, *(path / name).rglob("*")] if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(files)}


def rewrite(run, settings):
    """Give a run other settings, as if its files had always belonged to them."""
    sealed.write(run / "run.json", FORMAT, read(run) | {"settings": settings})
    for manifest in run.glob("checkpoints/*/*.json"):
        sealed.write(manifest, checkpoints.FORMAT, json.loads(manifest.read_text()) | {"run": identity(run)})


def test_what_a_run_leaves(taught):
    rows = [json.loads(line) for line in (taught / "log.jsonl").read_text().splitlines()]
    expected = [("prior", 2), ("prior", 4), ("cloning", 2), ("gail", 1), ("gail", 2)]
    expected += [("theory", 1), ("theory", 2), ("theory", 3)]
    expected += [("chorales", 2), ("polyphony", 1), ("embedding", 2), ("prompted", 2)]
    expected += [("reward_model", 2), ("preference", 1), ("preference", 2)]
    assert [(row["stage"], row["update"]) for row in rows] == expected
    assert "held_out_bits" in rows[1]
    assert {"theory", "log_prior", "key", "high_low_unique"} <= set(rows[7])
    assert {"theory", "log_prior", "crossing", "final_tonic"} <= set(rows[9])
    assert {"objective/kl", "objective/scores"} <= set(rows[-1])
    assert {"reward/preference", "reward/adherence", "reward/variety", "reward/claims"} <= set(rows[-1])
    for stage in COMPOSING:
        assert (taught / "samples" / stage / "1.mid").read_bytes()[:4] == b"MThd"
        assert (taught / "samples" / stage / "1.wav").read_bytes()[:4] == b"RIFF"
    page = (taught / "report.html").read_text()
    assert "from noise to preference" in page and "Before and after preference" in page
    for silent in ("Cloning", "Embedding", "Reward model"):  # their curves are in the next chapter
        assert f"<summary>{silent}</summary>" in page
    comparisons = pairs.read(taught / "comparisons.jsonl")
    assert len(comparisons) == 8 and all(one.simulated for one in comparisons)
    assert {one.listener for one in comparisons} <= {f"simulated-panel-{i}" for i in range(3)}
    assert {path.name for path in (taught / "checkpoints").iterdir()} == set(LEARNERS)
    assert not list(taught.rglob("*.part"))


class Killed(Exception):
    pass


def test_interrupted_in_the_last_stage_it_ends_with_the_same_bytes(taught, tmp_path, monkeypatch):
    """A stage without a checkpoint is learned anew before it; those that have one are not learned again."""
    again = tmp_path / "again"
    shutil.copytree(taught, again)
    for later in LEARNERS[LEARNERS.index("reward_model") :]:
        shutil.rmtree(again / "checkpoints" / later)
    monkeypatch.setattr(teach, "dry_run", lambda *_: pytest.fail("it was dry-run before"))
    log = Run.log

    def dying(self, name, at, *given):
        log(self, name, at, *given)
        if (name, at) == ("preference", 2):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", dying)
        patch.setattr(LivePage, "add", lambda *_: None)  # test_live_page.py tests what it shows by then
        with pytest.raises(Killed):
            stages.teach(tiny.ROAD, again, resume=True, save_seconds=0.0)
    assert Checkpoints(again / "checkpoints" / "preference").updates() == [1]
    shutil.rmtree(again / "samples")
    stages.teach(tiny.ROAD, again, resume=True)
    assert contents(again, *LASTING) == contents(taught, *LASTING)


def test_the_last_stage_moves_the_prompted_composer(taught):
    context = context_of(*divided(tiny.ROAD), taught)
    same = jax.tree.map(np.array_equal, context.learned("prompted"), context.learned("preference"))
    assert not all(jax.tree.leaves(same))


def test_checkpoints_of_theory_stay_small(taught):
    assert sum(map(len, contents(taught / "checkpoints", "theory").values())) < 500_000


def test_a_theory_melody_has_eight_bars_or_as_many_as_are_asked_for(taught):
    for bars, steps in ((None, 128), (3, 48)):
        assert len(compose(taught, "theory", bars=bars).melody.events) == steps


def test_composing_twice_gives_the_same_bytes(taught, tmp_path):
    for stage in COMPOSING:
        for name in ("a", "b"):
            save(compose(taught, stage, bars=2), tmp_path / name / stage)
    assert list(contents(tmp_path / "a", ".")) == list(contents(tmp_path / "b", "."))
    assert contents(tmp_path / "a", ".") == contents(tmp_path / "b", ".")
    assert {".mid", ".wav", ".svg"} <= {path.suffix for path in (tmp_path / "a").iterdir()}


def test_what_is_composed_for_a_prompt_depends_on_it(taught):
    def events(prompt, guidance=None, stage="preference"):
        sample = compose(taught, stage, prompt=prompt, guidance=guidance)
        assert sample.title == sample.melody.title == f"{stage.capitalize()} 1: {prompt}"
        assert len(sample.melody.events) == 96
        return sample.melody.events.tolist()

    calm = events("a calm tune in minor")
    assert events("a calm tune in minor") == calm
    assert events("a busy tune with many leaps") != calm
    assert events("a calm tune in minor", 50.0) != calm
    assert events("a calm tune in minor", stage="prompted") is not None


def test_the_command_line_composes_for_a_prompt(taught, tmp_path, capsys):
    for name in ("a", "b"):
        words = ["--prompt", "a calm tune in minor", "--guidance", "2", "--seed", "3", "--melodies", "2"]
        assert cli.main(["compose", str(taught), *words, "--out", str(tmp_path / name)]) == 0
        printed = capsys.readouterr().out.split()
        assert sorted(printed) == sorted(map(str, (tmp_path / name).iterdir()))
    assert contents(tmp_path / "a", ".") == contents(tmp_path / "b", ".")
    made = {path.name for path in (tmp_path / "a").iterdir()}
    names = [f"preference-3-{number}-a-calm-tune-in-minor-guidance2" for number in (1, 2)]
    assert {name + suffix for name in names for suffix in (".mid", ".wav", ".roll.svg")} <= made


def test_composing_with_the_space_of_another_run(taught, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(taught, other)
    (other / "embedding.json").write_text("{}")
    with pytest.raises(ValueError, match=r"embedding\.json has format None, not 1"):
        compose(other, "preference", prompt="a tune")
    shutil.rmtree(other / "checkpoints" / "embedding")
    with pytest.raises(ValueError, match="embedding"):
        compose(other, "preference", prompt="a tune")


@pytest.fixture(scope="module")
def encoded(taught, tmp_path_factory):
    """A run whose prompts a sentence encoder reads and whose composers are told codes, and the encoder."""
    path = tmp_path_factory.mktemp("encoded")
    folder, run = tiny_bert.write(path / "encoder"), path / "run"
    shutil.copytree(taught, run)
    settings = overlay(tiny.ROAD, {"embedding": {"sentence_encoder": str(folder), "rvq_levels": 2}}, "here")
    rewrite(run, as_dict(settings))
    # the composers fit any space of so many dimensions; this one has learned nothing
    own, context = settings.embedding, context_of(*divided(settings), run)
    data = embedding.data(own, context)
    towers = jax.jit(embedding.make_learner(own, context, data).init)()
    shutil.rmtree(run / "checkpoints" / "embedding")
    Checkpoints(run / "checkpoints" / "embedding", run=identity(run)).save(1, towers)
    embedding.STAGE.save(context, data, embedding.learned(own, context, towers.average, data))
    return run, folder


def test_what_a_sentence_encoder_reads_is_composed(encoded, tmp_path):
    run, folder = encoded

    def events(prompt, **moved):
        places = {f"embedding.{name}": place for name, place in moved.items()}
        return compose(run, "preference", places=places, prompt=prompt).melody.events.tolist()

    calm = events("a calm tune in minor")
    assert len(calm) == 96 and events("a busy, busy tune") != calm
    moved = str(shutil.copytree(folder, tmp_path / "copy"))
    assert events("a calm tune in minor", sentence_encoder=moved) == calm


def test_composing_without_the_runs_sentence_encoder_is_one_line(encoded, tmp_path, capsys):
    run, folder = encoded
    other = tiny_bert.write(tmp_path / "other", seed=1)
    argv = ["compose", str(run), "--prompt", "a calm tune"]
    for place, said in (
        (other, "trained with another sentence encoder"),
        (tmp_path, "no sentence encoder in"),
    ):
        assert cli.main([*argv, "--sentences", str(place)]) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("mammadai: ") and said in line and "--sentences FOLDER" in line
    folder.rename(folder.with_name("moved"))
    try:
        assert cli.main(argv) == 2
    finally:
        folder.with_name("moved").rename(folder)
    assert f"no sentence encoder in {folder}: model.safetensors" in capsys.readouterr().err


def test_a_run_goes_on_with_its_own_sentence_encoder_only(encoded, tmp_path):
    run, folder = encoded
    record = read(run)
    (tmp_path / "log.jsonl").write_text("")
    data = {"corpus": "embedded", "melodies": 10, "digest": corpus.embedded().digest, "sentences": "0" * 64}
    sealed.write(tmp_path / "run.json", FORMAT, {**record, "data": data})
    settings = overlay(tiny.ROAD, {"embedding": {"sentence_encoder": str(folder), "rvq_levels": 2}}, "here")
    with pytest.raises(RunError, match=r"begun with data\.sentences = 0+, now it is"):
        stages.teach(settings, tmp_path, resume=True)


def test_a_run_goes_on_with_its_own_ratings_only(taught, tmp_path):
    ratings, out = tmp_path / "ratings.jsonl", tmp_path / "run"
    ratings.write_text('{"prompt": "a tune", "chosen": "14 0 16 0", "rejected": "16 0 14 0"}\n')
    settings = overlay(tiny.ROAD, {"reward_model": {"ratings": str(ratings)}}, "here")
    about = {"corpus": "embedded", "melodies": 10, "digest": corpus.embedded().digest, "ratings": "0" * 64}
    Run(out, {"settings": as_dict(settings), "data": about}).close()
    with pytest.raises(RunError, match=r"begun with data\.ratings = 0+, now it is"):
        stages.teach(settings, out, resume=True)


def test_to_go_on_without_other_options_takes_the_settings_of_the_run(taught):
    settings = as_dict(cli.parse(["teach", "--resume", f"--out={taught}"]).settings)
    assert settings == json.loads((taught / "run.json").read_text())["settings"]
    for argv in (["--preset", "smoke"], ["--no-resume"]):
        assert as_dict(cli.parse(["teach", "--resume", f"--out={taught}", *argv]).settings) != settings


def test_without_a_stage_the_last_that_was_trained_composes(taught, tmp_path):
    (tmp_path / "run.json").write_bytes((taught / "run.json").read_bytes())
    for trained, last in (
        ("prior", "prior"),
        ("theory", "theory"),
        ("cloning", "theory"),
        ("prompted", None),
    ):
        shutil.copytree(taught / "checkpoints" / trained, tmp_path / "checkpoints" / trained)
        assert composing.last_stage(tmp_path, STAGES) == (last or "prompted")
        if last:
            with pytest.raises(RunError, match=f"follows a prompt: go on with .* --out {tmp_path} --resume"):
                composing.last_stage(tmp_path, STAGES, prompted=True)
    assert composing.last_stage(tmp_path, STAGES, prompted=True) == "prompted"
    assert composing.last_stage(taught, STAGES) == "preference"


def test_words_of_a_prompt_that_do_not_count_are_named(taught, capsys):
    compose(taught, "preference", prompt="a tune for kazoo " + "tune " * 45, bars=1)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("of the prompt")]
    assert "not understood: " in line and "kazoo" in line and "past the length that is read: tune" in line
    known = json.loads((taught / "embedding.json").read_text())["words"]
    compose(taught, "preference", prompt=" ".join(sorted(known, key=len)[-3:]), bars=1)
    assert "of the prompt" not in capsys.readouterr().err


def test_composing_from_what_is_not_there(taught, tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        compose(tmp_path, "gail")
    (tmp_path / "run.json").write_bytes((taught / "run.json").read_bytes())
    with pytest.raises(RunError, match=r"has no stage 'gail' yet.*--resume"):
        compose(tmp_path, "gail")
    (tmp_path / "checkpoints" / "gail").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"holds no finished checkpoint.*--resume"):
        compose(tmp_path, "gail")


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
    sealed.write(tmp_path / "run.json", FORMAT, settings)
    (tmp_path / "checkpoints" / "prior").mkdir(parents=True)
    with pytest.raises(ValueError) as caught:
        compose(tmp_path, "prior")
    assert said in str(caught.value)


def test_composing_from_another_configuration_than_the_checkpoint(taught, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(taught, other)
    settings = read(other)["settings"]
    settings["prior"]["learner"]["width"] = 12
    rewrite(other, settings)
    with pytest.raises(CheckpointError, match="another configuration"):
        compose(other, "prior")


@pytest.mark.parametrize(
    "name", ["theory.length", "seed", "prior.learner.width", "theory.learner.rule_weights.key"]
)
def test_a_record_without_a_setting_is_refused(taught, tmp_path, name):
    settings = read(taught)["settings"]
    *groups, last = name.split(".")
    del functools.reduce(dict.__getitem__, groups, settings)[last]
    sealed.write(tmp_path / "run.json", FORMAT, {"settings": settings})
    with pytest.raises(RunError, match=rf"lacks the setting {name}: the run is of another version"):
        compose(tmp_path, "theory")


def test_settings_that_do_not_fit_are_refused_before_anything_is_learned(tmp_path):
    wrong = overlay(tiny.ROAD, {"gail": {"learner": {"ppo": {"num_minibatches": 7}}}}, "wrong")
    with pytest.raises(ValueError, match="7 minibatches"):
        stages.teach(wrong, tmp_path / "run")
    assert not (tmp_path / "run" / "log.jsonl").exists()
    wrong = overlay(tiny.ROAD, {"reward_model": {"ratings": str(tmp_path / "none.jsonl")}}, "wrong")
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        stages.teach(wrong, tmp_path / "rated")
    assert not (tmp_path / "rated").exists()
    with pytest.raises(SettingsError, match="seed is between"):
        stages.teach(overlay(tiny.ROAD, {"seed": -1}, "wrong"), tmp_path / "run")


def test_without_music21_the_embedded_tunes_are_used(monkeypatch, capsys):
    def missing(**_):
        raise corpus.CorpusMissing("music21 is missing; pip install it")

    monkeypatch.setattr(corpus, "folk", missing)
    assert contexts.load_corpus("folk").name == "embedded"
    assert "music21 is missing" in capsys.readouterr().err
