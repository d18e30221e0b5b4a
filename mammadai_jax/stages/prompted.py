"""Stage "prompted": a composer learns to write melodies for points of the joint embedding."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import prompted
from mammadai_jax.fields import static
from mammadai_jax.music import captions
from mammadai_jax.music.controls import BARS, for_captions
from mammadai_jax.music.forms import Form
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.sample import Sample, unaccompanied
from mammadai_jax.music.traits import SHORTEST
from mammadai_jax.networks.composer import Composer
from mammadai_jax.stages.captioned import captioned_of, claims_by_name, in_groups
from mammadai_jax.stages.joint_embedding import JointEmbedding, condition_size
from mammadai_jax.stages.picking import pick, scorer_of
from mammadai_jax.stages.prior import bits_a_step
from mammadai_jax.training.context import say
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.settings import SettingsError, share
from mammadai_jax.training.stage import ComposeRequest, Context, MelodyWriter, StageSpec

PROMPTS = (
    "a calm slow tune in minor that falls at the end",
    "a busy tune in major, high and full of leaps",
    "a low melody in triple time that rises",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stage "prompted": melodies for their own embedding, so for a prompt's too, as MusicLM.

    Attributes:
        log_every: updates between log lines.
        temperature: divides the logits when melodies are composed.
        learner: see agents.prompted.

    """

    log_every: int = static(default=50, low=1)
    temperature: float = static(default=0.99, low=0.001, high=1000)
    learner: prompted.Config = dataclasses.field(default_factory=prompted.Config)


PRESETS: Mapping[str, Settings] = {
    "smoke": Settings(
        log_every=20,
        learner=prompted.Config(
            width=32, num_layers=1, dropout=0.0, batch_size=8, num_updates=20, lr_warmup_steps=5
        ),
    ),
    "quick": Settings(learner=prompted.Config(width=96, num_layers=2, num_updates=320)),
}


def check(settings: Settings, place: str) -> None:
    """SettingsError unless the network's width can be shared by its heads."""
    config = settings.learner
    if config.body == "transformer" and config.width % (2 * config.num_heads):
        raise SettingsError(
            f"{place}.learner.width {config.width} cannot be shared by {config.num_heads} heads of even size"
        )


def composer_of(context: Context) -> Composer:
    """The network of a run's prompted composer, and the body of its reward model."""
    return prompted.make_composer(context.settings_of("prompted").learner, MAGENTA.size)


def data(settings: Settings, context: Context) -> prompted.Excerpts:
    """The excerpts, their music as the joint embedding has it, and what could be claimed of them."""
    given, joint = captioned_of(context), context.learned("embedding")
    tokens = jnp.asarray(given.tokens)
    claims = _measured(tokens) if joint.tells_claims else None
    return prompted.Excerpts(tokens, joint.music(tokens), jnp.asarray(given.ends), claims)


_measured = jax.jit(captions.measured)


def width_of(context: Context) -> int:
    """The numbers of a condition of a run's composer (C)."""
    own = context.settings_of("embedding")
    return condition_size(own.learner, own.tells_claims)


def make_learner(settings: Settings, context: Context, data: prompted.Excerpts) -> Learner:
    """Maximum likelihood of melodies, given their own embedding."""
    config, size = share(settings.learner, context.shards), MAGENTA.size
    return Learner(
        name="prompted",
        init=lambda: template(settings, context),
        step=lambda state, data: prompted.step(state, config, data, size),
        data=data,
        updates=config.num_updates,
        chunk=settings.log_every,
        notes=settings.learner.batch_size * context.settings_of("embedding").length,
        shown="bits",
        worst=10 * math.log2(size),  # guessing takes a tenth
    )


def template(settings: Settings, context: Context) -> prompted.State:
    """A state before training."""
    config = share(settings.learner, context.shards)
    return prompted.init(context.key("prompted"), config, MAGENTA.size, width_of(context))


def compose(
    settings: Settings, context: Context, learned: Any, key: jax.Array, request: ComposeRequest
) -> list[Sample]:
    """Melodies for a prompt, or for PROMPTS in turn; by default as long as the excerpts."""
    return compose_for_prompts(context, learned, key, request, settings.temperature, "Prompted")


def compose_for_prompts(
    context: Context, params: Any, key: jax.Array, request: ComposeRequest, temperature: float, name: str
) -> list[Sample]:
    """What `request` asks for, of a stage's composer with these parameters at a temperature."""
    joint: JointEmbedding = context.learned("embedding")
    if request.prompt is not None and (reading := joint.reading(for_captions(request.prompt))).is_partial:
        say(f"of the prompt: {reading}")
    texts, words = texts_of(request), request.controls.in_words() if request.prompt else ""
    spoken = [f"{for_captions(text)} {words}".rstrip() for text in texts]
    composer, steps = composer_of(context), request.steps(context.settings_of("embedding").length)
    options = {
        "steps": steps,
        "temperature": temperature * request.temperature,
        "guidance": request.guidance,
        "allowed": request.allowed(steps),
        "form": request.form(key, steps, composer.reach, texts),
    }
    condition = joint.condition(spoken)
    if request.candidates == 1:
        rows = write_melodies(composer, params, key, condition, **options)
    else:
        options |= {"candidates": request.candidates, "scorer": scorer_of(context)}
        rows = pick(composer, params, key, spoken, condition, **options)
    claims = claims_by_name(spoken, rows)
    samples = unaccompanied(rows, name, texts, request.controls)
    return [dataclasses.replace(one, claims=each) for one, each in zip(samples, claims, strict=True)]


def texts_of(request: ComposeRequest) -> list[str]:
    """The prompt of each melody: that of the request, or one made of its controls, else PROMPTS in turn."""
    words = request.controls.in_words()
    return request.texts([f"a tune {words}"] if words else PROMPTS)


def writer_of(context: Context, params: Any, tokens: np.ndarray, prompt: str | None = None) -> MelodyWriter:
    """The composer with these parameters, conditioned on a prompt, else on a tune's own tokens (T,)."""
    joint: JointEmbedding = context.learned("embedding")
    if prompt is not None:
        condition = joint.condition([for_captions(prompt)])[0]
    else:
        length = context.settings_of("embedding").length
        heard = np.pad(
            tokens[:length], (0, max(SHORTEST - len(tokens), 0)), constant_values=MAGENTA.hold or 0
        )
        condition = joint.condition_of(heard[None])[0]
    return MelodyWriter(composer_of(context), params, condition)


def write_melodies(
    composer: Composer,
    params: Any,
    key: jax.Array,
    condition: jax.Array,
    *,
    steps: int,
    temperature: float,
    guidance: float | None = None,
    allowed: jax.Array | None = None,
    form: Form | None = None,
) -> np.ndarray:
    """A melody for each condition (N, C), of so many steps: int32 (N, steps); see agents.prompted.compose."""
    options = {"temperature": temperature, "guidance": guidance, "allowed": allowed}

    def write(key: jax.Array, rows: slice) -> jax.Array:
        named = options | {"form": form and form.of(rows)}
        return _write(composer, params, key, condition[rows], steps, **named)

    return in_groups(len(condition), key, write)


_write = jax.jit(prompted.compose, static_argnums=(0, 4))

STAGE = StageSpec(
    name="prompted",
    title="Prompted",
    describe=lambda settings, context, rows: (
        f"A network trained on {len(captioned_of(context).tokens):,} excerpts with captions writes melodies "
        "for a prompt."
    ),
    settings_type=Settings,
    presets=PRESETS,
    check=check,
    depends_on=("embedding",),
    data=data,
    make_learner=make_learner,
    template=template,
    weights=lambda state: state.average,
    compose=compose,
    writer=lambda settings, context, learned, tokens, prompt: writer_of(context, learned, tokens, prompt),
    score=lambda settings, context, learned, tokens, prompt: {
        "bits a step": bits_a_step(writer_of(context, learned, tokens, prompt), tokens)
    },
    takes_prompt=True,
    takes_key=True,
    meters=tuple(BARS),
)
