import dataclasses
import shutil

import numpy as np
import pytest

from mammadai_jax.listening.study import Answer, StudyError, StudySettings
from mammadai_jax.listening.study import rounds as learning
from mammadai_jax.music import midi
from mammadai_jax.music.notes import Melody
from mammadai_jax.stages import rating, reward_model
from mammadai_jax.stages.rating_rounds import Rounds, RoundSettings, check_learnable, learning_process, run_of
from mammadai_jax.training.settings import overlay
from tests.training.tiny import ROAD

QUICK = StudySettings(minimum_seconds=0, catch_every=0, overlap=1)


def write(folder, name, *pitches, voices=1):
    folder.mkdir(exist_ok=True)
    events = np.full(64, -2, np.int16)
    events[::4] = np.resize(pitches, 16)
    midi.write(folder / f"{name}.mid", Melody(events, tempo=240.0, title=f"made by {folder.name}"))


@pytest.fixture
def folders(tmp_path):
    for number in range(3):
        write(tmp_path / "one", f"t{number}", 60, 64 + number)
        write(tmp_path / "two", f"t{number}", 72, 67 - number)
    write(tmp_path / "two", "alone", 72)
    return [tmp_path / "one", tmp_path / "two"]


def answer_all(study, rater):
    """Whoever has the fewer notes is better."""
    count = 0
    while trial := study.next_trial(rater):
        a, b = (len(side.roll["notes"]) for side in (trial.a, trial.b))
        study.answer(rater, Answer(trial.nonce, "a" if a < b else "b"))
        count += 1
    return count


def test_files_of_two_folders_are_paired_by_name(folders, tmp_path):
    with rating.make_study(folders, tmp_path / "study", rating.Making(settings=QUICK)) as study:
        assert study.count("pairs") == 3 and answer_all(study, study.invite()) == 3
        for one in study.comparisons():
            assert (one.system_a, one.system_b) == ("one", "two") and one.a[0] < one.b[0]
        midis = [row["midi"] for row in study.database.rows("SELECT midi FROM clips")]
        assert not any(b"made by" in data for data in midis)


def test_files_with_other_names_are_paired_at_random(folders, tmp_path):
    write(tmp_path / "three", "x", 60)
    sources = [folders[0], tmp_path / "three"]
    with rating.make_study(sources, tmp_path / "study", rating.Making(settings=QUICK)) as study:
        assert study.count("pairs") == 1


def test_catch_pairs_are_made_of_the_music(folders, tmp_path):
    settings = dataclasses.replace(QUICK, catch_every=4)
    with rating.make_study(folders, tmp_path / "study", rating.Making(pairs=1, settings=settings)) as study:
        kinds = [row["catch"] for row in study.database.rows("SELECT catch FROM pairs")]
        assert sorted(kinds)[:2] == ["", "identical"] and "wrong_notes" in kinds


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["nowhere"], "there is no folder"),
        (["one"], "is neither a run nor a study"),
        (["one", "two", "one"], "give a run, two runs"),
        ([], "give a run, two runs"),
        (["one", "empty"], "no MIDI file in"),
        (["one", "run"], "cannot be compared"),
    ],
    ids=str,
)
def test_sources_that_are_no_music_are_refused(folders, tmp_path, names, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(StudyError, match=said):
        rating.make_study([tmp_path / name for name in names], tmp_path / "study", rating.Making())
    assert not (tmp_path / "study").exists()


def test_numbers_out_of_range_are_refused():
    for wrong in ({"pairs": 0}, {"seed": -1}):
        with pytest.raises(StudyError):
            rating.Making(**wrong)


@pytest.fixture(scope="module")
def rated(taught, tmp_path_factory):
    """A copy of the run, with a study of its agent against its base, of two pairs that were answered."""
    path = tmp_path_factory.mktemp("rated") / "run"
    shutil.copytree(taught, path)
    study = rating.make_study([path], path / "study", rating.Making(pairs=2, settings=QUICK))
    rater = study.invite(quota=100)
    assert answer_all(study, rater) == 2
    return path, study, rater


def test_a_run_is_compared_with_its_base_by_prompts(rated):
    _, study, _ = rated
    for one in study.comparisons():
        assert (one.system_a, one.system_b) == ("agent 0", "base") and one.prompt
        assert len(one.a) == len(one.b) == ROAD.embedding.length


def test_a_study_takes_the_place_of_a_file_of_ratings(rated):
    path, study, _ = rated
    settings = overlay(ROAD, {"reward_model": {"ratings": str(path / "study")}}, "here").reward_model
    assert reward_model.read_comparisons(path / "study", prompted=True) == study.comparisons()
    (digest,) = reward_model.files(settings).values()
    assert digest == reward_model.files(settings)["ratings"] and len(digest) == 64


def test_a_study_without_prompts_cannot_train_a_run(folders, tmp_path):
    with rating.make_study(folders, tmp_path / "study", rating.Making(settings=QUICK)) as study:
        answer_all(study, study.invite())
    with pytest.raises(ValueError, match="pairs without a prompt"):
        reward_model.read_comparisons(tmp_path / "study", prompted=True)


def test_a_round_learns_from_the_answers_and_asks_about_the_new_agent(rated):
    path, study, rater = rated
    learning.enable(study, 2, str(path))
    assert learning.is_due(study)
    quick = RoundSettings(updates=1, num_envs=4, replayed=4, pairs=2, pool=2, epochs=0.1)
    made = Rounds(path, study, quick)
    before = made.state.params["policy"]
    report = made.make()
    assert report["round"] == 1 and 0 <= report["accuracy"] <= 1 and np.isfinite(report["kl"])
    changed = [
        not np.array_equal(x, y)
        for x, y in zip(*map(leaves, (before, made.state.params["policy"])), strict=True)
    ]
    assert any(changed)
    assert not learning.is_due(study) and learning.learning_of(study)["state"] == "waiting"
    assert answer_all(study, rater) == 2
    newest = study.comparisons()[-2:]
    assert {one.system_a for one in newest} == {"agent 1"} and {one.extra["round"] for one in newest} == {1}
    agents = learning.learning_of(study)["agents"]
    assert [agent["number"] for agent in agents] == [0, 1]
    assert all(agent["wins"] + agent["losses"] + agent["ties"] == 2 for agent in agents)
    again = Rounds(path, study, quick)  # as after an interruption
    for x, y in zip(leaves(made.state), leaves(again.state), strict=True):
        np.testing.assert_array_equal(x, y)


def leaves(tree):
    import jax

    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in jax.tree.leaves(tree)]


def test_what_cannot_learn_is_refused(tmp_path, folders):
    with pytest.raises(StudyError, match="is no run"):
        check_learnable(folders[0])
    with rating.make_study(folders, tmp_path / "study", rating.Making(settings=QUICK)) as study:
        assert learning.learning_of(study) is None
        assert run_of(study, folders) == tmp_path.resolve()
        with pytest.raises(StudyError, match="is no run"), learning_process(study, folders, 20):
            pass
