"""`mammadai harmonise`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mammadai_jax.commands.compose import Played, Playing, check_sampling, folder_in, written
from mammadai_jax.music import chords
from mammadai_jax.music.files import visible
from mammadai_jax.music.reading import read
from mammadai_jax.stages import STAGES

HARMONISING = tuple(spec.name for spec in STAGES if spec.harmoniser)


@dataclasses.dataclass(frozen=True)
class Harmonise(Playing, Played):
    """Give a tune its other voices: MIDI, WAV, MusicXML and pictures. The same seed gives the same bytes.

    The tune is the soprano, note for note; if need be it is moved into its range, by octaves if that is
    enough.

    Attributes:
        file: the tune: MIDI, ABC or MusicXML, by its suffix. Of several voices its melody is taken.
        run_directory: the --out of `mammadai teach`; by default runs/mammadai, or the weights in the box if
            nothing was trained there.
        stage: the stage that decides the voices; by default the last that was trained and can.
        tune: number of the tune in a file of several, as ABC may be.
        seed: of all randomness.
        number: harmonisations, of which the best is the first.
        temperature: divides the logits: below 1 is more predictable, above 1 more random.
        chords: print the chord symbols too, bar by bar.
        out: folder for the files; by default `harmonised` in the run directory, or here if the weights in
            the box play. Other files are not replaced.

    """

    file: tyro.conf.Positional[Path]
    run_directory: Annotated[Path | None, tyro.conf.arg(name="run", metavar="PATH")] = None
    stage: Literal[HARMONISING] | None = None  # pyright: ignore
    tune: int = 1
    seed: int = 0
    number: int = 1
    temperature: float = 0.7
    chords: bool = False
    out: Path | None = None

    def run(self) -> int:
        """Harmonise, and print the files' paths."""
        from mammadai_jax.training.harmonise import HarmoniseRequest, harmonise_tunes, harmonising_stage

        check_sampling(self.seed, self.temperature)
        if not 1 <= self.number <= 100:
            raise ValueError(f"--number is between 1 and 100, not {self.number}")
        tune, bank = read(self.file, self.tune), self.bank()
        folder = folder_in(self.source, "harmonised", self.out)
        stage = self.stage or harmonising_stage(self.source, STAGES)
        request = HarmoniseRequest(self.number, self.seed).at_temperature(self.temperature)
        results = harmonise_tunes(self.source, STAGES, stage, [tune], request)[0]
        stems = [folder / f"{self._name()}-{number}" for number in range(1, len(results) + 1)]
        for result, paths in zip(results, written([r.sample for r in results], stems, bank), strict=True):
            for path in paths:
                print(visible(path))
            if self.chords:
                print(visible(chords.by_bar(result.sample.music, result.sample.chords)))
            print(visible(result.in_words()), file=sys.stderr)
        return 0

    def _name(self) -> str:
        """The beginning of the files' names, which other requests do not share."""
        tune = [str(self.tune)] if self.tune != 1 else []
        warm = [f"temperature{self.temperature}"] if self.temperature != Harmonise.temperature else []
        return "-".join([self.file.stem, *tune, "harmonised", str(self.seed), *warm])
