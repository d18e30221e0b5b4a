"""Kills a training in every stage, goes on until it ends, and compares every byte with an undisturbed one.

    python -m experiments.resume --rounds 20

The command `mammadai teach` runs in a small setting. Each kill is a SIGKILL at a moment drawn from the seed:
`rounds` of them in each stage that learns, every third as soon as a checkpoint lies there half-written; and
as many at any moment of the whole command, also while it starts and while it writes the report. Compared are
the log, the records, every leaf of the last checkpoints and the samples. Exit code 1 if anything differs.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorstore
import tyro

from mammadai_jax import stages

SETTINGS = """\
corpus = "embedded"
saved_samples = 1
num_samples = 4

[prior]
log_every = 4

[prior.learner]
width = 32
num_layers = 1
batch_size = 4
sequence_length = 64
num_updates = 160
lr_warmup_steps = 5

[cloning]
num_updates = 200

[gail]
num_updates = 40
log_every = 1

[gail.learner.ppo]
num_envs = 2
num_epochs = 1

[chorales]
log_every = 1

[polyphony]
num_updates = 20
log_every = 1
"""
RECORDS = ("log.jsonl", "run.json", "embedding.json", "comparisons.jsonl")
STAGES = tuple(spec.name for spec in stages.STAGES if spec.make_learner)


class Kill(NamedTuple):
    """Where a training was to be killed, after how many seconds it was, and whether it was saving then."""

    where: str
    seconds: float
    saving: bool


def command(out: Path, resume: bool = False, save_seconds: int = 0) -> list[str]:
    """The command line that trains into a directory beside the settings."""
    teach = [sys.executable, "-m", "mammadai_jax", "teach", "--preset", "smoke"]
    teach += ["--save-seconds", str(save_seconds)]
    return [*teach, "--config", str(out.parent / "settings.toml"), "--out", str(out), *["--resume"][:resume]]


def undisturbed(out: Path) -> None:
    """Train in one sitting; RuntimeError with what was printed if that fails."""
    ended = subprocess.run(command(out), capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"the undisturbed training failed:\n{ended.stderr}")


def in_stages(out: Path, rounds: int, rng: np.random.Generator) -> list[Kill]:
    """Train with `rounds` kills in each stage, each where one of its chunks is made, or is being saved."""
    logged = np.array([line["stage"] for line in _lines(out.parent / "undisturbed")])
    # as many lines as there are before a line of the stage: the kill falls into the chunk that logs it
    drawn = [(line, s) for s in STAGES for line in rng.choice(np.flatnonzero(logged == s), rounds)]
    kills = []
    for number, (line, stage) in enumerate(sorted(drawn)):
        in_save, before = number % 3 == 0, _unfinished(out)

        def due(line=line, in_save=in_save, before=before) -> bool:
            return len(_lines(out)) >= line and (not in_save or bool(_unfinished(out) - before))

        training = command(out, number > 0, save_seconds=0 if in_save else 1)
        kills.append(_kill(training, out, stage, due, rng.uniform(0, 0.02 if in_save else 0.3)))
    return kills


def at_any_time(out: Path, rounds: int, rng: np.random.Generator, seconds: float) -> list[Kill]:
    """Train with `rounds` kills, each within so many seconds after the command was given."""
    return [
        _kill(command(out, number > 0, number % 2), out, "teach", lambda: True, rng.uniform(0, seconds))
        for number in range(rounds)
    ]


def _kill(training: list[str], out: Path, where: str, due: Callable[[], bool], delay: float) -> Kill:
    """Run a training until a kill is due and for `delay` seconds more, and send SIGKILL."""
    begun, before = time.monotonic(), _unfinished(out)
    process = subprocess.Popen(training, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None:
        if due():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(delay)  # it may end before
            process.send_signal(signal.SIGSTOP)  # so that it is killed where it is seen
            if due():
                break
            process.send_signal(signal.SIGCONT)
        time.sleep(0.002)
    process.kill()
    _, error = process.communicate()
    if process.returncode > 0:
        raise RuntimeError(f"a training failed before it was killed:\n{error.decode()}")
    return Kill(where, time.monotonic() - begun, bool(_unfinished(out) - before))


def _lines(out: Path) -> list[dict]:
    """The whole lines of a log, which may be being written."""
    path = out / "log.jsonl"
    written = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in written[: written.rfind(b"\n") + 1].splitlines()]


def _unfinished(out: Path) -> set[tuple[str, int]]:
    """The checkpoints that lie there half-written, each with what tells it from one of the same name."""
    steps = [entry for entry in (out / "checkpoints").glob("*/*") if entry.suffix != ".json"]
    half = [step for step in steps if not step.with_name(f"{step.name}.json").exists()]
    with contextlib.suppress(FileNotFoundError):  # it has just been renamed
        return {(str(step), step.stat().st_ino) for step in half}
    return set()


def finish(out: Path) -> None:
    """Go on to the end; RuntimeError with what was printed if that fails."""
    ended = subprocess.run(command(out, resume=True), capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"the training did not go on:\n{ended.stderr}")


def leaves(out: Path, stage: str) -> dict[str, bytes]:
    """The bytes of every leaf of a stage's last checkpoint, read without this package."""
    step = max((out / "checkpoints" / stage).glob("[0-9]*[0-9]"))
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{step}/"}).result()
    names = sorted(key.decode() for key in store.list().result())
    return {f"{step.name}/{name}": store.read(name).result().value for name in names}


def compare(one: Path, other: Path) -> dict[str, bool]:
    """Whether the parts of two run directories are equal, byte for byte."""
    equal = {name: (one / name).read_bytes() == (other / name).read_bytes() for name in RECORDS}
    for stage in STAGES:
        equal[f"checkpoint {stage}"] = leaves(one, stage) == leaves(other, stage)
    for path in sorted((one / "samples").rglob("*.*")):
        name = path.relative_to(one)
        equal[str(name)] = (other / name).exists() and path.read_bytes() == (other / name).read_bytes()
    return equal


def main(rounds: int = 1, seed: int = 0) -> int:
    """Print where the kills fell, and whether all was equal in the end.

    Args:
        rounds: kills in each stage, and of the whole command.
        seed: of their moments.

    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as room:
        one, staged, anywhere = (Path(room, name) for name in ("undisturbed", "staged", "anywhere"))
        Path(room, "settings.toml").write_text(SETTINGS)
        begun = time.monotonic()
        undisturbed(one)
        seconds = time.monotonic() - begun
        kills = in_stages(staged, rounds, rng) + at_any_time(anywhere, rounds, rng, seconds)
        saving = Counter(kill.where for kill in kills if kill.saving)
        print("| killed in | kills | while saving |\n|---|---|---|")
        for where in (*STAGES, "teach"):
            print(f"| {where} | {sum(kill.where == where for kill in kills)} | {saving[where]} |")
        equal = {}
        for other in (staged, anywhere):
            finish(other)
            equal |= {f"{other.name} {name}": same for name, same in compare(one, other).items()}
        print(f"\n{sum(equal.values())} of {len(equal)} parts are equal")
        print("".join(f"DIFFERENT {name}\n" for name, same in equal.items() if not same), end="")
        return 0 if all(equal.values()) else 1


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
