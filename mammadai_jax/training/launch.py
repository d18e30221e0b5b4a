"""Several processes that train together: how they find each other, and what they agree on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

Result = TypeVar("Result")

# Who launched us: the environment variables with the number of processes and with our own number.
LAUNCHERS = (
    ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"),
    ("SLURM_NTASKS", "SLURM_PROCID"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
)
ADDRESS = "JAX_COORDINATOR_ADDRESS"


class LaunchError(ValueError):
    """Processes that cannot train together: says why and what to do."""


def join() -> None:
    """Join the other processes if we were launched as one of several; before jax is used otherwise.

    JAX_NUM_PROCESSES, JAX_PROCESS_ID and JAX_COORDINATOR_ADDRESS (host:port of process 0) say so explicitly,
    as in a Kubernetes JobSet. Else Slurm's or Open MPI's numbers are taken, and the address that they know.

    Raises:
        LaunchError: if the numbers make no sense, or nobody says where process 0 is.

    """
    for size, rank in LAUNCHERS:
        if size in os.environ and rank in os.environ:
            processes, process = _number(size), _number(rank)
            if processes > 1:
                _join(processes, process)
            return


def _join(processes: int, process: int) -> None:
    method = "deactivate" if ADDRESS in os.environ else None
    try:
        jax.distributed.initialize(
            num_processes=processes, process_id=process, cluster_detection_method=method
        )
    except (ValueError, RuntimeError) as error:
        raise LaunchError(
            f"process {process} of {processes} cannot join the others ({error}): give all of them "
            f"{ADDRESS}=HOST:PORT of process 0"
        ) from None


def _number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError:
        raise LaunchError(f"{name} is a whole number, not {os.environ[name]!r}") from None


def leads() -> bool:
    """Whether this process writes for all of them."""
    return jax.process_index() == 0


def agree(flag: bool) -> bool:
    """What the first process says."""
    return flag if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.bool_(flag)))


def anywhere(flag: bool) -> bool:
    """Whether any process says so."""
    return flag if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.bool_(flag)).any())


def first(action: Callable[[], Result]) -> Result | None:
    """The result of what the first process alone does, None in the others, which wait for it.

    Raises:
        LaunchError: in the others, if it failed.

    """
    result, error = None, None
    if leads():
        try:
            result = action()
        except Exception as found:
            error = found
    failed = agree(error is not None)
    if error is not None:
        raise error
    if failed:
        raise LaunchError("the first process failed, and says why")
    return result
