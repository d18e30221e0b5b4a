"""A finished run packed into a box: its stages' weights in half precision, and a card of what they are.

    python -m experiments.boxed RUN [--out DIR] [--melodies 200 --prompts 600]

RUN is the --out of `mammadai teach`. DIR, by default the box that the package ships, gets the weights of
STAGES, and whatever is needed to compose from them and nothing else (training/box.py); `metrics.json`; and
`MODEL_CARD.md`. All numbers are measured here, from the half precision of the box; the bits of the run itself
stand beside them, so that one sees what rounding costs.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from experiments import claims, musicality
from experiments.tables import markdown
from mammadai_jax.agents import prior as likelihood
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.learning import sequences
from mammadai_jax.music.files import write_atomically
from mammadai_jax.stages import STAGES as ALL
from mammadai_jax.stages import chorales, preset, prior, prompted
from mammadai_jax.stages.captioned import held_out_of
from mammadai_jax.stages.joint_embedding import save_joint_embedding
from mammadai_jax.training import box
from mammadai_jax.training.context import context_of, has_learned, settings_of_run, weights_of
from mammadai_jax.training.run import identity
from mammadai_jax.training.run import read as read_run
from mammadai_jax.training.settings import PRESETS, Parts, RunSettings, as_dict, recorded
from mammadai_jax.training.stage import Context

# Without the chorales' prior, whose tuned weights are those of polyphony, and without GAIL, which plays over
# accompaniments only: with both a box of the preset quick has 6.6 MB.
STAGES = ("prior", "theory", "polyphony", "embedding", "prompted", "reward_model", "preference")
LIMIT = 5_000_000  # bytes of a box in the wheel, which is compressed
EXCERPTS = 256  # held out, of which the prompted composers' bits are measured
BY_STAGE = {  # what each stage learned from, in words
    "prior": "folk melodies and the sopranos of chorales: {corpus}",
    "theory": "the prior, and written rules of composition",
    "polyphony": "Bach's chorales in four voices, and 19 written rules of harmony: {chorales}",
    "embedding": "excerpts of the same folk melodies, and captions that a program wrote: {corpus}",
    "prompted": "the same excerpts, by their embedding",
    "reward_model": "choices of simulated listeners between melodies of the stage prompted",
    "preference": "the reward model, and the claims of prompts that a program checks",
}
CHORALES = "compositions in the public domain; encodings as distributed with music21; no licence stated"


class Opened(NamedTuple):
    """A run or a box: its settings, its stages, and what they learned."""

    run: RunSettings
    parts: Parts
    context: Context


def opened(path: Path) -> Opened:
    """The run or the box in a directory; errors as of `settings_of_run`."""
    run, parts = settings_of_run(path, ALL)
    return Opened(run, parts, context_of(run, parts, path))


def pack(path: Path, out: Path, stages: Sequence[str] = STAGES) -> Path:
    """Make a box of a run -> the box; stages that the run has not trained are left out.

    Raises:
        RunError: if there is no run, or it trained none of the stages.
        BoxError: if `out` holds something else, or a number has no half precision.

    """
    _, parts, context = opened(path)
    trained = [parts[name] for name in stages if has_learned(path, parts[name])]
    box.write(out, path, {part.spec.name: weights_of(part, context) for part in trained})
    if "embedding" in box.digests(out):
        save_joint_embedding(out, context.learned("embedding"))
    return out


def held_out_bits(path: Path, stages: Sequence[str] = STAGES) -> dict[str, float]:
    """Bits that the stages of a run or a box need for what none of them learned from.

    A step of the melodic families that the prior held out; a decision of the chorales for validation; for
    `prompted` and `preference` a step of held-out excerpts, given what is known of them.
    """
    run, parts, context = opened(path)
    measures = {
        "prior": functools.partial(_bits_of_melodies, parts, context, "prior"),
        "theory": functools.partial(_bits_of_melodies, parts, context, "theory"),
        "polyphony": functools.partial(_bits_of_chorales, parts, context),
        "prompted": functools.partial(_bits_of_excerpts, context, "prompted"),
        "preference": functools.partial(_bits_of_excerpts, context, "preference"),
    }
    able = [name for name in stages if name in measures and has_learned(path, parts[name])]
    with jax.default_matmul_precision(run.precision):
        return {name: measures[name]() for name in able}


def _bits_of_melodies(parts: Parts, context: Context, stage: str) -> float:
    own = parts["prior"].settings
    _, held_out = prior.split(own, context.corpus(), int(context.seed))
    return likelihood.evaluate(prior.composer_of(own), context.learned(stage), held_out)


def _bits_of_chorales(parts: Parts, context: Context) -> float:
    own = parts["chorales"].settings
    _, held_out = chorales.data(own, context)
    return likelihood.evaluate(chorales.composer_of(own), context.learned("polyphony"), held_out)


def _bits_of_excerpts(context: Context, stage: str) -> float:
    held_out = held_out_of(context)
    chosen = held_out.tokens[held_out.draw(context.random("bits"), min(EXCERPTS, len(held_out.tokens)))]
    condition = context.learned("embedding").condition_of(chosen)
    nats = _nats(prompted.composer_of(context), context.learned(stage), chosen.T, condition=condition)
    return float(nats.mean()) / math.log(2)


_nats = jax.jit(sequences.negative_log_likelihood, static_argnums=0)


def measured(path: Path, boxed: Path, *, melodies: int, prompts: int) -> dict[str, Any]:
    """All numbers of the card: those of the box, and the bits of the run."""
    music = musicality.measured(boxed, melodies)
    trained = box.digests(boxed)
    numbers: dict[str, Any] = {
        "held_out_bits": held_out_bits(boxed),
        "held_out_bits_of_run": held_out_bits(path, tuple(trained)),
        "musicality_distance": {name: list(each.distance) for name, each in music.items()},
        "melodies": melodies,
        "bytes": sizes(boxed),
    }
    if {"prompted", "preference"} <= trained.keys():
        of_claims = claims.shares(boxed, prompts)
        numbers |= {"prompts": prompts, "claims": of_claims}
    return numbers


def sizes(path: Path) -> dict[str, int]:
    """Bytes of each file of weights in a box by its stage, of all its files, and of those compressed."""
    every = [*sorted((path / box.FOLDER).iterdir()), *path.glob("run.json"), *path.glob("embedding.json")]
    each = {name: (path / box.FOLDER / f"{name}.safetensors").stat().st_size for name in box.digests(path)}
    compressed = sum(len(zlib.compress(file.read_bytes())) for file in every)
    return {**each, "all": sum(file.stat().st_size for file in every), "in the wheel": compressed}


def preset_of(run: RunSettings, parts: Parts) -> str:
    """The preset that a run was trained with, whatever its seed and its corpus."""
    own = {**recorded(run, parts), "seed": 0, "corpus": ""}
    for name in PRESETS:
        if {**as_dict(preset(name)), "seed": 0, "corpus": ""} == own:
            return name
    return "none of the package's; its settings are in run.json"


def card(path: Path, numbers: Mapping[str, Any]) -> str:
    """The model card of a box as Markdown, of what `measured` found."""
    run, parts, context = opened(path)
    record, corpus = read_run(path), context.corpus()
    licences = {"corpus": corpus.licence or "its licence is not stated", "chorales": CHORALES}
    versions = {"mammadai_jax": record["environment"]["mammadai_jax"], **record["environment"]["versions"]}
    lines = [
        "# Model card: the weights in the box",
        "",
        "Written by `python -m experiments.boxed`; every number is measured from the half precision that is "
        "shipped. `metrics.json` has them with all digits.",
        "",
        f"* preset: {preset_of(run, parts)}; seed: {run.seed}; run: {record['of_run'][:16]}",
        f"* trained with {', '.join(f'{name} {version}' for name, version in versions.items())}",
        f"* corpus: {corpus.name}, {len(corpus):,} melodies. None of them is shipped: only weights, and the "
        "words of captions, of which some are from titles",
        f"* size: {numbers['bytes']['all']:,} bytes, {numbers['bytes']['in the wheel']:,} in the wheel",
        "* licence of the weights: that of the package, Apache-2.0",
        "* not for: music as a person of taste would sign it; it writes short tunes, and was tuned by rules "
        "and simulated listeners. It was measured on melodies of these collections, and on no others",
        "",
    ]
    head = ("stage", "learned from", "bytes", "bits held out", "of the run", "musicality distance")
    rows = [_row(name, BY_STAGE[name].format(**licences), numbers) for name in box.digests(path)]
    lines += [markdown(head, rows), "", _EXPLAINED.format(**numbers)]
    return "\n".join([*lines, *_claims(numbers), ""])


_EXPLAINED = """Bits: of a step of melodic families (prior, theory) and of excerpts with what is known of them
(prompted, preference), or of a decision of four voices (polyphony), that no stage learned from; fewer mean a
better likelihood, and what is tuned for something else needs more. Musicality distance: of {melodies}
melodies from real tunes held out, with its 95 % interval; that of real tunes, between their halves, and of
real excerpts, as short as what prompted and preference write, is in `metrics.json`."""


def _row(stage: str, source: str, numbers: Mapping[str, Any]) -> list[str]:
    bits = [numbers[name].get(stage) for name in ("held_out_bits", "held_out_bits_of_run")]
    distance = numbers["musicality_distance"].get(stage)
    cells = [stage, source, f"{numbers['bytes'][stage]:,}"]
    cells += ["" if value is None else f"{value:.4f}" for value in bits]
    return [*cells, "" if distance is None else "{:.2f} ({:.2f} to {:.2f})".format(*distance)]


def _claims(numbers: Mapping[str, Any]) -> list[str]:
    """The table of the claims of prompts that hold."""
    if "claims" not in numbers:
        return []
    return [
        "",
        "Claims of held-out prompts that hold, in %:",
        "",
        claims.page([numbers["claims"]], numbers["prompts"]),
    ]


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=box.SHIPPED)
    parser.add_argument("--melodies", type=int, default=200, help="of each stage, for the musicality")
    parser.add_argument("--prompts", type=int, default=600, help="for the claims")
    args = parser.parse_args()
    for name, least in (("melodies", 2), ("prompts", 1)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name} is {least} or more, not {getattr(args, name)}")
    identity(args.run)  # an error if there is no run
    keep_programs()
    packed = pack(args.run, args.out)
    numbers = measured(args.run, packed, melodies=args.melodies, prompts=args.prompts)
    write_atomically(packed / "metrics.json", json.dumps(numbers, indent=1).encode() + b"\n")
    text = card(packed, numbers)
    write_atomically(packed / "MODEL_CARD.md", text.encode())
    print(text)


if __name__ == "__main__":
    sys.exit(answered(main, "boxed"))
