import dataclasses
import sqlite3
import threading

import pytest

from mammadai_jax.listening.study import Answer, Heard, Refused, Study, StudyError, StudySettings, clip_of
from mammadai_jax.listening.study.store import remove_unused
from tests.listening.study.conftest import QUICK, filled, sample

BOTH = [Heard("a", 0, 1), Heard("b", 0, 1)]


def answer_all(study, rater, choice="a"):
    """Answer until nothing is left -> the trials."""
    trials = []
    while trial := study.next_trial(rater):
        study.answer(rater, Answer(trial.nonce, choice), BOTH)
        trials.append(trial)
    return trials


def test_a_study_holds_what_was_put_into_it(study, clips):
    rater = study.invite("ann", quota=10)
    assert len(answer_all(study, rater)) == 3
    comparisons = study.comparisons()
    assert {one.prompt for one in comparisons} == {"tune 0", "tune 1", "tune 2"}
    for one in comparisons:
        index = int(one.prompt[-1])
        assert (one.a, one.b) == (clips[index].tokens, clips[index + 3].tokens)
        assert (one.system_a, one.system_b, one.listener, one.simulated) == ("new", "old", "ann", False)
        # what is called A on the page was chosen, and heard first
        assert one.choice == one.shown_left == one.played_first
        assert one.seconds_a == one.seconds_b == 1 and one.timestamp and 0 < one.propensity <= 1
    with Study(study.folder) as again:
        assert again.comparisons() == comparisons and again.settings == QUICK
        assert again.rater(rater.token) == rater and again.rater("another") is None


def test_the_sides_are_balanced_within_pairs_and_raters(study):
    raters = [study.invite() for _ in range(8)]
    for rater in raters:
        answer_all(study, rater)
    left = [(one.prompt, one.shown_left) for one in study.comparisons()]
    for index in range(3):
        assert left.count((f"tune {index}", "a")) == left.count((f"tune {index}", "b")) == 4


def test_a_trial_stays_until_it_is_answered_and_an_answer_sent_twice_is_one(study):
    rater = study.invite()
    trial = study.next_trial(rater)
    assert study.next_trial(rater) == trial
    assert study.answer(rater, Answer(trial.nonce, "b", 2), BOTH) == 1
    assert study.answer(rater, Answer(trial.nonce, "b", 2), BOTH) == 1
    with pytest.raises(Refused, match="answered already"):
        study.answer(rater, Answer(trial.nonce, "a"))
    assert study.count("answers") == 1 and study.comparisons()[0].extra["strength"] == 2
    assert study.next_trial(rater).nonce != trial.nonce


@pytest.mark.parametrize("nonce", ["", "guessed", "' OR 1 --"])
def test_a_nonce_that_was_not_given_is_refused(study, nonce):
    rater, other = study.invite(), study.invite()
    trial = study.next_trial(other)
    for forged in (nonce, trial.nonce):
        with pytest.raises(Refused, match="not given to you"):
            study.answer(rater, Answer(forged, "a"), BOTH)
    assert study.count("answers") == 0


def test_undo_asks_again_and_keeps_the_last_answer_only(study):
    rater = study.invite()
    assert not study.undo(rater)
    first = study.next_trial(rater)
    study.answer(rater, Answer(first.nonce, "a"), BOTH)
    waiting = study.next_trial(rater)
    assert study.undo(rater) and study.answered(rater) == 0
    again = study.next_trial(rater)
    assert again.nonce not in (first.nonce, waiting.nonce) and again.a.clip == first.a.clip
    study.answer(rater, Answer(again.nonce, "tie"), BOTH)
    assert [one.choice for one in study.comparisons()] == ["tie"]
    assert study.next_trial(rater).nonce == waiting.nonce


def test_quotas_end_and_are_extended(study):
    rater = study.invite(quota=2)
    assert len(answer_all(study, rater)) == 2
    rater = study.extend(rater, 5)
    assert study.next_trial(rater).quota == 7
    with pytest.raises(StudyError, match="a quota is 1 to"):
        study.invite(quota=0)


def test_pairs_are_shared_out_before_they_are_repeated(tmp_path, clips):
    with filled(tmp_path / "study", clips) as study:
        trials = [study.next_trial(study.invite()) for _ in range(3)]
        assert {trial.prompt for trial in trials} == {"tune 0", "tune 1", "tune 2"}


def test_what_was_not_heard_is_not_answered(tmp_path, clips):
    with filled(tmp_path / "study", clips, dataclasses.replace(QUICK, minimum_seconds=2)) as study:
        rater = study.invite()
        trial = study.next_trial(rater)
        with pytest.raises(Refused, match="listen to at least 2 seconds of each"):
            study.answer(rater, Answer(trial.nonce, "a"), [Heard("a", 0, 2)])
        with pytest.raises(Refused, match="more was heard than time has passed"):
            study.played(rater, trial.nonce, [Heard("a", 0, 60)])
        study.played(rater, trial.nonce, [Heard("a", 0, 1.2)])
        assert study.next_trial(rater).a.played == 1.2
        assert study.count("answers") == 0


def test_a_clip_is_kept_once_and_its_sound_by_its_digest(study, clips):
    assert study.audio(clips[0].audio) == clips[0].wav
    for name in ("../study.db", "0" * 64, clips[0].audio.upper(), ""):
        assert study.audio(name) is None
    assert study.add("tune 0", clips[0], clips[3]) == 1  # as before
    path = study.folder / "audio" / f"{clips[0].audio}.wav"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StudyError, match="was damaged"):
        study.audio(clips[0].audio)
    (path.parent / f"{'1' * 64}.wav").write_bytes(b"left by an interrupted process")
    assert remove_unused(study) == 1 and path.exists()


def test_clips_of_very_different_length_are_refused(study, clips):
    long = clip_of(sample(60, bars=20), sheet=False)
    with pytest.raises(StudyError, match="64 and 320 steps cannot be compared"):
        study.add("", clips[0], long)


def test_threads_answer_at_once(tmp_path, clips):
    with filled(tmp_path / "study", clips) as study:
        raters = [study.invite() for _ in range(8)]
        threads = [threading.Thread(target=answer_all, args=(study, rater)) for rater in raters]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert study.count("answers") == 24
        assert len({(one.listener, one.prompt) for one in study.comparisons()}) == 24


def test_what_is_no_study_is_refused_in_one_line(tmp_path, study):
    with pytest.raises(StudyError, match="there is no study in"):
        Study(tmp_path / "nowhere")
    with pytest.raises(StudyError, match="holds a study already"):
        Study.create(study.folder)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "study.db").write_bytes(b"no database" * 100)
    with pytest.raises(StudyError, match="is no study, or is damaged"):
        Study(tmp_path / "damaged")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "study.db").symlink_to(study.folder / "study.db")
    with pytest.raises(StudyError, match="there is no study in"):
        Study(tmp_path / "link")
    study.database.execute("UPDATE about SET value = '99' WHERE name = 'format'")
    with pytest.raises(StudyError, match="another version, format 99"):
        Study(study.folder)


def test_the_file_is_private_and_every_commit_is_on_the_disk(study):
    assert (study.folder / "study.db").stat().st_mode & 0o077 == 0
    assert (
        study.database.value("PRAGMA journal_mode") == "wal"
        and study.database.value("PRAGMA synchronous") == 2
    )
    with pytest.raises(sqlite3.IntegrityError), study.database.transaction() as database:
        database.insert("raters", token="x", name="", quota=1, simulated=0, created="")
        database.insert("raters", token="x", name="", quota=1, simulated=0, created="")
    assert study.count("raters") == 0


@pytest.mark.parametrize(
    "wrong", [{"overlap": 0}, {"catch_every": 1}, {"random_share": 0}, {"minimum_seconds": -1}], ids=str
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(StudyError, match=next(iter(wrong))):
        StudySettings(**wrong)
