"""Chips that are not there: their published peaks, and devices for their compiler to compile for."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies

from mammadai_jax.learning.collectives import DEVICES
from mammadai_jax.training import sharding


class Chip(NamedTuple):
    """What a chip can do at most.

    Attributes:
        flops: of bfloat16 products, 1 / s.
        bandwidth: of its memory, bytes / s.
        memory: bytes.
        clock: Hz, in whose cycles the compiler estimates; of its vector unit.
        board: the smallest topology that its compiler takes.

    """

    flops: float
    bandwidth: float
    memory: float
    clock: float
    board: str


# https://cloud.google.com/tpu/docs, the pages v5e, v5p and v6e; clocks: https://jax-ml.github.io/scaling-book
# (Austin et al. 2025)
CHIPS = {
    "v5e": Chip(197e12, 819e9, 16e9, 1.5e9, "2x2"),
    "v5p": Chip(459e12, 2765e9, 95e9, 1.75e9, "2x2x1"),
    "v6e": Chip(918e12, 1600e9, 32e9, 1.75e9, "2x2"),
}
# libtpu looks for this machine's TPUs, and lets one process use them, unless it is told otherwise
ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Abroad(sharding.Placement):
    """A shard on each of such devices, which nothing can run on."""

    chips: tuple[Any, ...] = ()

    @property
    def mesh(self) -> jax.sharding.Mesh:
        """The chips in a row."""
        kind = (jax.sharding.AxisType.Auto,)
        return jax.sharding.Mesh(np.array(self.chips), (DEVICES,), axis_types=kind)


def stay_at_home() -> None:
    """Keep jax on this machine's CPU, and libtpu from looking for TPUs; call it before jax is used."""
    os.environ.update({name: value for name, value in ALONE.items() if name not in os.environ})
    jax.config.update("jax_platforms", "cpu")


def placed(target: str) -> tuple[Chip, Abroad]:
    """The chip of a target such as `v5e:1` or `v5e:2x2`, and its devices.

    Raises:
        ValueError: for a chip that is not in CHIPS, or a shape that it does not come in.
        ImportError: if its compiler is not installed.

    """
    if importlib.util.find_spec("libtpu") is None:
        raise ImportError("no compiler for TPUs: pip install libtpu")
    kind, _, shape = target.partition(":")
    if kind not in CHIPS:
        raise ValueError(
            f"--target {target}: of {', '.join(CHIPS)}, a colon, and 1 or a topology such as 2x2"
        )
    board = CHIPS[kind].board if shape == "1" else shape
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=f"{kind}:{board}").devices
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"--target {target}: {error}") from error
    chips = tuple(found[:1] if shape == "1" else found)
    return CHIPS[kind], Abroad(len(chips), len(chips), chips)
