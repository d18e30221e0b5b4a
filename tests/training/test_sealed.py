import json
from pathlib import Path

import pytest

from mammadai_jax.training import sealed

CONTENTS = {"a": [1, 2.5, None, True], "b": {"c": "é\u2028", "x": 1e-300}, "weight": 0.1 + 0.2}


@pytest.fixture
def path(tmp_path):
    sealed.write(tmp_path / "a.json", 7, CONTENTS)
    return tmp_path / "a.json"


def test_what_is_read_is_what_was_written(path):
    contents = sealed.read(path, 7)
    assert contents == {"format": 7, **CONTENTS, "sha256": sealed.digest(contents)}
    assert list(contents) == ["format", *CONTENTS, "sha256"]


def test_every_flipped_bit_is_found_or_harmless(path):
    sound, contents, harmless = path.read_bytes(), sealed.read(path, 7), 0
    for at in range(8 * len(sound)):
        flipped = bytearray(sound)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        try:
            assert sealed.read(path, 7) == contents
            harmless += 1
        except sealed.DamagedFile as error:
            assert str(path) in str(error)
    assert harmless < len(sound)  # white space for white space


def test_white_space_does_not_count(path):
    path.write_text(json.dumps(sealed.read(path, 7)))
    assert sealed.read(path, 7)["a"] == CONTENTS["a"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"a": 1}, "was damaged or edited"),
        ({"a": 1, "sha256": None}, "was damaged or edited"),
        ({"format": 8}, "has format 8, not 7"),
        ({"format": "7"}, "has format '7', not 7"),
        ({"more": 0}, "was damaged or edited"),
    ],
)
def test_other_contents_are_refused(path, change, reason):
    path.write_text(json.dumps(sealed.read(path, 7) | change))
    with pytest.raises(sealed.DamagedFile, match=reason):
        sealed.read(path, 7)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": [' + "[]," * 20_000 + "0]}"])
def test_very_many_lists_are_not_read(path, text):
    path.write_text(text)
    with pytest.raises(sealed.DamagedFile, match=r"cannot be read: it has more than 10,000 lists"):
        sealed.read(path, 7)


def test_no_file_is_read_that_is_none_or_too_large(path):
    with pytest.raises(sealed.DamagedFile, match="larger than 0 MiB"):
        sealed.read(path, 7, limit=100)
    with pytest.raises(sealed.DamagedFile, match="not a regular file"):
        sealed.read(Path("/dev/zero"), 7)
    with pytest.raises(FileNotFoundError):
        sealed.read(path.with_name("none"), 7)
