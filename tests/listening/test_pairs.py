"""Comparisons and their files: what is written is read again, and hostile files get one clear error."""

import json

import numpy as np
import pytest

from mammadai_jax.listening.comparison import CHOICES, Comparison, PairsError
from mammadai_jax.listening.pairs import read, to_arrays, write

PLAIN = {"prompt": "calm", "chosen": "14 0 0 0", "rejected": "16 0 1 0"}
FULL = PLAIN | {"a": "14 0 0 0", "b": "16 0 1 0", "choice": "a", "simulated": True}


def comparison(**fields):
    return Comparison(
        **({"prompt": "calm", "a": (14, 0), "b": (16, 1), "choice": "a", "simulated": True} | fields)
    )


def any_comparison(random):
    """One with everything at random."""
    text = lambda: "".join(random.choice(list("ab \n\"'\\{}é漢\u2028\0🎵"), random.integers(0, 9)))
    length = int(random.integers(1, 40))
    melody = lambda: tuple(random.integers(0, 38, random.integers(length, 2 * length + 1)).tolist())
    number = lambda high: None if random.uniform() < 0.5 else float(random.uniform(1e-9, high))
    side = lambda: str(random.choice(["", "a", "b"]))
    return Comparison(
        prompt=text(),
        a=melody(),
        b=melody(),
        choice=str(random.choice(CHOICES)),
        simulated=bool(random.integers(2)),
        system_a=text(),
        system_b=text(),
        listener=text(),
        shown_left=side(),
        played_first=side(),
        seconds_a=number(100),
        seconds_b=number(100),
        propensity=number(1),
        timestamp=str(random.choice(["", "2026-01-31T12:00:00+00:00"])),
        extra={text(): [None, text(), {"x": number(5)}]},
    )


def test_what_is_written_is_read(random, tmp_path):
    path = tmp_path / "new" / "pairs.jsonl"
    written = [any_comparison(random) for _ in range(300)]
    write(path, written[:100])
    write(path, [])
    write(path, written[100:])
    assert read(path) == written


def test_lines_have_the_schema_of_trl(random, tmp_path):
    write(tmp_path / "p", [comparison(choice=choice) for choice in CHOICES])
    lines = [json.loads(line) for line in (tmp_path / "p").read_text().splitlines()]
    assert [(line["chosen"], line["rejected"]) for line in lines] == [
        ("14 0", "16 1"),
        ("16 1", "14 0"),
        (None, None),
        (None, None),
    ]
    assert all(line["prompt"] == "calm" and (line["a"], line["b"]) == ("14 0", "16 1") for line in lines)


def test_plain_files_of_trl_are_read(tmp_path):
    path = tmp_path / "p"
    path.write_text("\ufeff" + json.dumps(PLAIN | {"score": 0.5}) + "\r\n\r\n" + json.dumps(PLAIN))
    first, second = read(path)
    assert (first.a, first.b, first.choice, first.simulated) == ((14, 0, 0, 0), (16, 0, 1, 0), "a", False)
    assert first.extra == {"score": 0.5} and second.extra == {}


def test_every_crash_leaves_a_file_that_is_read_and_continued(tmp_path):
    path = tmp_path / "p"
    write(path, [comparison(prompt="é"), comparison(choice="tie")])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in [*range(first + 1, len(whole) - 1, 5), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        ended = cut == len(whole) - 1
        if ended:
            assert len(read(path)) == 2
            write(path, [comparison(prompt="next")])
        else:
            with pytest.warns(UserWarning, match="line 2: skipped"):
                assert len(read(path)) == 1
            with pytest.warns(UserWarning, match="removed"):
                write(path, [comparison(prompt="next")])
        assert [c.prompt for c in read(path)] == (["é", "calm", "next"] if ended else ["é", "next"])


def test_zeros_of_a_power_loss_are_left_out(tmp_path):
    path = tmp_path / "p"
    write(path, [comparison()])
    path.write_bytes(path.read_bytes() + bytes(100))
    with pytest.warns(UserWarning, match="incomplete"):
        assert len(read(path)) == 1


HOSTILE = {
    "no json": ("{'prompt': 1}\n", "not (valid )?JSON"),
    "half a line before others": ('{"prompt": "calm", "cho\n' + json.dumps(PLAIN), "not (valid )?JSON"),
    "a list": (json.dumps([PLAIN]) + "\n", "one JSON object"),
    "a number": ("3\n", "one JSON object"),
    "another file": ("MThd and more", "not (valid )?JSON"),
    "nan": (json.dumps(FULL | {"seconds_a": float("nan")}) + "\n", "NaN is not a JSON number"),
    "infinity": (json.dumps(FULL).replace("true", 'true, "seconds_a": 1e999') + "\n", "seconds_a"),
    "deep": ('{"extra": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "not (valid )?JSON"),
    "long number": ('{"extra": ' + "9" * 9000 + "}\n", "not (valid )?JSON"),
    "no prompt": (json.dumps({"chosen": "1", "rejected": "2"}) + "\n", "the line has no prompt"),
    "messages": (json.dumps(PLAIN | {"chosen": [{"role": "user", "content": "x"}]}) + "\n", "melody as text"),
    "words": (json.dumps(PLAIN | {"chosen": "c d e"}) + "\n", "chosen should be a melody"),
    "floats": (json.dumps(PLAIN | {"chosen": "14.0 0"}) + "\n", "chosen should be a melody"),
    "no tokens": (json.dumps(PLAIN | {"chosen": "  "}) + "\n", "0 tokens"),
    "token out of range": (json.dumps(PLAIN | {"rejected": "14 38"}) + "\n", "token 38"),
    "negative token": (json.dumps(PLAIN | {"rejected": "14 -1"}) + "\n", "token -1"),
    "huge token": (json.dumps(PLAIN | {"rejected": "1" * 5000}) + "\n", "rejected should be a melody"),
    "lengths": (json.dumps(PLAIN | {"chosen": "14 " * 50}) + "\n", "cannot be compared"),
    "long melody": (
        json.dumps(PLAIN | {"chosen": "14 " * 5000, "rejected": "14 " * 5000}) + "\n",
        "5000 tokens",
    ),
    "choice": (json.dumps(FULL | {"choice": "A"}) + "\n", "choice should be one of"),
    "choice of a list": (json.dumps(FULL | {"choice": ["a"]}) + "\n", "choice should be one of"),
    "contradiction": (json.dumps(FULL | {"choice": "b"}) + "\n", "contradict the choice"),
    "who chose": (json.dumps({k: v for k, v in FULL.items() if k != "simulated"}) + "\n", "no simulated"),
    "simulated": (json.dumps(FULL | {"simulated": "yes"}) + "\n", "simulated should be true or false"),
    "prompt": (json.dumps(PLAIN | {"prompt": None}) + "\n", "prompt should be text"),
    "surrogate": (json.dumps(PLAIN | {"prompt": "\ud800"}) + "\n", "lone surrogate"),
    "seconds": (json.dumps(FULL | {"seconds_b": -1}) + "\n", "seconds_b should be a number, 0 or more"),
    "propensity": (json.dumps(FULL | {"propensity": 1.5}) + "\n", "propensity should be a number, 0 to 1"),
    "no propensity": (json.dumps(FULL | {"propensity": 0}) + "\n", "propensity should be above 0"),
    "timestamp": (json.dumps(FULL | {"timestamp": "noon"}) + "\n", "timestamp should be like"),
    "extra": (json.dumps(FULL | {"extra": 3}) + "\n", "extra should be"),
    "one endless line": ("x" * 3_000_000, "longer than"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_get_one_clear_error(name, tmp_path):
    text, reason = HOSTILE[name]
    path = tmp_path / "pairs.jsonl"
    path.write_bytes((json.dumps(FULL) + "\n\n").encode() + text.encode())
    with pytest.raises(PairsError, match=reason) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}, line 3: ") and len(str(raised.value)) < 400
    assert raised.value.__suppress_context__


def test_other_encodings_and_missing_files_are_told(tmp_path):
    path = tmp_path / "p"
    path.write_bytes(json.dumps(PLAIN).encode("utf-16") + b"\n")
    with pytest.raises(PairsError, match="line 1: the line is not text in UTF-8"):
        read(path)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match="no file of comparisons"):
            read(missing)


def test_nothing_is_written_of_what_json_cannot_hold(tmp_path):
    for value in (object(), float("nan")):
        with pytest.raises(PairsError, match="extra cannot be written"):
            write(tmp_path / "p", [comparison(), comparison(extra={"x": value})])
    assert not (tmp_path / "p").exists()


def test_melodies_are_any_rows_of_integers():
    assert comparison(a=np.array([3, 4], np.int32)).a == (3, 4)
    for wrong in (np.array([1.0]), np.zeros((2, 2), int), "14 0", 7, [float("nan")], None):
        with pytest.raises(PairsError, match="one row of integers"):
            comparison(a=wrong)


def test_swapping_twice_is_nothing(random):
    for _ in range(50):
        one = any_comparison(random)
        other = one.swapped()
        assert other.swapped() == one
        assert (other.sign, other.a, other.system_b) == (-one.sign, one.b, one.system_a)


def test_arrays_are_cut_and_filled_with_silence():
    made = [comparison(a=(5, 6, 7, 8), b=(9,)), comparison(choice="b"), comparison(choice="both_bad")]
    arrays = to_arrays(made, 3)
    np.testing.assert_array_equal(arrays.a, [[5, 6, 7], [14, 0, 1], [14, 0, 1]])
    np.testing.assert_array_equal(arrays.b, [[9, 1, 0], [16, 1, 1], [16, 1, 1]])
    np.testing.assert_array_equal(arrays.choice, [1, -1, 0])
    assert arrays.prompts == ["calm"] * 3 and arrays.a.dtype == np.int32
    assert to_arrays([], 3).a.shape == (0, 3)
