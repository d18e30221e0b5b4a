"""Stage "cloning": behaviour cloning of the ten tunes over their accompaniments, where GAIL begins."""

from __future__ import annotations

import dataclasses
import math

from mammadai_jax.agents import cloning, ppo
from mammadai_jax.environments import Representation, Source
from mammadai_jax.fields import static
from mammadai_jax.stages.accompanied import ImitationData, imitation_data
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.settings import share
from mammadai_jax.training.stage import Context, StageSpec


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stage "cloning": behaviour cloning of the ten tunes over their accompaniments (Lowe 2020).

    Attributes:
        representation: how the notes sounding so far are observed, here and in the stage "gail"; see
            environments.Accompanied.
        source: whose notes are observed, here and in the stage "gail".
        metre: whether the place in the bar is observed, here and in the stage "gail", by its discriminator
            too; in the thesis it is not.
        progressions: whether the accompaniments, here and in the stage "gail", change their chord with the
            bar, as it suits the tunes, and the chord is observed; in the thesis each stays on one chord.
        num_updates: minibatches; 0 leaves the stage out.
        learner: see agents.cloning.

    """

    representation: Representation = "snapshot"
    source: Source = "both"
    metre: bool = True
    progressions: bool = True
    num_updates: int = static(default=5000, low=0)
    learner: cloning.Config = dataclasses.field(default_factory=cloning.Config)


def task(settings: Settings) -> ImitationData:
    """The environment and the tunes."""
    return imitation_data(
        settings.representation, settings.source, metre=settings.metre, progressions=settings.progressions
    )


def make_learner(settings: Settings, context: Context, data: cloning.Demonstrations) -> Learner:
    """Maximum likelihood of the demonstrated actions."""
    config, env = share(settings.learner, context.shards), task(settings).env
    actor = ppo.make_network(ppo.Config(hidden=config.hidden), env)
    return Learner(
        name="cloning",
        init=lambda: template(settings, context),
        step=lambda state, demonstrations: cloning.step(state, config, actor, demonstrations),
        data=data,
        updates=settings.num_updates,
        chunk=100,
        notes=settings.learner.batch_size,
        shown="nats",
        worst=10 * math.log(env.num_actions),  # guessing takes a tenth
    )


def template(settings: Settings, context: Context) -> cloning.State:
    """A state before training."""
    return cloning.init(context.key("cloning"), share(settings.learner, context.shards), task(settings).env)


STAGE = StageSpec(
    name="cloning",
    title="Cloning",
    settings_type=Settings,
    presets={"smoke": Settings(num_updates=200)},
    data=lambda settings, context: task(settings).demonstrations,
    make_learner=make_learner,
    updates="num_updates",
    template=template,
    weights=lambda state: state.params,
    metrics=("nats", "accuracy"),
)
