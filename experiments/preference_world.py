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

from mammadai_jax.agents import embedding, preference, prompted, quality
from mammadai_jax.learning import epochs
from mammadai_jax.listening import pairs
from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.music import captions, corpus
from mammadai_jax.music.traits import traits
from mammadai_jax.training import preference as road
from mammadai_jax.training.loop import Stage
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import LISTENER, REWARD_MODEL, Preference, Settings, key_of

RATERS = 3  # of the quality of a melody, as MusicRL's
RATED = 5000  # at most: real excerpts that they hear, and damaged ones, and composed ones
HELD_OUT = 0.14  # of the melodic families: a thousand tunes
FULL = Settings(
    preference=Preference(
        num_excerpts=24_000,
        captions_per_excerpt=4,
        num_listeners=64,
        num_pairs=70_000,
        log_every=5,
        embedding=embedding.Config(num_updates=1600),
        composer=prompted.Config(width=96, num_layers=2, num_updates=1200),
        reward_model=dataclasses.replace(REWARD_MODEL, learning_rate=2e-3, num_epochs=2.0),
    )
)
TINY = Settings(
    corpus="embedded",
    preference=Preference(
        captions_per_excerpt=2,
        num_listeners=8,
        num_pairs=96,
        log_every=2,
        embedding=embedding.Config(
            text_width=48, music_width=16, batch_size=16, num_updates=10, lr_warmup_steps=5
        ),
        composer=prompted.Config(width=32, num_layers=1, batch_size=8, num_updates=10, lr_warmup_steps=5),
        reward_model=dataclasses.replace(REWARD_MODEL, batch_size=16),
        learner=dataclasses.replace(
            LISTENER, num_updates=4, critic_warmup_steps=1, num_minibatches=1, num_envs=16
        ),
    ),
)


class World(NamedTuple):
    """What all systems share.

    Attributes:
        settings: of everything.
        learn, test: captioned excerpts of the learning families, and of the others in held-out wordings.
        space, ears: the embedding that prompts go through, and the one that only evaluates.
        jury: the listeners held out.
        base: the prompted composer's parameters.
        taste: the reward model, on the scale of the base's melodies.
        quality: the quality model's parameters.
        reward: every term, see reward_of; one function, so that its program is compiled once.

    """

    settings: Settings
    learn: road.Material
    test: road.Material
    joint: road.JointEmbedding
    ears: road.JointEmbedding
    jury: panels.Panel
    base: Any
    taste: road.Taste
    quality: Any
    reward: preference.Reward

    @property
    def rewarding(self):
        """What `reward` has learned."""
        return self.taste, self.quality, self.ears.embedding, self.jury

    @property
    def composer(self):
        """The network that composes, and the body of those that judge."""
        return road.composer_of(self.settings)


def embed(
    settings: Settings, given: road.Material, drive: Callable, name: str, seed: int
) -> road.JointEmbedding:
    """An embedding with a seed of its own, driven as a stage of that name."""
    own = dataclasses.replace(settings, seed=settings.seed + seed)
    reader, data = road.embedding_data(own, given)
    towers = drive(road.embedding_stage(own, data)._replace(name=name))
    return road.fit_joint_embedding(own, reader, towers, data)


def rated(
    settings: Settings, given: road.Material, joint: road.JointEmbedding, base: Any
) -> quality.Excerpts:
    """Real excerpts, damaged ones and the base's own, as many each, and the mean opinion of RATERS on each.

    The raters are simulated, of those listeners who also compare; they hear no prompt.
    """
    count = min(RATED, settings.preference.num_pairs // 5)
    random = np.random.default_rng([settings.seed, count])
    real, whole, told = (random.integers(len(given.tokens), size=count) for _ in range(3))
    key_damage, key_raters = jax.random.split(key_of(settings, "raters"))
    strength = jnp.asarray(random.uniform(size=count), jnp.float32)
    damaged = jax.jit(quality.corrupt)(key_damage, jnp.asarray(given.tokens[whole]), strength)
    prompts = [given.texts[row][0] for row in told]
    written = road.write_melodies(settings, base, key_of(settings, "quality"), joint.text(prompts))
    tokens = np.concatenate([given.tokens[real], damaged, written])
    raters = road.simulated(road.listeners(settings, given)[0], key_raters, votes=RATERS)
    return quality.Excerpts(jnp.asarray(tokens), jnp.asarray((raters.rate(tokens) - 1) / 4))


def quality_stage(settings: Settings, data: quality.Excerpts, base: Any) -> Stage:
    """What the raters think of a melody."""
    config, composer = settings.preference.reward_model, road.composer_of(settings)
    return Stage(
        name="quality",
        init=lambda: quality.init(key_of(settings, "quality"), config, composer, 0, base),
        step=lambda state, data: quality.step(state, config, composer, data),
        data=data,
        updates=epochs.updates_in(config, len(data.target)),
        chunk=50,
        notes=config.batch_size * settings.preference.length,
        shown="error",
    )


def prepare(settings: Settings, run: Run, drive: Callable) -> World:
    """Everything up to the systems."""
    source = corpus.folk_all() if settings.corpus == "folk" else corpus.load(settings.corpus)
    learn, test = (
        road.material(settings, part, wording)
        for part, wording in zip(source.split(HELD_OUT, settings.seed), ("train", "held_out"), strict=True)
    )
    joint = embed(settings, learn, drive, "embedding", 0)
    ears = embed(settings, learn, drive, "ears", 1)
    base = drive(road.prompted_stage(settings, learn.tokens, joint)).average
    compared = run.path / "comparisons.jsonl"
    if not compared.exists():
        road.save_comparisons(compared, road.collect_comparisons(settings, learn, joint, base))
    data = road.compared(settings, parted(pairs.read(compared))[0], joint)
    reward_params = drive(road.reward_model_stage(settings, data, base)).params
    judged = drive(quality_stage(settings, rated(settings, learn, joint, base), base)).params
    condition = joint.text(learn.prompts[:512])
    tokens = road.write_melodies(settings, base, key_of(settings, "scale"), condition)
    taste = road.taste_of(settings, reward_params, joint, condition, tokens)
    composer = road.composer_of(settings)
    heard, _ = quality.score(judged, settings.preference.reward_model, composer, jnp.asarray(tokens))
    made = float(heard.mean()), float(heard.std()) + 1e-6
    jury = road.listeners(settings, learn)[1]
    return World(settings, learn, test, joint, ears, jury, base, taste, judged, reward_of(settings, made))


def parted(choices: Sequence[Comparison]) -> tuple[Sequence, Sequence]:
    """The comparisons that are learned from, four of five, and those that tell what was learned."""
    kept = len(choices) * 4 // 5
    return choices[:kept], choices[kept:]


def reward_of(settings: Settings, made: tuple[float, float]) -> preference.Reward:
    """Every term by name: those of the stage "preference", quality on their scale, what is only watched."""
    given = road.reward_of(settings)
    config, composer = settings.preference.reward_model, road.composer_of(settings)
    mean, deviation = made

    def reward(params, rows, tokens):
        taste, judged, ears, jury = params
        held = captions.adherence(rows["claims"], tokens)
        return {
            **dict(given(taste, rows, tokens)),
            "quality": (quality.score(judged, config, composer, tokens)[0] - mean) / deviation,
            "ears": embedding.adherence(rows["heard"], ears.music(tokens)),
            "claims": held,
            "gold": panels.gold(jury, traits(tokens), held),
        }

    return reward


def prompts_of(world: World, texts: Sequence[str]) -> dict[str, jax.Array]:
    """What the composer and the rewards are told of prompts."""
    claims = road.claims_of(texts)
    return {
        "condition": world.joint.text(texts),
        "heard": world.ears.text(texts),
        "claims": jnp.asarray(claims),
    }


def write(world: World, params: Any, texts: Sequence[str], purpose: str) -> np.ndarray:
    """A melody for each prompt."""
    key = key_of(world.settings, purpose)
    return road.write_melodies(world.settings, params, key, world.joint.text(texts))


def terms_of(world: World, tokens: np.ndarray, texts: Sequence[str]) -> dict[str, jax.Array]:
    """Every reward of melodies (N, T) for their prompts, each (N,)."""
    return jax.jit(world.reward)(world.rewarding, prompts_of(world, texts), jnp.asarray(tokens))
