"""Stage "preference": the prompted composer is tuned by what listeners like, with a KL penalty."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import adversarial, preference
from mammadai_jax.fields import static
from mammadai_jax.music.controls import BARS
from mammadai_jax.objectives.discriminator import Transitions
from mammadai_jax.stages.captioned import GROUP, captioned_of
from mammadai_jax.stages.evaluate_preference import evaluate_preference
from mammadai_jax.stages.preference_reward import RewardParams, Rows, reward_of, rows_of, scaled_reward
from mammadai_jax.stages.prompted import compose_for_prompts, composer_of, write_melodies, writer_of
from mammadai_jax.stages.prompted import template as prompted_template
from mammadai_jax.stages.reward_model import COMPARISONS, read_comparisons
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.report.table import Comparison
from mammadai_jax.training.settings import SettingsError, share
from mammadai_jax.training.stage import Context, StageSpec

# found by experiment
LEARNER = preference.Config(
    num_updates=140,
    num_envs=128,
    num_epochs=1,
    optimiser="muon",
    learning_rate=1.5e-3,
    value_learning_rate=2e-3,
    vf_clip_eps=None,
    critic_width=128,
    critic_epochs=8,
    critic_warmup_steps=10,
    gae_lambda=0.98,
    kl_coef=0.01,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stage "preference": the prompted composer, tuned by the reward model (Cideron et al. 2024).

    Attributes:
        adherence_weight: weight in the reward of the likeness of text and music, beside the reward model's
            score; both have a variance of 1.
        variety_weight: weight of the share of a melody's runs of six notes that no other melody of an update
            has.
        claims_weight: weight of the claims of the prompt that hold, each kind of claim on its own scale.
        discriminator_weight: weight of a discriminator's reward, which learns beside the composer to tell its
            melodies from the excerpts; 0 for no discriminator.
        log_every: updates between log lines.
        learner: see agents.preference.
        discriminator: see agents.adversarial.

    """

    adherence_weight: float = static(default=0.5, low=0)
    variety_weight: float = static(default=1.0, low=0)
    claims_weight: float = static(default=2.0, low=0)
    discriminator_weight: float = static(default=0.0, low=0)
    log_every: int = static(default=5, low=1)
    learner: preference.Config = dataclasses.field(default_factory=lambda: LEARNER)
    discriminator: adversarial.Config = dataclasses.field(default_factory=adversarial.Config)


PRESETS: Mapping[str, Settings] = {
    "smoke": Settings(
        log_every=2,
        learner=dataclasses.replace(
            LEARNER, num_envs=8, num_updates=4, optimiser="adam", critic_width=0, critic_warmup_steps=1
        ),
    ),
    "quick": Settings(learner=dataclasses.replace(LEARNER, num_updates=50)),
}


def check(settings: Settings, place: str) -> None:
    """SettingsError for learner's settings that this stage sets itself, or that do not fit together."""
    if settings.learner.num_steps != LEARNER.num_steps:
        raise SettingsError(f"{place}.learner.num_steps is not used: set embedding.length")
    if settings.learner.reward_weights:
        raise SettingsError(
            f"{place}.learner.reward_weights is not used: set {place}.adherence_weight, "
            f"{place}.variety_weight, {place}.claims_weight and {place}.discriminator_weight"
        )
    try:
        preference.check(settings.learner)
    except ValueError as error:
        raise SettingsError(f"{place}.learner: {error}") from None


class Data(NamedTuple):
    """Rows of all prompts, what the reward is computed with, and what a discriminator learns from."""

    prompts: Rows
    reward: RewardParams
    real: Transitions | None = None


def reward_weights(settings: Settings) -> dict[str, float]:
    """The weights of the terms of `reward_of`."""
    return {
        "preference": 1.0,
        "adherence": settings.adherence_weight,
        "variety": settings.variety_weight,
        "claims": settings.claims_weight,
    }


def data(settings: Settings, context: Context) -> Data:
    """All prompts, and a reward on the scale of the untuned composer's melodies for some of them."""
    given = captioned_of(context)
    prompts = rows_of(context, given.prompts)
    chosen = given.draw(context.random("scale"), min(2 * GROUP, len(given.prompts)))
    reference = {name: each[chosen] for name, each in prompts.items()}
    tokens = write_melodies(
        composer_of(context),
        context.learned("prompted"),
        context.key("scale"),
        reference["condition"],
        steps=context.settings_of("embedding").length,
        temperature=settings.learner.temperature,
    )
    reward = scaled_reward(context, context.learned("reward_model"), reference, tokens)
    return Data(prompts, reward, _real(settings, prompts, given.tokens))


def _real(settings: Settings, prompts: Rows, tokens: np.ndarray) -> Transitions | None:
    """Prompts and their excerpts (N, T), if a discriminator learns from them."""
    if not settings.discriminator_weight:
        return None
    return Transitions(prompts["condition"], jnp.asarray(tokens, jnp.int32))


def example(settings: Settings, context: Context) -> Data:
    """Two prompts, and a reward on the scale of their own excerpts; nothing is composed."""
    excerpts = captioned_of(context)
    prompts = rows_of(context, excerpts.prompts[:2])
    reward = scaled_reward(context, context.learned("reward_model"), prompts, excerpts.tokens[:2])
    return Data(prompts, reward, _real(settings, prompts, excerpts.tokens[:2]))


def make_learner(settings: Settings, context: Context, data: Data) -> Learner:
    """Tuning of the prompted composer by the reward."""
    length, composer = context.settings_of("embedding").length, composer_of(context)
    config, discriminator = _configs(settings, context)
    reward = reward_of(context.settings_of("reward_model").learner, composer)

    def step(state, data):
        own = {"reward_fn": reward, "reward_params": data.reward}
        if data.real is None:
            return preference.step(state, config, composer, data.prompts, **own)
        return adversarial.step(state, discriminator, config, composer, data.prompts, data.real, **own)

    return Learner(
        name="preference",
        init=lambda: _init(settings, context, context.learned("prompted")),
        step=step,
        data=data,
        updates=config.num_updates,
        chunk=settings.log_every,
        notes=settings.learner.num_envs * length,
        shown="objective/scores",
    )


def _configs(settings: Settings, context: Context) -> tuple[preference.Config, adversarial.Config]:
    """One shard's settings of the tuning and of the discriminator."""
    weights = reward_weights(settings)
    if settings.discriminator_weight:
        weights[adversarial.TERM] = settings.discriminator_weight
    length = context.settings_of("embedding").length
    config = share(settings.learner, context.shards)
    config = dataclasses.replace(config, num_steps=length, reward_weights=weights)
    return config, share(settings.discriminator, context.shards)


def _init(settings: Settings, context: Context, params: Any) -> preference.State | adversarial.State:
    """A state that begins with a composer's parameters."""
    (config, discriminator), composer = _configs(settings, context), composer_of(context)
    if settings.discriminator_weight:
        return adversarial.init(context.key("preference"), discriminator, config, composer, params)
    return preference.init(context.key("preference"), config, composer, params)


def tuner_of(state: preference.State | adversarial.State) -> preference.State:
    """The composer's part of a state, which goes on without a discriminator."""
    return state.tuner if isinstance(state, adversarial.State) else state


def template(settings: Settings, context: Context) -> preference.State | adversarial.State:
    """A state before training, of a composer that was not trained either."""
    params = prompted_template(context.settings_of("prompted"), context).average
    return _init(settings, context, params)


def describe(settings: Settings, context: Context, rows: list[dict[str, Any]]) -> str:
    """What was learned, and from whose choices."""
    del settings, rows
    ratings = context.settings_of("reward_model").ratings
    number = len(read_comparisons(context.path / COMPARISONS))
    whose = f"read from {ratings}" if ratings else "all made by simulated listeners"
    return (
        "The prompted composer, tuned by a reward model that was trained on "
        f"{number:,} choices between two of its melodies, {whose}, with "
        "a KL penalty to the composer before tuning."
    )


def tables(settings: Settings, context: Context, pieces: int) -> list[Comparison]:
    """The composer before and after, by simulated listeners."""
    temperatures = {
        "prompted": context.settings_of("prompted").temperature,
        "preference": settings.learner.temperature,
    }
    return [evaluate_preference(context, temperatures, pieces)]


STAGE = StageSpec(
    name="preference",
    title="Preference",
    describe=describe,
    settings_type=Settings,
    presets=PRESETS,
    check=check,
    depends_on=("prompted", "reward_model", "embedding"),
    data=data,
    example=example,
    make_learner=make_learner,
    template=template,
    weights=lambda state: state.params["policy"],
    compose=lambda settings, context, learned, key, request: compose_for_prompts(
        context, learned, key, request, settings.learner.temperature, "Preference"
    ),
    writer=lambda settings, context, learned, tokens, prompt: writer_of(context, learned, tokens, prompt),
    takes_prompt=True,
    takes_key=True,
    meters=tuple(BARS),
    tables=tables,
    metrics=(
        "objective/scores",
        "objective/kl",
        "reward/preference",
        "reward/adherence",
        "reward/variety",
        "reward/claims",
    ),
)
