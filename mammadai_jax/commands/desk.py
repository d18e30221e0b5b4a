"""`mammadai continue`, `infill`, `vary` and `score`: a run and the musician's own tune."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mammadai_jax.commands.compose import (
    Played,
    Playing,
    check_prompt,
    check_sampling,
    folder_in,
    slug,
    written,
)
from mammadai_jax.music import gaps, mirex
from mammadai_jax.music.files import check_output, visible, write_output
from mammadai_jax.music.notation import in_words
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.reading import read
from mammadai_jax.music.sample import Sample
from mammadai_jax.stages import STAGES

WRITING = tuple(spec.name for spec in STAGES if spec.writer)
_BARS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


@dataclasses.dataclass(frozen=True)
class OwnTune(Playing):
    """A tune of one's own.

    Attributes:
        file: the tune: MIDI, ABC, MusicXML or a prompt of MIREX (.json), by its suffix. Of several voices its
            melody is taken.
        run_directory: the --out of `mammadai teach`; by default runs/mammadai, or the weights in the box if
            nothing was trained there.
        tune: number of the tune in a file of several, as ABC may be.

    """

    file: tyro.conf.Positional[Path]
    run_directory: Annotated[Path | None, tyro.conf.arg(name="run", metavar="PATH")] = None
    tune: int = 1

    @property
    def melody(self) -> Melody:
        """The tune; errors as of `reading.read`."""
        return read(self.file, self.tune)


@dataclasses.dataclass(frozen=True)
class _Writing(Played, OwnTune):
    """Options of what writes new notes into a tune.

    Attributes:
        stage: the stage that writes; by default the first that was trained and writes in the tune's meter,
            with a prompt the first that follows one.
        prompt: the music in words, for the stages prompted and preference; by default they are given the
            tune itself.
        seed: of all randomness.
        number: results.
        temperature: divides the logits: below 1 is more predictable, above 1 more random.
        out: folder for the files; by default `composed` in the run directory, or here if the weights in the
            box play. Other files are not replaced.

    """

    stage: Literal[WRITING] | None = None  # pyright: ignore
    prompt: str | None = None
    seed: int = 0
    number: int = 1
    temperature: float = 1.0
    out: Path | None = None

    def run(self) -> int:
        """Write the new notes, and print the files' paths."""
        from mammadai_jax.training.desk import DeskRequest, writing_stage

        check_sampling(self.seed, self.temperature)
        if not 1 <= self.number <= 100:
            raise ValueError(f"--number is between 1 and 100, not {self.number}")
        check_prompt(self.prompt)
        tune, bank = self.melody, self.bank()
        folder = folder_in(self.source, "composed", self.out)
        stage = self.stage or writing_stage(self.source, STAGES, tune, self.prompt)
        request = DeskRequest(self.number, self.seed, self.prompt).at_temperature(self.temperature)
        samples = self._write(stage, tune, request)
        stems = [folder / f"{self._name(stage)}-{number}" for number in range(1, len(samples) + 1)]
        for sample, paths in zip(samples, written(samples, stems, bank), strict=True):
            for path in paths:
                print(visible(path))
            print(
                visible("; ".join([f"{sample.title}: {in_words(sample.music)}", *tune.remarks])),
                file=sys.stderr,
            )
        self._write_more(tune, samples)
        return 0

    def _write_more(self, tune: Melody, samples: list[Sample]) -> None:
        """Write what else is asked for, after the files of all samples."""

    def _write(self, stage: str, tune: Melody, request) -> list[Sample]:
        raise NotImplementedError

    def _asked(self) -> str:
        """What is asked, as part of a file's name."""
        raise NotImplementedError

    def _name(self, stage: str) -> str:
        """The beginning of the files' names, which other requests do not share."""
        tune = [str(self.tune)] if self.tune != 1 else []
        warm = [f"temperature{self.temperature}"] if self.temperature != _Writing.temperature else []
        prompt = [slug(self.prompt)] if self.prompt else []
        return "-".join([self.file.stem, *tune, self._asked(), stage, str(self.seed), *prompt, *warm])


@dataclasses.dataclass(frozen=True)
class Continue(_Writing):
    """Go on with a tune: new bars after it, in its key, meter and tempo. The same seed gives the same bytes.

    The given bars stay note for note; the new ones end on the tonic.

    Attributes:
        bars: how many are added.
        json: also write the new notes of a single result to this file, in the form of MIREX's answers.

    """

    bars: int = 8
    json: Path | None = None

    def run(self) -> int:
        """Write the new notes, and print the files' paths."""
        if self.json is not None:
            if self.number != 1:
                raise ValueError(f"--json holds one result: not --number {self.number}")
            check_output(self.json)
        return super().run()

    def _write(self, stage: str, tune: Melody, request) -> list[Sample]:
        from mammadai_jax.training.desk import go_on

        return go_on(self.source, STAGES, stage, tune, self.bars, request, silence=self._is_prompt)

    def _write_more(self, tune: Melody, samples: list[Sample]) -> None:
        if self.json is not None:
            begin = int(gaps.after(tune, self.bars, silence=self._is_prompt).is_free.argmax())
            write_output(self.json, mirex.generation(samples[0].melody, begin))

    @property
    def _is_prompt(self) -> bool:
        """Whether the tune is a prompt of MIREX, whose bars are counted also where they are silent."""
        return self.file.suffix.lower() in mirex.SUFFIXES

    def _asked(self) -> str:
        return f"continued-bars{self.bars}"


@dataclasses.dataclass(frozen=True)
class Infill(_Writing):
    """Write bars of a tune anew, so that what follows fits. The same seed gives the same bytes.

    All other bars stay as they are.

    Attributes:
        bars: the first and the last bar that are written, such as 5-8; an upbeat is bar 0.

    """

    bars: str = dataclasses.field(kw_only=True)

    def _write(self, stage: str, tune: Melody, request) -> list[Sample]:
        from mammadai_jax.training.desk import fill_bars

        match = _BARS.fullmatch(self.bars)
        if not match:
            raise ValueError(f"--bars names the first and the last bar, such as 5-8, not {self.bars!r}")
        bars = int(match[1]), int(match[2] or match[1])
        return fill_bars(self.source, STAGES, stage, tune, bars, request)

    def _asked(self) -> str:
        return f"infilled-bars{self.bars}"


@dataclasses.dataclass(frozen=True)
class Vary(_Writing):
    """Write some bars of a tune anew, chosen at random, so that the rest fits; by the seed.

    Attributes:
        strength: share of the bars that are written anew.

    """

    strength: float = 0.3

    def _write(self, stage: str, tune: Melody, request) -> list[Sample]:
        from mammadai_jax.training.desk import vary

        return vary(self.source, STAGES, stage, tune, self.strength, request)

    def _asked(self) -> str:
        return f"varied{self.strength}"


@dataclasses.dataclass(frozen=True)
class Score(OwnTune):
    """Print what a run says of a tune: its stages' likelihoods, rules and reward model, and its traits.

    Attributes:
        prompt: what the tune is to be, for the reward model; by default a caption of it that is true.
        json: also write the numbers to this file.

    """

    prompt: str | None = None
    json: Path | None = None

    def run(self) -> int:
        """Print the figures."""
        from mammadai_jax.training.desk import score, traits_of

        tune = self.melody
        check_prompt(self.prompt)
        if self.json is not None:
            check_output(self.json)
        traits, caption = traits_of(tune)
        prompt = self.prompt or caption
        figures = {"Traits": traits, **score(self.source, STAGES, tune, prompt)}
        print(visible(f"{tune.title}: {in_words(tune)}"))
        print(visible(f"prompt: {prompt}"))
        for heading, each in figures.items():
            _print(heading, each)
        if self.json is not None:
            tree = {"title": tune.title, "prompt": prompt, **figures}
            write_output(self.json, json.dumps(tree, indent=1).encode() + b"\n")
        return 0


def _print(heading: str, figures: Mapping[str, float]) -> None:
    print(f"\n{heading}")
    for name, value in figures.items():
        print(f"  {name:<64} {value:8.3f}")
