"""What the report of a run shows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mammadai_jax.music import harmony, sample, statistics, theory
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.notes import MAGENTA, Melody
from mammadai_jax.music.sample import Sample
from mammadai_jax.music.statistics.musicality.distance import of_tunes
from mammadai_jax.training.context import say
from mammadai_jax.training.musicality import of_samples, real_tunes
from mammadai_jax.training.report import Report, StageReport
from mammadai_jax.training.report.musicality import by_stage, change
from mammadai_jax.training.report.table import Numbers
from mammadai_jax.training.run import read, read_rows
from mammadai_jax.training.settings import Parts, is_left_out
from mammadai_jax.training.stage import ComposeRequest, Context, Part, StageSpec

Curves = dict[str, list[tuple[float, float]]]
FIRST = ("theory", "log_prior", "reward", "objective/scores")  # curves


def run_report(
    parts: Parts,
    context: Context,
    samples: Mapping[str, list[Sample]],
    reports: Sequence[StageReport],
    *,
    seconds: float,
    num_samples: int,
    saved_samples: int,
) -> Report:
    """The report of a run that was trained to its end.

    Args:
        parts: the run's stages with their settings.
        context: with what they learned.
        samples: of each stage that composes, by its name; the statistics are computed from all of them.
        reports: of the same stages, see `stage_report`.
        seconds: that the training took.
        num_samples: melodies in each column of the tables.
        saved_samples: melodies of each stage to hear.

    """
    corpus, tunes = context.corpus(), sample.tunes(progressions=True)
    reference = statistics.table([tune.melody for tune in tunes])
    reports, musicality = with_musicality(parts, context, samples, reports)
    beside = statistics.table(excerpt(corpus, num_samples), [tune.melody for tune in tunes])
    say("report: comparisons of stages, after which the page is written")
    return Report(
        title=title(reports),
        stages=reports,
        reference=reference,
        reference_samples=tunes[:saved_samples],
        facts={**facts(context), "seconds": f"{seconds:.0f} (since it was last started)"},
        beside={f"Corpus ({corpus.name})": beside},
        comparisons=[
            table
            for part in parts.values()
            if not is_left_out(part)
            for table in part.spec.tables(part.settings, context, num_samples)
        ],
        musicality=musicality,
    )


def title(stages: Sequence[StageReport | StageSpec]) -> str:
    """The heading of the page of a run with these stages, those that compose."""
    return f"MammadAI: from {stages[0].title.lower()} to {stages[-1].title.lower()}"


def write_samples(
    part: Part, context: Context, *, num_samples: int, saved_samples: int, prompts: Sequence[str] = ()
) -> list[Sample]:
    """Let a stage compose what is evaluated -> its samples; the first few become files too.

    `prompts` are those of the melodies in turn, for a stage that takes them; by default its own examples.
    """
    spec, own = part
    assert spec.compose
    say(f"report: {spec.name} composes {num_samples} melodies")
    key, request = context.key(f"{spec.name} samples"), ComposeRequest(num_samples, prompts=tuple(prompts))
    samples = spec.compose(own, context, context.learned(spec.name), key, request)
    for number, each in enumerate(samples[:saved_samples], start=1):
        sample.save(each, context.path / "samples" / spec.name / f"{number}")
    return samples


def stage_report(
    part: Part,
    context: Context,
    samples: Sequence[Sample],
    tunes: Sequence[Melody],
    *,
    saved_samples: int,
    between: Curves,
) -> StageReport:
    """The chapter of a stage that composes.

    Args:
        part: the stage.
        context: with what it learned.
        samples: that it composed.
        tunes: what the samples' statistics are compared with.
        saved_samples: melodies to hear.
        between: curves of the stages before it that only learn.

    """
    spec, own = part
    logged = rows_of(context.path, spec.name)
    say(f"report: statistics of {spec.name}")
    return StageReport(
        name=spec.name,
        title=spec.title,
        summary=spec.describe(own, context, logged),
        samples=samples[:saved_samples],
        table=statistics.table([one.melody for one in samples], tunes),
        curves={**curves(logged), **between},
    )


def rows_of(path: Path, stage: str) -> list[dict[str, Any]]:
    """The log rows of a stage of the run in a directory."""
    return [row for row in read_rows(path / "log.jsonl") if row["stage"] == stage]


def with_musicality(
    parts: Parts, context: Context, samples: Mapping[str, list[Sample]], reports: Sequence[StageReport]
) -> tuple[list[StageReport], Numbers]:
    """The chapters with what each stage gained and lost against an earlier one, and the table of all."""
    say("report: musicality of each stage, against real tunes")
    title, tunes = real_tunes(parts, context)
    measured = {name: of_samples(composed, tunes) for name, composed in samples.items()}
    titles = {name: part.spec.title for name, part in parts.items()}
    before = {name: compared_with(parts[name].spec, list(samples)) for name in samples}
    changes = {
        name: change(measured[other], measured[name], titles[other]) if other else ""
        for name, other in before.items()
    }
    table = by_stage({titles[name]: each for name, each in measured.items()}, title, of_tunes(tunes))
    return [dataclasses.replace(each, change=changes[each.name]) for each in reports], table


def compared_with(spec: StageSpec, composing: Sequence[str]) -> str:
    """The stage that a stage is compared with: the last that it goes on from, or the one before; "" for none.

    Args:
        spec: of a stage that composes.
        composing: the names of all that compose, in their order.

    """
    earlier = composing[: composing.index(spec.name)]
    origins = [other for other in earlier if other in spec.depends_on]
    return ["", *earlier, *origins][-1]


def excerpt(corpus: Corpus, melodies: int) -> list[Melody]:
    """So many melodies from all over a corpus, in the scale of C as the prior reads them."""
    moved = corpus.in_key(0, MAGENTA, relative=True).melodies
    chosen = np.linspace(0, len(moved) - 1, min(melodies, len(moved))).astype(int)
    return [moved[index] for index in chosen]


def curves(rows: Sequence[Mapping[str, Any]]) -> Curves:
    """Points (update, value) by metric, of the log rows of a stage.

    What is optimised comes first; the single rules are kept together.
    """
    names = dict.fromkeys(name for row in rows for name in row if name not in ("stage", "update"))
    names = sorted(names, key=lambda name: name not in FIRST)
    title = {rule: f"rules/{rule}" for rule in (*theory.RULES, *harmony.RULES)}
    return {
        title.get(name, name): [(row["update"], row[name]) for row in rows if name in row] for name in names
    }


def facts(context: Context) -> dict[str, str]:
    """What else readers should know, by name."""
    record, corpus = read(context.path), context.corpus()
    environment = record["environment"]
    return {
        "corpus": f"{corpus.name}, {len(corpus)} melodies, digest {corpus.digest[:16]}",
        "licence": corpus.licence,
        "versions": ", ".join(f"{name} {version}" for name, version in environment["versions"].items()),
        "python": environment["python"],
        "devices": ", ".join(environment["devices"]),
        "settings": json.dumps(record["settings"]),
    }
