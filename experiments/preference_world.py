# pyright: reportAttributeAccessIssue=false
# (flax adds `replace` to its dataclasses)
"""What the systems of experiments/preference.py share: settings, embeddings, the base, what knows a taste."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import embedding, preference, quality, reward_model
from mammadai_jax.learning import epochs
from mammadai_jax.listening import pairs
from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.music import captions
from mammadai_jax.music.traits import traits
from mammadai_jax.objectives import spread
from mammadai_jax.stages import STAGES, Settings, prompted
from mammadai_jax.stages import embedding as embeddings
from mammadai_jax.stages import reward_model as rewards
from mammadai_jax.stages.captioned import (
    Captioned,
    captioned_of,
    claims_of,
    held_out_of,
    listeners_of,
    simulated,
)
from mammadai_jax.stages.joint_embedding import JointEmbedding
from mammadai_jax.stages.preference import RewardParams, scaled_reward
from mammadai_jax.stages.preference import reward_of as stage_reward
from mammadai_jax.stages.prompted import composer_of, write_melodies
from mammadai_jax.training.context import context_of
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import overlay
from mammadai_jax.training.stage import Context

RATERS = 3  # of the quality of a melody, as MusicRL's
SCALED = 512  # prompts for whose melodies a reward model's scores have a variance of 1
RATED = 5000  # at most: real excerpts that they hear, and damaged ones, and composed ones
TOLD = 0.2  # of the prompts that listeners compared melodies for: their choices tell what was learned
FULL = overlay(
    Settings(),
    {
        "embedding": {"num_excerpts": 24_000, "learner": {"num_updates": 1600}},
        "prompted": {"learner": {"width": 96, "num_layers": 2, "num_updates": 1200}},
        "reward_model": {
            "num_listeners": 64,
            "num_pairs": 70_000,
            "learner": {"learning_rate": 2e-3, "num_epochs": 2.0},
        },
    },
    "full",
)
TINY = overlay(
    Settings(),
    {
        "corpus": "embedded",
        "embedding": {
            "captions_per_excerpt": 2,
            "log_every": 20,
            "learner": {
                "text_width": 48,
                "music_width": 16,
                "batch_size": 16,
                "num_updates": 10,
                "lr_warmup_steps": 5,
            },
        },
        "prompted": {
            "log_every": 20,
            "learner": {
                "width": 32,
                "num_layers": 1,
                "batch_size": 8,
                "num_updates": 10,
                "lr_warmup_steps": 5,
            },
        },
        "reward_model": {
            "num_listeners": 8,
            "num_pairs": 96,
            "log_every": 20,
            "learner": {"batch_size": 16},
        },
        "preference": {
            "log_every": 2,
            "learner": {"num_updates": 4, "critic_warmup_steps": 1, "num_minibatches": 1, "num_envs": 16},
        },
    },
    "tiny",
)


class World(NamedTuple):
    """What all systems share.

    Attributes:
        settings: of all stages.
        context: of the stages, with what they learned.
        learn, test: captioned excerpts of the learning families, and of the others in held-out wordings.
        space, ears: the embedding that prompts go through, and the one that only evaluates.
        jury: the listeners held out.
        base: the prompted composer's parameters.
        taste: the reward model, on the scale of the base's melodies.
        quality: the quality model's parameters.
        reward: every term, see reward_of; one function, so that its program is compiled once.

    """

    settings: Any
    context: Context
    learn: Captioned
    test: Captioned
    joint: JointEmbedding
    ears: JointEmbedding
    jury: panels.Panel
    base: Any
    taste: RewardParams
    quality: Any
    reward: preference.Reward

    @property
    def rewarding(self):
        """What `reward` has learned."""
        return self.taste, self.quality, self.ears.embedding, self.jury

    @property
    def composer(self):
        """The network that composes, and the body of the reward and quality models."""
        return composer_of(self.context)

    @property
    def length(self) -> int:
        """Steps of a melody."""
        return self.settings.embedding.length


def embed(settings: Any, context: Context, given: Captioned, drive: Callable, name: str) -> JointEmbedding:
    """An embedding with the context's seed, driven as a stage of that name."""
    data = embeddings.read_captions(settings.embedding, given)
    towers = drive(embeddings.make_learner(settings.embedding, context, data)._replace(name=name))
    return embeddings.fit_joint_embedding(settings.embedding, context.key("codebooks"), towers, data)


def rated(
    settings: Any, context: Context, given: Captioned, joint: JointEmbedding, base: Any
) -> quality.Excerpts:
    """Real excerpts, damaged ones and the base's own, as many each, and the mean opinion of RATERS on each.

    The raters are simulated, of those listeners who also compare; they hear no prompt.
    """
    count = min(RATED, settings.reward_model.num_pairs // 5)
    random = np.random.default_rng([settings.seed, count])
    real, whole, told = (random.integers(len(given.tokens), size=count) for _ in range(3))
    key_damage, key_raters = jax.random.split(context.key("raters"))
    strength = jnp.asarray(random.uniform(size=count), jnp.float32)
    damaged = jax.jit(quality.corrupt)(key_damage, jnp.asarray(given.tokens[whole]), strength)
    prompts = [given.texts[row][0] for row in told]
    written = compose(settings, context, base, context.key("quality"), joint.text(prompts))
    tokens = np.concatenate([given.tokens[real], damaged, written])
    raters = simulated(listeners_of(context)[0], key_raters, votes=RATERS)
    return quality.Excerpts(jnp.asarray(tokens), jnp.asarray((raters.rate(tokens) - 1) / 4))


def compose(
    settings: Any,
    context: Context,
    params: Any,
    key: jax.Array,
    condition: jax.Array,
    guidance: float | None = None,
) -> np.ndarray:
    """A melody for each condition (N, C), as long as the excerpts: int32 (N, T)."""
    return write_melodies(
        composer_of(context),
        params,
        key,
        condition,
        steps=settings.embedding.length,
        temperature=settings.prompted.temperature,
        guidance=guidance,
    )


def quality_learner(settings: Any, context: Context, data: quality.Excerpts, base: Any) -> Learner:
    """What the raters think of a melody."""
    config, composer = settings.reward_model.learner, composer_of(context)
    return Learner(
        name="quality",
        init=lambda: quality.init(context.key("quality"), config, composer, params=base),
        step=lambda state, data: quality.step(state, config, composer, data),
        data=data,
        updates=epochs.updates_in(config, len(data.target)),
        chunk=50,
        notes=config.batch_size * settings.embedding.length,
        shown="error",
    )


def prepare(settings: Any, run: Run, drive: Callable) -> World:
    """Everything up to the systems."""
    learned: dict[str, Any] = {}
    context = dataclasses.replace(context_of(settings, STAGES, run.path), learned=learned.get)
    learn, test, own = captioned_of(context), held_out_of(context), settings.embedding
    learned["embedding"] = joint = embed(settings, context, learn, drive, "embedding")
    other = dataclasses.replace(context, seed=settings.seed + 1)
    ears = embed(settings, other, learn, drive, "ears")
    prompted_learner = prompted.make_learner(
        settings.prompted, context, prompted.data(settings.prompted, context)
    )
    learned["prompted"] = base = drive(prompted_learner).average
    path = run.path / rewards.COMPARISONS
    if not path.exists():
        rewards.save_comparisons(path, rewards.collect_comparisons(settings.reward_model, context))
    data = rewards.pairs_of(parted(context, pairs.read(path))[0], joint, own.length)
    reward_params = drive(rewards.learner_from(settings.reward_model, context, data, base)).params
    opinions = rated(settings, context, learn, joint, base)
    judged = drive(quality_learner(settings, context, opinions, base)).params
    taste, tokens = taste_of(settings, context, reward_params)
    config, composer = settings.reward_model.learner, composer_of(context)
    heard, _ = quality.score(judged, config, composer, jnp.asarray(tokens))
    reward = reward_of(settings, context, (float(heard.mean()), float(spread.scale(heard))))
    jury = listeners_of(context)[1]
    return World(settings, context, learn, test, joint, ears, jury, base, taste, judged, reward)


def taste_of(
    settings: Any, context: Context, reward_params: reward_model.Params
) -> tuple[RewardParams, np.ndarray]:
    """A reward model on the scale of the base's melodies for some prompts, and those melodies."""
    prompts = captioned_of(context).draw_prompts(context.random("scale"), SCALED)
    condition = context.learned("embedding").text(prompts)
    tokens = compose(settings, context, context.learned("prompted"), context.key("scale"), condition)
    return scaled_reward(context, reward_params, condition, tokens), tokens


def parted(context: Context, choices: Sequence[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
    """The comparisons that are learned from, in a random order, and those that tell what was learned.

    No prompt is among both.
    """
    random, prompts = context.random("parted"), sorted({one.prompt for one in choices})
    told = {prompts[row] for row in random.permutation(len(prompts))[: max(1, round(TOLD * len(prompts)))]}
    mixed = [choices[row] for row in random.permutation(len(choices))]
    return [one for one in mixed if one.prompt not in told], [one for one in mixed if one.prompt in told]


def reward_of(settings: Any, context: Context, scale: tuple[float, float]) -> preference.Reward:
    """Every term by name: those of the stage "preference", quality on their scale, what is only watched."""
    config, composer = settings.reward_model.learner, composer_of(context)
    own = stage_reward(config, composer)
    mean, deviation = scale

    def reward(params, rows, tokens):
        taste, judged, ears, jury = params
        held = captions.adherence(rows["claims"], tokens)
        return {
            **dict(own(taste, rows, tokens)),
            "quality": (quality.score(judged, config, composer, tokens)[0] - mean) / deviation,
            "ears": embedding.adherence(rows["heard"], ears.music(tokens)),
            "claims": held,
            "gold": panels.gold(jury, traits(tokens), held),
        }

    return reward


def prompts_of(world: World, texts: Sequence[str]) -> dict[str, jax.Array]:
    """What the composer and the rewards receive of N prompts."""
    claims = claims_of(texts)
    return {
        "condition": world.joint.text(texts),
        "heard": world.ears.text(texts),
        "claims": jnp.asarray(claims),
    }


def write(world: World, params: Any, texts: Sequence[str], purpose: str) -> np.ndarray:
    """A melody for each prompt."""
    key = world.context.key(purpose)
    return compose(world.settings, world.context, params, key, world.joint.text(texts))


def terms_of(world: World, tokens: np.ndarray, texts: Sequence[str]) -> dict[str, jax.Array]:
    """Every reward of melodies (N, T) for their prompts, each (N,)."""
    return jax.jit(world.reward)(world.rewarding, prompts_of(world, texts), jnp.asarray(tokens))
