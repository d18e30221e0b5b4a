"""`mammadai compose`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Literal

import tyro

from mammadai_jax.stages import STAGES
from mammadai_jax.text.vocabulary import tokenize
from mammadai_jax.training.stage import StageSpec

COMPOSING = {spec.name: spec for spec in STAGES if spec.compose}


@dataclasses.dataclass(frozen=True)
class Compose:
    """Let a trained stage compose: MIDI, WAV and pictures. The same seed gives the same bytes.

    Attributes:
        run_directory: the --out of `mammadai teach`.
        stage: the stage that composes; by default gail, or preference if there is a prompt.
        seed: of all randomness.
        melodies: number of melodies.
        bars: length in bars of 16 sixteenths; by default that of the stage's samples in the report.
        prompt: a description of the melody: "a calm slow tune in minor that falls at the end"; for the stages
            prompted and preference.
        guidance: strength of classifier-free guidance: above 1 follows the prompt more closely, with less
            variety; only with a prompt.
        sentences: where the folder of the run's sentence encoder is now, if it has moved.
        temperature: divides the logits: below 1 is more predictable, above 1 more random.
        out: folder for the files; by default `composed` in the run directory.

    """

    run_directory: tyro.conf.Positional[Path] = Path("runs/mammadai")
    stage: Literal[tuple(COMPOSING)] | None = None  # pyright: ignore
    seed: int = 0
    melodies: int = 1
    bars: int | None = None
    prompt: str | None = None
    guidance: float | None = None
    sentences: str | None = None
    temperature: float = 1.0
    out: Path | None = None

    def run(self) -> int:
        """Compose and print the files' paths."""
        from mammadai_jax.music.notation import in_words
        from mammadai_jax.music.sample import save
        from mammadai_jax.training.compose import compose
        from mammadai_jax.training.stage import ComposeRequest

        stage = self.stage or ("gail" if self.prompt is None else "preference")
        self._check(COMPOSING[stage])
        request = ComposeRequest(self.melodies, self.bars, self.temperature, self.prompt, self.guidance)
        places = {"embedding.sentence_encoder": self.sentences} if self.sentences else {}
        samples = compose(self.run_directory, STAGES, stage, request, seed=self.seed, places=places)
        out = self.out or self.run_directory / "composed"
        if self.out is None and out.is_symlink():
            raise ValueError(f"{out} is a symbolic link: name its target with --out to write there")
        for number, sample in enumerate(samples, start=1):
            print(f"{sample.title}: {in_words(sample.melody)}", file=sys.stderr)
            for path in save(sample, out / f"{stage}-{self.seed}-{number}"):
                print(path)
        return 0

    def _check(self, spec: StageSpec) -> None:
        """ValueError for flags that are out of range, or not for this stage."""
        if not spec.takes_prompt:
            taking = " or ".join(other.name for other in COMPOSING.values() if other.takes_prompt)
            if self.prompt is not None or self.guidance is not None:
                raise ValueError(f"--prompt and --guidance are for --stage {taking}, not {spec.name}")
            if self.sentences is not None:
                raise ValueError(f"--sentences is for --stage {taking}, not {spec.name}")
        if self.prompt is not None and not tokenize(self.prompt):
            raise ValueError(f"there are no words in --prompt {self.prompt!r}: describe the music in words")
        if self.guidance is not None and not 0 <= self.guidance <= 100:
            raise ValueError(f"--guidance is between 0 and 100, not {self.guidance}")
        for name, value, high in (("melodies", self.melodies, 1000), ("bars", self.bars, spec.max_bars)):
            if value is not None and not 1 <= value <= high:
                raise ValueError(f"--{name} is between 1 and {high} for --stage {spec.name}, not {value}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"--temperature is above 0, not {self.temperature}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"--seed is between 0 and 2147483647, not {self.seed}")
