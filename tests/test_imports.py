"""A command answers quickly because what is slow to import waits until it is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mammadai_jax

SLOW = {
    "distrax", "flashbax", "jinja2", "matplotlib", "music21", "orbax.checkpoint", "pandas", "rlax",
    "safetensors", "scipy.optimize", "scipy.special", "scipy.stats", "sklearn", "symusic",
    "tensorflow_probability", "tokenizers", "verovio",
}  # fmt: skip


def imported(*statements):
    """The modules that a fresh interpreter has after each of several statements, one after another."""
    report = "import sys, json; found = []"
    told = [f"{statement}\nfound.append([*sys.modules])" for statement in statements]
    program = "\n".join([report, *told, "print(json.dumps(found))"])
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [set(modules) for modules in json.loads(run.stdout.splitlines()[-1])]


def test_what_is_slow_to_import_waits():
    modules = [
        "mammadai_jax",
        "mammadai_jax.music",
        "mammadai_jax.music.statistics",
        "mammadai_jax.environments",
    ]
    package, music, statistics, environments, teach = imported(
        *(f"import {module}" for module in [*modules, "mammadai_jax.training.teach"])
    )
    assert not package & (SLOW | {"jax"})
    assert not music & (SLOW | {"jax"})
    assert not statistics & SLOW
    assert "jax" in environments and not environments & SLOW
    assert "mammadai_jax.training.teach" in teach and not teach & SLOW


def test_the_package_offers_what_all_names_and_nothing_else():
    offered = {name: getattr(mammadai_jax, name) for name in mammadai_jax.__all__}
    assert set(dir(mammadai_jax)) == set(offered)
    assert all(callable(offered[name]) for name in ("make", "teach", "compose", "evaluate"))
    folder = Path(mammadai_jax.__file__).parent
    rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert rooms - {"commands"} == {name for name, value in offered.items() if hasattr(value, "__path__")}
    folders = {path.name for path in folder.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == {*rooms, "boxed"}  # weights, and no code
    assert (folder / "py.typed").exists()
    with pytest.raises(AttributeError, match="no attribute 'maek'"):
        mammadai_jax.maek  # noqa: B018


def test_help_and_mistakes_wait_for_nothing():
    call = "from mammadai_jax import cli\ntry: cli.main({})\nexcept SystemExit: pass"
    given = (["--help"], ["--version"], ["tech"], ["compose", "/nowhere"])
    *answered, refused = imported(*(call.format(argv) for argv in given))
    for found in answered:
        assert "mammadai_jax.cli" in found and not found & (SLOW | {"jax", "numpy", "tyro"})
    assert "jax" in refused and not refused & SLOW


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
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
