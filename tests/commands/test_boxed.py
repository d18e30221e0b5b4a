"""What the commands do where nothing was trained: they play from the box that the package ships."""

import hashlib

import pytest

from experiments import boxed
from mammadai_jax import cli
from mammadai_jax.training import box

SAID = "no run at runs/mammadai: playing from the weights in the box; train your own with `mammadai teach`\n"
TUNE = "X:1\nT:Low\nM:4/4\nL:1/4\nK:G\nGABc|d2B2|c2A2|G4|]\n"


def contents(path):
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def packed(taught, tmp_path_factory):
    return boxed.pack(taught, tmp_path_factory.mktemp("packed") / "box")


@pytest.fixture
def here(packed, tmp_path, monkeypatch):
    """An empty directory, and a small box in the place of the package's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(box, "SHIPPED", packed)
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "stem"),
    [
        (["compose", "--stage", "prior", "--bars", "1"], "composed/prior-0-1-bars1"),
        (["continue", "low.abc", "--bars", "1"], "composed/low-continued-bars1-prior-0-1"),
        (["infill", "low.abc", "--bars", "2"], "composed/low-infilled-bars2-prior-0-1"),
        (["vary", "low.abc"], "composed/low-varied0.3-prior-0-1"),
        (["harmonise", "low.abc"], "harmonised/low-harmonised-0-1"),
    ],
)
def test_without_a_run_the_box_plays_and_the_files_are_here(here, packed, capsys, argv, stem):
    (here / "low.abc").write_text(TUNE)
    before = contents(packed)
    for where in ([], ["--run", str(packed)] if argv[0] != "compose" else [str(packed)]):
        assert cli.main([*argv, *where]) == 0
        printed = capsys.readouterr()
        assert f"{stem}.mid" in printed.out.splitlines() and (here / f"{stem}.mid").exists()
        assert printed.err.startswith(SAID) == (not where)
    assert contents(packed) == before and not (here / "runs").exists()


def test_without_a_run_the_box_scores(here, capsys):
    (here / "low.abc").write_text(TUNE)
    assert cli.main(["score", "low.abc"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith(SAID) and "\nReward model\n" in printed.out


def test_a_run_that_is_named_or_begun_is_not_replaced_by_the_box(here, capsys):
    assert cli.main(["compose", "runs/mammadai"]) == 2
    assert capsys.readouterr().err.startswith("mammadai: runs/mammadai holds no run")
    (here / "runs" / "mammadai").mkdir(parents=True)
    assert cli.main(["compose"]) == 2
    assert capsys.readouterr().err.startswith("mammadai: runs/mammadai holds no run")


def test_what_is_not_in_the_box_is_one_line(here, capsys):
    assert cli.main(["compose", "--stage", "gail"]) == 2
    assert "holds no weights of stage 'gail', but those of prior" in capsys.readouterr().err
