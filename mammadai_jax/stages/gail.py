"""Stage "gail": generative adversarial imitation of the ten tunes over their accompaniments."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import gail, ppo
from mammadai_jax.agents.cloning import Demonstrations
from mammadai_jax.environments import Accompanied, AccompaniedParams
from mammadai_jax.fields import static
from mammadai_jax.music.arrangements import BARS
from mammadai_jax.music.sample import STEPS_PER_BAR, Sample, accompanied
from mammadai_jax.stages import cloning
from mammadai_jax.stages.accompanied import ImitationData
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.settings import SettingsError, share
from mammadai_jax.training.stage import ComposeRequest, Context, StageSpec

# Found by experiment: a discriminator that sees a bar, a policy with a short horizon, and a KL penalty
# (0.1 on the published task, without metre and progressions).
LEARNER = gail.Config(ppo=ppo.Config(num_epochs=3, gamma=0.9), context_length=16, kl_coef=0.3)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stage "gail": adversarial imitation of the ten tunes over their accompaniments (Lowe 2020).

    Attributes:
        num_updates: how many are made; 0 leaves the stage out.
        log_every: updates between log lines.
        learner: see agents.gail.

    """

    num_updates: int = static(default=150, low=0)
    log_every: int = static(default=10, low=1)
    learner: gail.Config = dataclasses.field(default_factory=lambda: LEARNER)


PRESETS: Mapping[str, Settings] = {
    "smoke": Settings(
        num_updates=6,
        log_every=3,
        learner=dataclasses.replace(LEARNER, ppo=dataclasses.replace(LEARNER.ppo, num_envs=4)),
    ),
    "full": Settings(num_updates=300),
}


def task(context: Context) -> ImitationData:
    """The environment and the tunes, as the stage "cloning" has them."""
    return cloning.task(context.settings_of("cloning"))


def data(settings: Settings, context: Context) -> tuple[AccompaniedParams, Demonstrations]:
    """The environment's params and the demonstrations."""
    del settings
    return task(context).params, task(context).demonstrations


def make_learner(settings: Settings, context: Context, data: tuple) -> Learner:
    """GAIL from the cloned policy's parameters, or from scratch where nothing was cloned."""
    env, config = task(context).env, share(settings.learner, context.shards)
    warm_start, cloned = context.learned("cloning"), context.settings_of("cloning").learner.hidden
    if warm_start is not None and cloned != config.ppo.hidden:
        raise SettingsError(
            f"gail.learner.ppo.hidden {config.ppo.hidden} is not cloning.learner.hidden {cloned}: GAIL goes "
            "on with the cloned network, so give both the same"
        )
    return Learner(
        name="gail",
        init=lambda: gail.init(context.key("gail"), config, env, warm_start),
        step=lambda state, data: gail.step(state, config, env, *data),
        data=data,
        updates=settings.num_updates,
        chunk=settings.log_every,
        notes=settings.learner.ppo.num_envs * config.ppo.num_steps,
        shown="reward",
    )


def template(settings: Settings, context: Context) -> gail.State:
    """A state before training, from scratch."""
    return gail.init(context.key("gail"), share(settings.learner, context.shards), task(context).env)


def compose(
    settings: Settings, context: Context, learned: Any, key: jax.Array, request: ComposeRequest
) -> list[Sample]:
    """Melodies that the policy plays over the accompaniments in C, one after another; 16 bars by default."""
    return play(settings, task(context), learned, key, request)


def play(
    settings: Settings, task: ImitationData, params: Any, key: jax.Array, request: ComposeRequest
) -> list[Sample]:
    """Melodies that a policy with these parameters plays over the accompaniments in C."""
    steps = (request.bars or BARS) * STEPS_PER_BAR
    config = dataclasses.replace(settings.learner.ppo, num_envs=request.melodies, num_steps=steps)
    pieces = jnp.arange(config.num_envs) % len(task.backings)
    options = {"pieces": pieces, "temperature": request.temperature}
    tokens = _tokens(params, config, task.env, task.params, key, **options)
    return accompanied(np.asarray(tokens).T, "GAIL", task.backings)


@functools.partial(jax.jit, static_argnames="env")  # compiled once in a process for each size
def _tokens(
    params: Any,
    config: ppo.Config,
    env: Accompanied,
    env_params: AccompaniedParams,
    key: jax.Array,
    *,
    pieces: jax.Array,
    temperature: float | jax.Array,
) -> jax.Array:
    states = jax.vmap(env.begin)(pieces)
    return ppo.play(params, config, env, env_params, key, states, temperature=temperature).action


def describe(settings: Settings, context: Context, rows: list[dict[str, Any]]) -> str:
    """What was learned, and from where."""
    del settings, rows
    task = context.settings_of("cloning")
    start = "was first cloned from them" if task.num_updates else "began from scratch"
    chords = " that follows the chords of one of ten tunes" if task.progressions else ""
    place = " Both see the place in the bar." if task.metre else ""
    return (
        f"A policy plays over an accompaniment{chords}; its reward comes from a discriminator that is "
        f"trained to tell its melodies from ten tunes.{place} The policy {start}."
    )


STAGE = StageSpec(
    name="gail",
    title="GAIL",
    describe=describe,
    settings_type=Settings,
    presets=PRESETS,
    depends_on=("cloning",),
    can_lack=("cloning",),
    data=data,
    make_learner=make_learner,
    updates="num_updates",
    template=template,
    weights=lambda state: state.policy.params,
    compose=compose,
    max_bars=BARS,
    metrics=("reward", "kl", "policy/entropy_avg"),
)
