"""Teaching MammadAI: the stages in their order, and what they leave behind to be heard and seen."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mammadai_jax.agents import gail, prior
from mammadai_jax.listening import pairs
from mammadai_jax.music import corpus as corpora
from mammadai_jax.music import midi, score, sound, statistics, theory
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.notes import MAGENTA, Melody
from mammadai_jax.text import sentences
from mammadai_jax.training import launch, loop, preference, report, stages
from mammadai_jax.training.checkpoints import CheckpointError, Checkpoints
from mammadai_jax.training.evaluate_preference import evaluate_preference
from mammadai_jax.training.evaluate_theory import evaluate_theory
from mammadai_jax.training.joint_embedding import load_joint_embedding, load_reader
from mammadai_jax.training.report import Report, Sample, StageReport
from mammadai_jax.training.run import Run, RunError
from mammadai_jax.training.run import read as read_run
from mammadai_jax.training.settings import STEPS_PER_BAR, Settings, as_dict, check, overlay
from mammadai_jax.training.sharding import Placement, place


def teach(
    settings: Settings,
    out: Path,
    resume: bool = False,
    save_seconds: float = loop.SAVE_SECONDS,
    devices: int | None = None,
) -> Path:
    """Train every stage and write the report -> the report's path.

    Args:
        settings: what decides the result.
        out: the run directory.
        resume: go on with a run that was interrupted.
        save_seconds: between checkpoints; makes no difference to the result.
        devices: to train on, see sharding.place.

    Raises:
        ValueError: if the settings, the directory or the checkpoints in it cannot be used.
        Diverged: if training does.

    """
    begun = time.monotonic()
    placement = place(settings.shards, devices)
    settings = dataclasses.replace(settings, shards=placement.shards)
    check(settings)
    if settings.preference.ratings:
        pairs.read(settings.preference.ratings)
    encoder = (
        sentences.load(settings.preference.sentence_encoder) if settings.preference.sentence_encoder else None
    )
    corpus = load_corpus(settings.corpus)
    data = {"corpus": corpus.name, "melodies": len(corpus), "digest": corpus.digest}
    if encoder is not None:
        data["sentences"] = encoder.digest
    about = {"settings": as_dict(settings), "data": data}
    with Run(out, about, resume) as run, jax.default_matmul_precision(settings.precision):
        given = preference.material(settings, wider(corpus))
        drive = functools.partial(loop.train, run=run, save_seconds=save_seconds, placement=placement)
        learned = train(settings, corpus, given, run.path, drive)
        page = run.path / "report.html"
        if not launch.leads():
            return page
        _say("listening to every stage and writing the report")
        made = write_samples(settings, learned, run.path)
        told = _report(settings, corpus, len(given.tokens), run, made)
        facts = _facts(corpus, run, time.monotonic() - begun)
        tables = [evaluate_preference(settings, given, learned), *evaluate_theory(settings, corpus, learned)]
        report.write(page, dataclasses.replace(told, comparisons=tables, facts=facts))
    return page


def train(
    settings: Settings,
    corpus: Corpus,
    given: preference.Material,
    path: Path,
    drive: Callable[[loop.Stage], Any],
) -> dict[str, Any]:
    """Drive the stages that learn, each to its end, in a run directory -> what composes, by stage."""
    prior_stage, cloning_stage = stages.prior_stage(settings, corpus), stages.cloning_stage(settings)
    later = stages.gail_stage(settings, None), stages.theory_stage(settings, None)
    for stage in (prior_stage, cloning_stage, *later):
        loop.dry_run(stage)
    preference.dry_run(settings, given)
    learned = {}

    def train_on(stage: loop.Stage) -> None:
        learned[stage.name] = stages.LEARNED[stage.name](drive(stage))

    train_on(prior_stage)
    warm = None
    if settings.imitation.cloning_updates:
        warm = drive(cloning_stage).params
    train_on(stages.gail_stage(settings, warm))
    train_on(stages.theory_stage(settings, learned["prior"]))
    return learned | preference.learn(settings, given, path, drive)


def wider(corpus: Corpus) -> Corpus:
    """The folk corpus in all its meters, for prompts that ask for them; any other corpus as it is."""
    return corpora.folk_all() if corpus.name == "folk" else corpus


def load_corpus(name: str) -> Corpus:
    """The corpus of that name, told about on standard error; the embedded tunes if music21 is missing."""
    try:
        corpus = corpora.folk(progress=_reading) if name == "folk" else corpora.load(name)
    except corpora.CorpusMissing as error:
        _say(f"{error}; going on with the ten embedded tunes, from which a prior learns little")
        corpus = corpora.embedded()
    counts = f"{len(corpus)} melodies, {len(corpus.skipped)} tunes passed over"
    _say(f"corpus {corpus.name}: {counts} ({corpus.licence})")
    return corpus


def write_samples(settings: Settings, learned: Mapping[str, Any], path: Path) -> dict[str, list[Sample]]:
    """Let every stage compose what is judged -> samples by stage; the first few are written as files too."""
    made = {"noise": stages.noise(stages.key_of(settings, "noise samples"), settings.num_samples)}
    for name, params in learned.items():
        key = stages.key_of(settings, f"{name} samples")
        made[name] = stages.COMPOSERS[name](settings, params, key, settings.num_samples)
    for name, samples in made.items():
        for number, sample in enumerate(samples[: settings.saved_samples], start=1):
            save(sample, path / "samples" / name / f"{number}")
    return made


def save(sample: Sample, stem: Path) -> list[Path]:
    """Write a sample as MIDI, WAV, piano roll and, with verovio, sheet music -> the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    lines = [] if sample.line is None else [midi.Line("accompaniment", sample.line, 32)]
    contents = {
        ".mid": midi.write(None, sample.melody, lines, sample.drums),
        ".wav": sound.wav_bytes(sound.render(sample.melody, lines=lines, drums=sample.drums)),
        ".roll.svg": score.piano_roll_svg(sample.melody, lines, title=sample.title).encode(),
    }
    with contextlib.suppress(score.ScoreUnavailable):
        contents[".sheet.svg"] = score.sheet_svg(sample.melody).encode()
    for suffix, data in contents.items():
        write_atomically(stem.with_name(stem.name + suffix), data)
    return [stem.with_name(stem.name + suffix) for suffix in contents]


def compose(
    path: Path,
    stage: str,
    seed: int,
    melodies: int,
    bars: int | None,
    temperature: float,
    prompt: str | None = None,
    guidance: float | None = None,
    sentences: str | None = None,
) -> list[Sample]:
    """New melodies from a run's stage; the same arguments give the same melodies.

    `bars` are as many as the stage's samples have where None; `prompt` and `guidance` are for the stages
    "prompted" and "preference"; `sentences` is where the run's sentence encoder is now, if it has one.

    Raises:
        RunError: if the run has no such stage, or no sentence encoder.
        CheckpointError: if its checkpoint cannot be used.

    """
    record = read_run(path)
    settings = overlay(Settings(), record.get("settings"), f"{path}/run.json: settings")
    check(settings)
    if sentences:
        settings = _moved(settings, path, sentences)
    key = jax.random.key(seed)
    length = {} if bars is None else {"bars": bars}
    if stage == "noise":
        return stages.noise(key, melodies, **length)
    params = params_of(settings, Path(path), stage)
    if stage in ("prompted", "preference"):
        length |= {"prompt": prompt, "guidance": guidance}
    with jax.default_matmul_precision(settings.precision):
        return stages.COMPOSERS[stage](settings, params, key, melodies, temperature=temperature, **length)


def _moved(settings: Settings, path: Path, place: str) -> Settings:
    """A run's settings with its sentence encoder in another place."""
    if not settings.preference.sentence_encoder:
        raise RunError(f"{path} learned without a sentence encoder: leave --sentences out")
    wanted = dataclasses.replace(settings.preference, sentence_encoder=place)
    return dataclasses.replace(settings, preference=wanted)


def params_of(settings: Settings, path: Path, stage: str) -> Any:
    """The parameters that a run's stage composes with, from its newest checkpoint."""
    params = stages.LEARNED[stage](restore(settings, path, stage))
    if stage not in ("prompted", "preference"):
        return params
    towers = restore(settings, path, "embedding").average
    wanted = settings.preference
    reader = load_reader(path, wanted.embedding, wanted.sentence_encoder)
    return preference.Prompted(
        params, load_joint_embedding(path, wanted.embedding, towers, reader, wanted.rvq_levels)
    )


def restore(settings: Settings, path: Path, stage: str) -> Any:
    """A stage's state from its newest checkpoint; see `compose` for errors."""
    directory = path / "checkpoints" / stage
    if not directory.is_dir():
        raise RunError(
            f"{path} has no stage {stage!r} yet: go on with `mammadai teach --out {path} --resume`"
        )
    imitation, wanted = settings.imitation, settings.preference
    env = stages.imitation_data(imitation.representation, imitation.source).env
    reader = lambda: load_reader(path, wanted.embedding, wanted.sentence_encoder)
    templates = {
        "prior": lambda key: prior.init(key, settings.prior.learner, MAGENTA.size),
        "gail": lambda key: gail.init(key, imitation.learner, env),
        "cloning": lambda _: stages.cloning_stage(settings).init(),
        "theory": lambda _: stages.theory_stage(settings, None).init(),
        "embedding": lambda key: preference.embedding_template(settings, reader(), key),
        "prompted": lambda key: preference.prompted_template(settings, key),
        "reward_model": lambda key: preference.reward_model_template(settings, key),
        "preference": lambda key: preference.preference_template(settings, key),
    }
    init = Placement(settings.shards).spread(lambda: templates[stage](jax.random.key(0)))
    restored = Checkpoints(directory).restore(jax.eval_shape(init), _say)
    if restored is None:
        raise CheckpointError(f"{directory} holds no finished checkpoint")
    return restored[1]


SUMMARIES = {
    "noise": ("Noise", "Nothing learned yet: every sixteenth is one of 89 actions, drawn blindly."),
    "prior": (
        "Prior",
        "A network read {melodies:,} melodies and learned to say what comes next; alone, on C, it carries on "
        "from nothing. A held-out step costs it {bits:.2f} bits.",
    ),
    "gail": (
        "GAIL",
        "A policy plays over an accompaniment, and a discriminator that knows ten tunes rewards what it "
        "cannot tell from them. The policy {start}.",
    ),
    "theory": (
        "Theory",
        "The prior, tuned by nine written rules of composition on a leash that keeps it near what it read: "
        "{bars} bars with a beginning and an end.",
    ),
    "prompted": (
        "Prompted",
        "A network that read {excerpts:,} excerpts with what can be said of them in words writes what a "
        "prompt asks for.",
    ),
    "preference": (
        "Preference",
        "The prompted composer, tuned by a judge that learned from {pairs:,} choices between two of its "
        "melodies, {who}, on a leash to what it was.",
    ),
}


def _report(
    settings: Settings, corpus: Corpus, excerpts: int, run: Run, made: Mapping[str, list[Sample]]
) -> Report:
    tunes = stages.tunes_as_samples()
    reference = [sample.melody for sample in tunes]
    rows = {name: run.rows(name) for name in made}
    bits = next(
        (row["held_out_bits"] for row in reversed(rows["prior"]) if "held_out_bits" in row), float("nan")
    )
    start = "began by cloning them" if settings.imitation.cloning_updates else "began from scratch"
    bars = settings.theory.length // STEPS_PER_BAR
    wanted = settings.preference
    told = {
        "melodies": len(corpus),
        "bits": bits,
        "start": start,
        "bars": bars,
        "excerpts": excerpts,
        "pairs": len(pairs.read(run.path / "comparisons.jsonl")),
        "who": f"read from {wanted.ratings}" if wanted.ratings else "all made by simulated listeners",
    }
    return Report(
        title="MammadAI: from noise to preference",
        stages=[
            StageReport(
                name=name,
                title=SUMMARIES[name][0],
                summary=SUMMARIES[name][1].format(**told),
                samples=samples[: settings.saved_samples],
                table=statistics.table([sample.melody for sample in samples], reference),
                curves=_curves(rows[name]),
            )
            for name, samples in made.items()
        ],
        reference=statistics.table(reference),
        reference_samples=tunes[: settings.saved_samples],
        beside={
            f"Corpus ({corpus.name})": statistics.table(_excerpt(corpus, settings.num_samples), reference)
        },
    )


def _excerpt(corpus: Corpus, melodies: int) -> list[Melody]:
    """So many melodies from all over a corpus, in the scale of C as the prior reads them."""
    moved = corpus.in_key(0, MAGENTA, relative=True).melodies
    chosen = np.linspace(0, len(moved) - 1, min(melodies, len(moved))).astype(int)
    return [moved[index] for index in chosen]


def _curves(rows: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Points by metric; what the rules and the prior say comes first, the single rules are kept together."""
    names = dict.fromkeys(name for row in rows for name in row if name not in ("stage", "update"))
    names = sorted(names, key=lambda name: name not in ("theory", "log_prior"))
    title = {rule: f"rules/{rule}" for rule in theory.RULES}
    return {
        title.get(name, name): [(row["update"], row[name]) for row in rows if name in row] for name in names
    }


def _facts(corpus: Corpus, run: Run, seconds: float) -> dict[str, str]:
    record = read_run(run.path)
    environment = record["environment"]
    return {
        "corpus": f"{corpus.name}, {len(corpus)} melodies, digest {corpus.digest[:16]}",
        "licence": corpus.licence,
        "versions": ", ".join(f"{name} {version}" for name, version in environment["versions"].items()),
        "python": environment["python"],
        "devices": ", ".join(environment["devices"]),
        "seconds": f"{seconds:.0f} (of the last sitting)",
        "settings": json.dumps(record["settings"]),
    }


def _reading(done: int, total: int) -> None:
    if done % 10 == 0 or done == total:
        end = "\n" if done == total else ""
        print(f"\rreading the folk corpus, once: {done}/{total} files", end=end, file=sys.stderr, flush=True)


def _say(message: str) -> None:
    if launch.leads():
        print(message, file=sys.stderr, flush=True)
