"""The musician's own tune with a run: one of its stages goes on with it, fills bars of it, or varies it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from mammadai_jax.learning.infill import Config, infill
from mammadai_jax.music import captions, gaps
from mammadai_jax.music.controls import BARS
from mammadai_jax.music.gaps import Gaps
from mammadai_jax.music.notes import MAGENTA, Melody
from mammadai_jax.music.sample import Sample
from mammadai_jax.music.traits import SHORTEST, traits
from mammadai_jax.training.context import context_of, has_learned, settings_of_run, way_on
from mammadai_jax.training.run import RunError
from mammadai_jax.training.settings import Stages
from mammadai_jax.training.stage import MelodyWriter, StageSpec


@dataclasses.dataclass(frozen=True)
class DeskRequest:
    """What is asked of new notes in a tune.

    Attributes:
        number: results.
        seed: of all randomness.
        prompt: the music in words, for stages that take prompts; by default they are given the tune itself.
        config: how they are sampled, see learning.infill.

    """

    number: int = 1
    seed: int = 0
    prompt: str | None = None
    config: Config = dataclasses.field(default_factory=Config)

    def at_temperature(self, temperature: float) -> DeskRequest:
        """The same request at another temperature."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, temperature=temperature))


def go_on(
    path: Path,
    stages: Stages,
    stage: str,
    tune: Melody,
    bars: int,
    request: DeskRequest,
    *,
    silence: bool = False,
) -> list[Sample]:
    """A tune with so many more bars, which end on its tonic; see `gaps.after` and `fill`."""
    if not 1 <= bars <= gaps.MAX_STEPS // tune.steps_per_bar:
        raise ValueError(f"bars: 1 to {gaps.MAX_STEPS // tune.steps_per_bar} can be added, not {bars}")
    return fill(path, stages, stage, gaps.after(tune, bars, silence=silence), request, "continued")


def fill_bars(
    path: Path, stages: Stages, stage: str, tune: Melody, bars: tuple[int, int], request: DeskRequest
) -> list[Sample]:
    """A tune with new notes in bars from the first number to the last; see `fill`."""
    return fill(path, stages, stage, gaps.within(tune, *bars), request, "filled in")


def vary(
    path: Path, stages: Stages, stage: str, tune: Melody, strength: float, request: DeskRequest
) -> list[Sample]:
    """A tune with new notes in that share of its bars, one or more, chosen at random; see `fill`."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength is above 0 and at most 1, not {strength}")
    numbers = [*gaps.bars_of(tune)]
    samples = []
    for number in range(request.number):
        random = np.random.default_rng([request.seed, number])
        chosen = random.permutation(numbers)[: max(1, round(strength * len(numbers)))].tolist()
        one = dataclasses.replace(request, number=1, seed=int(random.integers(2**31)))
        samples += fill(path, stages, stage, gaps.of_bars(tune, sorted(chosen)), one, f"varied {number + 1}")
    return samples


def fill(path: Path, stages: Stages, stage: str, tune: Gaps, request: DeskRequest, what: str) -> list[Sample]:
    """Fill the gaps of a tune; the same arguments give the same. Key, meter and tempo stay the tune's.

    Args:
        path: the run directory.
        stages: that the run was trained with.
        stage: the one whose network decides, see `writing_stage`.
        tune: with its gaps.
        request: what is asked.
        what: is said of the tune in the title.

    Raises:
        RunError: if the run has no such stage.
        CheckpointError: if its checkpoint cannot be used.
        ValueError: if the stage does not write in the tune's meter, or takes no prompt.

    """
    _refuse_unfit(_writing(stages)[stage], tune.tune, request, stages)
    given = tune.tokens[: max(int(np.argmax(tune.is_free)), 1)] if tune.is_free[-1] else tune.tokens
    writer = network_of(path, stages, stage, given, request.prompt)
    with jax.default_matmul_precision(settings_of_run(path, stages)[0].precision):
        results = infill(
            *(jax.random.key(request.seed), writer.composer, writer.params, tune.allowed, request.config),
            number=request.number,
            condition=writer.condition,
        )
    numbered = [f"{what} {n}" if request.number > 1 else what for n in range(1, request.number + 1)]
    titles = [f"{tune.tune.title}, {each}".removeprefix(", ") for each in numbered]
    melodies = [tune.filled(each.tokens, title) for each, title in zip(results, titles, strict=True)]
    return [Sample(melody, melody.title) for melody in melodies]


def network_of(
    path: Path, stages: Stages, stage: str, tokens: np.ndarray, prompt: str | None = None
) -> MelodyWriter:
    """The network with which a run's stage writes into a tune of these tokens (T,); errors as of `fill`."""
    run, parts = settings_of_run(path, stages)
    context, (spec, own) = context_of(run, parts, path), parts[stage]
    assert spec.writer
    with jax.default_matmul_precision(run.precision):
        return spec.writer(own, context, context.learned(stage), tokens, prompt)


def score(path: Path, stages: Stages, tune: Melody, prompt: str) -> dict[str, Mapping[str, float]]:
    """What each trained stage of a run says of a tune, and how it fits a prompt: figures by name and stage.

    Errors as of `fill`.
    """
    run, parts = settings_of_run(path, stages)
    context = context_of(run, parts, path)
    tokens = Gaps(tune, np.zeros(len(tune), bool), gaps.shift_of(tune)).tokens
    trained = [part for part in parts.values() if part.spec.score and has_learned(path, part)]
    if not trained:
        raise RunError(f"{path} has no trained stage that scores a tune: {way_on(path)}")
    with jax.default_matmul_precision(run.precision):
        return {
            spec.title: spec.score(own, context, context.learned(spec.name), tokens, prompt)
            for spec, own in trained
            if spec.score
        }


def traits_of(tune: Melody) -> tuple[dict[str, float], str]:
    """The traits of a tune, and a caption that is true of it; of less than SHORTEST steps there are none."""
    on_c = tune.transpose(gaps.shift_of(tune))
    tokens = MAGENTA.encode(on_c.events)
    if len(tokens) < SHORTEST:
        return {}, "a short tune"
    caption = captions.describe(tokens, on_c, np.random.default_rng(0)).text
    return {name: float(value) for name, value in jax.jit(traits)(tokens).items()}, caption


def writing_stage(path: Path, stages: Stages, tune: Melody, prompt: str | None = None) -> str:
    """The first trained stage of a run that writes in a tune's meter, and follows a prompt if there is one.

    The first is the nearest to the corpus. RunError if there is none.
    """
    (_, parts), trained = settings_of_run(path, stages), []
    for name, spec in _writing(stages).items():
        fits = _fits(spec, tune) and (prompt is None or spec.takes_prompt)
        trained += [name] * (fits and has_learned(path, parts[name]))
    if not trained:
        raise RunError(f"{path} has no trained stage that writes {_kind(tune, prompt)}: {way_on(path)}")
    return trained[0]


def _fits(spec: StageSpec, tune: Melody) -> bool:
    return tune.steps_per_bar in {BARS[meter] for meter in spec.meters}


def _kind(tune: Melody, prompt: str | None) -> str:
    return f"in {tune.meter or f'bars of {tune.steps_per_bar} sixteenths'}{' for a prompt' if prompt else ''}"


def _refuse_unfit(spec: StageSpec, tune: Melody, request: DeskRequest, stages: Stages) -> None:
    """ValueError if a stage cannot write in the tune's meter or takes no prompt; it names those that can."""
    if request.prompt is not None and not spec.takes_prompt:
        raise ValueError(f"stage {spec.name} takes no prompt")
    if not _fits(spec, tune):
        able = [name for name, other in _writing(stages).items() if _fits(other, tune)]
        others = f": {', '.join(able)} can" if able else ""
        raise ValueError(f"stage {spec.name} does not write {_kind(tune, None)}{others}")


def _writing(stages: Stages) -> dict[str, StageSpec]:
    return {spec.name: spec for spec in stages if spec.writer}
