"""What the configs of all learners promise: ranges, static and traced fields, one meaning for one name."""

import collections
import dataclasses
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Mapping

import pytest

from mammadai_jax import agents, fields
from tests.agents.learners import LEARNERS

CONFIGS = {
    f"{module.name}.Config": config
    for module in pkgutil.iter_modules(agents.__path__)
    if (config := getattr(importlib.import_module(f"mammadai_jax.agents.{module.name}"), "Config", None))
}


def numeric(hint):
    """Whether values of a type hold numbers, alone or in a tuple or a table."""
    if typing.get_origin(hint) is Mapping:
        hint = typing.get_args(hint)[1]
    return {int, float} & {hint, *typing.get_args(hint)}


def descriptions(config):
    """The attributes that a config's docstring describes, and the text up to the first stop or semicolon."""
    attributes = inspect.getdoc(config).partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE)
    return {name: re.split(r"[.;](?:\s|$)", " ".join(text.split()))[0] for name, text in entries}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_field_is_static_or_traced_and_every_number_has_a_range(config):
    hints = typing.get_type_hints(config)
    declared = {field.name: field.metadata for field in dataclasses.fields(config)}
    assert not [name for name, metadata in declared.items() if not {"low", "pytree_node"} <= set(metadata)]
    numbers = [name for name in declared if numeric(hints[name])]
    assert not [name for name in numbers if declared[name]["low"] is None]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_defaults_are_in_range(config):
    assert not list(fields.out_of_range(config()))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_field_is_described_on_a_line_of_its_own(config):
    assert list(descriptions(config)) == [field.name for field in dataclasses.fields(config)]


def test_equal_names_have_equal_meanings():
    meanings = collections.defaultdict(lambda: collections.defaultdict(list))
    for place, config in CONFIGS.items():
        for name, meaning in descriptions(config).items():
            meanings[name][meaning].append(place)
    different = {name: dict(texts) for name, texts in meanings.items() if len(texts) > 1}
    assert not different


def test_configs_do_not_forbid_combinations():
    assert not [name for name, config in CONFIGS.items() if hasattr(config, "__post_init__")]


def test_every_learner_s_config_is_looked_at():
    assert {type(learner.config) for learner in LEARNERS.values()} <= set(CONFIGS.values())
