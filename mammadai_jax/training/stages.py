"""The road: noise, the prior, GAIL. What each stage learns from, and how its composer is heard."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import cloning, gail, ppo, prior
from mammadai_jax.agents.rollout import compose
from mammadai_jax.environments import (
    Accompanied,
    AccompaniedParams,
    Representation,
    Source,
    frames_from_events,
)
from mammadai_jax.music.arrangements import BARS, KEYS, Arrangement, arrange
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.notes import PIANO, RL_TUNER, Melody
from mammadai_jax.music.tunes import ACCOMPANIMENTS
from mammadai_jax.training.loop import Stage
from mammadai_jax.training.report import Sample
from mammadai_jax.training.settings import Settings

STEPS_PER_BAR = 16
LENGTH = BARS * STEPS_PER_BAR


def key_of(settings: Settings, purpose: str) -> jax.Array:
    """A key for a purpose, the same in every process; different purposes have independent keys."""
    return jax.random.fold_in(jax.random.key(settings.seed), int.from_bytes(purpose.encode()) % (2**31 - 1))


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What imitation learns from: the environment, its params, and the arrangements of the ten tunes."""

    env: Accompanied
    params: AccompaniedParams
    arrangements: list[Arrangement]

    @property
    def demonstrations(self) -> cloning.Demonstrations:
        """All arrangements, played."""
        pieces = np.array([a.piece for a in self.arrangements])
        melodies = np.stack([PIANO.encode(a.melody.events) for a in self.arrangements])
        return cloning.demonstrate(self.env, self.params, pieces, melodies)


@functools.cache
def lesson(representation: Representation, source: Source) -> Lesson:
    """Ten tunes over five accompaniments in C, G and D, under a definition of the state."""
    arrangements = arrange()
    lines = {a.piece: a.line for a in arrangements}
    frames = np.stack([frames_from_events(lines[piece], LENGTH) for piece in range(len(lines))])
    env = Accompanied(representation, source, frames)
    return Lesson(env, env.default_params, arrangements)


def tokens_of(settings: Settings, corpus: Corpus) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The corpus on C, split by family, as rows of tokens: to learn from, and held out."""
    sides = corpus.in_key(0, RL_TUNER, relative=True).split(settings.prior.held_out, settings.seed)
    longest = settings.prior.longest
    learn, held_out = ([RL_TUNER.encode(m.events)[:longest] for m in side] for side in sides)
    return learn, held_out


def prior_stage(settings: Settings, corpus: Corpus) -> Stage:
    """Maximum likelihood on the corpus, measured in bits a step on the families held out."""
    learn, held_out = tokens_of(settings, corpus)
    config, size = settings.prior.learner, RL_TUNER.size
    composer = prior.make_composer(config, size)
    return Stage(
        name="prior",
        init=lambda: prior.init(key_of(settings, "prior"), config, size),
        step=lambda state, data: prior.step(state, config, data, size),
        data=prior.stream(learn, size),
        updates=config.updates,
        chunk=settings.prior.chunk,
        notes=config.batch * config.window,
        shown="bits",
        measure=lambda state: {"held_out_bits": prior.evaluate(composer, state.average, held_out)},
        measure_every=5,
    )


def cloning_stage(settings: Settings) -> Stage:
    """Behaviour cloning of the ten tunes: the warm start of GAIL."""
    imitation = settings.imitation
    given = lesson(imitation.representation, imitation.source)
    actor = ppo.network(imitation.learner.policy, given.env)
    config = dataclasses.replace(imitation.cloning, hidden=imitation.learner.policy.hidden)
    return Stage(
        name="cloning",
        init=lambda: cloning.init(key_of(settings, "cloning"), config, given.env),
        step=lambda state, demos: cloning.step(state, config, actor, demos),
        data=given.demonstrations,
        updates=imitation.warm_start,
        chunk=100,
        notes=config.batch,
        shown="nats",
    )


def gail_stage(settings: Settings, warm_start: Any) -> Stage:
    """GAIL on the ten tunes, from the cloned policy's parameters or, where they are None, from scratch."""
    imitation = settings.imitation
    given = lesson(imitation.representation, imitation.source)
    config = imitation.learner
    return Stage(
        name="gail",
        init=lambda: gail.init(key_of(settings, "gail"), config, given.env, warm_start),
        step=lambda state, data: gail.step(state, config, given.env, *data),
        data=(given.params, given.demonstrations),
        updates=imitation.updates,
        chunk=imitation.chunk,
        notes=config.policy.melodies * config.policy.steps,
        shown="reward",
    )


def noise(key: jax.Array, melodies: int, bars: int = BARS) -> list[Sample]:
    """Uniformly random notes over the accompaniments: where the road begins."""
    tokens = jax.random.randint(key, (melodies, bars * STEPS_PER_BAR), 0, PIANO.size)
    return _over_accompaniments(np.asarray(tokens), "Noise")


def from_prior(
    settings: Settings, params: Any, key: jax.Array, melodies: int, bars: int = 8, temperature: float = 1.0
) -> list[Sample]:
    """Melodies that the prior writes, on C and without accompaniment."""
    composer = prior.make_composer(settings.prior.learner, RL_TUNER.size)
    write = jax.jit(
        lambda params, key: compose(composer, params, key, melodies, bars * STEPS_PER_BAR, temperature).action
    )
    rows = np.asarray(write(params, key)).T
    return [
        Sample(
            Melody(RL_TUNER.decode(row), title=f"Prior {number}", tonic=0, mode="major"),
            title=f"Prior {number}",
        )
        for number, row in enumerate(rows, start=1)
    ]


def from_gail(
    settings: Settings, params: Any, key: jax.Array, melodies: int, bars: int = BARS, temperature: float = 1.0
) -> list[Sample]:
    """Melodies that GAIL's policy plays over the accompaniments in C, one after another."""
    imitation = settings.imitation
    given = lesson(imitation.representation, imitation.source)
    steps = min(bars, BARS) * STEPS_PER_BAR
    config = dataclasses.replace(imitation.learner.policy, melodies=melodies, steps=steps)
    states = jax.vmap(given.env.begin)(jnp.arange(melodies) % len(ACCOMPANIMENTS))
    perform = jax.jit(
        lambda p, k: ppo.play(p, config, given.env, given.params, k, states, temperature).action
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


COMPOSERS: dict[str, Callable[..., list[Sample]]] = {"prior": from_prior, "gail": from_gail}
