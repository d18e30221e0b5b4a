"""A command answers quickly because what is slow to import waits until it is needed."""

import os
import subprocess
import sys

import pytest

SLOW = {
    "distrax", "flashbax", "matplotlib", "music21", "orbax.checkpoint", "pandas", "rlax", "safetensors",
    "scipy.optimize", "scipy.special", "scipy.stats", "sklearn", "symusic", "tensorflow_probability",
    "tokenizers", "verovio",
}  # fmt: skip


def imported(statement):
    """The modules that a fresh interpreter has after a statement."""
    program = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("mammadai_jax", {"jax"}),
        ("mammadai_jax.music", {"jax"}),
        ("mammadai_jax.music.statistics", set()),
        ("mammadai_jax.environments", set()),
        ("mammadai_jax.training.teach", set()),
    ],
)
def test_what_is_slow_to_import_waits(module, unneeded):
    found = imported(f"import {module}")
    # files of music are what the last reads and writes
    assert not found & ((SLOW - {"symusic"} if module.endswith("teach") else SLOW) | unneeded)


def test_help_and_mistakes_wait_for_nothing():
    call = "from mammadai_jax import cli\ntry: cli.main({})\nexcept SystemExit: pass\n"
    for argv in (["--help"], ["--version"], ["tech"]):
        assert not imported(f"exec({call.format(argv)!r})") & (SLOW | {"jax", "numpy", "tyro"})
    refused = imported(f"exec({call.format(['compose', '/nowhere'])!r})")
    assert not refused & (SLOW - {"symusic"})


def test_importing_leaves_the_devices_alone():
    """Whoever joins several processes does so after importing, and before jax is used."""
    modules = "pkgutil.walk_packages(mammadai_jax.__path__, 'mammadai_jax.')"
    program = f"""
import importlib, pkgutil, mammadai_jax
for module in {modules}:
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    environment = {**os.environ, "JAX_PLATFORMS": "nowhere"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
