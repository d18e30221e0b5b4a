"""Harmonising tunes with a run: one of its stages that know several voices decides the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from mammadai_jax.learning.harmonise import Config, Harmonised, harmonise
from mammadai_jax.music.chords import symbols
from mammadai_jax.music.harmonisation import Setting, setting
from mammadai_jax.music.notation import in_words
from mammadai_jax.music.notes import VOICES, VOICES_HOLD, Melody
from mammadai_jax.music.sample import Sample
from mammadai_jax.training.context import context_of, has_learned, settings_of_run, way_on
from mammadai_jax.training.run import RunError
from mammadai_jax.training.settings import Stages


@dataclasses.dataclass(frozen=True)
class HarmoniseRequest:
    """What is asked of a harmonisation.

    Attributes:
        number: harmonisations of each tune.
        seed: of all randomness.
        config: how they are sampled, see learning.harmonise.

    """

    number: int = 1
    seed: int = 0
    config: Config = dataclasses.field(default_factory=Config)

    def at_temperature(self, temperature: float) -> HarmoniseRequest:
        """The same request at another temperature."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, temperature=temperature))


@dataclasses.dataclass(frozen=True, eq=False)
class Harmonisation:
    """A tune in several voices.

    Attributes:
        sample: to hear, with its chord symbols.
        setting: how the tune was set.
        score: log p of the piece under the network at the temperature, and the rules' rewards, a frame.

    """

    sample: Sample
    setting: Setting
    score: float

    def in_words(self) -> str:
        """What was decided, in one line."""
        tune = self.setting
        parts = [f"{self.sample.title}: {in_words(tune.melody)}", *tune.melody.remarks, tune.in_words()]
        parts += [f"{count} notes left out ({reason})" for reason, count in tune.melody.left_out.items()]
        return "; ".join([*parts, f"{self.score:.2f} nats a frame"])


def harmonise_tunes(
    path: Path, stages: Stages, stage: str, tunes: Sequence[Melody], request: HarmoniseRequest | None = None
) -> list[list[Harmonisation]]:
    """Harmonisations of each tune, the best by their scores first; the same arguments give the same.

    Args:
        path: the run directory.
        stages: that the run was trained with.
        stage: the one whose network decides, see `harmonising_stage`.
        tunes: the melodies.
        request: what is asked.

    Raises:
        RunError: if the run has no such stage.
        CheckpointError: if its checkpoint cannot be used.
        ValueError: for a tune without notes.

    """
    request = HarmoniseRequest() if request is None else request
    composer, params = network_of(path, stages, stage)
    alphabet = VOICES_HOLD if composer.hold else VOICES
    settings_of_tunes = [setting(t, composer.voices, alphabet, composer.steps_per_quarter) for t in tunes]
    given = [each.given for each in settings_of_tunes for _ in range(request.number)]
    run, _ = settings_of_run(path, stages)
    with jax.default_matmul_precision(run.precision):
        results = harmonise(jax.random.key(request.seed), composer, params, given, request.config)
    count = request.number
    return [_ranked(each, results[count * n : count * (n + 1)]) for n, each in enumerate(settings_of_tunes)]


def network_of(path: Path, stages: Stages, stage: str) -> tuple[Any, Any]:
    """The network over decisions, and its parameters, with which a run's stage harmonises.

    Errors as of `harmonise_tunes`.
    """
    run, parts = settings_of_run(path, stages)
    context, (spec, own) = context_of(run, parts, path), parts[stage]
    assert spec.harmoniser
    return spec.harmoniser(own, context, context.learned(stage))


def _ranked(tune: Setting, results: Sequence[Harmonised]) -> list[Harmonisation]:
    """The harmonisations of a tune, the best first."""
    ranked = sorted(results, key=lambda result: -result.log_target)
    pieces = [tune.piece(result.tokens) for result in ranked]
    samples = [Sample(piece, piece.title, chords=symbols(piece)) for piece in pieces]
    scores = [result.log_target / len(result.tokens) for result in ranked]
    return [Harmonisation(*each) for each in zip(samples, [tune] * len(ranked), scores, strict=True)]


def harmonising_stage(path: Path, stages: Stages) -> str:
    """The last stage of a run that was trained and harmonises; RunError if there is none."""
    _, parts = settings_of_run(path, stages)
    able = [name for name, part in parts.items() if part.spec.harmoniser]
    trained = [name for name in able if has_learned(path, parts[name])]
    if not trained:
        raise RunError(f"{path} has no trained stage that harmonises ({', '.join(able)}): {way_on(path)}")
    return trained[-1]
