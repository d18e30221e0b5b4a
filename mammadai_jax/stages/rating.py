"""Studies for people to compare music: made of a run, of two runs, or of folders of MIDI."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mammadai_jax.listening.study import Study, StudyError, StudySettings
from mammadai_jax.listening.study.making import SamplePair, add_catches, add_pairs
from mammadai_jax.listening.study.rounds import BASE, agent_of
from mammadai_jax.music import midi
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.sample import Sample
from mammadai_jax.stages import STAGES
from mammadai_jax.stages.captioned import captioned_of, held_out_of
from mammadai_jax.training.compose import compose, last_stage
from mammadai_jax.training.context import context_of, has_learned, settings_of_run
from mammadai_jax.training.stage import ComposeRequest, Context

SPECS = {spec.name: spec for spec in STAGES}
MAX_BARS = 16  # of a clip, unless the stage's own melodies are shorter
Progress = Callable[[int, int], None]


class System(NamedTuple):
    """Who composed: a name for the results, and a sample for each prompt."""

    name: str
    samples: list[Sample]


@dataclasses.dataclass(frozen=True)
class Making:
    """How a study is made.

    Attributes:
        pairs: how many.
        seed: of all randomness.
        settings: of the study.
        progress: called with the pairs made so far, and all.

    """

    pairs: int = 20
    seed: int = 0
    settings: StudySettings = dataclasses.field(default_factory=StudySettings)
    progress: Progress | None = None

    def __post_init__(self):
        if not 1 <= self.pairs <= 10_000:
            raise StudyError(f"pairs are 1 to 10000, not {self.pairs}")
        if not 0 <= self.seed < 2**31:
            raise StudyError(f"a seed is 0 to 2147483647, not {self.seed}")


def make_study(sources: Sequence[Path], folder: Path, making: Making) -> Study:
    """A new study of a run (its newest agent against its base), of two runs, or of two folders of MIDI.

    Raises:
        StudyError: if the sources are nothing of that, or the folder holds a study.
        RunError, CheckpointError: if a run cannot compose.

    """
    if not 1 <= len(sources) <= 2:
        raise StudyError("give a run, two runs, two folders of MIDI, or a study")
    runs = [is_run(path) for path in sources]
    for path in sources:
        if not path.is_dir():
            raise StudyError(f"there is no folder {path}: give a run, a folder of MIDI, or a study")
    if len(sources) == 1 and not runs[0]:
        raise StudyError(f"{sources[0]} is neither a run nor a study; of folders of MIDI give two")
    if len(set(runs)) == 2:
        raise StudyError("a run and a folder of MIDI cannot be compared: compose into a folder first")
    pairs = _of_runs(sources, making) if runs[0] else _of_folders(sources, making)
    study = Study.create(folder, making.settings)
    add_pairs(study, pairs, progress=making.progress)
    if making.settings.catch_every:
        add_catches(study, pairs, seed=making.seed)
    return study


def is_run(path: Path) -> bool:
    """Whether a folder holds a run."""
    return (path / "run.json").is_file()


def base_of(path: Path, stage: str) -> str:
    """The stage of a run that a stage began with and that composes too; StudyError if there is none."""
    _, parts = settings_of_run(path, STAGES)
    for name in SPECS[stage].depends_on:
        if SPECS[name].compose and has_learned(path, parts[name]):
            return name
    raise StudyError(f"stage {stage!r} of {path} has no base to be compared with: give two runs")


def prompts_of(context: Context, count: int, purpose: str = "rating") -> list[str]:
    """So many prompts that nothing learned from; captions of what was learned from if none were held out."""
    held_out = held_out_of(context)
    given = held_out if len(held_out.tokens) else captioned_of(context)
    return given.draw_prompts(context.random(purpose), count)


def _of_runs(paths: Sequence[Path], making: Making) -> list[SamplePair]:
    """Pairs of the newest agents of two runs, or of the newest agent of one and its base."""
    stages = [last_stage(path, STAGES) for path in paths]
    if len(paths) == 1:
        path, stage = paths[0], stages[0]
        voices = [(path, stage, agent_of(0)), (path, base_of(path, stage), BASE)]
    else:
        voices = [(path, stage, name) for path, stage, name in zip(paths, stages, _names(paths), strict=True)]
    prompts: list[str] = []
    if all(SPECS[stage].takes_prompt for _, stage, _ in voices):
        context = context_of(*settings_of_run(paths[0], STAGES), paths[0])
        prompts = prompts_of(context, making.pairs)
    # other randomness for each, or two alike networks would write the same notes
    first, second = (_composed(*voice, prompts, making, index) for index, voice in enumerate(voices))
    texts = prompts or [""] * making.pairs
    names = first.name, second.name
    return [SamplePair(*row, names) for row in zip(texts, first.samples, second.samples, strict=True)]


def _composed(
    path: Path, stage: str, name: str, prompts: Sequence[str], making: Making, index: int
) -> System:
    bars = 8 if SPECS[stage].max_bars >= 8 and not SPECS[stage].takes_prompt else None
    request = ComposeRequest(making.pairs, bars, prompts=tuple(prompts))
    return System(name, compose(path, STAGES, stage, request, seed=(making.seed + index) % 2**31))


def _names(paths: Sequence[Path]) -> list[str]:
    """A name for each folder: its own, or its whole path where two are called alike."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path.resolve()) for path in paths]


def _of_folders(paths: Sequence[Path], making: Making) -> list[SamplePair]:
    """Pairs of files of two folders: of the same name where there are such, else drawn at random."""
    folders = [_files(path) for path in paths]
    common = sorted(folders[0].keys() & folders[1].keys())
    random = np.random.default_rng(making.seed)
    if common:
        chosen = [common[index] for index in random.permutation(len(common))[: making.pairs]]
        couples = [(folders[0][stem], folders[1][stem]) for stem in chosen]
    else:
        orders = [random.permutation(len(folder)) for folder in folders]
        rows = [[sorted(f.values())[i] for i in order] for f, order in zip(folders, orders, strict=True)]
        couples = list(zip(*rows, strict=False))[: making.pairs]
    names = _names(paths)
    return [SamplePair("", _read(a), _read(b), (names[0], names[1])) for a, b in couples]


def _files(path: Path) -> dict[str, Path]:
    """The MIDI files of a folder by their names; StudyError if there are none."""
    found = {file.stem: file for file in sorted(path.iterdir()) if file.suffix.lower() in midi.SUFFIXES}
    if not found:
        raise StudyError(f"there is no run and no MIDI file in {path}")
    return found


def _read(path: Path) -> Sample:
    """The first bars of a MIDI file, all of its voices; the file's name is never shown to raters."""
    piece: Piece | Melody = midi.read_piece(path)
    piece = piece.melody(0) if len(piece.voices) == 1 else piece
    return Sample(piece, str(path)).first(MAX_BARS * piece.steps_per_bar)
