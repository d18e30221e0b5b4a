"""Kills a training in every stage, goes on until it ends, and compares every byte with an undisturbed one.

    python -m experiments.resume --rounds 1

The command `mammadai teach` runs in a small setting. Each kill is a SIGKILL at a moment drawn from the seed,
`rounds` of them in each stage that learns. Every other sitting saves after every chunk, so that kills fall
into saving; the others do so once a second, so that logged updates have to be made again. Compared are the
log, every leaf of the last checkpoints and the sample files. Exit code 1 if anything differs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorstore
import tyro

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
"""
STAGES = ("prior", "cloning", "gail", "theory", "embedding", "prompted", "reward_model", "preference")


class Kill(NamedTuple):
    """When a training was killed: seconds into the sitting, last logged stage and update, mid-save or not."""

    seconds: float
    stage: str
    update: int
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


def disturbed(out: Path, rounds: int, seed: int) -> list[Kill]:
    """Train with `rounds` kills in each stage, each where one of its chunks is made."""
    rng = np.random.default_rng(seed)
    stages = np.array([line["stage"] for line in _lines(out.parent / "undisturbed")])
    # as many lines as there are before a line of the stage: the kill falls into the chunk that logs it
    drawn = [rng.choice(np.flatnonzero(stages == stage), rounds) for stage in STAGES]
    targets = sorted(np.concatenate(drawn))
    return [
        _kill(command(out, i > 0, save_seconds=i % 2), out, target, rng.uniform(0, 0.2))
        for i, target in enumerate(targets)
    ]


def _kill(training: list[str], out: Path, target: int, delay: float) -> Kill:
    """Run a training until it has logged so many lines and for `delay` seconds more, and send SIGKILL."""
    begun = time.monotonic()
    process = subprocess.Popen(training, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while len(_lines(out)) < target and process.poll() is None:
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    _, error = process.communicate()
    if process.returncode > 0:
        raise RuntimeError(f"a training failed before it was killed:\n{error.decode()}")
    last = _lines(out)[-1:] or [{"stage": "-", "update": 0}]
    return Kill(time.monotonic() - begun, last[0]["stage"], last[0]["update"], _is_saving(out))


def _lines(out: Path) -> list[dict]:
    """The whole lines of a log, which may be being written."""
    path = out / "log.jsonl"
    written = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in written[: written.rfind(b"\n") + 1].splitlines()]


def _is_saving(out: Path) -> bool:
    """Whether a checkpoint lies there half-written."""
    entries = list((out / "checkpoints").glob("*/*"))
    finished = {entry.stem for entry in entries if entry.suffix == ".json"}
    return any(entry.suffix != ".json" and entry.name not in finished for entry in entries)


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
    equal = {"log.jsonl": (one / "log.jsonl").read_bytes() == (other / "log.jsonl").read_bytes()}
    for stage in STAGES:
        equal[f"checkpoint {stage}"] = leaves(one, stage) == leaves(other, stage)
    for path in sorted((one / "samples").rglob("*.*")):
        name = path.relative_to(one)
        equal[str(name)] = (other / name).exists() and path.read_bytes() == (other / name).read_bytes()
    return equal


def main(rounds: int = 1, seed: int = 0) -> int:
    """Print each kill and whether all was equal in the end.

    Args:
        rounds: kills in each stage.
        seed: of their moments.

    """
    with tempfile.TemporaryDirectory() as room:
        one, other = Path(room, "undisturbed"), Path(room, "disturbed")
        Path(room, "settings.toml").write_text(SETTINGS)
        undisturbed(one)
        print(f"{'kill':>4} {'seconds':>8} {'stage':>10} {'update':>6}  mid-save")
        for number, kill in enumerate(disturbed(other, rounds, seed), start=1):
            row = f"{number:4} {kill.seconds:8.2f} {kill.stage:>10} {kill.update:6}  {kill.saving}"
            print(row, flush=True)
        finish(other)
        equal = compare(one, other)
        for name, same in equal.items():
            print(f"{name:32} {'equal' if same else 'DIFFERENT'}")
        return 0 if all(equal.values()) else 1


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
