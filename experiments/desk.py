"""The musician's desk, measured: what prompts ask for, tunes that go on, and bars that are filled in.

    python -m experiments.desk --run RUN --out DIR [--prompts 100 --tunes 50]

RUN is a training with the stages prior and prompted. Prompts have the wordings of captions that nothing
learns from, and ask for key, tempo, meter, length, range and instrument in words; what was asked for is
compared with the MIDI files as they are read again. Tunes are of the melodic families that the prior has not
learned from: four bars are given and eight are added, or two bars of eight are filled in. `table.md` is
written into DIR.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tables import markdown
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.learning import sequences
from mammadai_jax.learning.infill import Config, infill
from mammadai_jax.music import captions, gaps, midi, statistics
from mammadai_jax.music.controls import BARS, Controls, Range
from mammadai_jax.music.corpus import DEGREES
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.gaps import Gaps
from mammadai_jax.music.instruments import NAMES
from mammadai_jax.music.keys import guess_key
from mammadai_jax.music.masks import scale_of
from mammadai_jax.music.notes import MAGENTA, Melody
from mammadai_jax.music.sample import Sample, save
from mammadai_jax.music.traits import traits
from mammadai_jax.stages import STAGES
from mammadai_jax.stages.prior import on_c
from mammadai_jax.training.compose import compose
from mammadai_jax.training.context import load_corpus, settings_of_run
from mammadai_jax.training.desk import network_of
from mammadai_jax.training.stage import ComposeRequest, MelodyWriter

NOTES = ("C", "C#", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
TONICS = (0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
TEMPO_WORDS = {"very slow": (40, 56), "slow": (57, 80), "fast": (121, 150), "very fast": (151, 175)}
METER_WORDS = {"4/4": "in 4/4", "3/4": "a waltz in 3/4", "6/8": "like a jig, in 6/8", "2/4": "a polka"}
DENSITY = {
    "low": (0, 4.5),
    "medium": (4.5, 6.5),
    "high": (6.5, 17),
}  # notes in 16 steps, as captions have them
BINS = (0, 60, 80, 100, 120, 140, 160, 1000)  # of tempo
GIVEN, ADDED = 4, 8  # bars


class Asked(NamedTuple):
    """A prompt, and what it asks for; the tempo is asked for within bounds."""

    prompt: str
    controls: Controls
    tempo: tuple[float, float]


def asked(random: np.random.Generator) -> Asked:
    """A prompt in words that captions for training do not have, and what it asks for."""
    place, mode = int(random.integers(len(NOTES))), str(random.choice([*DEGREES]))
    meter, low = str(random.choice([*METER_WORDS])), int(random.integers(40, 72))
    high, bars = low + int(random.integers(12, 25)), int(random.choice([4, 8]))
    program, word = int(random.choice([0, 24, 40, 56, 71, 73])), str(random.choice([*TEMPO_WORDS]))
    beats = int(random.integers(50, 180))
    says_number = bool(random.integers(2))
    names = ["contour", "repetition", "motion", "articulation", "ending"]
    claims = {n: str(random.choice(captions.ATTRIBUTES[n])) for n in random.permutation(names)[:2].tolist()}
    caption = captions.caption(claims, random, "held_out").removesuffix(".")
    tempo = f"at {beats} bpm" if says_number else word
    name = lambda pitch: f"{NOTES[TONICS.index(pitch % 12)]}{pitch // 12 - 1}"
    parts = [
        f"in {NOTES[place]} {mode}", tempo, METER_WORDS[meter], f"{bars} bars",
        f"from {name(low)} to {name(high)}", f"for {NAMES[program].lower()}",
    ]  # fmt: skip
    prompt = ", ".join([caption, *random.permutation(parts).tolist()])
    controls = Controls(TONICS[place], mode, None, meter, bars, Range(low, high), program)
    span = bin_of(beats) if says_number else TEMPO_WORDS[word]
    return Asked(prompt, controls, span)


def bin_of(tempo: float) -> tuple[float, float]:
    """The bounds of a tempo's bin."""
    place = int(np.searchsorted(BINS, tempo, side="right"))
    return BINS[place - 1], BINS[place]


def kept(request: Asked, melody: Melody, program: int) -> dict[str, bool]:
    """What of it a melody that was read from a file keeps."""
    controls = request.controls
    assert controls.range and controls.meter and controls.tonic is not None and controls.mode
    classes = {(c - controls.relative + controls.tonic) % 12 for c in scale_of(controls.mode)}
    pitches = melody.pitches
    return {
        "key, as the file says": (melody.tonic, melody.mode) == (controls.tonic, controls.mode),
        "all notes in its scale": {int(pitch) % 12 for pitch in pitches} <= classes,
        "last note its tonic": bool(len(pitches)) and int(pitches[-1]) % 12 == controls.tonic,
        "scale estimated from the notes": _scale(*guess_key(melody.notes))
        == _scale(controls.tonic, controls.mode),
        "tempo bin": request.tempo[0] <= melody.tempo <= request.tempo[1],
        "meter": melody.meter == controls.meter,
        "a note or a rest begins every bar": _bars_begin(melody),
        "length": len(melody) == (controls.bars or 0) * BARS[controls.meter],
        "range": controls.range.low <= pitches.min() and pitches.max() <= controls.range.high,
        "instrument": program == controls.program,
    }


def _scale(tonic: int, mode: str) -> int:
    return (tonic - DEGREES.get(mode, 0)) % 12


def _bars_begin(melody: Melody) -> bool:
    """Whether no note is held over a bar line."""
    size = melody.steps_per_bar
    return all(n.onset // size == (n.onset + n.duration - 1) // size for n in melody.notes)


def prompts(run: Path, number: int, stage: str, out: Path) -> dict[str, float]:
    """Shares of prompts that are kept, by what they ask for, in MIDI files that are read again."""
    random, results = np.random.default_rng(0), []
    for place in range(number):
        request = asked(random)
        (sample,) = compose(run, STAGES, stage, ComposeRequest(1, prompt=request.prompt), seed=place)
        data = midi.write(out / "prompts" / f"{place:04}.mid", sample.music, program=sample.program)
        melody = midi.parse(data)
        results.append(kept(request, melody, sample.program or 0))
        print(f"prompt {place + 1} of {number}: {request.prompt}", file=sys.stderr)
    return {name: float(np.mean([result[name] for result in results])) for name in results[0]}


def densities(run: Path, number: int, stage: str) -> dict[str, float]:
    """Shares of melodies whose notes in 16 steps are in the bin that is asked for."""
    shares = []
    for name, (low, high) in DENSITY.items():
        request = ComposeRequest(number, controls=Controls(density=name))
        tokens = [MAGENTA.encode(s.melody.events) for s in compose(run, STAGES, stage, request)]
        density = np.asarray(jax.jit(traits)(np.stack(tokens))["density"])
        shares.append(float(((low < density) & (density <= high)).mean()))
    return {"density bin": float(np.mean(shares))}


class Tunes(NamedTuple):
    """Held-out tunes in 4/4 on C, of the bars that are given and added; and those that the prior learned."""

    held_out: list[Melody]
    train: Sequence[Melody]


def tunes_of(run: Path, number: int) -> Tunes:
    """Tunes without an upbeat, of the families that the prior of a run has not learned from."""
    settings, parts = settings_of_run(run, STAGES)
    corpus = on_c(load_corpus(settings.corpus))
    train, held_out = corpus.split(parts["prior"].settings.held_out, settings.seed)
    length = (GIVEN + ADDED) * 16
    long = [m for m in held_out if len(m) >= length and not m.pickup and m.steps_per_bar == 16 and m.notes]
    chosen = np.random.default_rng(0).permutation(len(long))[:number]
    return Tunes([long[place].first(length) for place in chosen], train.melodies)


def nats(writer: MelodyWriter, rows: np.ndarray, part: slice) -> np.ndarray:
    """-log p of that part of tokens (N, T), a step: (N,)."""
    each = _nats(writer.composer, writer.params, jnp.asarray(rows.T))
    return np.asarray(each)[part].mean(axis=0)


_nats = jax.jit(sequences.negative_log_likelihood, static_argnums=0)


def written(writer: MelodyWriter, given: Gaps, seed: int, config: Config) -> Melody:
    """A tune with its gaps filled."""
    (result,) = infill(jax.random.key(seed), writer.composer, writer.params, given.allowed, config)
    return given.filled(result.tokens, given.tune.title)


def continuations(writer: MelodyWriter, tunes: Tunes, config: Config, out: Path) -> dict[str, float]:
    """Figures of four bars that go on for eight more, beside the tunes' own, and beside other music."""
    cut = GIVEN * 16
    given = [tune.first(cut) for tune in tunes.held_out]
    new = [written(writer, gaps.after(tune, ADDED), place, config) for place, tune in enumerate(given)]
    for place, melody in enumerate(new[:5], start=1):
        save(Sample(melody, melody.title), out / "scores" / f"continued-{place}")
    steps = cut + ADDED * 16
    alone = [
        written(writer, Gaps(tune, np.ones(steps, bool), 0), place, config)
        for place, tune in enumerate(given)
    ]
    tokens = lambda melodies: np.stack([_on_c(melody, steps) for melody in melodies])
    rows = {"continued": tokens(new), "the tune's own": tokens(tunes.held_out)}
    beside = tokens(alone)[:, : ADDED * 16]
    rows["composed without the tune"] = np.concatenate([rows["continued"][:, :cut], beside], axis=1)
    parts = [_after(melody, cut) for melody in new], [_after(melody, cut) for melody in tunes.held_out]
    copied = [statistics.novelty(part, tunes.train).notes for part in parts]
    figures = {
        f"nats a step, {name}": float(nats(writer, row, slice(cut, None)).mean())
        for name, row in rows.items()
    }
    begun = [[note for note in melody.notes if note.onset < cut] for melody in new]
    return {
        "given bars unchanged": float(np.mean([b == t.notes for b, t in zip(begun, given, strict=True)])),
        "scale of the new bars, estimated, is the tune's": float(
            np.mean([_scale(*guess_key(part.notes)) == _scale(part.tonic, part.mode) for part in parts[0]])
        ),
        "and of the tunes' own bars": float(
            np.mean([_scale(*guess_key(part.notes)) == _scale(part.tonic, part.mode) for part in parts[1]])
        ),
        **figures,
        "longest copied run, notes, mean": float(copied[0].mean()),
        "and of the tunes' own bars, mean": float(copied[1].mean()),
        "longest copied run, notes, largest": float(copied[0].max()),
        "and of the tunes' own bars, largest": float(copied[1].max()),
    }


def _on_c(melody: Melody, steps: int) -> np.ndarray:
    """Tokens int32 (steps,) in the scale of C."""
    return Gaps(melody, np.zeros(steps, bool), gaps.shift_of(melody)).tokens


def _after(melody: Melody, step: int) -> Melody:
    """The notes from a step on."""
    events = melody.events[step:].copy()
    return Melody(events, **{**melody.heading, "pickup": 0})


def infillings(writer: MelodyWriter, tunes: Tunes, configs: dict[str, Config], out: Path) -> dict[str, float]:
    """Figures of bars 5 and 6 of eight that are filled in, with look-ahead and without."""
    given, figures = [tune.first(128) for tune in tunes.held_out], {}
    for name, config in configs.items():
        new = [written(writer, gaps.within(tune, 5, 6), place, config) for place, tune in enumerate(given)]
        if name == "look-ahead":
            for place, melody in enumerate(new[:5], start=1):
                save(Sample(melody, melody.title), out / "scores" / f"filled-{place}")
        rows = np.stack([_on_c(melody, 128) for melody in new])
        figures |= {
            f"joins within an octave, {name}": float(
                np.mean([leap <= 12 for m in new for leap in joins(m, 64, 96)])
            ),
            f"largest leap at a join, mean, {name}": float(np.mean([max(joins(m, 64, 96)) for m in new])),
            f"nats a step of the given bars after the gap, {name}": float(
                nats(writer, rows, slice(96, 128)).mean()
            ),
        }
        same = [
            all((m.events[part] == tune.events[part]).all() for part in (slice(0, 64), slice(97, None)))
            for m, tune in zip(new, given, strict=True)
        ]
        figures[f"other bars unchanged, {name}"] = float(np.mean(same))
    own = np.stack([_on_c(melody, 128) for melody in given])
    figures["joins within an octave, the tune's own"] = float(
        np.mean([leap <= 12 for m in given for leap in joins(m, 64, 96)])
    )
    figures["nats a step of the given bars after the gap, the tune's own"] = float(
        nats(writer, own, slice(96, 128)).mean()
    )
    return figures


def joins(melody: Melody, begin: int, end: int) -> list[int]:
    """The leaps into the steps from `begin` to `end` and out of them, in semitones; 0 where there is none."""
    pitches = lambda low, high: [note.pitch for note in melody.notes if low <= note.onset < high]
    before, inside, after = pitches(0, begin), pitches(begin, end), pitches(end, len(melody))
    pairs = [(before[-1:], inside[:1]), (inside[-1:], after[:1])]
    return [abs(one[0] - two[0]) if one and two else 0 for one, two in pairs]


def table(figures: dict[str, dict[str, float]], sizes: dict[str, int]) -> str:
    """The figures of each part in Markdown."""
    tables = [
        markdown([f"{part} ({sizes[part]})", ""], ([name, f"{value:.3f}"] for name, value in of_part.items()))
        for part, of_part in figures.items()
    ]
    return "\n\n".join(tables) + "\n"


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", default="prompted", help="the one that follows prompts")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--tunes", type=int, default=50)
    args = parser.parse_args()
    keep_programs()
    (args.out / "prompts").mkdir(parents=True, exist_ok=True)
    tunes = tunes_of(args.run, args.tunes)
    writer = network_of(args.run, STAGES, "prior", np.zeros(1, np.int32))
    looks = {"look-ahead": Config(), "no look-ahead": Config(num_particles=1)}
    figures: dict[str, dict[str, Any]] = {
        "prompts": prompts(args.run, args.prompts, args.stage, args.out)
        | densities(args.run, 32, args.stage),
        "continued": continuations(writer, tunes, looks["look-ahead"], args.out),
        "filled in": infillings(writer, tunes, looks, args.out),
    }
    sizes = {"prompts": args.prompts, "continued": len(tunes.held_out), "filled in": len(tunes.held_out)}
    text = table(figures, sizes)
    write_atomically(args.out / "table.md", text.encode())
    print(text)


if __name__ == "__main__":
    sys.exit(answered(main, "desk"))
