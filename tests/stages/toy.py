"""A whole stage in one file: it learns the mean token of a corpus, and composes with noise around it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.fields import static, traced
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.sample import unaccompanied
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.stage import StageSpec


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Config:
    num_updates: int = static(4, low=0)
    learning_rate: float = traced(0.5, low=0, high=1)


@dataclasses.dataclass(frozen=True)
class Settings:
    log_every: int = static(2, low=1)
    learner: Config = dataclasses.field(default_factory=Config)


def data(settings, context):
    melodies = context.corpus().in_key(0, MAGENTA, relative=True)
    return jnp.asarray(np.concatenate([MAGENTA.encode(melody.events) for melody in melodies]))


def make_learner(settings, context, data):
    def step(state, tokens):
        error = jnp.mean(tokens) - state["mean"]
        mean = state["mean"] + settings.learner.learning_rate * error
        return {"mean": mean}, {"error": jnp.abs(error)}

    begin = lambda: template(settings, context)
    return Learner("toy", begin, step, data, settings.learner.num_updates, settings.log_every, 1, "error")


def template(settings, context):
    return {"mean": jax.random.uniform(context.key("toy"))}


def compose(settings, context, learned, key, request):
    shape = request.melodies, (request.bars or 1) * 16
    tokens = jnp.clip(learned["mean"] + 3 * jax.random.normal(key, shape), 2, MAGENTA.size - 1).astype(int)
    return unaccompanied(np.asarray(tokens), "Toy")


STAGE = StageSpec(
    "toy", "Toy", lambda settings, context, rows: f"It ends {rows[-1]['error']:.1f} away.", Settings,
    data=data, make_learner=make_learner, template=template, compose=compose, metrics=("error",),
)  # fmt: skip
