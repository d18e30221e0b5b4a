"""The documentation names every metric and every setting, and its links lead somewhere."""

import dataclasses
import re
from pathlib import Path

import jax
import pytest

from mammadai_jax import __version__
from mammadai_jax.music import theory
from mammadai_jax.stages import Settings
from mammadai_jax.training.report.words import curve_title, words
from tests.agents.learners import LEARNERS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/RESULTS.md"])
OWN_RULES = {"opening_c", "high"}  # of the tests' learners


def named(page):
    """What stands in backticks in the first column of a page's tables."""
    rows = re.findall(r"^\|([^|]*)\|", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def fields(config):
    """The names of all settings in a tree of configs."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        yield from fields(value) if dataclasses.is_dataclass(value) else [field.name]


def anchors(page):
    """Those of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_every_metric_is_documented_and_has_a_title(learner):
    def metrics(key, data):
        return learner.step(learner.init(key, learner.config), learner.config, data)[1]

    found = {
        re.sub("^reward/.*", "reward/*", name)
        for name in jax.eval_shape(metrics, jax.random.key(0), learner.data)
    }
    assert found - OWN_RULES <= named("metrics.md")
    assert {*theory.RULES, *theory.FURTHER} <= named("metrics.md")


def test_every_curve_has_a_title_of_its_own():
    names = named("metrics.md") - {"reward/*"}
    untitled = [name for name in names if "_" in curve_title(name) or curve_title(name) == name]
    assert untitled == []
    assert all(words(rule)[1] for rule in (*theory.RULES, *theory.FURTHER))


def test_the_glossary_has_all_settings_and_no_others():
    configs = [Settings(), *(learner.config for learner in LEARNERS.values())]
    assert {name for config in configs for name in fields(config)} == named("glossary.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_the_version_is_the_same_everywhere():
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert f'\nversion = "{__version__}"\n' in (ROOT / "pyproject.toml").read_text()


def test_the_readme_is_a_front_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
