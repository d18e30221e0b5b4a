# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
# (flax adds the constructors of its dataclasses)
"""One stage learned many times at once: seeds and hyperparameters, vmapped in one program.

The learners are the rows of one state, which `loop.train` drives like any other. A learner whose numbers are
no longer finite stays as it was before, and the others go on.
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
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import prior
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.training import loop, preference, stages, teach
from mammadai_jax.training.loop import Stage
from mammadai_jax.training.report.charts import number
from mammadai_jax.training.run import Run, read_rows
from mammadai_jax.training.run import read as read_run
from mammadai_jax.training.settings import Settings, SettingsError, as_dict, check, key_of, overlay

StageName = Literal["prior", "cloning", "gail", "theory", "preference"]
Row = dict[str, float]


class Learner(NamedTuple):
    """Where a stage's learner has its settings, and its number of updates; which metrics are told first."""

    config: str
    updates: str
    told: tuple[str, ...]


LEARNERS: dict[str, Learner] = {
    "prior": Learner("prior.learner", "prior.learner.num_updates", ("bits", "held_out_bits")),
    "cloning": Learner("imitation.cloning", "imitation.cloning_updates", ("nats", "accuracy")),
    "gail": Learner("imitation.learner", "imitation.num_updates", ("reward", "kl", "policy/entropy_avg")),
    "theory": Learner("theory.learner", "theory.num_updates", ("theory", "log_prior", "entropy")),
    "preference": Learner(
        "preference.learner",
        "preference.learner.num_updates",
        ("objective/scores", "objective/kl", "reward/preference", "reward/adherence", "reward/variety"),
    ),
}


class Cost(NamedTuple):
    """Seconds of an update: of all learners in one program, and of one learner by itself."""

    together: float
    alone: float
    learners: int

    def __str__(self) -> str:
        """In a sentence."""
        apart = self.learners * self.alone
        return (
            f"{self.learners} learners in one program take {self.together:.3g} s an update; one by one "
            f"{self.learners} x {self.alone:.3g} s = {apart:.3g} s, {apart / self.together:.2f} times as long"
        )


def sweep(
    stage: StageName,
    path: Path,
    out: Path,
    axes: Mapping[str, Sequence[float]],
    seeds: int = 1,
    updates: int | None = None,
    resume: bool = False,
) -> tuple[list[Row], Cost]:
    """Learn a stage of a run under every combination of values -> a row a learner, and what it cost.

    A row holds the values by name, the seed, and the metrics of the last chunk of updates, NaN where the
    learner diverged. `out`/sweep.csv holds the same.

    Args:
        stage: which.
        path: the run that settings, data, and what was learned before the stage are taken from.
        out: the sweep's own run directory.
        axes: values by the setting's dotted name, of those that `sweepable` finds.
        seeds: how many, from the run's own on.
        updates: how many are made; by default as many as the run's settings say.
        resume: go on with a sweep that was interrupted.

    Raises:
        SettingsError: for a setting that cannot be swept, or a value out of its range.
        ValueError: if a directory cannot be used as asked.

    """
    record = read_run(path)
    settings = overlay(Settings(), record.get("settings"), f"{path}/run.json: settings")
    if updates is not None:
        settings = replaced(settings, {LEARNERS[stage].updates: updates})
    axes = fitted(settings, stage, axes)
    learners = grid(axes, range(settings.seed, settings.seed + seeds))
    make = maker(stage, settings, path)
    settings = replaced(settings, {"shards": 1})  # what was learned before may have been by several
    about = {
        "settings": as_dict(settings),
        "data": record.get("data"),
        "sweep": {"stage": stage, "seeds": seeds, "axes": {name: list(axes[name]) for name in axes}},
    }
    with Run(out, about, resume) as run, jax.default_matmul_precision(settings.precision):
        alive, _ = loop.train(together(make, settings, learners), run)
        rows = results(learners, run.rows(stage)[-1], np.asarray(alive))
        cost = Cost(_seconds(run, stage), seconds_alone(make(settings)), len(rows))
        write_atomically(run.path / "sweep.csv", to_csv(rows).encode())
    return rows, cost


def grid(axes: Mapping[str, Sequence[float]], seeds: Sequence[int]) -> list[Row]:
    """Every combination of values, and under each every seed."""
    every = itertools.product(*axes.values(), seeds)
    return [dict(zip([*axes, "seed"], values, strict=True)) for values in every]


def sweepable(settings: Settings, stage: StageName) -> dict[str, bool]:
    """The names of a stage's hyperparameters, and whether they may be swept.

    Those that decide the program may not, and no more may the number of updates.
    """
    config, updates, _ = LEARNERS[stage]
    found = dict(_fields(_at(settings, config), config))
    return {name: traced and name != updates for name, traced in found.items()}


def _fields(config: Any, place: str, traced: bool = True) -> Iterator[tuple[str, bool]]:
    """The names of the values in a tree of configs, and whether all above them are traced."""
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


def fitted(
    settings: Settings, stage: StageName, axes: Mapping[str, Sequence[float]]
) -> dict[str, tuple[float, ...]]:
    """The axes with values of their settings' kinds.

    Raises:
        SettingsError: for a setting that cannot be swept, or a value that it cannot have.

    """
    known = sweepable(settings, stage)
    found = {}
    for name, values in axes.items():
        if not known.get(name):
            why = "decides the program" if name in known else f"is no hyperparameter of {stage}"
            may = ", ".join(sorted(name for name, traced in known.items() if traced))
            raise SettingsError(f"{name} {why} and cannot be swept; there are {may}")
        kind = int if isinstance(_at(settings, name), int) else float
        if kind is int and not all(float(value).is_integer() for value in values):
            raise SettingsError(f"{name} asks for whole numbers, not {', '.join(map(str, values))}")
        found[name] = tuple(dict.fromkeys(map(kind, values)))
        for value in found[name]:
            check(replaced(settings, {name: value}))
    return found


def _at(tree: Any, name: str) -> Any:
    """What a dotted name leads to in a tree of dataclasses and mappings."""
    for part in name.split("."):
        tree = tree[part] if isinstance(tree, Mapping) else getattr(tree, part)
    return tree


def replaced(tree: Any, changes: Mapping[str, Any]) -> Any:
    """A tree of dataclasses and mappings with other values at dotted names."""
    for name, value in changes.items():
        first, _, rest = name.partition(".")
        value = replaced(_at(tree, first), {rest: value}) if rest else value
        tree = (
            {**tree, first: value}
            if isinstance(tree, Mapping)
            else dataclasses.replace(tree, **{first: value})
        )
    return tree


def maker(stage: StageName, settings: Settings, path: Path) -> Callable[[Settings], Stage]:
    """Settings -> the stage of a run under them; the learner's numbers and the seed may be traced."""
    if stage == "prior":
        return _prior_maker(settings)
    if stage == "cloning":
        return stages.cloning_stage
    if stage == "gail":
        warm = teach.restore(settings, path, "cloning").params if settings.imitation.cloning_updates else None
        return lambda changed: stages.gail_stage(changed, warm)
    before = teach.params_of(settings, path, "prior" if stage == "theory" else "prompted")
    if stage == "theory":
        return lambda changed: stages.theory_stage(changed, before)
    given = preference.material(settings, teach.wider(teach.load_corpus(settings.corpus)))
    reward_params = teach.restore(settings, path, "reward_model").params
    prompts, taste = preference.tasted(settings, given, before.joint, before.params, reward_params)
    return lambda changed: preference.preference_stage(changed, prompts, before.params, taste)


def _prior_maker(settings: Settings) -> Callable[[Settings], Stage]:
    """The prior on one split of the corpus, whatever the seed."""
    single = stages.prior_stage(settings, teach.load_corpus(settings.corpus))
    size = MAGENTA.size
    return lambda changed: single._replace(
        init=lambda: prior.init(key_of(changed, "prior"), changed.prior.learner, size),
        step=lambda state, data: prior.step(state, changed.prior.learner, data, size),
    )


def together(make: Callable[[Settings], Stage], settings: Settings, learners: Sequence[Row]) -> Stage:
    """All learners as one stage. Its state is (bool (L,), which have not diverged; states, each (L, ...)).

    Its metrics are those of each learner, as "NAME[LEARNER]", and the mean of the one that is shown.
    """
    single = make(settings)
    swept = {name: jnp.asarray([row[name] for row in learners]) for name in learners[0]}
    of = lambda values: make(replaced(settings, values))

    def one(values, alive, state, data):
        after, metrics = of(values).step(state, data)
        alive &= _sound(after, metrics)
        state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, state)
        return (alive, state), {name: jnp.where(alive, value, 0.0) for name, value in metrics.items()}

    def step(state, data):
        state, metrics = jax.vmap(one, (0, 0, 0, None))(swept, *state, data)
        rows = {f"{name}[{i}]": values[i] for name, values in metrics.items() for i in range(len(learners))}
        return state, {single.shown: metrics[single.shown].mean(), **rows}

    def measure(measure_one, state):
        told = [measure_one(jax.tree.map(operator.itemgetter(i), state[1])) for i in range(len(learners))]
        return {f"{name}[{i}]": value for i, each in enumerate(told) for name, value in each.items()}

    # one after another: programs that vmap the beginning have been seen to hang on a CPU
    return single._replace(
        init=lambda: (jnp.ones(len(learners), bool), jax.lax.map(lambda values: of(values).init(), swept)),
        step=step,
        notes=single.notes * len(learners),
        measure=single.measure and functools.partial(measure, single.measure),
        measure_every=single.updates,  # only after the last
    )


def _sound(state: Any, metrics: Mapping[str, jax.Array]) -> jax.Array:
    """Whether metrics are finite and no float of a state is NaN."""
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    told = [jnp.isfinite(value).all() for value in metrics.values()]
    return jnp.array([*told, *(~jnp.isnan(leaf).any() for leaf in floats)]).all()


def results(learners: Sequence[Row], last: Mapping[str, Any], alive: np.ndarray) -> list[Row]:
    """The learners with their metrics of the last row of a log, NaN for those not `alive` (L,)."""
    names = [name.removesuffix("[0]") for name in last if name.endswith("[0]")]
    return [
        {**row, **{name: last[f"{name}[{i}]"] if alive[i] else math.nan for name in names}}
        for i, row in enumerate(learners)
    ]


def _seconds(run: Run, stage: StageName) -> float:
    """The median seconds of an update, as the run timed its chunks."""
    rows = [row for row in read_rows(run.path / "timing.jsonl") if row["stage"] == stage]
    begins = [0, *(row["update"] for row in rows)]
    return median(row["seconds"] / (row["update"] - begin) for row, begin in zip(rows, begins, strict=False))


def seconds_alone(stage: Stage) -> float:
    """Seconds that an update of one learner takes, once its program is compiled and warm."""
    length = min(stage.chunk, stage.updates)
    state = jax.jit(stage.init)()
    advance = loop.program(stage, state, length)
    state, _ = jax.block_until_ready(advance(state, stage.data))
    begun = time.monotonic()
    jax.block_until_ready(advance(state, stage.data))
    return (time.monotonic() - begun) / length


def to_csv(rows: Sequence[Row]) -> str:
    """A row a learner; what diverged is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if math.isnan(value) else value for name, value in row.items()})
    return text.getvalue()


def table(rows: Sequence[Row], stage: StageName, axes: Sequence[str]) -> str:
    """A line a combination: its values, and what is told first, mean ± deviation over the seeds."""
    told = [name for name in LEARNERS[stage].told if name in rows[0]]
    lines = [[*(name.rpartition(".")[2] for name in axes), *told, "diverged"]]
    for values, group in itertools.groupby(rows, lambda row: [row[name] for name in axes]):
        seeds = list(group)
        known = [row for row in seeds if not math.isnan(row[told[0]])]
        cells = [_spread([row[name] for row in known]) for name in told]
        lines.append([*map(number, values), *cells, f"{len(seeds) - len(known)} of {len(seeds)}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def _spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation of what there is."""
    deviation = f" ± {number(stdev(values))}" if len(values) > 1 else ""
    return number(mean(values)) + deviation if values else "-"
