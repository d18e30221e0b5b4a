"""Making an update again from its dump, to learn where its first value that is not finite arose."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax

from mammadai_jax.training import dumps
from mammadai_jax.training.context import context_of, settings_of_run
from mammadai_jax.training.dumps import Dump, DumpError
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.origins import Origin, origin
from mammadai_jax.training.settings import Stages
from mammadai_jax.training.sharding import Placement


class Replay(NamedTuple):
    """An update that was made again, and where its first value that is not finite arose; None if all are."""

    stage: str
    update: int
    origin: Origin | None

    def __str__(self) -> str:
        """The same in a sentence and the lines of the operation."""
        made = f"stage {self.stage}, update {self.update}"
        if self.origin is None:
            return f"{made}: every number is finite here. Replay it on a machine like the one that trained"
        value, operation, place, result = self.origin
        if operation == "input":
            return f"{made}: {value} is in what the update began with, {place[0]}, and reaches {result}"
        lines = "".join(f"\n    {line}" for line in place)
        return f"{made}: the first {value} is of `{operation}`, and reaches {result}{lines}"


def replay(path: Path, stages: Stages) -> Replay:
    """Make the update of a dump again, operation by operation.

    Args:
        path: the dump, in the directory of its run.
        stages: that the run was trained with.

    Raises:
        DumpError: if the file holds no dump, or not one of such a stage.
        RunError: if the run cannot be read.

    """
    dump, run = dumps.read(path), path.resolve().parents[1]
    settings, parts = settings_of_run(run, stages)
    spec, own = parts.get(dump.stage, (None, None))
    if spec is None or spec.make_learner is None:
        raise DumpError(f"{path} is of {dump.stage}, which is no stage: call training.replay.made_again")
    context = context_of(settings, parts, run)
    data = (spec.example or spec.data)(own, context)
    with jax.default_matmul_precision(settings.precision):
        return made_again(dump, spec.make_learner(own, context, data), Placement(settings.shards))


def made_again(dump: Dump, learner: Learner, placement: Placement) -> Replay:
    """The update of a dump, made again by its learner, whose data may be others of the same types."""
    state = dump.fill("state", jax.eval_shape(placement.spread(learner.init)))
    data = dump.fill("data", learner.data, any_length=True)
    step = placement.on_one_device(learner.step, state)
    results = lambda state, data: dict(zip(("state", "metrics"), step(state, data), strict=True))
    return Replay(dump.stage, dump.update, origin(results, state=state, data=data))
