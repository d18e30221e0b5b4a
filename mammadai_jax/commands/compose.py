"""`mammadai compose`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Compose:
    """Let a trained MammadAI compose: MIDI, WAV and pictures. The same seed gives the same bytes.

    Attributes:
        run_directory: as given to `mammadai teach --out`.
        stage: which composer.
        seed: of all randomness.
        melodies: how many.
        bars: of 16 sixteenths; GAIL's policy knows 16 of them. By default 16, but for theory and prompts as
            many as were learned from.
        prompt: what the melody should be, in words: "a calm slow tune in minor that falls at the end"; for
            the stages prompted and preference, of which the latter is then the default.
        guidance: above 1 follows the prompt more closely, at the price of variety; with a prompt only.
        sentences: the folder of the run's sentence encoder, if it has one that is no longer where it was.
        temperature: below 1 plays safe, above 1 is adventurous.
        out: where the files go; by default `composed` in the run directory.

    """

    run_directory: tyro.conf.Positional[Path] = Path("runs/mammadai")
    stage: Literal["noise", "prior", "gail", "theory", "prompted", "preference"] | None = None
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
        from mammadai_jax.text.vocabulary import tokenize
        from mammadai_jax.training import teach

        stage = self.stage or ("gail" if self.prompt is None else "preference")
        prompts = stage in ("prompted", "preference")
        if not prompts and (self.prompt is not None or self.guidance is not None):
            raise ValueError(f"--prompt and --guidance are for --stage prompted or preference, not {stage}")
        if not prompts and self.sentences is not None:
            raise ValueError(f"--sentences is for --stage prompted or preference, not {stage}")
        if self.prompt is not None and not tokenize(self.prompt):
            raise ValueError(f"there are no words in --prompt {self.prompt!r}: describe the music in words")
        if self.guidance is not None and not 0 <= self.guidance <= 100:
            raise ValueError(f"--guidance is between 0 and 100, not {self.guidance}")
        bars = self.bars if self.bars is not None or prompts or stage == "theory" else 16
        for name, value, low, high in (("melodies", self.melodies, 1, 1000), ("bars", bars, 1, 256)):
            if value is not None and not low <= value <= high:
                raise ValueError(f"--{name} is between {low} and {high}, not {value}")
        if stage == "gail" and bars is not None and bars > 16:
            raise ValueError(f"GAIL's policy knows melodies of up to 16 bars, not {bars}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"--temperature is above 0, not {self.temperature}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"--seed is between 0 and 2147483647, not {self.seed}")
        samples = teach.compose(
            self.run_directory,
            stage,
            self.seed,
            self.melodies,
            bars,
            self.temperature,
            self.prompt,
            self.guidance,
            self.sentences,
        )
        out = self.out or self.run_directory / "composed"
        for number, sample in enumerate(samples, start=1):
            for path in teach.save(sample, out / f"{stage}-{self.seed}-{number}"):
                print(path)
        return 0
