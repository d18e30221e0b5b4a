"""The settings of a run: one frozen tree of dataclasses, its presets, and how files are applied to it.

The tree is what users write. `stages.divided` takes it apart: everything in training/ is given the settings
of the run itself, a RunSettings, and the stages by name, each with its own part.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mammadai_jax.fields import out_of_range, static
from mammadai_jax.music.files import expanded, read_text
from mammadai_jax.training import sealed
from mammadai_jax.training.run import FORMAT
from mammadai_jax.training.stage import Part, StageSpec

Stages = tuple[StageSpec, ...]
Parts = Mapping[str, Part]
MAX_CONFIG = 1 << 20  # bytes of a file of settings
MAX_VALUES = 64  # of one setting, and dots on a line: dotted names take memory with the square of their parts
PresetName = Literal["smoke", "quick", "full"]
# settings of the run itself under each preset; those of a stage are in its spec
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"corpus": "embedded", "num_samples": 8},
    "quick": {},
    "full": {"num_samples": 256},
}


class SettingsError(ValueError):
    """A setting that does not exist or does not fit; the message says which, where, and what would fit."""


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What determines a run's result besides the settings of its stages.

    Attributes:
        seed: of all randomness.
        shards: into which every update is divided. The result depends on their number, not on the devices
            that they are on. Batch sizes are those of all shards together.
        precision: of matrix products. "default" is the device's own, float32 on a CPU. With "bfloat16" the
            products with the weights of the LSTM and the Transformer have operands of 16 bits and sums of 32
            bits: `mammadai doctor` measures how fast that is. Parameters stay float32.
        corpus: "folk", "embedded", or a folder of MIDI files.
        saved_samples: melodies of each stage that are written as files and shown in the report.
        num_samples: melodies of each stage that the statistics are computed from.

    """

    seed: int = static(default=0, low=0)
    shards: int = static(default=1, low=1)
    precision: Literal["default", "bfloat16"] = "default"
    corpus: str = "folk"
    saved_samples: int = static(default=3, low=0, high=1000)
    num_samples: int = static(default=64, low=1, high=100_000)


@functools.cache
def settings_type(stages: Stages) -> type[Any]:
    """The dataclass of a run's settings: the fields of RunSettings, and one for each stage with settings."""
    learning = [spec for spec in stages if spec.settings_type]
    groups = [(s.name, s.settings_type, dataclasses.field(default_factory=s.settings)) for s in learning]
    made = dataclasses.make_dataclass("Settings", groups, bases=(RunSettings,), frozen=True)
    made.__module__ = __name__
    made.__doc__ = RunSettings.__doc__
    return made


def preset(name: str, stages: Stages) -> Any:
    """The settings of a preset: smoke (a minute or two), quick (minutes) or full (docs/results.md)."""
    if name not in PRESETS:
        raise SettingsError(f"the preset is smoke, quick or full, not {name!r}")
    parts = {spec.name: spec.settings(name) for spec in stages if spec.settings_type}
    return settings_type(stages)(**PRESETS[name], **parts)


SHARED = ("batch_size", "num_envs", "buffer_size")  # fields of configs that are divided among shards


def share(config: Any, shards: int, place: str = "") -> Any:
    """One shard's share of a tree of configs; SettingsError names the first field that cannot be divided."""
    if shards == 1:
        return config
    changes = {}
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{place}.{field.name}".lstrip(".")
        if dataclasses.is_dataclass(value):
            changes[field.name] = share(value, shards, name)
        elif field.name in SHARED:
            if value % shards:
                near = max(1, round(value / shards)) * shards
                raise SettingsError(f"{name} {value} cannot be shared by {shards} shards: make it {near}")
            changes[field.name] = value // shards
    return dataclasses.replace(config, **changes)


def read(path: Path, base: Any) -> Any:
    """`base` with the settings of a TOML file, or of a run.json.

    Raises:
        SettingsError: if the file cannot be read, or holds a name or value that does not fit.

    """
    path = expanded(path)
    try:
        text = read_text(path, MAX_CONFIG)
        tree = _from_json(text) if path.suffix == ".json" else _from_toml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"the configuration {path} cannot be read: {error}") from None
    if isinstance(tree, dict) and "settings" in tree:  # a run.json
        if tree.get("format") != FORMAT:
            raise SettingsError(
                f"{path} is the record of a run of another version, format {tree.get('format')!r:.20}, and "
                f"this one reads {FORMAT}: CHANGELOG.md says what became of its settings"
            )
        tree = tree["settings"]
    return overlay(base, tree, str(path))


def _from_json(text: str) -> Any:
    """The values of a text; ValueError if it is the record of a run, but with other values than it had."""
    tree = json.loads(text)
    if isinstance(tree, dict) and sealed.SEAL in tree and tree[sealed.SEAL] != sealed.digest(tree):
        raise ValueError(f"its values are not those of its {sealed.SEAL}: remove that if you changed them")
    return tree


def _from_toml(text: str) -> Any:
    """The values of a text; ValueError if a name might take all memory."""
    if any(line.count(".") > MAX_VALUES for line in text.splitlines()):
        raise ValueError(f"it has more than {MAX_VALUES} dots in a line")
    return tomllib.loads(text)


def as_dict(config: Any) -> dict[str, Any]:
    """A tree of dataclasses as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def recorded(run: RunSettings, parts: Parts) -> dict[str, Any]:
    """The settings of a run and of its stages as plain JSON values, as run.json holds them."""
    return as_dict(run) | {name: as_dict(part.settings) for name, part in parts.items() if part.settings}


def of_record(tree: Any, stages: Stages, where: str) -> tuple[RunSettings, Parts]:
    """What `recorded` gave; SettingsError names the first value that does not fit."""
    groups = {spec.name: spec.settings() for spec in stages if spec.settings_type}
    if not isinstance(tree, Mapping):
        raise SettingsError(f"{where} is a table of settings, not {tree!r:.80}")
    run = overlay(RunSettings(), {name: value for name, value in tree.items() if name not in groups}, where)
    for name in groups:
        groups[name] = overlay(groups[name], tree.get(name, {}), f"{where}: {name}")
    return run, {spec.name: Part(spec, groups.get(spec.name)) for spec in stages}


def overlay(base: Any, tree: Any, where: str) -> Any:
    """`base` with values of a tree of plain values; SettingsError names the first that does not fit."""
    if not isinstance(tree, Mapping):
        raise SettingsError(f"{where} is a table of settings, not {tree!r:.80}")
    hints = typing.get_type_hints(type(base))
    changes = {}
    for name, value in tree.items():
        place = f"{where}: {_shown(name)}"
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
    except ValueError as error:  # raised by a config whose values do not fit together
        raise SettingsError(f"{where}: {error}") from None


def _shown(name: str) -> str:
    """A name of a stranger's file as a terminal can show it."""
    return name if name.isprintable() and len(name) < 100 else f"{name[:90]!a}"


def at(tree: Any, name: str) -> Any:
    """The value at a dotted name in a tree of dataclasses and mappings."""
    for part in name.split("."):
        tree = tree[part] if isinstance(tree, Mapping) else getattr(tree, part)
    return tree


def replaced(tree: Any, changes: Mapping[str, Any]) -> Any:
    """A tree of dataclasses and mappings with other values at dotted names."""
    for name, value in changes.items():
        first, _, rest = name.partition(".")
        value = replaced(at(tree, first), {rest: value}) if rest else value
        tree = (
            {**tree, first: value}
            if isinstance(tree, Mapping)
            else dataclasses.replace(tree, **{first: value})
        )
    return tree


def is_left_out(part: Part) -> bool:
    """Whether a stage that learns makes no updates by its settings."""
    return part.spec.make_learner is not None and not at(part.settings, part.spec.updates)


def check(run: RunSettings, parts: Parts) -> None:
    """SettingsError naming the first setting of a run that is out of range or does not fit the others."""
    given = {name: part for name, part in parts.items() if part.settings}
    for place, own in {"": run, **{name: part.settings for name, part in given.items()}}.items():
        for sentence in out_of_range(own, place):
            raise SettingsError(sentence)
    for name, (spec, own) in given.items():
        spec.check(own, name)
        share(own, run.shards, name)
        for other in () if is_left_out(parts[name]) else spec.depends_on:
            if other in parts and other not in spec.can_lack and is_left_out(parts[other]):
                lacking = f"{other}.{parts[other].spec.updates}"
                raise SettingsError(f"stage {name!r} needs {other!r}, which {lacking} 0 leaves out")


def _named(base: Mapping[str, Any], kind: Any, tree: Any, place: str) -> dict[str, Any]:
    """A mapping with values of a tree in place of its own."""
    if not isinstance(tree, Mapping):
        raise SettingsError(f"{place} is a table of names, not {tree!r:.80}")
    of = typing.get_args(kind)[1]
    return {**base, **{name: _fitting(of, value, f"{place}: {name}") for name, value in tree.items()}}


def _fitting(kind: Any, value: Any, place: str) -> Any:
    """A plain value as the type of a field, or SettingsError."""
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
        if len(value) > MAX_VALUES:
            raise SettingsError(f"{place} has {len(value)} values, at most {MAX_VALUES} are allowed")
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
