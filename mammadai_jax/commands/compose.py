"""`mammadai compose`."""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mammadai_jax.music.controls import DENSITIES, TEMPI, Controls, parse_key, parse_meter, parse_range
from mammadai_jax.music.files import visible
from mammadai_jax.music.forms import parse_form
from mammadai_jax.music.instruments import program_of
from mammadai_jax.music.sample import Sample, writer
from mammadai_jax.music.soundbank import SoundBank, open_bank
from mammadai_jax.music.traits import SHORTEST
from mammadai_jax.stages import STAGES
from mammadai_jax.text.vocabulary import tokenize
from mammadai_jax.training.stage import ComposeRequest, StageSpec

CANDIDATES = 16
RUN = Path("runs/mammadai")  # where `mammadai teach` trains if nothing else is said
_IN_NAMES = (
    *("bars", "guidance", "temperature", "candidates"),
    *("key", "tempo", "meter", "range", "instrument", "density", "form"),
)
COMPOSING = {spec.name: spec for spec in STAGES if spec.compose}


@dataclasses.dataclass(frozen=True)
class Played:
    """What plays the WAV files of a command.

    Attributes:
        soundbank: an SF2 file whose instruments play the WAV, or auto for one of this system's; its name is
            in those of the files. Without it a small synthesiser plays, which needs no bank.

    """

    soundbank: str | None = dataclasses.field(default=None, kw_only=True)

    def bank(self) -> SoundBank | None:
        """The sound bank that plays, if there is one; errors as of `open_bank`."""
        return None if self.soundbank is None else open_bank(self.soundbank)


class Playing:
    """A command that plays with what a run learned: `run_directory`, or what there is if that is None."""

    run_directory: Path | None

    @functools.cached_property
    def source(self) -> Path:
        """The run directory that plays, or the box, which is said on standard error."""
        if self.run_directory is not None or RUN.exists():
            return self.run_directory or RUN
        from mammadai_jax.training.box import SHIPPED

        sentence = "playing from the weights in the box; train your own with `mammadai teach`"
        print(f"no run at {RUN}: {sentence}", file=sys.stderr)
        return SHIPPED


@dataclasses.dataclass(frozen=True)
class Compose(Playing, Played):
    """Let a trained stage compose: MIDI, WAV, MusicXML, ABC and pictures. The same seed gives the same bytes.

    Attributes:
        run_directory: the --out of `mammadai teach`; by default runs/mammadai, or the weights in the box if
            nothing was trained there.
        stage: the stage that composes; by default the last that was trained, with a prompt the last that
            follows one.
        seed: of all randomness.
        melodies: number of melodies.
        bars: length in bars of the --meter, else of 16 sixteenths; by default that of the stage's samples
            in the report.
        key: such as G, "F# minor" or "D dorian": the notes of its scale, with the tonic at the end.
        tempo: quarter notes a minute.
        meter: 4/4, 2/2, 2/4, 3/4 or 6/8; every bar begins with a note or a rest.
        range: lowest and highest note, such as C4-A5.
        instrument: of General MIDI, such as flute.
        density: of notes; for the stages prompted and preference, which follow it as a prompt.
        form: a letter for each section, such as AABA: sections of the same letter are the same. By default
            bars return as often as in folk melodies.
        prompt: a description of the melody: "a calm slow tune in minor that falls at the end"; for the stages
            prompted and preference. What the options leave free it may ask for: "in G at 90 bpm for flute".
        guidance: strength of classifier-free guidance: above 1 follows the prompt more closely, with less
            variety; only with a prompt.
        sentences: where the folder of the run's sentence encoder is now, if it has moved.
        temperature: divides the logits: below 1 is more predictable, above 1 more random; near 0 every note
            is the likeliest.
        candidates: melodies drawn for each that is kept, the one of which most of the prompt's claims hold;
            between equally good ones the run's reward model decides. By default 16 for stages that take
            prompts; 1 is the bare policy.
        harmonise: also write each melody in four voices, decided by the run's stage for that.
        out: folder for the files; by default `composed` in the run directory, or here if the weights in the
            box play. Other files are not replaced.

    """

    run_directory: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[PATH]")] = None
    stage: Literal[tuple(COMPOSING)] | None = None  # pyright: ignore
    seed: int = 0
    melodies: int = 1
    bars: int | None = None
    key: str | None = None
    tempo: float | None = None
    meter: str | None = None
    range: str | None = None
    instrument: str | None = None
    density: Literal[tuple(DENSITIES)] | None = None  # pyright: ignore
    form: str | None = None
    prompt: str | None = None
    guidance: float | None = None
    sentences: str | None = None
    temperature: float = 1.0
    candidates: int | None = None
    harmonise: bool = False
    out: Path | None = None

    def run(self) -> int:
        """Compose and print the files' paths."""
        from mammadai_jax.music.notation import in_words
        from mammadai_jax.training.compose import compose, last_stage
        from mammadai_jax.training.harmonise import HarmoniseRequest, harmonise_tunes, harmonising_stage

        self._check()
        request, bank = self._request(), self.bank()
        folder = folder_in(self.source, "composed", self.out)
        stage = self.stage or last_stage(
            self.source, STAGES, prompted=self._is_prompted(), asked=request.asked
        )
        self._check_stage(COMPOSING[stage])
        request = dataclasses.replace(request, candidates=self._candidates(COMPOSING[stage], request))
        places = {"embedding.sentence_encoder": self.sentences} if self.sentences else {}
        harmonising = harmonising_stage(self.source, STAGES) if self.harmonise else None
        samples = compose(self.source, STAGES, stage, request, seed=self.seed, places=places)
        stems = [folder / self._name(stage, number) for number in range(1, self.melodies + 1)]
        words = [f"{sample.title}: {in_words(sample.music)}{in_claims(sample)}" for sample in samples]
        if harmonising:
            tunes, asked = [sample.melody for sample in samples], HarmoniseRequest(seed=self.seed)
            results = harmonise_tunes(self.source, STAGES, harmonising, tunes, asked)
            samples += [best.sample for best, *_ in results]
            words += [best.in_words() for best, *_ in results]
            stems += [stem.with_name(f"{stem.name}-harmonised") for stem in stems]
        for paths, said in zip(written(samples, stems, bank), words, strict=True):
            for path in paths:
                print(visible(path))
            print(visible(said), file=sys.stderr)
        return 0

    def _is_prompted(self) -> bool:
        return (self.prompt, self.sentences, self.density) != (None, None, None)

    def _controls(self) -> Controls:
        """What is asked for by options; ValueError for what cannot be."""
        if self.tempo is not None and not TEMPI[0] <= self.tempo <= TEMPI[1]:
            raise ValueError(f"--tempo is between {TEMPI[0]:g} and {TEMPI[1]:g}, not {self.tempo:g}")
        return Controls(
            *(parse_key(self.key) if self.key is not None else (None, None)),
            tempo=self.tempo,
            meter=None if self.meter is None else parse_meter(self.meter),
            range=None if self.range is None else parse_range(self.range),
            program=None if self.instrument is None else program_of(self.instrument),
            density=self.density,
            form=None if self.form is None else parse_form(self.form),
        )

    def _request(self) -> ComposeRequest:
        """What is asked of any stage."""
        named = {name: getattr(self, name) for name in ("bars", "temperature", "prompt", "guidance")}
        return ComposeRequest(self.melodies, controls=self._controls(), **named)

    def _candidates(self, spec: StageSpec, request: ComposeRequest) -> int:
        """Melodies drawn for each that is kept: one where no claims can be checked."""
        short = request.steps(SHORTEST) < SHORTEST
        if short and (self.candidates or 1) > 1:
            raise ValueError(f"--candidates needs more --bars: claims are checked on {SHORTEST} sixteenths")
        return self.candidates or (CANDIDATES if spec.takes_prompt and not short else 1)

    def _name(self, stage: str, number: int) -> str:
        """The name of a melody's files, which other requests do not share."""
        options = {name: getattr(self, name) for name in _IN_NAMES}
        given = [_in_name(*option) for option in options.items() if option[1] != getattr(Compose, option[0])]
        prompt = [slug(self.prompt)] if self.prompt else []
        return "-".join([stage, str(self.seed), str(number), *prompt, *given])

    def _check(self) -> None:
        """ValueError for flags that are out of range or do not go together."""
        check_prompt(self.prompt)
        if self.guidance is not None and self.prompt is None:
            raise ValueError("--guidance is that of a --prompt: give one")
        if self.guidance is not None and not 0 <= self.guidance <= 100:
            raise ValueError(f"--guidance is between 0 and 100, not {self.guidance}")
        if self.candidates is not None and not 1 <= self.candidates <= 1000:
            raise ValueError(f"--candidates is between 1 and 1000, not {self.candidates}")
        if not 1 <= self.melodies <= 1000:
            raise ValueError(f"--melodies is between 1 and 1000, not {self.melodies}")
        check_sampling(self.seed, self.temperature)

    def _check_stage(self, spec: StageSpec) -> None:
        """ValueError for flags that are not for this stage."""
        taking = " or ".join(other.name for other in COMPOSING.values() if other.takes_prompt)
        for name in ("prompt", "sentences", "candidates"):
            if getattr(self, name) is not None and not spec.takes_prompt:
                raise ValueError(f"--{name} is for --stage {taking}, not {spec.name}")
        if self.bars is not None and not 1 <= self.bars <= spec.max_bars:
            raise ValueError(
                f"--bars is between 1 and {spec.max_bars} for --stage {spec.name}, not {self.bars}"
            )


def in_claims(sample: Sample) -> str:
    """Which claims of its prompt hold of a melody, as the end of a sentence; "" without claims."""
    parts = [
        f"{kind} {', '.join(name for name, holds in sample.claims.items() if holds == value)}"
        for kind, value in (("holds", True), ("does not hold", False))
        if value in sample.claims.values()
    ]
    return "".join(f"; {part}" for part in parts)


def _in_name(option: str, value: object) -> str:
    """An option as part of a file's name."""
    said = f"{value:g}" if isinstance(value, float) else str(value)
    text = re.sub(r"[^\w.-]+", "-", said.replace("#", "sharp"))
    return f"{option}{text}" if isinstance(value, (int, float)) else f"{option}-{slug(text)}"


def folder_in(run: Path, name: str, out: Path | None) -> Path:
    """Where files are written; ValueError if there is a link in the run, which may lead anywhere.

    Nothing is written into a box: what it plays goes to the current directory.
    """
    from mammadai_jax.training.run import is_box

    folder = out or (Path() if is_box(run) else run) / name
    if out is None and folder.is_symlink():
        raise ValueError(f"{folder} is a link: say with --out where the files are to be written")
    return folder


def check_prompt(prompt: str | None) -> None:
    """ValueError for a prompt without words."""
    if prompt is not None and not tokenize(prompt):
        raise ValueError(f"there are no words in --prompt {prompt!r}: describe the music in words")


def check_sampling(seed: int, temperature: float) -> None:
    """ValueError for a seed or a temperature that is out of range."""
    if not 0 < temperature <= 1000:
        raise ValueError(f"--temperature is above 0 and at most 1000, not {temperature}")
    if not 0 <= seed < 2**31:
        raise ValueError(f"--seed is between 0 and 2147483647, not {seed}")


def written(samples: Sequence[Sample], stems: Sequence[Path], bank: SoundBank | None) -> Iterator[list[Path]]:
    """Write samples, played by a sound bank if there is one -> the paths of each.

    FileExistsError, before any is written, as `sample.writer`.
    """
    if bank is not None:
        stems = [stem.with_name(f"{stem.name}-{bank.path.stem}") for stem in stems]
    writers = [writer(sample, stem, bank) for sample, stem in zip(samples, stems, strict=True)]
    return (write() for write in writers)


def slug(prompt: str, length: int = 60) -> str:
    """A prompt's words as part of a file's name, of at most so many bytes; what is cut leaves a checksum."""
    words = "-".join(tokenize(prompt)).replace("/", "-")
    if len(words.encode()) <= length:
        return words
    return f"{words.encode()[:length].decode(errors='ignore')}-{zlib.crc32(words.encode()):08x}"
