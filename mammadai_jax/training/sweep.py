"""A sweep: one stage trained under many seeds and hyperparameters at once, vmapped in one program.

The learners are the rows of one state, which `loop.train` drives like any other. A learner whose numbers are
no longer finite keeps its last finite state, and the others continue.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import itertools
import math
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.files import expanded, write_atomically
from mammadai_jax.training import loop, nonfinite
from mammadai_jax.training.context import context_of, settings_of_run
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.report.charts import number
from mammadai_jax.training.run import Run, read_rows
from mammadai_jax.training.run import read as read_run
from mammadai_jax.training.settings import (
    RunSettings,
    SettingsError,
    Stages,
    at,
    check,
    recorded,
    replaced,
)
from mammadai_jax.training.stage import Context, Part

Row = dict[str, float]
Make = Callable[[Mapping[str, Any]], Learner]


class Cost(NamedTuple):
    """Seconds of an update: of all learners in one program, and of one learner alone."""

    together: float
    alone: float
    learners: int

    def __str__(self) -> str:
        """The cost in a sentence."""
        apart = self.learners * self.alone
        return (
            f"{self.learners} learners in one program take {self.together:.3g} s an update; one by one "
            f"{self.learners} x {self.alone:.3g} s = {apart:.3g} s, {apart / self.together:.2f} times as long"
        )


def sweep(
    path: Path,
    stages: Stages,
    stage: str,
    out: Path,
    axes: Mapping[str, Sequence[float]],
    *,
    seeds: int = 1,
    updates: int | None = None,
    resume: bool = False,
) -> tuple[list[Row], Cost]:
    """Train a stage of a run under every combination of values -> a row a learner, and what it cost.

    A row holds the values by name, the seed, and the metrics of the last chunk of updates, NaN where the
    learner diverged. `out`/sweep.csv holds the same.

    Args:
        path: the run that settings, data, and what was learned before the stage are taken from.
        stages: that the run was trained with.
        stage: the name of the one that is swept.
        out: the sweep's own run directory.
        axes: values by the setting's dotted name, of those that `sweepable` finds.
        seeds: how many, from the run's own on.
        updates: how many are made; by default as many as the run's settings say.
        resume: go on with a sweep that was interrupted.

    Raises:
        SettingsError: for a setting that cannot be swept, or a value out of its range.
        ValueError: if a directory cannot be used as asked.

    """
    path, out = expanded(path), expanded(out)
    refuse_other(stages, stage)
    settings, parts = settings_of_run(path, stages)
    if updates is not None:
        parts = {**parts, stage: changed(parts[stage], {f"{stage}.{parts[stage].spec.updates}": updates})}
    axes = fitted(settings, parts[stage], axes)
    learners = grid(axes, range(settings.seed, settings.seed + seeds))
    make = maker(parts[stage], context_of(settings, parts, path))
    settings = replaced(settings, {"shards": 1})  # what was learned before may have been by several
    about = {
        "settings": recorded(settings, parts),
        "data": read_run(path).get("data"),
        "sweep": {"stage": stage, "seeds": seeds, "axes": {name: list(axes[name]) for name in axes}},
    }
    with Run(out, about, resume) as run, jax.default_matmul_precision(settings.precision):
        alive, _ = loop.train(together(make, learners), run)
        rows = results(learners, run.rows(stage)[-1], np.asarray(alive))
        cost = Cost(_seconds(run, stage), seconds_alone(make({})), len(rows))
        write_atomically(run.path / "sweep.csv", to_csv(rows).encode())
    return rows, cost


def refuse_other(stages: Stages, name: str) -> None:
    """SettingsError if there is no stage of that name, or none that can be swept."""
    able = [spec.name for spec in stages if spec.metrics]
    if name not in able:
        raise SettingsError(f"no stage {name!r} can be swept; there are {', '.join(able)}")


def changed(part: Part, values: Mapping[str, Any]) -> Part:
    """A stage with other values of settings, whose dotted names begin with the stage's."""
    own = {name.partition(".")[2]: value for name, value in values.items()}
    return Part(part.spec, replaced(part.settings, own))


def grid(axes: Mapping[str, Sequence[float]], seeds: Sequence[int]) -> list[Row]:
    """Every combination of the values, with every seed."""
    every = itertools.product(*axes.values(), seeds)
    return [dict(zip([*axes, "seed"], values, strict=True)) for values in every]


def sweepable(part: Part) -> dict[str, bool]:
    """The dotted names of a stage's hyperparameters, and whether they may be swept.

    Static ones may not, because they change the program, and neither may the number of updates.
    """
    spec, own = part
    found = dict(_fields(own.learner, f"{spec.name}.learner"))
    return {name: traced and name != f"{spec.name}.{spec.updates}" for name, traced in found.items()}


def _fields(config: Any, place: str, traced: bool = True) -> Iterator[tuple[str, bool]]:
    """The names of the values in a tree of configs, and whether they and all above them are traced."""
    if isinstance(config, Mapping):
        parts = [(name, value, traced) for name, value in config.items()]
    elif dataclasses.is_dataclass(config):
        fields = dataclasses.fields(config)
        parts = [(f.name, getattr(config, f.name), f.metadata.get("pytree_node", True)) for f in fields]
    else:
        yield place, traced
        return
    for name, value, node in parts:
        yield from _fields(value, f"{place}.{name}", traced and node)


def fitted(run: RunSettings, part: Part, axes: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """The axes with values of the types of a stage's settings.

    Raises:
        SettingsError: for a setting that cannot be swept, or a value that it cannot have.

    """
    names, stage = sweepable(part), part.spec.name
    found = {}
    for name, values in axes.items():
        if not names.get(name):
            why = "decides the program" if name in names else f"is no hyperparameter of {stage}"
            may = ", ".join(sorted(name for name, traced in names.items() if traced))
            raise SettingsError(f"{name} {why} and cannot be swept; there are {may}")
        kind = int if isinstance(at(part.settings, name.removeprefix(f"{stage}.")), int) else float
        if kind is int and not all(float(value).is_integer() for value in values):
            raise SettingsError(f"{name} asks for whole numbers, not {', '.join(map(str, values))}")
        found[name] = tuple(dict.fromkeys(map(kind, values)))
        for value in found[name]:
            check(run, {stage: changed(part, {name: value})})
    return found


def maker(part: Part, context: Context) -> Make:
    """Changes by name, which may be traced -> the stage's learner under them, on one shard.

    "seed" is the run's; every other name is the dotted one of a setting. The data are made once, with the
    run's own seed.
    """
    spec, own = part
    for name in spec.depends_on:
        context.learned(name)  # restored here, never as part of a program
    data, make_learner = spec.data(own, context), spec.make_learner
    assert make_learner

    def make(changes: Mapping[str, Any]) -> Learner:
        here = dataclasses.replace(context, seed=changes.get("seed", context.seed), shards=1)
        values = {name: value for name, value in changes.items() if name != "seed"}
        return make_learner(changed(part, values).settings, here, data)

    return make


def together(make: Make, learners: Sequence[Row]) -> Learner:
    """All learners as one learner. Its state is (bool (L,), which have not diverged; states, each (L, ...)).

    Its metrics are those of each learner, as "NAME[LEARNER]", and the mean of the one that is shown.
    """
    single = make({})
    swept = {name: jnp.asarray([row[name] for row in learners]) for name in learners[0]}

    def one(values, alive, state, data):
        after, metrics = make(values).step(state, data)
        alive &= nonfinite.finite((after, metrics))
        state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, state)
        return (alive, state), {name: jnp.where(alive, value, 0.0) for name, value in metrics.items()}

    def step(state, data):
        state, metrics = jax.vmap(one, (0, 0, 0, None))(swept, state[0], state[1], data)
        rows = {f"{name}[{i}]": values[i] for name, values in metrics.items() for i in range(len(learners))}
        return state, {single.shown: metrics[single.shown].mean(), **rows}

    def measure(measure_one, state):
        measured = [measure_one(jax.tree.map(operator.itemgetter(i), state[1])) for i in range(len(learners))]
        return {f"{name}[{i}]": value for i, each in enumerate(measured) for name, value in each.items()}

    # one after another: programs that vmap the first states have been seen to hang on a CPU
    return single._replace(
        init=lambda: (jnp.ones(len(learners), bool), jax.lax.map(lambda values: make(values).init(), swept)),
        step=step,
        notes=single.notes * len(learners),
        measure=single.measure and functools.partial(measure, single.measure),
        measure_every=single.updates,  # only after the last
    )


def results(learners: Sequence[Row], last: Mapping[str, Any], alive: np.ndarray) -> list[Row]:
    """The learners with their metrics in the last row of a log, NaN for those not `alive` (L,)."""
    names = [name.removesuffix("[0]") for name in last if name.endswith("[0]")]
    return [
        {**row, **{name: last[f"{name}[{i}]"] if alive[i] else math.nan for name in names}}
        for i, row in enumerate(learners)
    ]


def _seconds(run: Run, stage: str) -> float:
    """The median seconds of an update in a run's timing of its chunks."""
    rows = [row for row in read_rows(run.path / "timing.jsonl") if row["stage"] == stage]
    begins = [0, *(row["update"] for row in rows)]
    return median(row["seconds"] / (row["update"] - begin) for row, begin in zip(rows, begins, strict=False))


def seconds_alone(learner: Learner) -> float:
    """Seconds that an update of one learner takes, in its second call."""
    length = min(learner.chunk, learner.updates)
    state = jax.jit(learner.init)()
    advance = loop.program(learner, state, length)
    state, _ = jax.block_until_ready(advance(state, learner.data))
    begun = time.monotonic()
    jax.block_until_ready(advance(state, learner.data))
    return (time.monotonic() - begun) / length


def to_csv(rows: Sequence[Row]) -> str:
    """The rows as CSV; the metrics of a diverged learner are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if math.isnan(value) else value for name, value in row.items()})
    return text.getvalue()


def table(rows: Sequence[Row], metrics: Sequence[str], axes: Sequence[str]) -> str:
    """A line a combination: its values, and the metrics' mean ± deviation over the seeds."""
    metrics = [name for name in metrics if name in rows[0]]
    lines = [[*(name.rpartition(".")[2] for name in axes), *metrics, "diverged"]]
    for values, group in itertools.groupby(rows, lambda row: [row[name] for name in axes]):
        seeds = list(group)
        finite = [row for row in seeds if not math.isnan(row[metrics[0]])]
        cells = [_spread([row[name] for row in finite]) for name in metrics]
        lines.append([*map(number, values), *cells, f"{len(seeds) - len(finite)} of {len(seeds)}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def _spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation; "-" without values."""
    deviation = f" ± {number(stdev(values))}" if len(values) > 1 else ""
    return number(mean(values)) + deviation if values else "-"
