# pyright: reportAttributeAccessIssue=false
# (flax adds `replace` to its dataclasses)
"""What the systems of a seed of experiments/preference.py share: embeddings, base, reward models, juries."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import second_jury
from experiments.preference_settings import JURY_SEED, JURY_SHARE, RATED, RATERS, SCALED, TEST_SHARE, Preset
from mammadai_jax.agents import embedding, preference, quality, reward_model
from mammadai_jax.learning import epochs
from mammadai_jax.listening import pairs
from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.music import captions, statistics
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.excerpts import excerpts, usable
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.traits import traits
from mammadai_jax.objectives import spread
from mammadai_jax.stages import divided, prompted
from mammadai_jax.stages import embedding as embeddings
from mammadai_jax.stages import reward_model as rewards
from mammadai_jax.stages.captioned import (
    HEARD,
    Captioned,
    all_meters,
    captioned_of,
    claims_of,
    held_out_of,
    listeners_of,
    reference_of,
    simulated,
)
from mammadai_jax.stages.joint_embedding import JointEmbedding
from mammadai_jax.stages.preference_reward import RewardParams, rows_of, scaled_reward
from mammadai_jax.stages.preference_reward import reward_of as stage_reward
from mammadai_jax.stages.prompted import composer_of, write_melodies
from mammadai_jax.training.context import context_of
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.run import Run
from mammadai_jax.training.stage import Context

OTHER_SEED = 100  # added to the seed, for the embedding that only evaluates
COPIED = 12  # notes in a row, transposed or not: more than a line of a chorale has


class World(NamedTuple):
    """What all systems share.

    Attributes:
        settings: of all stages.
        context: of the stages, with what they learned.
        learn, test: captioned excerpts of the learning families, and of the others in held-out wordings.
        space, ears: the embedding that prompts go through, and the one that only evaluates.
        jury: the listeners held out.
        second: the second jury, and what its listeners measure.
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
    second: tuple[second_jury.SecondPanel, second_jury.Measures]
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
    return embeddings.fit_joint_embedding(settings.embedding, context.key("codebooks"), towers.average, data)


def rated(
    settings: Any, context: Context, given: Captioned, joint: JointEmbedding, base: Any
) -> quality.Excerpts:
    """Real excerpts, damaged ones and the base's own, as many each, and the mean opinion of RATERS on each.

    The raters are simulated listeners who take part in nothing else; they hear no prompt.
    """
    count = min(RATED, settings.reward_model.num_pairs // 5)
    random = context.random("rated")
    real, whole = given.draw(random, count), given.draw(random, count)
    key_damage, key_raters = jax.random.split(context.key("raters"))
    strength = jnp.asarray(random.uniform(size=count), jnp.float32)
    damaged = jax.jit(quality.corrupt)(key_damage, jnp.asarray(given.tokens[whole]), strength)
    prompts = given.draw_prompts(random, count)
    written = compose(settings, context, base, context.key("quality"), joint.condition(prompts))
    tokens = np.concatenate([given.tokens[real], damaged, written])
    number = max(RATERS, settings.reward_model.num_listeners // 4)
    panel = panels.panel(context.key("raters' taste"), number, *reference_of(context))
    raters = simulated(panel, key_raters, votes=RATERS)
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


def prepare(
    preset: Preset, settings: Any, run: Run, drive: Callable, without: Sequence[Melody] = ()
) -> World:
    """Everything up to the systems; what `without` holds is in no corpus (see `aside`)."""
    learned: dict[str, Any] = {}
    context = dataclasses.replace(context_of(*divided(settings), run.path), learned=learned.get)
    context, own_families = aside(context, without)
    learn, test = captioned_of(context), held_out_of(context)
    learned["embedding"] = joint = embed(settings, context, learn, drive, "embedding")
    other = dataclasses.replace(context, seed=settings.seed + OTHER_SEED)
    ears = embed(settings, other, learn, drive, "ears")
    prompted_learner = prompted.make_learner(
        settings.prompted, context, prompted.data(settings.prompted, context)
    )
    learned["prompted"] = base = drive(prompted_learner).average
    taste, tokens = taste_of(settings, context, learn_reward(settings, context, joint, base, drive))
    opinions = rated(settings, context, learn, joint, base)
    rater = drive(quality_learner(settings, context, opinions, base)).params
    config, composer = settings.reward_model.learner, composer_of(context)
    opinion, _ = quality.score(rater, config, composer, jnp.asarray(tokens))
    reward = reward_of(settings, context, (float(opinion.mean()), float(spread.scale(opinion))))
    second = second_of(context, own_families, drive, preset.jury_updates)
    jury = listeners_of(context)[1]
    return World(settings, context, learn, test, joint, ears, jury, second, base, taste, rater, reward)


def aside(context: Context, without: Sequence[Melody] = ()) -> tuple[Context, Corpus]:
    """The context with a corpus that lacks some melodic families, and these, which are the second jury's.

    A tune that has COPIED notes in a row of one of the melodies `without` is in neither.
    """
    whole = usable(all_meters(context.corpus()), context.settings_of("embedding").length)
    if without:
        longest = statistics.novelty(whole.melodies, without).notes
        kept = (one for one, notes in zip(whole, longest, strict=True) if notes < COPIED)
        whole = dataclasses.replace(whole, melodies=tuple(kept))
    rest, own = whole.split(JURY_SHARE, int(context.seed) + JURY_SEED)
    return dataclasses.replace(context, corpus=lambda: rest), own


def second_of(
    context: Context, families: Corpus, drive: Callable, updates: int
) -> tuple[second_jury.SecondPanel, second_jury.Measures]:
    """The second jury: as many listeners as the first has, whose prior learns from families of its own."""
    tokens = excerpts(families, context.settings_of("embedding").length).tokens
    params = drive(second_jury.prior_learner(int(context.seed), tokens, updates)).average
    measure, given = second_jury.measures(params), captioned_of(context)
    rows = given.draw(context.random("second jury"), min(HEARD, len(given.tokens)))
    listeners = listeners_of(context)[1].listeners
    return second_jury.panel(context.key("second jury"), listeners, measure(given.tokens[rows])), measure


def learn_reward(
    settings: Any, context: Context, joint: JointEmbedding, base: Any, drive: Callable
) -> reward_model.Params:
    """The reward model, from the comparisons in the run directory, which are made if there are none."""
    path = context.path / rewards.COMPARISONS
    if not path.exists():
        rewards.save_comparisons(path, rewards.collect_comparisons(settings.reward_model, context))
    data = rewards.pairs_of(parted(context, pairs.read(path))[0], joint, settings.embedding.length)
    return drive(rewards.learner_from(settings.reward_model, context, data, base)).params


def taste_of(
    settings: Any, context: Context, reward_params: reward_model.Params
) -> tuple[RewardParams, np.ndarray]:
    """A reward model on the scale of the base's melodies for some prompts, and those melodies."""
    prompts = captioned_of(context).draw_prompts(context.random("scale"), SCALED)
    rows = rows_of(context, prompts)
    base = context.learned("prompted")
    tokens = compose(settings, context, base, context.key("scale"), rows["condition"])
    return scaled_reward(context, reward_params, rows, tokens), tokens


def parted(context: Context, choices: Sequence[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
    """The comparisons that are learned from, in a random order, and those that the result is tested on.

    No prompt is among both.
    """
    random, prompts = context.random("parted"), sorted({one.prompt for one in choices})
    count = max(1, round(TEST_SHARE * len(prompts)))
    held_out = {prompts[row] for row in random.permutation(len(prompts))[:count]}
    mixed = [choices[row] for row in random.permutation(len(choices))]
    side = lambda tests: [one for one in mixed if (one.prompt in held_out) == tests]
    return side(False), side(True)


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
        "condition": world.joint.condition(texts),
        "heard": world.ears.text(texts),
        "claims": jnp.asarray(claims),
    }


def write(world: World, params: Any, texts: Sequence[str], purpose: str) -> np.ndarray:
    """A melody for each prompt."""
    key = world.context.key(purpose)
    return compose(world.settings, world.context, params, key, world.joint.condition(texts))


def terms_of(world: World, tokens: np.ndarray, texts: Sequence[str]) -> dict[str, jax.Array]:
    """Every reward of melodies (N, T) for their prompts, each (N,)."""
    return jax.jit(world.reward)(world.rewarding, prompts_of(world, texts), jnp.asarray(tokens))
