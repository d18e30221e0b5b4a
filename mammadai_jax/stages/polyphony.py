"""Stage "polyphony": the prior of four voices, tuned by the rules of harmony with a KL penalty to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from mammadai_jax.agents import projection
from mammadai_jax.fields import static
from mammadai_jax.music import harmony
from mammadai_jax.music.harmony import bach
from mammadai_jax.music.piece import SATB
from mammadai_jax.music.sample import Sample
from mammadai_jax.stages import chorales
from mammadai_jax.stages.chorales import QUARTERS_PER_BAR, TONIC, composed, composer_of, piece_tokens
from mammadai_jax.stages.evaluate_harmony import evaluate_harmony, measure
from mammadai_jax.stages.theory import refuse_unknown_rules
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.report.table import Comparison
from mammadai_jax.training.settings import share
from mammadai_jax.training.stage import ComposeRequest, Context, StageSpec

LEARNER = projection.Config(
    num_envs=512,
    num_minibatches=8,
    batch_size=128,
    reward_scale=1.0,
    temperature=1.0,
    rule_weights={**dict.fromkeys(harmony.RULES, 1.0), "final_tonic": 4.0},
    target_rate=0.1,
    ess_fraction=0.4,
    learning_rate=1e-3,
    max_grad_norm_per_array=1.0,
    tau=0.05,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stage "polyphony": the prior of four voices, tuned by the rules of harmony.

    Attributes:
        num_updates: how many are made.
        log_every: updates between log lines.
        bars: of the pieces, each of four quarter notes; the rules expect a beginning and an end of them.
        bach_rates: whether each rule's weight adapts until it is kept and broken as often as in Bach's
            chorales, unless `learner.rule_targets` has another target for it.
        learner: see agents.projection.

    """

    num_updates: int = static(default=150, low=1)
    log_every: int = static(default=5, low=1)
    bars: int = static(default=16, low=1, high=256)
    bach_rates: bool = True
    learner: projection.Config = dataclasses.field(default_factory=lambda: LEARNER)


PRESETS: Mapping[str, Settings] = {
    "smoke": Settings(
        num_updates=4,
        log_every=2,
        bars=2,
        learner=dataclasses.replace(LEARNER, num_envs=16, batch_size=8, num_minibatches=2),
    ),
    "quick": Settings(
        num_updates=40,
        bars=8,
        learner=dataclasses.replace(LEARNER, num_envs=256, batch_size=64),
    ),
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


def targets(settings: Settings, prior: chorales.Settings) -> dict[str, float]:
    """The mean rewards of a decision that rules are to give, by name."""
    decisions = piece(settings, prior).length
    own = bach.events(settings.bars * QUARTERS_PER_BAR) if settings.bach_rates else {}
    return {**{rule: count / decisions for rule, count in own.items()}, **settings.learner.rule_targets}


def make_learner(settings: Settings, context: Context, data: tuple) -> Learner:
    """Tuning by the rules from the prior's parameters."""
    return learner_from(settings, context, context.learned("chorales"), data)


def learner_from(settings: Settings, context: Context, params: Any, data: tuple = ()) -> Learner:
    """Tuning by the rules from a prior's parameters; where they are None, from an untrained prior's."""
    prior = context.settings_of("chorales")
    config, pieces = share(settings.learner, context.shards), piece(settings, prior)
    config = dataclasses.replace(config, rule_targets=targets(settings, prior))
    composer = composer_of(prior)

    def init():
        begin = chorales.template(prior, context).average if params is None else params
        return projection.init(context.key("polyphony"), config, begin)

    return Learner(
        name="polyphony",
        init=init,
        step=lambda state, _: projection.step(state, config, composer, pieces),
        data=data,
        updates=settings.num_updates,
        chunk=settings.log_every,
        notes=settings.learner.num_envs * pieces.length,
        shown="theory",
    )


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
        f"The prior of four voices, tuned by {len(harmony.RULES)} rules of harmony until they are kept as "
        "often as Bach keeps them, with a KL penalty that keeps it near the chorales: pieces of "
        f"{settings.bars} bars that end on C."
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
    learned=lambda settings, context, state, data: state.average,
    compose=compose,
    tables=tables,
    metrics=("theory", "log_prior", "entropy"),
)
