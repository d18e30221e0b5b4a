"""Stage "theory": the prior, tuned by the rules of music theory with a KL penalty to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import jax
import numpy as np

from mammadai_jax.agents import projection
from mammadai_jax.fields import static
from mammadai_jax.music import theory
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.sample import STEPS_PER_BAR, Sample, unaccompanied
from mammadai_jax.networks.composer import Composer
from mammadai_jax.stages.evaluate_theory import RULES, Rules, corpus_tokens, evaluate_theory
from mammadai_jax.stages.prior import BARS, METERS, bits_a_step, composer_of, prior_tokens, template
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.report.table import Comparison
from mammadai_jax.training.settings import SettingsError, share
from mammadai_jax.training.stage import ComposeRequest, Context, MelodyWriter, StageSpec

# So weak that the music stays the prior's, and so that every melody closes: mostly the endings and the meter
# change. Every rule is there by name, so that each has its flag.
LEARNER = dataclasses.replace(
    projection.LONG,
    reward_scale=0.25,
    temperature=1.15,
    rule_weights={
        "key": 2.5,
        "tonic": 1.0,
        "penalize_repeating": 0.1,
        "penalize_autocorrelation": 0.1,
        "motif": 0.15,
        "repeated_motif": 0.08,
        "preferred_intervals": 0.0,
        "leap_up_back": 1.0,
        "high_low_unique": 5.0,
        "weak_sixteenth": 6.0,
        "off_beat": 3.0,
        "phrase_end": 15.0,
        "cadence": 15.0,
    },
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stage "theory": the prior, tuned by the rules of music theory (Jaques et al. 2017).

    Attributes:
        num_updates: how many are made; 0 leaves the stage out.
        log_every: updates between log lines.
        length: steps of the pieces, whole bars of 16; the rules expect a beginning and an end of them.
        labels: "corrected" reads tokens as the alphabet `magenta` spells them; "released" takes held notes
            for rests, as the released program does, and punishes them.
        learner: see agents.projection.

    """

    num_updates: int = static(default=100, low=0)
    log_every: int = static(default=5, low=1)
    length: int = static(default=128, low=STEPS_PER_BAR, high=4096)
    labels: Literal["released", "corrected"] = "corrected"
    learner: projection.Config = dataclasses.field(default_factory=lambda: LEARNER)


PRESETS: Mapping[str, Settings] = {
    "smoke": Settings(
        num_updates=20,
        log_every=10,
        length=32,
        learner=dataclasses.replace(LEARNER, num_envs=32, batch_size=16, num_minibatches=4),
    ),
    "quick": Settings(
        num_updates=40,
        length=64,
        learner=dataclasses.replace(LEARNER, num_envs=512, num_minibatches=8, warmup_steps=25),
    ),
}


def check(settings: Settings, place: str) -> None:
    """SettingsError unless the length is in whole bars and all rules exist."""
    if settings.length % STEPS_PER_BAR:
        raise SettingsError(f"{place}.length is in whole bars of {STEPS_PER_BAR}, not {settings.length}")
    refuse_unknown_rules(settings.learner, f"{place}.learner", RULES)


def refuse_unknown_rules(learner: Any, place: str, rules: Collection[str]) -> None:
    """SettingsError if a learner's settings name a rule that there is not."""
    for field in dataclasses.fields(learner):
        value = getattr(learner, field.name)
        if isinstance(value, Mapping) and (unknown := sorted(set(value) - set(rules))):
            where = f"{place}.{field.name}"
            raise SettingsError(f"{where} has no rule called {unknown[0]!r}; there are {', '.join(rules)}")


def piece(settings: Settings, steps: int | None = None) -> theory.Config:
    """What the rules expect: so many steps (settings.length by default) in the scale of C.

    The prior composes in that scale, minor tunes on A. The last half of a bar holds the tonic.
    """
    return theory.Config(length=steps or settings.length, labels=settings.labels, ending=STEPS_PER_BAR // 2)


def make_learner(settings: Settings, context: Context, data: tuple) -> Learner:
    """Tuning by the rules from the prior's parameters."""
    return learner_from(settings, context, context.learned("prior"), data)


def learner_from(settings: Settings, context: Context, params: Any, data: tuple = ()) -> Learner:
    """Tuning by the rules from a prior's parameters; where they are None, from an untrained prior's."""
    own, pieces = context.settings_of("prior"), piece(settings)
    composer = composer_of(own)

    def init(key: jax.Array, config: projection.Config) -> projection.State:
        begin = template(own, context).average if params is None else params
        return projection.init(key, config, begin)

    step = lambda state, config: projection.step(state, config, composer, pieces, RULES)
    return tuned("theory", settings, context, data, init=init, step=step, notes=settings.length)


def tuned(
    name: str,
    settings: Any,
    context: Context,
    data: Any,
    *,
    init: Callable[[jax.Array, Any], Any],
    step: Callable[[Any, Any], Any],
    notes: int,
) -> Learner:
    """Tuning by rules, whatever they are of.

    Args:
        name: of the stage.
        settings: of the stage: `num_updates`, `log_every` and `learner`, the config of one that plays.
        context: of the run.
        data: of the learner.
        init: (key, config) -> state.
        step: (state, config) -> state, metrics.
        notes: of a piece.

    """
    config = share(settings.learner, context.shards)
    return Learner(
        name=name,
        init=lambda: init(context.key(name), config),
        step=lambda state, _: step(state, config),
        data=data,
        updates=settings.num_updates,
        chunk=settings.log_every,
        notes=settings.learner.num_envs * notes,
        shown="theory",
    )


def compose(
    settings: Settings, context: Context, learned: Any, key: jax.Array, request: ComposeRequest
) -> list[Sample]:
    """Melodies on C or in the key asked for; by default as long as the prior's, or as what was learned."""
    steps = request.steps(max(settings.length, BARS * STEPS_PER_BAR))
    composer = composer_of(context.settings_of("prior"))
    named = {"allowed": request.allowed(steps), "form": request.form(key, steps, composer.reach)}
    rows = theory_tokens(composer, learned, key, request.melodies, steps, request.temperature, **named)
    return unaccompanied(rows, "Theory", controls=request.asked)


def theory_tokens(
    composer: Composer,
    params: Any,
    key: jax.Array,
    melodies: int,
    steps: int,
    temperature: float = 1.0,
    **options: Any,
) -> np.ndarray:
    """What the tuned prior with these parameters composes, int32 (melodies, steps); see `prior_tokens`."""
    # the key that older versions composed with, so that the same seed still gives the same melodies
    older = jax.random.split(key, 3)[1]
    return prior_tokens(composer, params, older, melodies, steps, temperature, **options)


def writer_of(context: Context, learned: Any) -> MelodyWriter:
    """The tuned network."""
    return MelodyWriter(composer_of(context.settings_of("prior")), learned)


def score(
    settings: Settings, context: Context, learned: Any, tokens: np.ndarray, prompt: str
) -> dict[str, float]:
    """What a tune's tokens (T,) cost the tuned network, and each rule's reward a bar."""
    del prompt
    each = theory.score(tokens[None], piece(settings, len(tokens)), RULES)
    bars = len(tokens) / STEPS_PER_BAR
    rules = {f"rule {name}, a bar": float(np.sum(reward)) / bars for name, reward in each.items()}
    return {"bits a step": bits_a_step(writer_of(context, learned), tokens), **rules}


def describe(settings: Settings, context: Context, rows: list[dict[str, Any]]) -> str:
    """What was learned, and how long the pieces are."""
    del context, rows
    return (
        "The prior, tuned by nine written rules of composition with a KL penalty that keeps it near the "
        f"corpus: {settings.length // STEPS_PER_BAR} bars with a beginning and an end."
    )


def tables(settings: Settings, context: Context, pieces: int) -> list[Comparison]:
    """Rewards of the rules and RL Tuner's measures of noise, prior, tuned prior and corpus."""
    prior_settings, prior_params = context.settings_of("prior"), context.learned("prior")
    composer, shape = composer_of(prior_settings), (pieces, settings.length)
    key = lambda name: context.key(f"{name} examined")
    composed = {
        "Noise": np.asarray(jax.random.randint(key("noise"), shape, 0, MAGENTA.size)),
        "Prior": prior_tokens(composer, prior_params, key("prior"), *shape),
        "Theory": theory_tokens(composer, context.learned("theory"), key("theory"), *shape),
    }
    corpus = context.corpus()
    read = corpus_tokens(corpus, *shape)
    rules = Rules(piece(settings), settings.learner.rule_weights, composer, prior_params)
    return evaluate_theory(composed, {f"Corpus ({corpus.name})": read} if len(read) else {}, rules)


STAGE = StageSpec(
    name="theory",
    title="Theory",
    describe=describe,
    settings_type=Settings,
    presets=PRESETS,
    check=check,
    depends_on=("prior",),
    make_learner=make_learner,
    updates="num_updates",
    template=lambda settings, context: learner_from(settings, context, None).init(),
    weights=lambda state: state.average,
    compose=compose,
    writer=lambda settings, context, learned, tokens, prompt: writer_of(context, learned),
    score=score,
    takes_key=True,
    meters=METERS,
    tables=tables,
    metrics=("theory", "log_prior", "entropy"),
)
