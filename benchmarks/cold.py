"""How long a user waits for the first result of a fresh process."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Contest, Job

PEER = "import jax, flax, optax"


def started(arguments: list[str], **environment: str) -> Job:
    """The job of a Python process with such arguments."""
    command = [sys.executable, *arguments]
    run = functools.partial(
        subprocess.run, command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL
    )
    return Job(lambda: measure.seconds(run), 1)


def importing() -> Contest:
    """Importing the package's command line, and what it is written with."""
    return Contest(started(["-c", "import mammadai_jax.cli"]), peers={PEER: started(["-c", PEER])})


def composing(run: Path, scratch: Path, cached: bool) -> Contest:
    """`mammadai compose` from a run directory, where its programs were compiled before or are not kept."""
    arguments = ["-m", "mammadai_jax", "compose", str(run), "--out", str(scratch / "composed")]
    kept = "true" if cached else "false"
    return Contest(started(arguments, XDG_CACHE_HOME=str(scratch), JAX_ENABLE_COMPILATION_CACHE=kept))
