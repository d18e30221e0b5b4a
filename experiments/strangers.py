"""Gives hostile run directories to the command line: each must be refused in one line, and soon.

    python -m experiments.strangers RUN

RUN is a finished run of the preset smoke, which is copied for each case and tampered with: pipes, devices and
links in place of its files, absurd sizes, forged records with right digests. A process of its own answers
each; it may take two seconds of a core more than a refusal of an empty folder, and a GiB. Nothing outside of
the copy may change. Exit code 1 if a case does not hold.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from mammadai_jax.stages import joint_embedding
from mammadai_jax.training import checkpoints, run, sealed

SECONDS, GIB = 2.0, 1 << 30
HUGE = 300 << 20
FORMATS = {"run.json": run.FORMAT, "embedding.json": joint_embedding.FORMAT}
MINE = "letter.txt"  # a file outside of the run
COMPOSE = ("compose", "{run}", "--stage")
PRIOR, GAIL, THEORY, PROMPTED = ((*COMPOSE, stage) for stage in ("prior", "gail", "theory", "prompted"))
RESUME = ("teach", "--preset", "smoke", "--out", "{run}", "--resume")
Tamper = Callable[[Path], Any]


class Case(NamedTuple):
    """A hostile directory: its name, how a run becomes it, and the command that has to refuse it."""

    name: str
    tamper: Tamper
    command: tuple[str, ...]


def emptied(path: Path) -> Path:
    """A place in a run, of which what was there is gone."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    return path


def link(name: str, target: str) -> Tamper:
    """A symbolic link in place of a file or folder; the target may name a place beside the run."""
    return lambda at: emptied(at / name).symlink_to(target.format(beside=at.parent))


def pipe(name: str) -> Tamper:
    """A pipe into which nobody writes."""
    return lambda at: os.mkfifo(emptied(at / name))


def text(name: str, contents: bytes) -> Tamper:
    """Other contents of a file."""
    return lambda at: (at / name).write_bytes(contents)


def huge(name: str) -> Tamper:
    """JSON of 300 MB, of which little is on the disk."""

    def tamper(at: Path) -> None:
        (at / name).write_bytes(b'{"format": 3, "a": "')
        os.truncate(at / name, HUGE)

    return tamper


def sparse(name: str) -> Tamper:
    """A TiB, of which nothing is on the disk."""
    return lambda at: os.truncate(newest(at, name), 1 << 40)


def record(name: str, **changes: Any) -> Tamper:
    """Other contents of a file that holds its digest, with a right one."""

    def tamper(at: Path) -> None:
        sealed.write(at / name, FORMATS[name], json.loads((at / name).read_text()) | changes)

    return tamper


def setting(name: str, value: Any) -> Tamper:
    """Another setting in run.json, to which all other files belong."""

    def tamper(at: Path) -> None:
        contents = json.loads((at / "run.json").read_text())
        *groups, last = name.split("/")
        functools.reduce(dict.__getitem__, groups, contents["settings"])[last] = value
        sealed.write(at / "run.json", run.FORMAT, contents)
        record("embedding.json", run=run.identity(at))(at)
        for path in at.glob("checkpoints/*/*.json"):
            own = json.loads(path.read_text()) | {"run": run.identity(at)}
            sealed.write(path, checkpoints.FORMAT, own)

    return tamper


def manifest(**changes: Any) -> Tamper:
    """Other contents of the prior's manifest, with a right digest."""

    def tamper(at: Path) -> None:
        path = newest(at, "{manifest}")
        sealed.write(path, checkpoints.FORMAT, json.loads(path.read_text()) | changes)

    return tamper


def newest(at: Path, name: str) -> Path:
    """A place in the prior's newest checkpoint: "{step}/..." or "{manifest}"."""
    path = max((at / "checkpoints" / "prior").glob("*.json"))
    return path.parent / name.format(step=path.stem, manifest=path.name)


def in_prior(tamper: Callable[[str], Tamper], name: str) -> Tamper:
    """What one of the above does to a file of the prior's newest checkpoint."""
    return lambda at: tamper(str(newest(at, name).relative_to(at)))(at)


STEP_FILE = "{step}/manifest.ocdbt"
CASES = (
    Case("run.json is a pipe", pipe("run.json"), PRIOR),
    Case("run.json is an endless device", link("run.json", "/dev/zero"), PRIOR),
    Case("run.json is /etc/passwd", link("run.json", "/etc/passwd"), PRIOR),
    Case("run.json is a folder", lambda at: emptied(at / "run.json").mkdir(), PRIOR),
    Case("run.json has 300 MB", huge("run.json"), PRIOR),
    Case("run.json is 100,000 brackets", text("run.json", b"[" * 100_000), PRIOR),
    Case("run.json is many lists", text("run.json", b"[" + b"[]," * 600_000 + b"0]"), PRIOR),
    Case("run.json is UTF-16", text("run.json", "{}".encode("utf-16")), PRIOR),
    Case("run.json is empty", text("run.json", b""), PRIOR),
    Case("run.json has a long number", text("run.json", b'{"format": ' + b"9" * 10**6 + b"}"), PRIOR),
    Case("no settings", record("run.json", settings=None), PRIOR),
    Case("settings are a list", record("run.json", settings=[1]), PRIOR),
    Case("a setting with escape codes", setting("\x1b[31mred\x07", 1), PRIOR),
    Case("a million layers", setting("prior/learner/num_layers", 10**6), PRIOR),
    Case("a million layers for prompts", setting("prompted/learner/num_layers", 10**6), PROMPTED),
    Case("100,000 hidden layers", setting("gail/learner/ppo/hidden", [1] * 100_000), GAIL),
    Case("100,000 hidden units", setting("gail/learner/ppo/hidden", [100_000]), GAIL),
    Case("60,000 hidden units", setting("gail/learner/ppo/hidden", [60_000] * 8), GAIL),
    Case("100,000 kernels", setting("embedding/learner/kernel_sizes", [1] * 100_000), PROMPTED),
    Case("a width of 2**31 - 1", setting("prior/learner/width", 2**31 - 1), PRIOR),
    Case("a width of 2**15", setting("prior/learner/width", 2**15), PRIOR),
    Case("a million words", setting("embedding/learner/vocab_size", 2**31 - 1), PROMPTED),
    Case("2**31 - 1 shards", setting("shards", 2**31 - 1), PRIOR),
    Case("a million levels", setting("embedding/rvq_levels", 10**6), PROMPTED),
    Case("an encoder with a NUL", setting("embedding/sentence_encoder", "a\0b"), PROMPTED),
    Case("an encoder of 100,000 letters", setting("embedding/sentence_encoder", "a/" * 50_000), PROMPTED),
    Case("an encoder in /dev", setting("embedding/sentence_encoder", "/dev"), PROMPTED),
    Case("embedding.json is a pipe", pipe("embedding.json"), PROMPTED),
    Case("embedding.json is an endless device", link("embedding.json", "/dev/zero"), PROMPTED),
    Case("embedding.json has 300 MB", huge("embedding.json"), PROMPTED),
    Case(
        "embedding.json is many lists",
        text("embedding.json", b"[" + b"[]," * 2_500_000 + b"0]"),
        PROMPTED,
    ),
    Case("embedding.json of another run", record("embedding.json", run="0" * 64), PROMPTED),
    Case("embedding.json is gone", lambda at: emptied(at / "embedding.json"), PROMPTED),
    Case("a stage's folder is a link", link("checkpoints/prior", "{beside}/mine"), PRIOR),
    Case("a step is a link", in_prior(lambda name: link(name, "{beside}/mine"), "{step}"), PRIOR),
    Case("a manifest is a pipe", in_prior(pipe, "{manifest}"), PRIOR),
    Case("a manifest is a device", in_prior(lambda name: link(name, "/dev/zero"), "{manifest}"), PRIOR),
    Case("a manifest has 300 MB", in_prior(huge, "{manifest}"), PRIOR),
    Case("a checkpoint's file is a pipe", in_prior(pipe, STEP_FILE), PRIOR),
    Case("a checkpoint's file is a device", in_prior(lambda name: link(name, "/dev/zero"), STEP_FILE), PRIOR),
    Case("a checkpoint's file has a TiB", sparse(STEP_FILE), PRIOR),
    Case("a manifest names a device", manifest(files={"/dev/zero": "0" * 64}), PRIOR),
    Case("a manifest with absurd leaves", manifest(leaves={"a": "float32(4611686018427387904,)"}), PRIOR),
    Case("composed is a link", link("composed", "{beside}/mine"), (*COMPOSE, "noise")),
    Case("log.jsonl is a link", link("log.jsonl", "{beside}/mine/letter.txt"), RESUME),
    Case("log.jsonl is a pipe", pipe("log.jsonl"), RESUME),
    Case("timing.jsonl is a link", link("timing.jsonl", "{beside}/mine/letter.txt"), RESUME),
    Case("checkpoints is a link", link("checkpoints", "{beside}/mine"), RESUME),
    Case("samples is a link", link("samples", "{beside}/mine"), RESUME),
    Case("report.html is a link", link("report.html", "{beside}/mine/letter.txt"), RESUME),
)


def prepared(case: Case, source: Path, room: Path) -> list[str]:
    """Make a hostile directory and a file beside it, in an empty folder -> the command's arguments."""
    skipped = shutil.ignore_patterns("samples", "composed", "report.html")
    at = shutil.copytree(source, room / "run", symlinks=True, ignore=skipped)
    (room / "mine").mkdir()
    (room / "mine" / MINE).write_text("dear")
    case.tamper(at)
    return [part.format(run=at) for part in case.command]


def untouched(room: Path) -> bool:
    """Whether the file beside the run is as it was, and alone."""
    return [(path.name, path.read_text()) for path in (room / "mine").iterdir()] == [(MINE, "dear")]


def faults(code: int, said: str, room: Path) -> list[str]:
    """What is wrong with an answer of the command line."""
    lines = [line for line in said.splitlines() if line.startswith("mammadai: ")]
    return [
        fault
        for fault, holds in {
            f"exit code {code}": code == 2,
            f"{len(lines)} lines": len(lines) == 1,
            "a traceback": "Traceback" not in said,
            "escape codes": "\x1b" not in said,
            "something outside has changed": untouched(room),
        }.items()
        if not holds
    ]


class Answer(NamedTuple):
    """Exit code, standard error, seconds of a core and bytes of a process."""

    code: int
    said: str
    seconds: float
    peak: int


def answer(arguments: list[str]) -> Answer:
    """Run the command line in a process of its own; after five minutes it is ended."""
    command = ["timeout", "-s", "KILL", "300", sys.executable, "-m", "mammadai_jax", *arguments]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    return Answer(process.returncode, text, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)


def main(source: tyro.conf.Positional[Path]) -> int:
    """Print what becomes of each case.

    Args:
        source: a finished run of the preset smoke.

    """
    with tempfile.TemporaryDirectory() as room:
        usual = min(answer(["compose", room]).seconds for _ in range(3))
    print(f"a folder without a run is refused after {usual:.1f} s\n\n| case | s | MiB | |\n|---|---|---|---|")
    failed = 0
    for case in CASES:
        with tempfile.TemporaryDirectory() as room:
            got = answer(prepared(case, source, Path(room)))
            wrong = faults(got.code, got.said, Path(room))
        wrong += ["too slow"] * (got.seconds - usual > SECONDS) + ["too much memory"] * (got.peak > GIB)
        failed += bool(wrong)
        told = ", ".join(wrong) or "refused"
        print(f"| {case.name} | {got.seconds - usual:+.1f} | {got.peak >> 20} | {told} |", flush=True)
    print(f"\n{len(CASES) - failed} of {len(CASES)} are refused")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
