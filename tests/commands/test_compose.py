import shutil
import wave
from pathlib import Path

import pytest

from mammadai_jax import cli
from mammadai_jax.commands.compose import COMPOSING, Compose, in_claims, slug
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.sample import Sample
from mammadai_jax.music.soundbank import LIBRARY
from tests.music.tiny_bank import tiny_bank


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("A calm, slow tune!", "a-calm-slow-tune"),
        ("a jig in 6/8", "a-jig-in-6-8"),
        ("../../etc/passwd", "etc-passwd"),
        ("小调 \x1b[31m", "小调-31m"),
        ("x" * 60, "x" * 60),
    ],
)
def test_a_prompt_in_the_name_of_a_file(prompt, words):
    assert slug(prompt) == words


def test_long_prompts_have_short_names_of_their_own():
    names = {slug(word * 40 + end) for word in ("tune ", "旋律 ", "𝄞𝟙 ") for end in ("up", "down")}
    assert len(names) == 6 and max(len(name.encode()) for name in names) <= 70


def test_different_requests_have_different_names():
    given = ({}, {"prompt": "a tune"}, {"prompt": "a tune", "guidance": 1.5}, {"bars": 1}, {"bars": 2})
    given += ({"temperature": 0.5}, {"temperature": 1e-10}, {"seed": 1}, {"candidates": 1}, {"candidates": 2})
    given += ({"tempo": 72.0}, {"meter": "3/4"})
    given += ({"key": "F# minor"}, {"key": "F minor"}, {"range": "C4-A5"}, {"instrument": "flute"})
    names = [Compose(**one)._name("prior", number) for one in given for number in (1, 2)]
    assert len(set(names)) == len(names) and names[0] == "prior-0-1"
    assert "prior-0-1-a-tune-guidance1.5" in names


def test_stages_that_take_prompts_pick_from_sixteen_candidates_where_claims_can_be_checked():

    def number(stage, **given):
        command = Compose(**given)
        return command._candidates(COMPOSING[stage], command._request())

    assert number("prompted") == number("preference", bars=2) == 16
    assert number("prompted", bars=1) == number("prior") == number("prompted", candidates=1) == 1
    assert number("prompted", candidates=3) == 3
    assert number("prompted", bars=2, meter="3/4") == 1  # 24 sixteenths


def test_claims_that_hold_and_those_that_do_not_are_said():
    sample = Sample(
        Melody([60]), "", claims={"mode: minor": True, "density: calm": True, "meter: triple": False}
    )
    assert in_claims(sample) == "; holds mode: minor, density: calm; does not hold meter: triple"
    assert in_claims(Sample(Melody([60]), "")) == ""


def test_the_same_request_writes_the_same_files_and_another_file_stays(taught, tmp_path, capsys):
    command = Compose(taught, stage="noise", bars=1, out=tmp_path)
    first, again = (command.run() or capsys.readouterr().out for _ in range(2))
    assert first == again
    changed = tmp_path / "noise-0-1-bars1.wav"
    changed.write_bytes(b"mine")
    (tmp_path / "noise-0-1-bars1.mid").unlink()
    with pytest.raises(FileExistsError, match=r"bars1\.wav is there and holds something else: move it, or"):
        Compose(taught, stage="noise", bars=1, melodies=2, out=tmp_path).run()
    assert changed.read_bytes() == b"mine" and not (tmp_path / "noise-0-1-bars1.mid").exists()
    changed.unlink()
    changed.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match=r"bars1\.wav"):
        command.run()
    assert not (tmp_path / "elsewhere").exists()


def test_a_sound_bank_plays_the_wav_and_names_the_files(taught, tmp_path, capsys):
    pytest.importorskip(LIBRARY)
    (tmp_path / "Tiny.sf2").write_bytes(tiny_bank())
    for bank in (None, str(tmp_path / "Tiny.sf2")):
        Compose(taught, stage="noise", bars=1, out=tmp_path, soundbank=bank).run()
    printed = capsys.readouterr().out.splitlines()
    plain, played = (tmp_path / name for name in ("noise-0-1-bars1", "noise-0-1-bars1-Tiny"))
    assert {f"{plain}.wav", f"{played}.wav"} <= set(printed)
    assert Path(f"{plain}.mid").read_bytes() == Path(f"{played}.mid").read_bytes()
    channels = []
    for stem in (plain, played):
        with wave.open(f"{stem}.wav") as file:
            channels.append(file.getnchannels())
    assert channels == [1, 2]


@pytest.mark.parametrize("argv", [["compose"], ["continue", "{0}"], ["vary", "{0}"], ["harmonise", "{0}"]])
def test_a_wrong_sound_bank_is_one_line_before_a_run_is_read(tmp_path, capsys, argv):
    pytest.importorskip(LIBRARY)
    tune = tmp_path / "a.abc"
    tune.write_text("X:1\nM:4/4\nL:1/4\nK:C\nCDEF|\n")
    argv = [part.format(tune) for part in argv]
    assert cli.main([*argv, "--soundbank", str(tune)]) == 2
    assert capsys.readouterr().err == f"mammadai: {tune} is not a sound bank (SF2)\n"
    assert cli.main([*argv, "--soundbank", str(tmp_path / "none.sf2")]) == 2
    assert "none.sf2" in capsys.readouterr().err


def test_a_link_in_a_run_is_not_followed(taught, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(taught / "run.json", tmp_path / "run")
    (tmp_path / "run" / "composed").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="composed is a link: say with --out where"):
        Compose(tmp_path / "run", stage="noise").run()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
