"""The page as a user has it: the command serves it, Ctrl-C ends it, and it goes on afterwards."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from mammadai_jax import cli
from mammadai_jax.commands.rate import default_folder
from mammadai_jax.listening.study import Study
from mammadai_jax.music.soundbank import LIBRARY
from tests.listening.study.conftest import QUICK, clips, filled  # noqa: F401
from tests.music.tiny_bank import tiny_bank


def served(folder, *options):
    """The command as a process, and the first links that it prints."""
    program = [sys.executable, "-m", "mammadai_jax", "rate", str(folder), "--port", "0", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(program, **pipes, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    lines = []
    while "Ctrl-C" not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
        lines.append(line)
    return process, re.findall(r"(\S.*): (http://\S+)", "".join(lines))


def test_the_page_is_served_until_ctrl_c(tmp_path, clips):  # noqa: F811
    filled(tmp_path / "study", clips).close()
    process, links = served(tmp_path / "study", "--raters", "2", "--quota", "5")
    try:
        assert [name for name, _ in links] == ["rater 1", "rater 2", "results"]
        for _, link in links:
            assert b"<!doctype html>" in urllib.request.urlopen(link, timeout=30).read()
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == ""
    assert f"0 answers are kept in {tmp_path / 'study'}. Go on with `mammadai rate" in out
    with Study(tmp_path / "study") as study:
        assert [rater.quota for rater in study.raters()] == [5, 5]


def test_where_a_study_is_kept(tmp_path, clips):  # noqa: F811
    assert default_folder([tmp_path / "run"]) == tmp_path / "run" / "study"
    assert str(default_folder([tmp_path / "one", tmp_path / "two"])) == "study"
    with filled(tmp_path / "made", clips):
        assert default_folder([tmp_path / "made"]) == tmp_path / "made"


def test_results_are_printed(tmp_path, clips, capsys):  # noqa: F811
    filled(tmp_path / "study", clips).close()
    assert cli.main(["rate", str(tmp_path / "study"), "--results"]) == 0
    assert "0 answers by 0 raters to 3 pairs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--port 70000", "a port is 0 to 65535, not 70000"),
        ("--host 203.0.113.1 --port 0", "203.0.113.1 port 0 cannot be served at"),
        ("--raters 0", "--raters is between 1 and 10000, not 0"),
        ("--every 0 --learn", "--every is between 1 and 10000, not 0"),
        ("--quota 0", "a quota is 1 to"),
        ("--learn --port 0", "is no run"),
    ],
)
def test_mistakes_are_one_line(tmp_path, clips, capsys, options, said):  # noqa: F811
    filled(tmp_path / "study", clips).close()
    assert cli.main(["rate", str(tmp_path / "study"), *options.split()]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("mammadai: ") and said in line


def test_a_study_keeps_what_plays_it(tmp_path, clips, capsys):  # noqa: F811
    pytest.importorskip(LIBRARY)
    bank = tmp_path / "tiny.sf2"
    bank.write_bytes(tiny_bank())
    filled(tmp_path / "plain", clips).close()
    settings = dataclasses.replace(QUICK, soundbank=str(bank))
    filled(tmp_path / "sampled", clips, settings).close()
    for folder, asked, said in (
        ("plain", bank, "are played by the synthesiser, and more would sound otherwise"),
        ("sampled", tmp_path / "none.sf2", "none.sf2"),
    ):
        assert cli.main(["rate", str(tmp_path / folder), "--port", "0", "--soundbank", str(asked)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert said in line
    bank.unlink()  # nothing more can be played by it
    assert cli.main(["rate", str(tmp_path / "sampled"), "--port", "0", "--learn"]) == 2
    assert "tiny.sf2" in capsys.readouterr().err


def test_a_missing_package_is_named_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["rate", str(tmp_path)]) == 2
    assert "pip install 'mammadai-jax[rate]'" in capsys.readouterr().err
