"""Stage "prior": a network learns by maximum likelihood what note comes next in a corpus."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mammadai_jax.agents import prior
from mammadai_jax.fields import static
from mammadai_jax.learning import rollout, sequences
from mammadai_jax.learning.rollout import AnyComposer, composer_policy
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.forms import Form
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.sample import STEPS_PER_BAR, Sample, unaccompanied
from mammadai_jax.networks.composer import Composer
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.settings import share
from mammadai_jax.training.stage import ComposeRequest, Context, MelodyWriter, StageSpec

BARS = 8  # of a composed melody by default
METERS = ("4/4", "2/2", "2/4")  # those of bars that divide the 16 steps that the network counts
Data = tuple[Any, list[np.ndarray]]  # prior.Stream to learn from, and tokens held out
NO_DATA: Data = None, []  # which the first state does not depend on


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stage "prior": maximum likelihood on the corpus.

    Attributes:
        log_every: updates between log lines.
        max_length: steps of a melody that are used.
        held_out: share of the corpus's melodic families kept for measuring.
        learner: see agents.prior.

    """

    log_every: int = static(default=20, low=1)
    max_length: int = static(default=512, low=1)
    held_out: float = static(default=0.1, low=0.001, high=0.999)
    learner: prior.Config = dataclasses.field(default_factory=prior.Config)


PRESETS: Mapping[str, Settings] = {
    "smoke": Settings(
        log_every=10,
        max_length=128,
        learner=prior.Config(
            width=64,
            num_layers=1,
            batch_size=8,
            sequence_length=128,
            num_updates=30,
            lr_warmup_steps=5,
            dropout=0.0,
        ),
    ),
    "quick": Settings(learner=prior.Config(width=128, num_updates=600, dropout=0.1)),
}


def composer_of(settings: Settings) -> Composer:
    """The network of the prior."""
    return prior.make_composer(settings.learner, MAGENTA.size)


def split(settings: Settings, corpus: Corpus, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A corpus on C, split by family, as rows of tokens: for training, and held out."""
    train, held_out = on_c(corpus).split(settings.held_out, seed)
    return tokens(settings, train), tokens(settings, held_out)


def on_c(corpus: Corpus) -> Corpus:
    """A corpus in the scale in which the prior learns and composes."""
    return corpus.in_key(0, MAGENTA, relative=True)


def tokens(settings: Settings, corpus: Corpus) -> list[np.ndarray]:
    """The melodies of a corpus as rows of tokens, as much of each as is used."""
    return [MAGENTA.encode(melody.events)[: settings.max_length] for melody in corpus]


def data(settings: Settings, context: Context) -> Data:
    """The melodies for training as the learner reads them, and those held out."""
    train, held_out = split(settings, context.corpus(), int(context.seed))
    return stream(settings, train), held_out


def stream(settings: Settings, melodies: list[np.ndarray]) -> prior.Stream:
    """Rows of tokens as the learner reads them, with their lengths, but for those that were cut."""
    return prior.stream(melodies, MAGENTA.size, cut=settings.max_length)


def make_learner(settings: Settings, context: Context, data: Data) -> Learner:
    """Maximum likelihood, measured in bits a step on the families held out."""
    return learner_of("prior", settings, context, data, agent=prior, size=MAGENTA.size)


def learner_of(
    name: str, settings: Any, context: Context, data: Data, *, agent: Any, size: int, voices: int = 1
) -> Learner:
    """Maximum likelihood, measured in bits a token on what is held out.

    Args:
        name: of the stage.
        settings: of the stage: `log_every` and `learner`, the agent's config.
        context: of the run.
        data: to learn from, and the tokens held out.
        agent: the module `agents.prior`, or another with its functions.
        size: of the alphabet.
        voices: tokens of a step.

    """
    stream, held_out = data
    config = share(settings.learner, context.shards)
    composer = agent.make_composer(config, size)
    return Learner(
        name=name,
        init=lambda: agent.init(context.key(name), config, size),
        step=lambda state, data: agent.step(state, config, data, size),
        data=stream,
        updates=config.num_updates,
        chunk=settings.log_every,
        notes=settings.learner.batch_size * config.sequence_length * voices,
        shown="bits",
        worst=10 * math.log2(size),  # guessing takes a tenth
        measure=lambda state: {"held_out_bits": prior.evaluate(composer, state.average, held_out)},
        measure_every=5,
    )


def template(settings: Settings, context: Context) -> prior.State:
    """A state before training."""
    return make_learner(settings, context, NO_DATA).init()


def compose(
    settings: Settings, context: Context, learned: Any, key: jax.Array, request: ComposeRequest
) -> list[Sample]:
    """Melodies on C or in the key asked for, without accompaniment; 8 bars by default."""
    del context
    steps, composer = request.steps(BARS * STEPS_PER_BAR), composer_of(settings)
    named = {"allowed": request.allowed(steps), "form": request.form(key, steps, composer.reach)}
    rows = prior_tokens(composer, learned, key, request.melodies, steps, request.temperature, **named)
    return unaccompanied(rows, "Prior", controls=request.asked)


def prior_tokens(
    composer: AnyComposer,
    params: Any,
    key: jax.Array,
    melodies: int,
    steps: int,
    temperature: float = 1.0,
    *,
    allowed: jax.Array | None = None,
    form: Form | None = None,
) -> np.ndarray:
    """What a prior with these parameters composes, int32 (melodies, steps).

    `allowed` and `form` as of `rollout.composer_policy`.
    """
    options = {"allowed": allowed, "form": form}
    return np.asarray(_tokens(composer, params, key, melodies, steps, temperature, **options)).T


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _tokens(
    composer: AnyComposer,
    params: Any,
    key: jax.Array,
    melodies: int,
    steps: int,
    temperature: jax.Array | float,
    *,
    allowed: jax.Array | None,
    form: Form | None,
) -> jax.Array:
    policy = functools.partial(composer_policy, temperature=temperature, allowed=allowed, form=form)
    return rollout.compose(composer, params, key, melodies, steps, make_policy=policy).action


def bits_a_step(writer: MelodyWriter, tokens: np.ndarray) -> float:
    """What a tune's tokens (T,) cost a network, in bits a step."""
    condition = None if writer.condition is None else writer.condition[None]
    nats = _nats(writer.composer, writer.params, tokens[:, None], condition)
    return float(nats.mean() / math.log(2))


@functools.partial(jax.jit, static_argnums=0)
def _nats(composer: Composer, params: Any, tokens: jax.Array, condition: jax.Array | None) -> jax.Array:
    return sequences.negative_log_likelihood(composer, params, tokens, condition=condition)


def describe(settings: Settings, context: Context, rows: list[dict[str, Any]]) -> str:
    """What was learned, with the last measured bits."""
    del settings
    measured = (row["held_out_bits"] for row in reversed(rows) if "held_out_bits" in row)
    return (
        f"A network was trained to predict the next note of {len(context.corpus()):,} melodies; it composes "
        "alone, on C, from an empty beginning. A held-out step costs it "
        f"{next(measured, float('nan')):.2f} bits."
    )


STAGE = StageSpec(
    name="prior",
    title="Prior",
    describe=describe,
    settings_type=Settings,
    presets=PRESETS,
    data=data,
    make_learner=make_learner,
    template=template,
    weights=lambda state: state.average,
    compose=compose,
    writer=lambda settings, context, learned, tokens, prompt: MelodyWriter(composer_of(settings), learned),
    score=lambda settings, context, learned, tokens, prompt: {
        "bits a step": bits_a_step(MelodyWriter(composer_of(settings), learned), tokens)
    },
    takes_key=True,
    meters=METERS,
    metrics=("bits", "held_out_bits"),
)
