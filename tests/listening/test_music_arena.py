import json

import numpy as np
import pytest

from mammadai_jax.listening import music_arena, pairs
from mammadai_jax.listening.comparison import CHOICES, SIDES, Comparison, PairsError


def drawn(random):
    """A comparison with everything that one can hold."""
    text = lambda: "".join(random.choice(list('aé\n"<>&{}\\ \u2028😀0'), size=random.integers(12)))
    seconds = lambda: None if random.integers(2) else float(random.uniform(0, 60))
    length = random.integers(1, 20)
    return Comparison(
        prompt=text(),
        a=tuple(random.integers(38, size=length).tolist()),
        b=tuple(random.integers(38, size=length).tolist()),
        choice=str(random.choice(CHOICES)),
        simulated=bool(random.integers(2)),
        system_a=text(),
        system_b=text(),
        listener=text(),
        shown_left=str(random.choice(SIDES)),
        played_first=str(random.choice(SIDES)),
        seconds_a=seconds(),
        seconds_b=seconds(),
        propensity=None if random.integers(2) else float(random.uniform(0.01, 1)),
        timestamp=""
        if random.integers(2)
        else f"2026-01-{random.integers(10, 28)}T12:00:00.{random.integers(100, 999)}+00:00",
        extra={"n": int(random.integers(9)), "list": [text(), None, True]} if random.integers(2) else {},
    )


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_records_survive_both_formats(tmp_path, count):
    random = np.random.default_rng(0)
    made = [drawn(random) for _ in range(count)]
    music_arena.write(tmp_path / "battles.jsonl", made)
    assert music_arena.read(tmp_path / "battles.jsonl") == made
    pairs.write(tmp_path / "trl.jsonl", made)
    assert pairs.read(tmp_path / "trl.jsonl") == made


def test_a_battle_has_music_arenas_fields(random):
    battle = music_arena.to_battle(drawn(random))
    assert battle["vote"]["preference"] in ("A", "B", "TIE", "BOTH_BAD")
    names = {
        "uuid",
        "gateway_git_hash",
        "prompt",
        "prompt_detailed",
        "prompt_user",
        "prompt_session",
        "timings",
    }
    names |= {f"{side}_{what}" for side in "ab" for what in ("audio_url", "metadata")}
    assert set(battle) == names | {"prompt_prebaked", "prompt_routed", "vote", "vote_user", "vote_session"}
    assert json.loads(json.dumps(battle, allow_nan=False)) == battle


def test_a_battle_from_elsewhere_is_read_with_its_events():
    side = lambda lyrics, name: {"lyrics": lyrics, "system_key": {"system_tag": name, "variant_tag": "1"}}
    vote = {
        "preference": "B",
        "preference_time": 1.7e9,
        "a_listen_data": [["PLAY", 10.0], ["TICK", 11.0], ["PAUSE", 14.0]],
        "b_listen_data": [["PLAY", 5.0], ["STOP", 8.0], ["PAUSE", 9.0]],
        "feedback": "nice",
    }
    battle = {
        "prompt": None,
        "prompt_detailed": {"prompt": "a waltz"},
        "a_metadata": side("14 0 16", "one"),
        "b_metadata": side("16 0 14", "two"),
        "vote": vote,
        "vote_user": {"salted_ip": "x"},
    }
    one = music_arena.from_battle(battle)
    assert (one.choice, one.prompt, one.system_a, one.system_b, one.listener) == (
        "b",
        "a waltz",
        "one",
        "two",
        "x",
    )
    assert (one.seconds_a, one.seconds_b, one.played_first, one.simulated) == (4.0, 3.0, "b", False)
    assert one.extra == {"feedback": "nice"} and one.timestamp.startswith("2023-11-14")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: the line is not JSON"),
        ("3", "no vote on two melodies"),
        ('{"vote": null}', "no vote on two melodies"),
        ('{"vote": {"preference": "C"}, "a_metadata": {}, "b_metadata": {}}', "no vote on two melodies"),
    ],
)
def test_lines_that_are_no_battle_are_refused_with_their_number(tmp_path, random, line, said):
    path = tmp_path / "battles.jsonl"
    music_arena.write(path, [drawn(random)])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(PairsError, match=said):
        music_arena.read(path)
