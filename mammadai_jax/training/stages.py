"""The road: noise, the prior, GAIL, theory, preference. What each stage learns from, and how it is heard.

How the last stage learns is in preference.py.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import cloning, gail, ppo, prior, projection
from mammadai_jax.environments import (
    Accompanied,
    AccompaniedParams,
    Representation,
    Source,
    frames_from_events,
)
from mammadai_jax.learning.rollout import compose
from mammadai_jax.music import theory
from mammadai_jax.music.arrangements import BARS, KEYS, Arrangement, arrange
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.notes import MAGENTA, PIANO, Melody
from mammadai_jax.music.tunes import ACCOMPANIMENTS
from mammadai_jax.networks.composer import Composer
from mammadai_jax.training import preference
from mammadai_jax.training.loop import Stage
from mammadai_jax.training.report import Sample
from mammadai_jax.training.settings import STEPS_PER_BAR, Settings, key_of

LENGTH = BARS * STEPS_PER_BAR


@dataclasses.dataclass(frozen=True)
class ImitationData:
    """What imitation learns from: the environment, its params, and the arrangements of the ten tunes."""

    env: Accompanied
    params: AccompaniedParams
    arrangements: list[Arrangement]

    @functools.cached_property
    def demonstrations(self) -> cloning.Demonstrations:
        """All arrangements, played, once and never as part of a program."""
        pieces = np.array([a.piece for a in self.arrangements])
        melodies = np.stack([PIANO.encode(a.melody.events) for a in self.arrangements])
        with jax.ensure_compile_time_eval():
            return cloning.demonstrate(self.env, self.params, pieces, melodies)


@functools.cache
def imitation_data(representation: Representation, source: Source) -> ImitationData:
    """Ten tunes over five accompaniments in C, G and D, under a definition of the state."""
    arrangements = arrange()
    lines = {a.piece: a.line for a in arrangements}
    frames = np.stack([frames_from_events(lines[piece], LENGTH) for piece in range(len(lines))])
    env = Accompanied(representation, source, frames)
    return ImitationData(env, env.default_params, arrangements)


def tokens_of(settings: Settings, corpus: Corpus) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The corpus on C, split by family, as rows of tokens: to learn from, and held out."""
    sides = corpus.in_key(0, MAGENTA, relative=True).split(settings.prior.held_out, settings.seed)
    longest = settings.prior.max_length
    learn, held_out = ([MAGENTA.encode(m.events)[:longest] for m in side] for side in sides)
    return learn, held_out


def prior_stage(settings: Settings, corpus: Corpus) -> Stage:
    """Maximum likelihood on the corpus, measured in bits a step on the families held out."""
    learn, held_out = tokens_of(settings, corpus)
    config, size = settings.shard.prior.learner, MAGENTA.size
    composer = prior.make_composer(config, size)
    return Stage(
        name="prior",
        init=lambda: prior.init(key_of(settings, "prior"), config, size),
        step=lambda state, data: prior.step(state, config, data, size),
        data=prior.stream(learn, size),
        updates=config.num_updates,
        chunk=settings.prior.log_every,
        notes=settings.prior.learner.batch_size * config.sequence_length,
        shown="bits",
        measure=lambda state: {"held_out_bits": prior.evaluate(composer, state.average, held_out)},
        measure_every=5,
    )


def cloning_stage(settings: Settings) -> Stage:
    """Behaviour cloning of the ten tunes: the warm start of GAIL."""
    imitation = settings.imitation
    given = imitation_data(imitation.representation, imitation.source)
    actor = ppo.make_network(imitation.learner.ppo, given.env)
    config = dataclasses.replace(settings.shard.imitation.cloning, hidden=imitation.learner.ppo.hidden)
    return Stage(
        name="cloning",
        init=lambda: cloning.init(key_of(settings, "cloning"), config, given.env),
        step=lambda state, demos: cloning.step(state, config, actor, demos),
        data=given.demonstrations,
        updates=imitation.cloning_updates,
        chunk=100,
        notes=imitation.cloning.batch_size,
        shown="nats",
    )


def gail_stage(settings: Settings, warm_start: Any) -> Stage:
    """GAIL on the ten tunes, from the cloned policy's parameters or, where they are None, from scratch."""
    imitation = settings.imitation
    given = imitation_data(imitation.representation, imitation.source)
    config = settings.shard.imitation.learner
    return Stage(
        name="gail",
        init=lambda: gail.init(key_of(settings, "gail"), config, given.env, warm_start),
        step=lambda state, data: gail.step(state, config, given.env, *data),
        data=(given.params, given.demonstrations),
        updates=imitation.num_updates,
        chunk=imitation.log_every,
        notes=imitation.learner.ppo.num_envs * config.ppo.num_steps,
        shown="reward",
    )


def piece(settings: Settings, steps: int | None = None) -> theory.Config:
    """What the rules expect: so many steps (settings.theory.length by default) in the scale of C.

    The prior lives there, minor tunes on A.
    """
    return theory.Config(length=steps or settings.theory.length, labels=settings.theory.labels)


def theory_stage(settings: Settings, prior_params: Any) -> Stage:
    """Music theory, from a prior's parameters or, where they are None, an untrained prior's."""
    config, wanted = settings.shard.theory.learner, piece(settings)
    composer = prior.make_composer(settings.prior.learner, MAGENTA.size)

    def init():
        key, params = key_of(settings, "theory"), prior_params
        if params is None:
            params = prior.init(key, settings.prior.learner, MAGENTA.size).average
        return projection.init(key, config, params)

    return Stage(
        name="theory",
        init=init,
        step=lambda state, _: projection.step(state, config, composer, wanted),
        data=(),
        updates=settings.theory.num_updates,
        chunk=settings.theory.log_every,
        notes=settings.theory.learner.num_envs * settings.theory.length,
        shown="theory",
    )


def noise(key: jax.Array, melodies: int, bars: int = BARS) -> list[Sample]:
    """Uniformly random notes over the accompaniments: where the road begins."""
    tokens = jax.random.randint(key, (melodies, bars * STEPS_PER_BAR), 0, PIANO.size)
    return _over_accompaniments(np.asarray(tokens), "Noise")


def from_prior(
    settings: Settings, params: Any, key: jax.Array, melodies: int, bars: int = 8, temperature: float = 1.0
) -> list[Sample]:
    """Melodies that the prior writes, on C and without accompaniment."""
    rows = prior_tokens(settings, params, key, melodies, bars * STEPS_PER_BAR, temperature)
    return _alone(rows, "Prior")


def prior_tokens(
    settings: Settings, params: Any, key: jax.Array, melodies: int, steps: int, temperature: float = 1.0
) -> np.ndarray:
    """What the prior writes, int32 (melodies, steps)."""
    composer = prior.make_composer(settings.prior.learner, MAGENTA.size)
    return np.asarray(_write(composer, params, key, melodies, steps, temperature)).T


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5))
def _write(
    composer: Composer, params: Any, key: jax.Array, melodies: int, steps: int, temperature: float
) -> jax.Array:
    return compose(composer, params, key, melodies, steps, temperature).action


def from_theory(
    settings: Settings,
    params: Any,
    key: jax.Array,
    melodies: int,
    bars: int | None = None,
    temperature: float = 1.0,
) -> list[Sample]:
    """Melodies that the tuned prior writes, as long as those it was tuned on unless `bars` says otherwise."""
    steps = settings.theory.length if bars is None else bars * STEPS_PER_BAR
    return _alone(theory_tokens(settings, params, key, melodies, steps, temperature), "Theory")


def theory_tokens(
    settings: Settings, params: Any, key: jax.Array, melodies: int, steps: int, temperature: float = 1.0
) -> np.ndarray:
    """What the tuned prior writes, int32 (melodies, steps)."""
    # the key that older versions composed by, so that the same seed still gives the same melodies
    key = jax.random.split(key, 3)[1]
    return prior_tokens(settings, params, key, melodies, steps, temperature)


PROMPTS = (
    "a calm slow tune in minor that falls at the end",
    "a busy tune in major, high and full of leaps",
    "a low melody in triple time that rises",
)


def from_prompts(
    settings: Settings,
    learned: preference.Prompted,
    key: jax.Array,
    melodies: int,
    bars: int | None = None,
    temperature: float = 1.0,
    prompt: str | None = None,
    guidance: float | None = None,
) -> list[Sample]:
    """Melodies for a prompt, or for PROMPTS in turn; as long as those that were learned from by default."""
    texts = [prompt or PROMPTS[number % len(PROMPTS)] for number in range(melodies)]
    steps = None if bars is None else bars * STEPS_PER_BAR
    heat = settings.preference.learner.temperature * temperature
    condition = learned.joint.text(texts)
    rows = preference.write_melodies(settings, learned.params, key, condition, steps, heat, guidance)
    samples = _alone(rows, "Prompted")
    return [dataclasses.replace(sample, title=text) for sample, text in zip(samples, texts, strict=True)]


def _alone(rows: np.ndarray, name: str) -> list[Sample]:
    """Rows of the alphabet `magenta` as samples on C, without accompaniment."""
    titles = [f"{name} {number}" for number in range(1, len(rows) + 1)]
    return [
        Sample(Melody(MAGENTA.decode(row), title=title, tonic=0, mode="major"), title=title)
        for row, title in zip(rows, titles, strict=True)
    ]


def from_gail(
    settings: Settings, params: Any, key: jax.Array, melodies: int, bars: int = BARS, temperature: float = 1.0
) -> list[Sample]:
    """Melodies that GAIL's policy plays over the accompaniments in C, one after another."""
    imitation = settings.imitation
    given = imitation_data(imitation.representation, imitation.source)
    steps = min(bars, BARS) * STEPS_PER_BAR
    config = dataclasses.replace(imitation.learner.ppo, num_envs=melodies, num_steps=steps)
    states = jax.vmap(given.env.begin)(jnp.arange(melodies) % len(ACCOMPANIMENTS))
    perform = jax.jit(
        lambda p, k: ppo.play(p, config, given.env, given.params, k, states, temperature=temperature).action
    )
    return _over_accompaniments(np.asarray(perform(params, key)).T, "GAIL")


def _over_accompaniments(tokens: np.ndarray, name: str) -> list[Sample]:
    """Rows of piano tokens as samples over the embedded accompaniments in C, in turn."""
    length = tokens.shape[1]
    lines = [np.resize(a.events, length) for a in ACCOMPANIMENTS]
    samples = []
    for number, row in enumerate(tokens):
        backing = ACCOMPANIMENTS[number % len(ACCOMPANIMENTS)]
        title = f"{name} {number + 1} over {backing.name}"
        melody = Melody(PIANO.decode(row), title=title, tonic=0, mode="major")
        samples.append(Sample(melody, title, lines[number % len(lines)], _repeated(backing.drums, length)))
    return samples


def tunes_as_samples() -> list[Sample]:
    """The ten tunes over their accompaniments, in C."""
    first = arrange(keys=KEYS[:1])
    return [
        Sample(a.melody, f"{a.melody.title} over {a.accompaniment}", a.line, _repeated(a.drums, len(a.line)))
        for a in first
    ]


def _repeated(drums: Any, length: int) -> dict[int, list[int]]:
    """A bar's drum strokes at every bar of a length."""
    bars = range(0, length, STEPS_PER_BAR)
    return {
        drum: [bar + step for bar in bars for step in steps if bar + step < length]
        for drum, steps in drums.items()
    }


COMPOSERS: dict[str, Callable[..., list[Sample]]] = {
    "prior": from_prior,
    "gail": from_gail,
    "theory": from_theory,
    "prompted": from_prompts,
    "preference": from_prompts,
}
# What a stage's composer needs of the state it learned.
LEARNED: dict[str, Callable[[Any], Any]] = {
    "prior": lambda state: state.average,
    "gail": lambda state: state.policy.params,
    "theory": lambda state: state.average,
    "prompted": lambda state: state.average,
    "preference": lambda state: state.params["policy"],
}
