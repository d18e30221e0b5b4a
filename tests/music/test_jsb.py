import dataclasses

import numpy as np
import pytest

from mammadai_jax.music import archive, chorales, folk, jsb
from mammadai_jax.music.folk import CorpusMissing
from mammadai_jax.music.notes import VOICES, VOICES_HOLD
from mammadai_jax.music.piece import Piece
from tests.music.test_chorales import write_chorale
from tests.music.test_piece import assert_same_music


@pytest.fixture
def music21(tmp_path, monkeypatch):
    """A corpus folder with three chorales of the split and one that is none."""
    folder = tmp_path / "corpus" / "bach"
    folder.mkdir(parents=True)
    for number in ("1.6", "3.6", "10.7"):
        write_chorale(folder / f"bwv{number}.mxl")
    (folder / "bwv102.7.mxl").write_text("no music")
    monkeypatch.setattr(jsb, "find", lambda: (folder.parent, "0.0.test"))
    return folder


def test_the_split_has_the_published_sizes_and_no_chorale_twice():
    numbers = jsb.numbers()
    parts = [numbers[part] for part in jsb.PARTS]
    assert [len(part) for part in parts] == [222, 73, 77]
    every = {number for part in parts for number in part}
    assert len(every) == 372 and set(numbers["repeated"]) < every and len(numbers["repeated"]) == 100


def test_chorales_are_read_once_and_kept(music21, tmp_path):
    calls = []
    first = jsb.load(tmp_path / "cache", progress=lambda done, total: calls.append((done, total)))
    assert [p.source for p in first.train] == ["bach/bwv1.6.mxl", "bach/bwv3.6.mxl"]
    assert [p.title for p in first.valid] == ["BWV 10.7"] and first.test == ()
    assert len(first.skipped) == 369 and calls[-1] == (372, 372)
    assert dict(first.skipped)["bach/bwv102.7.mxl"].startswith("no MusicXML")
    again = jsb.load(tmp_path / "cache")
    for one, other in zip(first.train + first.valid, again.train + again.valid, strict=True):
        assert_same_music(one, other)
        assert one.heading == other.heading
    assert again.skipped == first.skipped
    name = f"jsb-{archive.FORMAT}-music21-0.0.test.npz"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [name]
    for path in music21.iterdir():
        path.unlink()
    assert len(jsb.load(tmp_path / "cache").train) == 2
    assert jsb.load(tmp_path / "cache", refresh=True).train == ()


def test_what_the_data_set_repeats_is_read_with_repeats(music21, monkeypatch):
    repeated = {}
    read = lambda path, source, collection, repeats: repeated.setdefault(source, repeats) and None
    monkeypatch.setattr(chorales, "read_piece", read)
    jsb._read(music21, None)
    chosen = {source for source, repeats in repeated.items() if repeats}
    assert chosen == {f"bach/bwv{number}.mxl" for number in jsb.numbers()["repeated"]}


def test_without_music21_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(folk.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CorpusMissing, match=r"pip install 'mammadai-jax\[corpus\]'"):
        jsb.load()


@pytest.mark.nightly
def test_the_installed_chorales(tmp_path):
    try:
        split = jsb.load(tmp_path)
    except CorpusMissing:
        pytest.skip("music21 is not installed")
    assert ([len(part) for part in split[:3]], split.skipped) == ([222, 73, 77], ())
    for piece in split.train + split.valid + split.test:
        assert len(piece.voices) == 4 and len(piece) % piece.steps_per_bar == 0 and piece.tonic >= 0
        tokens = piece.tokens(VOICES_HOLD)
        np.testing.assert_array_equal(Piece.from_tokens(tokens, VOICES_HOLD).voices, piece.voices)
        assert (piece.tokens(VOICES)[piece.span] > 0).any(axis=1).mean() > 0.5  # there are interludes
    assert sum(sum(piece.left_out.values()) for piece in split.train + split.valid + split.test) < 30
    assert dataclasses.replace(split.train[0], title="A").names == split.train[0].names
