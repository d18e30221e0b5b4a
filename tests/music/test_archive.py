import numpy as np
import pytest

from mammadai_jax.music import archive, corpus
from mammadai_jax.music.archive import InvalidArchive
from mammadai_jax.music.transcription import Skipped

MELODIES = corpus.embedded().melodies[:2]


@pytest.fixture
def path(tmp_path):
    archive.save(tmp_path / "folk.npz", MELODIES, [Skipped("a", "b")])
    return tmp_path / "folk.npz"


def same(loaded):
    melodies, skipped = loaded
    assert skipped == [Skipped("a", "b")] and len(melodies) == len(MELODIES)
    for one, other in zip(melodies, MELODIES, strict=True):
        assert np.array_equal(one.events, other.events) and one.title == other.title


def test_a_flipped_bit_is_found_or_harmless(path):
    """Above all in the headers of the container, for which its readers raise all kinds of errors."""
    sound, found = path.read_bytes(), 0
    for at in range(0, 8 * len(sound), 61):
        flipped = bytearray(sound)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        try:
            same(archive.load(path))
        except InvalidArchive:
            found += 1
    assert found > 50


@pytest.mark.parametrize(
    "forged",
    [
        {"events": np.array([None], object)},
        {"events": np.full(10_000, 3000, np.int16)},
        {"format": np.array("x")},
        {"table": np.frombuffer(b"[1]", np.uint8)},
        {"table": np.frombuffer(b"{}", np.uint8)},
    ],
)
def test_a_forged_archive_is_one_error(path, forged):
    with np.load(path, allow_pickle=False) as arrays:
        contents = dict(arrays) | forged
    contents["check"] = archive._check(contents["events"], contents["table"])
    np.savez(path, **contents)
    with pytest.raises(InvalidArchive, match=r"folk\.npz"):
        archive.load(path)
