"""Stage "polyphony": the prior of four voices, tuned by the rules of harmony with a KL penalty to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from mammadai_jax.agents import tuner
from mammadai_jax.fields import static
from mammadai_jax.music import harmony
from mammadai_jax.music.piece import SATB
from mammadai_jax.music.sample import Sample
from mammadai_jax.stages import chorales
from mammadai_jax.stages.chorales import QUARTERS_PER_BAR, TONIC, composed, composer_of, piece_tokens
from mammadai_jax.stages.evaluate_harmony import evaluate_harmony, measure
from mammadai_jax.stages.theory import refuse_unknown_rules, tuned
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.report.table import Comparison
from mammadai_jax.training.stage import ComposeRequest, Context, StageSpec

# Rules that the prior breaks much more often than Bach weigh much, those that it breaks less often little or
# nothing. At temperature 1 learning goes on to a few pieces that break no rule: the entropy of a frame fell
# to 0.1 nats in 110 updates. Above 1 it stays. Found on seeds that judge nothing.
LEARNER = tuner.Config(
    algorithm="psi",
    num_envs=64,
    num_minibatches=4,
    batch_size=64,
    buffer_size=256,
    reward_scale=1.0,
    temperature=1.18,
    rule_weights={
        "parallel_fifths": 7.0,
        "parallel_octaves": 14.0,
        "contrary_fifths": 0.3,
        "contrary_octaves": 0.8,
        "hidden_fifths": 0.3,
        "hidden_octaves": 0.5,
        "crossing": 4.0,
        "overlap": 0.3,
        "spacing": 1.8,
        "voice_ranges": 0.0,
        "bad_leaps": 0.0,
        "wide_leaps": 1.5,
        "unresolved_dissonance": 2.0,
        "unjustified_dissonance": 0.5,
        "doubled_leading_tone": 0.5,
        "unresolved_sevenths": 0.8,
        "repeated_chords": 3.5,
        "cadence": 0.3,
        "final_tonic": 25.0,
    },
    gamma=1.0,
    td_lambda=0.9,
    learning_rate=3e-3,
    lr_decay_steps=200,
    tau=0.05,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stage "polyphony": the prior of four voices, tuned by the rules of harmony.

    Attributes:
        num_updates: how many are made; by the last one, learner.lr_decay_steps should be over. 0 leaves the
            stage out.
        log_every: updates between log lines.
        bars: of the pieces, each of four quarter notes; the rules expect a beginning and an end of them.
        learner: see agents.tuner.

    """

    num_updates: int = static(default=200, low=0)
    log_every: int = static(default=5, low=1)
    bars: int = static(default=16, low=1, high=256)
    learner: tuner.Config = dataclasses.field(default_factory=lambda: LEARNER)


PRESETS: Mapping[str, Settings] = {
    "smoke": Settings(
        num_updates=4,
        log_every=2,
        bars=8,
        learner=dataclasses.replace(
            LEARNER, num_envs=8, batch_size=8, num_minibatches=1, buffer_size=16, lr_decay_steps=4
        ),
    ),
    "quick": Settings(num_updates=60, bars=8, learner=dataclasses.replace(LEARNER, lr_decay_steps=60)),
}


def check(settings: Settings, place: str) -> None:
    """SettingsError unless all rules exist."""
    refuse_unknown_rules(settings.learner, f"{place}.learner", harmony.RULES)


def piece(settings: Settings, prior: chorales.Settings) -> harmony.Config:
    """What the rules expect: pieces on C, in either mode, on the grid of the prior."""
    steps_per_bar = QUARTERS_PER_BAR * prior.learner.steps_per_quarter
    return harmony.Config(
        voices=len(SATB),
        frames=settings.bars * steps_per_bar,
        steps_per_bar=steps_per_bar,
        alphabet=chorales.alphabet_of(prior),
        tonic=TONIC,
        minor=True,  # in which a piece may end with either triad
    )


def make_learner(settings: Settings, context: Context, data: tuple) -> Learner:
    """Tuning by the rules from the prior's parameters."""
    return learner_from(settings, context, context.learned("chorales"), data)


def learner_from(settings: Settings, context: Context, params: Any, data: tuple = ()) -> Learner:
    """Tuning by the rules from a prior's parameters; where they are None, from an untrained prior's."""
    prior = context.settings_of("chorales")
    composer, pieces = composer_of(prior), piece(settings, prior)

    def init(key: jax.Array, config: tuner.Config) -> tuner.State:
        begin = chorales.template(prior, context).average if params is None else params
        return tuner.init(key, config, composer, begin, pieces)

    step = lambda state, config: tuner.step(state, config, composer, pieces)
    return tuned("polyphony", settings, context, data, init=init, step=step, notes=pieces.length)


def compose(
    settings: Settings, context: Context, learned: Any, key: jax.Array, request: ComposeRequest
) -> list[Sample]:
    """Pieces of four voices on C; by default as long as those that were trained on."""
    prior, bars = context.settings_of("chorales"), request.bars or settings.bars
    return composed(prior, learned, key, request, bars, "Polyphony")


def describe(settings: Settings, context: Context, rows: list[dict[str, Any]]) -> str:
    """What was learned, and how long the pieces are."""
    del context, rows
    return (
        f"The prior of four voices, tuned by {len(harmony.RULES)} rules of harmony: Psi-learning, with a "
        f"KL penalty that keeps it near the chorales: pieces of {settings.bars} bars that end on C."
    )


def tables(settings: Settings, context: Context, pieces: int) -> list[Comparison]:
    """What the rules and the prior say of the pieces of prior and tuned prior, beside Bach's rates."""
    prior, params = context.settings_of("chorales"), context.learned("chorales")
    composer, config = composer_of(prior), piece(settings, prior)
    columns = {}
    for title, name in (("Chorales", "chorales"), ("Polyphony", "polyphony")):
        key = context.key(f"{name} examined")
        rows = piece_tokens(composer, context.learned(name), key, pieces, config.frames)
        columns[title] = measure(rows, config, composer, params)
    return [evaluate_harmony(columns, settings.bars * QUARTERS_PER_BAR)]


STAGE = StageSpec(
    name="polyphony",
    title="Polyphony",
    describe=describe,
    settings_type=Settings,
    presets=PRESETS,
    check=check,
    depends_on=("chorales",),
    make_learner=make_learner,
    updates="num_updates",
    template=lambda settings, context: learner_from(settings, context, None).init(),
    weights=lambda state: state.target,
    compose=compose,
    harmoniser=lambda settings, context, learned: (composer_of(context.settings_of("chorales")), learned),
    tables=tables,
    metrics=("theory", "log_prior", "entropy"),
)
