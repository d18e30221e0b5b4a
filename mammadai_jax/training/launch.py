"""Several processes that train together: how they connect, and how they agree on a decision."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

Result = TypeVar("Result")

# Environment variables of each launcher: the number of processes, and the index of this one.
LAUNCHERS = (
    ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"),
    ("SLURM_NTASKS", "SLURM_PROCID"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
)
ADDRESS = "JAX_COORDINATOR_ADDRESS"


class LaunchError(ValueError):
    """Processes that cannot train together; the message says why and what to do."""


def join() -> None:
    """Connect to the other processes if this one is one of several; call it before jax is used otherwise.

    JAX_NUM_PROCESSES, JAX_PROCESS_ID and JAX_COORDINATOR_ADDRESS (host:port of process 0) are used if they
    are set, as in a Kubernetes JobSet; otherwise the variables of Slurm or Open MPI, and the address that
    they give.

    Raises:
        LaunchError: if a variable is not a number, or the address of process 0 is unknown.

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
    """Whether this is the process that writes files and messages."""
    return jax.process_index() == 0


def agree(flag: bool) -> bool:
    """The first process's value of a flag."""
    return flag if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.bool_(flag)))


def anywhere(flag: bool) -> bool:
    """Whether a flag is true in any process."""
    return flag if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.bool_(flag)).any())


def first(action: Callable[[], Result]) -> Result | None:
    """Run an action in the first process only -> its result there, None in the others, which wait for it.

    Raises:
        LaunchError: in the other processes, if the action failed.

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
