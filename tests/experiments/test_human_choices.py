import json
from pathlib import Path

import numpy as np
import pytest

from experiments import human_choices
from experiments.human_choices import HumanDataError
from mammadai_jax.music import midi, smf
from mammadai_jax.music.notes import Melody, events_from_notes

HUMAN = Path(__file__).parents[3] / "shared" / "human"
NUMBERS = {"id": (1, 9), "rating": (0, 5)}


def test_means_are_ordered_without_ties():
    pairs = human_choices.ordered(np.array([2.0, 3.0, 2.0]))
    assert list(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)) == [(1, 0), (1, 2)]
    assert pairs.weight.tolist() == [1, 1]


def test_one_listeners_order_weighs_by_the_share_of_ratings():
    pairs = human_choices.one_listener([[3, 5], [4], [1, 1, 1]])
    weights = {(a, b): w for a, b, w in zip(*(x.tolist() for x in pairs[:3]), strict=True)}
    assert weights == {(0, 1): 0.5, (1, 0): 0.5, (0, 2): 1, (1, 2): 1}


def test_a_table_is_read_by_its_columns(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffrating,other,id\r\n4.5,x,1\r\n3,,2\r\n", encoding="utf-8")
    rows = human_choices.table(tmp_path / "a.csv", {**NUMBERS, "other": None})
    assert rows == [{"id": 1, "rating": 4.5, "other": "x"}, {"id": 2, "rating": 3, "other": ""}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\n1\n", r"a\.csv has no column rating"),
        ("id,rating\n", r"a\.csv has no rows"),
        ("", r"a\.csv has no column id, rating"),
        ("id,rating\n1,4\n2,good\n", r"a\.csv, line 3: rating should be a number from 0 to 5, got 'good'"),
        ("id,rating\n1,nan\n", r"line 2: rating"),
        ("id,rating\n10,1\n", r"line 2: id should be a number from 1 to 9"),
        ("id,rating\n1\n", r"line 2: rating"),
    ],
)
def test_a_damaged_table_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(HumanDataError, match=message):
        human_choices.table(tmp_path / "a.csv", NUMBERS)


def test_a_missing_folder_or_file_is_named(tmp_path):
    with pytest.raises(HumanDataError, match="none of the folders survey104, aimgef"):
        human_choices.read(tmp_path)
    (tmp_path / "aimgef").mkdir()
    with pytest.raises(HumanDataError, match=r"ratings\.csv is missing"):
        human_choices.read(tmp_path)


def chorales(folder):
    """Two melodies on each of two bases; the real one is rated higher, and one has a fifth leap more."""
    (folder / "midi").mkdir(parents=True)
    lines = ["id,system,base,mean_rating"]
    for base in (1, 2):
        for system, rating in (("original", 6 + base / 4), ("A", 2 + base / 4)):
            name = f"{system}{base}"
            pitches = [60, 62, 64, 65, 67, 65, 64, 62, 60] if system == "original" else [60, 71, 61] * 3
            notes = [(4 * place, 4, pitch) for place, pitch in enumerate(pitches)]
            midi.write(folder / "midi" / f"{name}.mid", Melody(events_from_notes(notes), title=name))
            lines.append(f"{name},{system},{base},{rating}")
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")


def test_chorales_are_compared_by_their_means_within_and_between_bases(tmp_path):
    chorales(tmp_path / "chorale28")
    (study,) = human_choices.read(tmp_path)
    assert {name: len(pairs.a) for name, pairs in study.pairs.items()} == {
        "all": 6,
        "one base": 2,
        "without the real ones": 1,
    }
    assert study.group.tolist() == [0, 0, 1, 1] and len(study.melodies[0]) == 36
    assert [melody.title for melody in human_choices.tunes([study])] == ["original1", "original2"]


def survey(folder, answers):
    (folder / "midi").mkdir(parents=True)
    for song in range(1, 105):
        events = [event for n in range(4) for event in smf.note(n * 120, n * 120 + 120, 60 + n, 0, 64)]
        (folder / "midi" / f"{song:03}.mid").write_bytes(smf.dump(500, [events]))
    (folder / "answers.csv").write_text("rater,song,rating\n" + answers)


def test_a_raters_own_ratings_are_compared_and_nobody_elses(tmp_path):
    survey(tmp_path / "survey104", "1,25,5\n1,26,2\n1,77,-1\n1,1,2\n2,77,0\n2,78,3\n2,25,0\n3,1,4\n")
    (study,) = human_choices.read(tmp_path)
    every = study.pairs["all"]
    assert set(zip(every.a.tolist(), every.b.tolist(), strict=True)) == {
        (24, 25),
        (24, 0),
        (77, 76),
        (77, 24),
    }
    assert study.pairs["all, each rater alike"].weight.tolist() == [0.5] * 4
    assert len(study.pairs["one instrument"].a) == 3
    assert len(study.pairs["one instrument, human"].a) == len(study.pairs["one instrument, computer"].a) == 1


def test_doodles_are_compared_where_one_was_written_twice_as_often(tmp_path):
    folder = tmp_path / "bachdoodle"
    folder.mkdir()
    notes = [[60 + n % 5, 2 * n, 2 * n + 2] for n in range(10)]
    rows = [
        {"notes": notes, "all": [100, 120]},
        {"notes": notes, "all": [60, 80]},
        {"notes": notes, "all": [30, 40]},
        {"notes": notes[:5], "all": [500, 600]},  # too short
        {"notes": notes, "all": [900, 900], "name": "a known tune"},
        {"notes": notes, "all": None},
    ]
    path = folder / "melodies.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    (study,) = human_choices.read(tmp_path)
    pairs = study.pairs["all"]
    assert list(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)) == [(0, 2), (1, 2)]
    assert {len(melody) for melody in study.melodies} == {32}
    for damaged in ('{"notes": [[60, 5, 4]], "all": [1, 2]}', "[1]", '{"notes": 3}', "{"):
        path.write_text(json.dumps(rows[0]) + "\n" + damaged)
        with pytest.raises(HumanDataError, match="line 2: not a melody"):
            human_choices.read(tmp_path)


@pytest.mark.nightly
@pytest.mark.skipif(not HUMAN.is_dir(), reason="people's choices are not part of the project")
def test_the_real_sets_have_the_pairs_that_were_counted_before():
    counts = {
        study.name: {name: len(pairs.a) for name, pairs in study.pairs.items()}
        for study in human_choices.read(HUMAN)
    }
    assert counts["survey104"]["all"] == 8832 and counts["survey104"]["one instrument"] == 2430
    assert counts["chorale28"] == {"all": 376, "one base": 42, "without the real ones": 208}
    assert counts["bachdoodle"]["all"] == 80_409
    assert counts["aimgef CSQ ap"]["order of means"] == 10_982
