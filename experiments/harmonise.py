"""Harmonised tunes, measured: sopranos of Bach's test chorales beside his own settings, and folk melodies.

    python -m experiments.harmonise --run RUN [RUN ...] --out DIR

RUN is a training with the stage chorales or polyphony. The same command goes on after an interruption: each
batch of harmonisations is kept in DIR; `table.md` is written at the end, and ten scores of the first run lie
in DIR/scores.

"sampled" draws each decision from the network, within the voices' ranges and order; "harmonised" looks ahead
with particles and vetoes parallels, as `mammadai harmonise` does. Events of the rules are counted a piece,
from beat to beat. The 95 % intervals are over the runs, or over the pieces of a single run.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.tables import interval, markdown
from mammadai_jax.agents import polyphonic_prior, prior
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.learning.harmonise import BATCH, Config, harmonise
from mammadai_jax.music import chords, corpus, harmony, jsb, sample
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.harmonisation import Setting, setting
from mammadai_jax.music.notes import VOICES, VOICES_HOLD, sounding
from mammadai_jax.music.piece import Piece, sampled
from mammadai_jax.stages import STAGES
from mammadai_jax.training.harmonise import harmonising_stage, network_of
from mammadai_jax.training.run import identity

WAYS = {
    "sampled": Config(num_particles=1, vetoes=(), rule_weights={}),
    "harmonised": Config(),
}
SHOWN = (
    *("parallel_fifths", "parallel_octaves", "crossing", "overlap", "spacing", "bad_leaps"),
    *("unresolved_dissonance", "doubled_leading_tone", "cadence", "final_tonic"),
)
SCORES = 5  # of each group
LIKELIHOOD = "log p, nats a frame"

Figures = dict[str, tuple[float, float]]  # mean, and half of its interval or NaN, by the name of a row


class Group(NamedTuple):
    """Tunes that are harmonised.

    Attributes:
        name: of the group.
        settings: how they are set.
        pieces: Bach's own, where he set them.

    """

    name: str
    settings: list[Setting]
    pieces: Sequence[Piece] = ()


def groups(composer: Any, number: int) -> list[Group]:
    """Sopranos of the test chorales, and folk melodies drawn at random from the other collections."""
    alphabet = VOICES_HOLD if composer.hold else VOICES
    of_tune = lambda tune: setting(tune, composer.voices, alphabet, composer.steps_per_quarter)
    bach = jsb.load().test[:number]
    folk = [melody for melody in corpus.folk() if melody.collection != "bach"]
    places = np.random.default_rng(0).permutation(len(folk))[: round(number * 100 / 77)]
    sopranos = [of_tune(piece.melody(0)) for piece in bach]
    return [Group("chorales", sopranos, bach), Group("folk", [of_tune(folk[place]) for place in places])]


def harmonised(group: Group, way: str, network: tuple[Any, Any], seed: int, out: Path) -> list[np.ndarray]:
    """The tokens (T, V) of each tune's harmonisation, batch after batch, of which those in `out` are read."""
    rows: list[np.ndarray] = []
    for begin in range(0, len(group.settings), BATCH):
        file = out / f"{group.name}-{way}-{seed}-{begin:03}.npz"
        if not file.exists():
            given = [tune.given for tune in group.settings[begin : begin + BATCH]]
            results = harmonise(jax.random.fold_in(jax.random.key(seed), begin), *network, given, WAYS[way])
            part = file.with_suffix(".part.npz")
            np.savez(part, *[result.tokens for result in results])
            part.replace(file)
            print(f"{group.name}, {way}: {begin + len(given)} of {len(group.settings)}", file=sys.stderr)
        with np.load(file) as kept:
            rows += [kept[name] for name in kept.files]
    return rows


def faults(pieces: Sequence[Piece], settings: Sequence[Setting]) -> dict[str, np.ndarray]:
    """How often each rule has an event in each piece, (N,), from beat to beat up to the last note."""
    steps = [chords.beat_steps(tune.melody) for tune in settings]
    ends = [tune.last * tune.frame // beat + 1 for tune, beat in zip(settings, steps, strict=True)]
    tokens = np.zeros((len(pieces), max(ends), len(pieces[0].voices)), np.int32)
    for row, piece, beat, end in zip(tokens, pieces, steps, ends, strict=True):
        row[:end] = np.stack([VOICES.encode(sampled(voice, beat)) for voice in piece.voices], axis=1)[:end]
    config = harmony.Config(frames=max(ends), alphabet=VOICES, phrase_bars=2**20)
    tonic = np.array([tune.melody.tonic for tune in settings])
    minor = np.array([tune.given.minor for tune in settings])
    counts = harmony.score(tokens, config, frames=np.array(ends), tonic=tonic, minor=minor)
    return {name: np.abs(np.asarray(counts[name])) for name in SHOWN}


def in_range(piece: Piece) -> list[bool]:
    """Whether each voice is within its range."""
    pairs = zip(piece.voices, harmony.ranges(len(piece.voices)), strict=True)
    return [bool(((row < 0) | ((row >= low) & (row <= high))).all()) for row, (low, high) in pairs]


def alike(piece: Piece, other: Piece) -> tuple[float, float]:
    """Shares of beats on which two pieces have the same bass note in any octave, and the same chord."""
    beats = slice(None, None, chords.beat_steps(other))
    rows = [[sounding(voice)[beats].tolist() for voice in each.voices] for each in (piece, other)]
    basses = [
        (one % 12, two % 12) for one, two in zip(rows[0][-1], rows[1][-1], strict=True) if min(one, two) >= 0
    ]
    named = [[chords.name(p for p in frame if p >= 0) for frame in zip(*part, strict=True)] for part in rows]
    both = [(one[:2], two[:2]) for one, two in zip(*named, strict=True) if one and two]
    return float(np.mean([one == two for one, two in basses])), float(np.mean([a == b for a, b in both]))


def as_decided(piece: Piece, tune: Setting) -> np.ndarray:
    """All voices of a piece as the network reads its tune: tokens int32 (T, V)."""
    bass = piece.pitches.min() + tune.shift
    moved = piece.transpose(tune.shift + 12 * int(bass < tune.alphabet.lowest))
    rows = [tune.alphabet.encode(sampled(row, tune.frame)[: tune.last + 1]) for row in moved.voices]
    return np.stack(rows, axis=1)


def likelihood(network: tuple[Any, Any], rows: Sequence[np.ndarray]) -> float:
    """Mean log p of whole pieces, tokens (T, V), in nats a frame."""
    composer, params = network
    decided = [polyphonic_prior.decided(row) for row in rows]
    return -prior.evaluate(composer, params, decided) * np.log(2) * composer.voices


def measured(group: Group, pieces: Sequence[Piece]) -> Figures:
    """The figures of pieces that set a group's tunes, with intervals over the pieces."""
    agreed = np.array([chords.agreement(piece) for piece in pieces]).sum(axis=0)
    same = [(p.voices[0] == s.melody.events).all() for p, s in zip(pieces, group.settings, strict=True)]
    ranges = np.array([in_range(piece) for piece in pieces])
    each = {
        "soprano unchanged, %": 100 * np.array(same),
        "soprano within its range, %": 100 * ranges[:, 0],
        "other voices within theirs, %": 100 * ranges[:, 1:].all(axis=1),
    } | faults(pieces, group.settings)
    if group.pieces:
        shares = np.array([alike(p, q) for p, q in zip(pieces, group.pieces, strict=True)])
        each |= {"bass as Bach's, %": 100 * shares[:, 0], "chord as Bach's, %": 100 * shares[:, 1]}
    figures = {name: interval(values.tolist()) for name, values in each.items()}
    return figures | {"melody in the named chord on strong beats, %": (100 * agreed[0] / agreed[1], math.nan)}


def over_runs(runs: Sequence[dict[str, Figures]]) -> dict[str, Figures]:
    """The columns of several runs as one, with intervals over the runs; those of a single run as they are."""
    if len(runs) == 1:
        return runs[0]
    return {
        column: {name: interval([run[column][name][0] for run in runs]) for name in figures}
        for column, figures in runs[0].items()
    }


def table(columns: dict[str, Figures]) -> str:
    """A table in Markdown, of figures by row in each column."""
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    rows = ([name, *(_shown(figures.get(name)) for figures in columns.values())] for name in names)
    return markdown(["", *columns], rows) + "\n"


def _shown(figure: tuple[float, float] | None) -> str:
    if figure is None:
        return "-"
    mean, half = figure
    return f"{mean:.2f}" + ("" if math.isnan(half) else f" ± {half:.2f}")


def of_group(group: Group, network: tuple[Any, Any], seed: int, out: Path) -> dict[str, Figures]:
    """The columns of a group."""
    columns = {}
    if group.pieces:
        own = [as_decided(piece, tune) for piece, tune in zip(group.pieces, group.settings, strict=True)]
        nats = {LIKELIHOOD: (likelihood(network, own), math.nan)}
        columns[f"{group.name}: Bach"] = measured(group, group.pieces) | nats
    for way in WAYS:
        rows = harmonised(group, way, network, seed, out)
        pieces = [tune.piece(row) for tune, row in zip(group.settings, rows, strict=True)]
        nats = {LIKELIHOOD: (likelihood(network, rows), math.nan)}
        columns[f"{group.name}: {way}"] = measured(group, pieces) | nats
    return columns


def write_scores(group: Group, rows: Sequence[np.ndarray], folder: Path) -> None:
    """The first harmonisations of a group as scores, sound and MIDI."""
    for number, (tune, row) in enumerate(zip(group.settings[:SCORES], rows, strict=False), start=1):
        piece = tune.piece(row)
        music = sample.Sample(piece, piece.title, chords=chords.symbols(piece))
        sample.save(music, folder / f"{group.name}-{number}")


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", help="of the run; by default the last that harmonises")
    parser.add_argument("--number", type=int, default=77, help="of sopranos; 100 folk melodies for 77")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    keep_programs()
    runs: list[dict[str, Figures]] = []
    for run in args.run:
        network = network_of(run, STAGES, args.stage or harmonising_stage(run, STAGES))
        out = args.out / identity(run)[:12]
        out.mkdir(parents=True, exist_ok=True)
        found = groups(network[0], args.number)
        runs.append({})
        for group in found:
            runs[-1] |= of_group(group, network, args.seed, out)
            if len(runs) == 1:
                rows = harmonised(group, "harmonised", network, args.seed, out)
                write_scores(group, rows, args.out / "scores")
    written = table(over_runs(runs))
    write_atomically(args.out / "table.md", written.encode())
    print(written)


if __name__ == "__main__":
    sys.exit(answered(main, "harmonise"))
