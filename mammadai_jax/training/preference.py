# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (flax adds `replace` to its dataclasses; arrays of numpy do for those of jax)
"""The fourth stage: from captions and listeners' choices to a composer that is told what to write.

Four learners in their order: `embedding` puts captions and melodies into one space; `prompted` writes
melodies for points of that space; `judge` learns from pairs of its melodies which one a listener prefers;
`preference` tunes it by the judge, and by how near music and text are, on a leash to what it was.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import embedding, preference, prompted, reward_model
from mammadai_jax.learning import epochs
from mammadai_jax.listening import gathering, pairs
from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.music import captions
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.excerpts import excerpts
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.traits import traits
from mammadai_jax.music.variety import own_runs
from mammadai_jax.networks import quantiser
from mammadai_jax.networks.composer import Composer
from mammadai_jax.text import sentences
from mammadai_jax.text.vocabulary import Vocabulary
from mammadai_jax.training import launch
from mammadai_jax.training.joint_embedding import CODES, JointEmbedding, Reader, read, save_joint_embedding
from mammadai_jax.training.loop import Stage
from mammadai_jax.training.settings import Settings, key_of

GROUP = 256  # melodies composed at once


class Material(NamedTuple):
    """Excerpts and what is said of them.

    Attributes:
        tokens: int32 (N, T).
        group: int32 (N,), the same for excerpts of one melody.
        texts: K captions of each.

    """

    tokens: np.ndarray
    group: np.ndarray
    texts: list[list[str]]

    @property
    def prompts(self) -> list[str]:
        """One caption of each excerpt."""
        return [each[0] for each in self.texts]


def material(settings: Settings, corpus: Corpus, wording: captions.Wording = "train") -> Material:
    """Captioned excerpts of a corpus, `settings.preference.excerpts` of them at most; pure in the seed."""
    found = excerpts(corpus, settings.preference.length)
    if not len(found):
        raise ValueError(
            f"no melody of the corpus {corpus.name!r} has {settings.preference.length} steps in whole bars: "
            "give a corpus of longer ones, or a smaller --preference.length"
        )
    random = np.random.default_rng([settings.seed, len(found)])
    chosen = np.sort(random.permutation(len(found))[: settings.preference.num_excerpts])
    tokens, group = found.tokens[chosen], found.melody[chosen]
    about = [found.melodies[index] for index in group]
    each = [
        captions.describe_all(tokens, about, random, wording)
        for _ in range(settings.preference.captions_per_excerpt)
    ]
    return Material(tokens, group, [[caption.text for caption in row] for row in zip(*each, strict=True)])


def composer_of(settings: Settings) -> Composer:
    """The network of the prompted composer, and the body of those that judge it."""
    return prompted.make_composer(settings.preference.composer, MAGENTA.size)


class Prompted(NamedTuple):
    """A composer that is told what to write: its parameters, and the space that prompts are read in."""

    params: Any
    joint: JointEmbedding


def embedding_data(settings: Settings, given: Material) -> tuple[Reader, embedding.Data]:
    """What reads the captions, and the captions as it reads them beside their excerpts.

    ValueError if the towers' table has fewer rows than there are words, or there is no such sentence encoder.
    """
    flat = [text for texts in given.texts for text in texts]
    reader = reader_of(settings, flat)
    captions = read(reader, flat)
    captions = captions.reshape(len(given.texts), -1, *captions.shape[1:])
    return reader, embedding.Data(*map(jnp.asarray, (given.tokens, captions, given.group)))


def reader_of(settings: Settings, texts: Sequence[str]) -> Reader:
    """The sentence encoder that is asked for, or else the vocabulary of texts."""
    if settings.preference.sentence_encoder:
        return sentences.load(settings.preference.sentence_encoder)
    config = settings.preference.embedding
    vocabulary = Vocabulary.fit(texts, config.vocab_size, config.trigram_buckets)
    if vocabulary.size > config.vocab_size:
        raise ValueError(
            f"preference.embedding.vocab_size is {config.vocab_size}, less than the vocabulary's "
            f"{vocabulary.size}"
        )
    return vocabulary


def embedding_stage(settings: Settings, data: embedding.Data) -> Stage:
    """Captions and melodies into one space."""
    config = settings.shard.preference.embedding
    return Stage(
        name="embedding",
        init=lambda: embedding.init(key_of(settings, "embedding"), config, data),
        step=lambda state, data: embedding.step(state, config, data),
        data=data,
        updates=config.num_updates,
        chunk=10 * settings.preference.log_every,
        notes=settings.preference.embedding.batch_size * settings.preference.length,
        shown="accuracy",
    )


def fit_joint_embedding(
    settings: Settings, reader: Reader, towers: embedding.State, data: embedding.Data
) -> JointEmbedding:
    """The space of towers that have learned, with codebooks of its music where they are asked for."""
    finished = embedding.finish(towers, settings.preference.embedding, data)
    if not settings.preference.rvq_levels:
        return JointEmbedding(reader, finished)
    music, key = finished.music(data.tokens), key_of(settings, "codebooks")
    codebooks = quantiser.fit(key, music, settings.preference.rvq_levels, CODES)
    # zero is for what is left over; said of a whole vector it would be no prompt at all
    return JointEmbedding(reader, finished, codebooks.at[0, 0].set(codebooks[0, 1]))


def prompted_stage(settings: Settings, tokens: np.ndarray, joint: JointEmbedding) -> Stage:
    """Melodies for their own music embeddings, as far as the space can say them."""
    config, size = settings.shard.preference.composer, MAGENTA.size
    data = prompted.Excerpts(jnp.asarray(tokens), joint.music(tokens))
    return Stage(
        name="prompted",
        init=lambda: prompted_template(settings, key_of(settings, "prompted")),
        step=lambda state, data: prompted.step(state, config, data, size),
        data=data,
        updates=config.num_updates,
        chunk=10 * settings.preference.log_every,
        notes=settings.preference.composer.batch_size * settings.preference.length,
        shown="bits",
    )


def reward_model_stage(settings: Settings, compared: reward_model.Pairs, params: Any) -> Stage:
    """Which of two melodies a listener prefers; the judge begins as the composer with these parameters."""
    config = settings.shard.preference.reward_model
    composer = composer_of(settings)
    width = compared.condition.shape[-1]
    return Stage(
        name="reward_model",
        init=lambda: reward_model.init(
            key_of(settings, "judge"), config, composer, width, params, likeness=True
        ),
        step=lambda state, data: reward_model.step(state, config, composer, data),
        data=compared,
        updates=max(1, epochs.updates_in(settings.preference.reward_model, len(compared.choice))),
        chunk=10 * settings.preference.log_every,
        notes=2 * settings.preference.reward_model.batch_size * settings.preference.length,
        shown="accuracy",
    )


class Taste(NamedTuple):
    """What the tuned composer is rewarded by.

    Attributes:
        judge: the reward model's parameters, and `scale`, which makes its scores on the composer's own
            melodies 0 on average with a variance of 1.
        embedding: of music, for the likeness of text and music.
        likeness: mean and standard deviation of that on the same melodies, likewise.

    """

    reward_params: reward_model.Params
    scale: reward_model.Scale
    embedding: embedding.Embedding
    likeness: tuple[jax.Array, jax.Array]


def reward_of(settings: Settings) -> preference.Reward:
    """Three terms: "preference", the judge's opinion, "adherence", the likeness of text and music, "variety".

    The first two are on the scale of the untuned composer's melodies: a value that begins at 0 is not far
    off. Variety is the share of a melody's runs of six notes that no other melody of the batch has.
    """
    config = settings.preference.reward_model
    composer = composer_of(settings)

    def reward(taste: Taste, rows, tokens):
        condition = rows["condition"]
        near = embedding.adherence(condition, taste.embedding.music(tokens))
        each = reward_model.rewards(taste.reward_params, config, composer, condition, tokens, near)
        opinion, _ = reward_model.score(each, taste.scale)
        mean, deviation = taste.likeness
        return {
            "preference": opinion,
            "adherence": (near - mean) / deviation,
            "variety": own_runs(tokens),
        }

    return reward


def preference_stage(settings: Settings, prompts: jax.Array, params: Any, taste: Taste) -> Stage:
    """The prompted composer, tuned by a taste on a leash to itself; prompts (P, C)."""
    wanted = settings.preference
    config = settings.shard.preference.learner.replace(
        num_steps=wanted.length,
        reward_weights={
            "preference": 1.0,
            "adherence": wanted.adherence_weight,
            "variety": wanted.variety_weight,
        },
    )
    composer = composer_of(settings)
    reward = reward_of(settings)
    return Stage(
        name="preference",
        init=lambda: preference.init(key_of(settings, "preference"), config, composer, params),
        step=lambda state, data: preference.step(
            state, config, composer, {"condition": data[0]}, reward, data[1]
        ),
        data=(prompts, taste),
        updates=config.num_updates,
        chunk=wanted.log_every,
        notes=wanted.learner.num_envs * wanted.length,
        shown="objective/scores",
    )


def learn(
    settings: Settings, given: Material, path: Path, drive: Callable[[Stage], Any]
) -> dict[str, Prompted]:
    """Drive the four learners in their order -> what composes, by stage.

    Args:
        settings: of the run.
        given: what is learned from.
        path: the run directory, in which the space and the comparisons are kept.
        drive: takes a stage to its end -> its state.

    """
    reader, data = embedding_data(settings, given)
    towers = drive(embedding_stage(settings, data))
    joint = fit_joint_embedding(settings, reader, towers, data)
    if launch.leads():
        save_joint_embedding(path, joint)
    base = drive(prompted_stage(settings, given.tokens, joint)).average
    comparisons = collect_comparisons(settings, given, joint, base)
    if launch.leads():
        save_comparisons(path / "comparisons.jsonl", comparisons)
    reward_params = drive(reward_model_stage(settings, compared(settings, comparisons, joint), base)).params
    prompts, taste = tasted(settings, given, joint, base, reward_params)
    tuned = drive(preference_stage(settings, prompts, base, taste)).params["policy"]
    return {"prompted": Prompted(base, joint), "preference": Prompted(tuned, joint)}


def dry_run(settings: Settings, given: Material) -> None:
    """Trace an update of each learner without making it, and read the file of ratings if there is one.

    So that settings and ratings that cannot be used are refused before anything is learned.
    """
    wanted = settings.preference
    reader, data = embedding_data(settings, given)
    rated = pairs.read(wanted.ratings) if wanted.ratings else []

    traced = lambda stage: stage.step(stage.init(), stage.data)[0]

    def everything() -> None:
        towers = traced(embedding_stage(settings, data))
        joint = fit_joint_embedding(settings, reader, towers, data)
        base = traced(prompted_stage(settings, given.tokens, joint)).average
        tokens, prompts = given.tokens[:2], joint.text(given.prompts[:2])
        choices = pairs_of(joint, prompts, tokens, tokens, tokens[:, 0])
        choices = compared(settings, rated, joint) if wanted.ratings else choices
        reward_params = traced(reward_model_stage(settings, choices, base)).params
        taste = taste_of(settings, reward_params, joint, prompts, tokens)
        traced(preference_stage(settings, prompts, base, taste))

    jax.eval_shape(everything)


def save_comparisons(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write comparisons anew, whole or not at all."""
    made = path.with_suffix(".part")
    made.unlink(missing_ok=True)
    pairs.write(made, comparisons)
    made.replace(path)


def write_melodies(
    settings: Settings,
    params: Any,
    key: jax.Array,
    condition: jax.Array,
    steps: int | None = None,
    temperature: float | None = None,
    guidance: float | None = None,
) -> np.ndarray:
    """A melody for each condition (N, C): int32 (N, T), at the learner's temperature by default."""
    wanted = settings.preference
    composer = composer_of(settings)
    steps = wanted.length if steps is None else steps
    temperature = wanted.learner.temperature if temperature is None else temperature
    parts = []
    for begin in range(0, len(condition), GROUP):
        rows = condition[begin : begin + GROUP]
        part = jax.random.fold_in(key, begin)
        parts.append(np.asarray(_write(composer, params, part, rows, steps, temperature, guidance)))
    return np.concatenate(parts)


_write = jax.jit(prompted.compose, static_argnums=(0, 4))


def listeners(settings: Settings, given: Material) -> tuple[panels.Panel, panels.Panel]:
    """Simulated listeners who know what real melodies are like: those who are asked, and those held out."""
    wanted = settings.preference
    heard = panels.reference(hear(given.tokens[: 10 * GROUP]))
    everybody = panels.panel(key_of(settings, "listeners"), wanted.num_listeners, *heard)
    return panels.split(everybody, max(1, wanted.num_listeners // 4))


def simulated(panel: panels.Panel, key: jax.Array, votes: int = 1, name: str = "panel") -> gathering.Gatherer:
    """Listeners who hear traits, and whether what the prompt claims is true."""
    return gathering.SimulatedListeners(panel, key, hear, claims_that_hold, votes, name)


def claims_that_hold(prompts: Sequence[str], tokens: np.ndarray) -> np.ndarray:
    """The share of each prompt's claims that hold of its melody, tokens (N, T): float32 (N,)."""
    return np.asarray(_adherence(claims_of(prompts), tokens))


def claims_of(prompts: Sequence[str]) -> np.ndarray:
    """What N prompts claim, as `captions.encode` writes it: int32 (N, attributes)."""
    return captions.encode([captions.parse(prompt) for prompt in prompts])


_adherence = jax.jit(captions.adherence)
hear = jax.jit(traits)
likeness = jax.jit(embedding.adherence)


def requests(
    prompts: Sequence[str], a: np.ndarray, b: np.ndarray, names: tuple[str, str] = ("", "")
) -> list[gathering.Request]:
    """Which is better for each of N prompts, of melodies (N, T) of two systems."""
    rows = zip(prompts, a, b, strict=True)
    return [gathering.Request(prompt, x, y, *names) for prompt, x, y in rows]


def collect_comparisons(
    settings: Settings, given: Material, joint: JointEmbedding, params: Any
) -> list[Comparison]:
    """Choices between two melodies of the prompted composer for one prompt: a file's, or simulated ones."""
    wanted = settings.preference
    if wanted.ratings:
        return pairs.read(wanted.ratings)
    prompts = list(itertools.islice(itertools.cycle(given.prompts), wanted.num_pairs))
    condition = joint.text(prompts)
    key_a, key_b, key_choice = jax.random.split(key_of(settings, "comparisons"), 3)
    a, b = (write_melodies(settings, params, key, condition) for key in (key_a, key_b))
    gatherer = simulated(listeners(settings, given)[0], key_choice)
    return gatherer.gather(requests(prompts, a, b, ("prompted", "prompted")))


def compared(
    settings: Settings, comparisons: Sequence[Comparison], joint: JointEmbedding
) -> reward_model.Pairs:
    """Comparisons as what a judge learns from; ValueError where none says which melody is better."""
    if not any(one.sign for one in comparisons):
        raise ValueError(f"none of {len(comparisons)} comparisons prefers a melody: gather more")
    a, b, choice, prompts = pairs.to_arrays(comparisons, settings.preference.length)
    return pairs_of(joint, joint.text(prompts), a, b, choice)


def pairs_of(
    joint: JointEmbedding, condition: jax.Array, a: np.ndarray, b: np.ndarray, choice: np.ndarray
) -> reward_model.Pairs:
    """Melodies (N, T) for conditions (N, C), with what the space says of their likeness."""
    near = [likeness(condition, joint.embedding.music(jnp.asarray(one))) for one in (a, b)]
    return reward_model.Pairs(condition, *map(jnp.asarray, (a, b, choice)), likeness=jnp.stack(near, axis=1))


def taste_of(
    settings: Settings,
    reward_params: reward_model.Params,
    joint: JointEmbedding,
    condition: jax.Array,
    tokens: np.ndarray,
) -> Taste:
    """A judge on the scale of melodies (N, T) for conditions (N, C), with the space's towers."""
    config, composer, melodies = settings.preference.reward_model, composer_of(settings), jnp.asarray(tokens)
    near = likeness(condition, joint.embedding.music(melodies))
    scale, of_likeness = _scales(reward_params, config, composer, condition, melodies, near)
    return Taste(reward_params, scale, joint.embedding, of_likeness)


@functools.partial(jax.jit, static_argnums=2)
def _scales(
    reward_params: reward_model.Params,
    config: reward_model.Config,
    composer: Composer,
    condition: jax.Array,
    tokens: jax.Array,
    near: jax.Array,
) -> tuple[reward_model.Scale, tuple[jax.Array, jax.Array]]:
    """The scale of a judge's rewards of melodies (N, T); the mean and deviation of their likeness (N,)."""
    each = reward_model.rewards(reward_params, config, composer, condition, tokens, near)
    return reward_model.normalise(each), (near.mean(), near.std() + 1e-6)


def tasted(
    settings: Settings, given: Material, joint: JointEmbedding, base: Any, reward_params: reward_model.Params
) -> tuple[jax.Array, Taste]:
    """The prompts (P, C) of the last stage, and a judge on the scale of the base's melodies for some."""
    prompts = joint.text(given.prompts)
    reference = prompts[: 2 * GROUP]
    tokens = write_melodies(settings, base, key_of(settings, "scale"), reference)
    return prompts, taste_of(settings, reward_params, joint, reference, tokens)


def embedding_template(settings: Settings, reader: Reader, key: jax.Array) -> embedding.State:
    """The towers' state before they learn what a reader reads."""
    tokens, captions = np.zeros((1, prompted.PLACES), np.int32), read(reader, ["music"])
    data = embedding.Data(tokens, captions[None], np.zeros(1, np.int32))
    return embedding.init(key, settings.preference.embedding, data)


def prompted_template(settings: Settings, key: jax.Array) -> Any:
    """A prompted composer's state before it learns."""
    wanted = settings.preference
    return prompted.init(key, wanted.composer, MAGENTA.size, wanted.embedding.embedding_dim)


def reward_model_template(settings: Settings, key: jax.Array) -> reward_model.State:
    """A judge's state before it learns."""
    wanted = settings.preference
    width = wanted.embedding.embedding_dim
    return reward_model.init(key, wanted.reward_model, composer_of(settings), width, likeness=True)


def preference_template(settings: Settings, key: jax.Array) -> preference.State:
    """The state of the last stage before it learns, of a composer that has not learned either."""
    composer = composer_of(settings)
    params = prompted_template(settings, key).average
    return preference.init(key, settings.preference.learner, composer, params)
