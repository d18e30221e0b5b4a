import collections
import dataclasses
import logging
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from mammadai_jax.music import archive, corpus, folk, midi
from mammadai_jax.music.archive import InvalidArchive
from mammadai_jax.music.corpus import Corpus, CorpusMissing
from mammadai_jax.music.excerpts import excerpts, shortcomings
from mammadai_jax.music.notes import OFF, PIANO, PIANO_HOLD, RL_TUNER, Melody

BARS = "C2D2E2F2|G2A2B2c2|d2c2B2A2|G2F2E2D2|C2E2G2c2|C2D2E2F2|G2A2B2c2|C8|"

TRIPLE = "C2D2E2|G2A2B2|d2c2B2|G2F2E2|C2E2G2|C2D2E2|G2A2B2|C6|"
FIFTH_UP = "G2A2B2c2|d2e2f2g2|a2g2f2e2|d2c2B2A2|G2B2d2g2|G2A2B2c2|d2e2f2g2|G8|"


def random_corpus(count=200, seed=0):
    rng = np.random.default_rng(seed)
    melodies = [
        Melody(rng.integers(50, 80, 32), tonic=int(rng.integers(12)), source=f"random:{i}")
        for i in range(count)
    ]
    return Corpus("random", tuple(melodies), licence="none")


def same(one, other):
    return all(
        a.source == b.source and np.array_equal(a.events, b.events) for a, b in zip(one, other, strict=True)
    )


@pytest.fixture
def music21(tmp_path, monkeypatch):
    """A small folder in the place of the installed music21."""
    folder = tmp_path / "music21" / "corpus"
    for name in folk.COLLECTIONS:
        (folder / name).mkdir(parents=True)
    head = "L:1/8\nK:C\n"
    (folder / "essenFolksong" / "one.abc").write_text(
        f"X:1\nT:First\nM:4/4\n{head}{BARS}\n\n"
        f"X:2\nT:A fifth up\nM:4/4\nL:1/8\nK:G\n{FIFTH_UP}\n\n"
        f"X:3\nM:3/4\n{head}{TRIPLE}\n\nX:4\nM:C\n{head}C8|\n\nX:5\nM:C\n{head}V:1\nC\nV:2\nE\n\n"
        f"X:6\nM:4/2\n{head}C8D8|\n"
    )
    (folder / "airdsAirs" / "two.abc").write_text(f"X:007\nM:C|\n{head}{BARS.replace('C2', 'E2')}\n")
    monkeypatch.setattr(corpus, "find", lambda: (folder, "0.0.test"))
    return folder


def test_folk_reads_every_tune_or_says_why_not(music21, tmp_path):
    progress = []
    songs = corpus.folk(tmp_path / "cache", progress=lambda done, total: progress.append((done, total)))
    assert [m.source for m in songs] == ["essenFolksong/one.abc:1", "airdsAirs/two.abc:007"]
    assert dict(songs.skipped) == {
        "essenFolksong/one.abc:2": "the same as another: essenFolksong/one.abc:1",
        "essenFolksong/one.abc:3": "meter 3/4, not 4/4 or 2/2",
        "essenFolksong/one.abc:4": "shorter than 8 bars",
        "essenFolksong/one.abc:5": "more than one voice",
        "essenFolksong/one.abc:6": "meter 4/2, not 2/4, 3/4 or 6/8, 4/4 or 2/2",
    }
    assert progress == [(1, 2), (2, 2)]
    assert "non-commercial" in songs.licence
    assert (songs.melodies[0].title, songs.melodies[0].collection, len(songs.melodies[0])) == (
        "First",
        "essenFolksong",
        128,
    )
    assert [m.meter for m in songs.select(meters=("4/4", "C"))] == ["4/4"]


def test_the_same_reading_serves_all_bars_and_those_of_16_steps(music21, tmp_path):
    cache = tmp_path / "cache"
    (music21 / "miscFolk" / "two.abc").write_text(f"X:1\nM:2/4\nL:1/16\nK:C\n{BARS}\n")
    every = corpus.folk_all(cache)
    assert [(m.source, m.steps_per_bar, m.meter) for m in every] == [
        ("essenFolksong/one.abc:1", 16, "4/4"),
        ("essenFolksong/one.abc:3", 12, "3/4"),
        ("airdsAirs/two.abc:007", 16, "C|"),
        ("miscFolk/two.abc:1", 8, "2/4"),
    ]
    songs = corpus.folk(cache)
    assert songs.name == "folk"
    assert same(songs, every.select(steps_per_bar=16))
    assert len(songs) + len(songs.skipped) == len(every) + len(every.skipped)
    assert len(list(cache.iterdir())) == 1


def test_the_same_steps_in_other_bars_are_another_melody(music21, tmp_path):
    (music21 / "miscFolk" / "two.abc").write_text(
        f"X:1\nM:2/4\nL:1/16\nK:C\n{BARS}\n\nX:2\nM:2/4\nL:1/8\nK:C\n{BARS.replace('|', '')}\n"
    )
    every = corpus.folk_all(tmp_path / "cache")
    assert [m.source for m in every if m.steps_per_bar == 8] == ["miscFolk/two.abc:1", "miscFolk/two.abc:2"]
    np.testing.assert_array_equal(every.melodies[-1].events, every.melodies[0].events)


def test_folk_is_kept_and_read_anew_when_asked(music21, tmp_path):
    cache = tmp_path / "cache"
    first = corpus.folk(cache)
    (music21 / "airdsAirs" / "two.abc").unlink()
    kept = corpus.folk(cache)
    assert same(first, kept)
    assert (kept.digest, kept.skipped) == (first.digest, first.skipped)
    assert len(corpus.folk(cache, refresh=True)) == 1
    assert len(corpus.folk(cache)) == 1
    assert [path.name for path in cache.iterdir()] == [f"folk-{archive.FORMAT}-music21-0.0.test.npz"]


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "flipped", "format"])
def test_a_damaged_cache_is_rebuilt_with_a_note(music21, tmp_path, monkeypatch, caplog, damage):
    cache = tmp_path / "cache"
    if damage == "format":
        name = f"folk-{archive.FORMAT}-music21-0.0.test.npz"
        monkeypatch.setattr(archive, "FORMAT", 0)
        digest = corpus.folk(cache).digest
        monkeypatch.undo()
        monkeypatch.setattr(corpus, "find", lambda: (music21, "0.0.test"))
        next(cache.iterdir()).rename(cache / name)
    else:
        digest = corpus.folk(cache).digest
        path = next(cache.iterdir())
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(
            {"empty": b"", "cut": bytes(data[:200]), "text": b"hello", "flipped": bytes(data)}[damage]
        )
    with caplog.at_level(logging.WARNING):
        assert corpus.folk(cache).digest == digest
    assert "reading the folk corpus again" in caplog.text
    caplog.clear()
    assert corpus.folk(cache).digest == digest
    assert not caplog.text


def test_a_cache_that_cannot_be_written_is_no_error(music21, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    assert len(corpus.folk(tmp_path / "file" / "cache")) == 2
    assert "could not be cached" in caplog.text


def test_the_users_cache_directory(music21, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    corpus.load("folk")
    assert [p.parent for p in (tmp_path / "xdg").rglob("*.npz")] == [tmp_path / "xdg" / "mammadai_jax"]


def test_without_music21_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(folk.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CorpusMissing, match=re.escape("pip install 'mammadai-jax[corpus]'")):
        corpus.folk()
    assert issubclass(CorpusMissing, ValueError)


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """The installed corpus in all bars, and the cache that it is kept in."""
    try:
        folk.find()
    except CorpusMissing:
        pytest.skip("music21 is not installed")
    cache = tmp_path_factory.mktemp("cache")
    return corpus.folk_all(cache), cache


@pytest.fixture(scope="module")
def installed(every):
    return corpus.folk(every[1])


def test_the_installed_corpus_of_all_meters(every):
    tunes, _ = every
    counts = collections.Counter(m.steps_per_bar for m in tunes)
    assert set(counts) == {8, 12, 16}
    assert counts[8] > 2600
    assert counts[12] > 3300
    assert len({folk._shape(m) for m in tunes}) == len(tunes)
    for bar in (8, 12):
        chosen = [m for m in tunes if m.steps_per_bar == bar]
        assert all(len(m) % bar == 0 and len(m) >= 8 * bar for m in chosen)
        onsets = np.bincount(
            np.concatenate([np.flatnonzero(m.events >= 0) % bar for m in chosen]), minlength=bar
        )
        assert onsets[0] / sum(len(m) // bar for m in chosen) > 0.9
        assert onsets.argmax() == 0


def test_the_installed_corpus(installed):
    strict = installed.select(min_bars=8, meters=("4/4", "C"))
    assert len(strict) >= 2500
    assert len(installed) >= 2950
    assert len({folk._shape(m) for m in installed}) == len(installed)
    for melody in installed:
        assert melody.steps_per_bar == 16
        assert len(melody) % 16 == 0
        assert len(melody) >= 128
        assert PIANO.covers(melody.events)
        assert melody.events[0] != OFF or melody.pickup or melody.notes[0].onset < 16
    assert all(reason for _, reason in installed.skipped)
    folder, _ = folk.find()
    tunes = sum(
        len(re.findall(rb"^X:", file.read_bytes(), re.MULTILINE))
        for name in folk.COLLECTIONS
        for file in (folder / name).glob("*.abc")
    )
    chorales = len(list((folder / "bach").glob("*.mxl")))
    assert len(installed) + len(installed.skipped) == tunes + chorales
    counts = collections.Counter(m.collection for m in installed)
    assert counts["essenFolksong"] > 1700
    assert counts["bach"] > 300


def test_bars_of_the_installed_corpus_begin_where_melodies_stress(installed):
    onsets = np.bincount(
        np.concatenate([np.flatnonzero(m.events >= 0) % 16 for m in installed]), minlength=16
    ) / sum(len(m) // 16 for m in installed)
    assert onsets[0] > 0.9
    assert onsets[8] > 0.75
    assert onsets[1::2].max() < 0.15


def test_known_tunes_of_the_installed_corpus(installed):
    by_source = {m.source: m for m in installed}
    for title, source in {
        "The White Cockade": "airdsAirs/book1.abc:0001",
        "Soldier's Joy": "oneills1850/1625-1700.abc:1642",
        "Miss McLeod's Reel": "oneills1850/1376-1475.abc:1418",
        "O Sanctissima (O du froehliche)": "essenFolksong/boehme20.abc:268",
        "Jesu, meine Freude": "bach/bwv64.8.mxl",
    }.items():
        written = next(m for m in corpus.embedded() if m.title == title)
        read = by_source[source]
        np.testing.assert_array_equal(read.events[: len(written)], written.events, err_msg=title)
        assert (read.tonic, read.mode, read.pickup) == (written.tonic, written.mode, written.pickup)


def test_archive_round_trip(tmp_path):
    melodies = [
        dataclasses.replace(m, title=f"Lied „{i}“", tempo=93.5, mode="dorian")
        for i, m in enumerate(random_corpus(5))
    ]
    archive.save(tmp_path / "a" / "b.npz", melodies, [corpus.Skipped("x:1", "why")])
    loaded, skipped = archive.load(tmp_path / "a" / "b.npz")
    assert [corpus.description(m) for m in loaded] == [corpus.description(m) for m in melodies]
    assert same(loaded, melodies)
    assert skipped == [corpus.Skipped("x:1", "why")]
    archive.save(tmp_path / "none.npz", [], [])
    assert archive.load(tmp_path / "none.npz") == ([], [])
    with pytest.raises(InvalidArchive, match="damaged"):
        archive.load(tmp_path / "missing.npz")


def test_families_and_digest_are_the_same_in_every_process():
    code = (
        "from mammadai_jax.music import corpus; c = corpus.embedded(); print(c.families.tolist(), c.digest)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    tunes = corpus.embedded()
    assert output.stdout.strip() == f"{tunes.families.tolist()} {tunes.digest}"


def test_variants_are_one_family_and_stay_together():
    original = random_corpus(100)
    variants = [
        dataclasses.replace(m, events=np.append(m.events[:20], 60), source="variant") for m in original
    ]
    both = dataclasses.replace(original, melodies=original.melodies + tuple(variants)).transposed([0, 5])
    for seed in range(3):
        train, test = both.split(0.2, seed)
        assert len(train) + len(test) == len(both) == 400
        assert 20 < len(test) < 160
        assert not set(train.families.tolist()) & set(test.families.tolist())


def test_split_depends_on_the_seed_and_not_on_the_rest_of_the_corpus():
    whole = random_corpus(300)
    test = {m.source for m in whole.split(0.3, seed=1)[1]}
    half = dataclasses.replace(whole, melodies=whole.melodies[::2])
    assert {m.source for m in half.split(0.3, seed=1)[1]} == test & {m.source for m in half}
    assert {m.source for m in whole.split(0.3, seed=2)[1]} != test


def test_no_side_of_a_split_is_empty():
    for held_out in (1e-9, 1 - 1e-9):
        assert all(len(side) for side in corpus.embedded().split(held_out))
    one = dataclasses.replace(random_corpus(1))
    with pytest.raises(ValueError, match="fewer than two families"):
        one.split()
    with pytest.raises(ValueError, match="between 0 and 1"):
        corpus.embedded().split(1.0)


@pytest.mark.parametrize("alphabet", [RL_TUNER, PIANO_HOLD])
@pytest.mark.parametrize("tonic", [0, 7])
def test_in_key(alphabet, tonic):
    songs = corpus.embedded().in_key(tonic, alphabet)
    assert len(songs) == 10
    middle = (alphabet.lowest + alphabet.highest) / 2
    for before, after in zip(corpus.embedded(), songs, strict=True):
        assert after.tonic == tonic
        assert alphabet.covers(after.events)
        np.testing.assert_array_equal(np.diff(before.pitches), np.diff(after.pitches))
        distance = abs(np.median(after.pitches) - middle)
        for octave in (-12, 12):
            if alphabet.covers(np.where(after.events >= 0, after.events + octave, after.events)):
                assert distance <= abs(np.median(after.pitches) + octave - middle)


def test_the_relative_key_shares_the_scale_of_c():
    dorian = Melody(np.array([67, 69, 70, 72, 74, 76, 77, 79]), tonic=7, mode="dorian")
    aeolian = Melody(np.array([66, 68, 69, 71, 73, 74, 76, 78]), tonic=6, mode="minor")
    songs = Corpus("two", (dorian, aeolian)).in_key(0, PIANO_HOLD, relative=True)
    assert [m.tonic for m in songs] == [2, 9]
    assert all(set(m.pitches % 12) == {0, 2, 4, 5, 7, 9, 11} for m in songs)


def test_in_key_skips_what_does_not_fit():
    unknown = Melody(np.array([60, 62]), source="a:1")
    wide = Melody(np.array([40, 90]), source="a:2", tonic=0)
    fits = Melody(np.array([30, 65]), source="a:3", tonic=6)
    songs = Corpus("few", (unknown, wide, fits)).in_key(0, RL_TUNER)
    assert [(m.source, m.pitches.tolist()) for m in songs] == [("a:3", [48, 83])]
    assert dict(songs.skipped) == {
        "a:1": "tonic unknown",
        "a:2": "range too wide for the alphabet 'rl_tuner'",
    }


def test_transposed():
    songs = Corpus(
        "two", (Melody(np.array([126, 60]), tonic=11, source="a"), Melody(np.array([60, 62]), source="b"))
    )
    moved = songs.transposed([0, 3])
    assert [m.pitches.tolist() for m in moved] == [[126, 60], [60, 62], [63, 65]]
    assert [m.tonic for m in moved] == [11, -1, -1]
    assert moved.skipped == (corpus.Skipped("a", "+3 semitones leave MIDI's range"),)


def test_select():
    songs = Corpus(
        "some",
        (
            Melody(np.full(64, 60), meter="4/4"),
            Melody(np.full(32, 60), meter="C"),
            Melody(np.full(24, 60), steps_per_bar=12, meter="3/4"),
        ),
    )
    assert len(songs.select()) == 3
    assert [m.meter for m in songs.select(min_bars=2)] == ["4/4", "C", "3/4"]
    assert [m.meter for m in songs.select(min_bars=4)] == ["4/4"]
    assert [m.meter for m in songs.select(steps_per_bar=12)] == ["3/4"]
    assert [m.meter for m in songs.select(meters={"C"})] == ["C"]


def test_pack_gives_back_every_melody():
    songs = random_corpus(20).transposed([1])
    tokens, offsets = songs.pack(RL_TUNER)
    assert (tokens.dtype, offsets.dtype, offsets.shape) == (np.int32, np.int64, (21,))
    for melody, start, end in zip(songs, offsets, offsets[1:], strict=False):
        np.testing.assert_array_equal(RL_TUNER.decode(tokens[start:end]), melody.events)
    empty = Corpus("empty", ()).pack(RL_TUNER)
    assert (empty[0].shape, empty[1].tolist()) == ((0,), [0])
    with pytest.raises(ValueError, match="transpose it first"):
        random_corpus(20).transposed([30]).pack(RL_TUNER)


def test_digest_sees_notes_and_names():
    songs = random_corpus(3)
    assert songs.digest == random_corpus(3).digest
    assert songs.digest != songs.transposed([1]).digest
    named = dataclasses.replace(songs, melodies=tuple(dataclasses.replace(m, title="x") for m in songs))
    assert songs.digest != named.digest


def test_a_folder_of_midi_files(tmp_path):
    for index, melody in enumerate(corpus.embedded()):
        (tmp_path / f"{index % 2}").mkdir(exist_ok=True)
        midi.write(tmp_path / f"{index % 2}" / f"{index}.mid", melody)
    (tmp_path / "0" / "bad.MID").write_bytes(b"this is no MIDI file")
    (tmp_path / "notes.txt").write_text("neither is this")
    songs = corpus.load(tmp_path)
    assert [m.source for m in songs] == [f"{i % 2}/{i}.mid" for i in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)]
    np.testing.assert_array_equal(songs.melodies[0].events, corpus.embedded().melodies[0].events)
    assert [s.source for s in songs.skipped] == ["0/bad.MID"]
    assert str(tmp_path) in songs.licence


def test_every_file_of_a_folder_is_read_or_named(tmp_path):
    tune, (one, other) = (
        midi.write(None, corpus.embedded().melodies[0]),
        (tmp_path / "one", tmp_path / "other"),
    )
    for folder in (one, other / "deep"):
        folder.mkdir(parents=True)
    riff = b"RIFF" + (len(tune) + 12).to_bytes(4, "little") + b"RMIDdata" + len(tune).to_bytes(4, "little")
    for name, data in {
        "a.kar": tune,
        "b.rmi": riff + tune,
        "c.mid": tune[:40],
        "d.abc": b"X:1",
        "e.txt": b"",
    }.items():
        (one / name).write_bytes(data)
    (other / "deep" / "f.MIDI").write_bytes(tune)
    (one / "link").symlink_to(other)
    (other / "back").symlink_to(one)
    (one / "gone.mid").symlink_to(one / "nothing")
    os.mkfifo(one / "pipe.mid")
    songs = corpus.load(one)
    assert [m.source for m in songs] == ["a.kar", "b.rmi", "link/deep/f.MIDI"]
    assert dict(songs.skipped) == {
        "c.mid": "broken MIDI file: 18 bytes of a chunk of " + str(len(tune) - 22),
        "d.abc": "not a MIDI file (.mid, .midi, .kar, .rmi, .smf)",
        "gone.mid": "not a regular file, or a link to nothing",
        "pipe.mid": "not a regular file, or a link to nothing",
    }


def test_what_learners_cannot_use_is_named():
    fields = {"tonic": 0, "mode": "major"}
    songs = Corpus(
        "few",
        (
            Melody(np.full(96, 60), source="fits", **fields, left_out={"of a kind": 2}, remarks=("changed",)),
            Melody(np.full(95, 60), source="short", **fields),
            Melody(np.full(100, 60), source="five", steps_per_bar=20, meter="5/4", **fields),
            Melody(np.full(96, 60), source="keyless"),
        ),
        (corpus.Skipped("bad", "worse"),),
    )
    assert {name: [tuple(each) for each in those] for name, those in shortcomings(songs).items()} == {
        "skipped": [("bad", "worse")],
        "without an excerpt of 96 steps": [
            ("keyless", "tonic unknown"),
            ("short", "shorter than 96 steps in whole bars"),
            ("five", "meter 5/4, whose bars of 20 steps do not divide 96"),
        ],
        "with notes left out": [("fits", "lacks notes, of a kind: 2")],
        "with remarks": [("fits", "changed")],
    }
    assert len(excerpts(songs, shifts=(0,)).skipped) == 4
    with pytest.raises(ValueError, match=r"families .*; left out are 1 tonic unknown"):
        Corpus("none", songs.melodies[3:]).in_key(0, PIANO).split()


def test_what_is_no_corpus(tmp_path):
    with pytest.raises(
        ValueError, match="no corpus 'fokl': it is neither 'embedded' nor 'folk' nor 'folk-all' nor a folder"
    ):
        corpus.load("fokl")
    with pytest.raises(ValueError, match="0 MIDI files"):
        corpus.load(tmp_path)
    (tmp_path / "bad.mid").write_bytes(b"bad")
    with pytest.raises(ValueError, match=r"1 MIDI files .* none with a melody; bad\.mid: "):
        corpus.load(str(tmp_path))


def test_embedded():
    assert len(corpus.load("embedded")) == 10
    assert corpus.load("embedded").licence == "public domain"
