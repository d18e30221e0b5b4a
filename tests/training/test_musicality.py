"""The musicality of a run's stages, and how the page tells of it."""

import dataclasses
import math
from pathlib import Path

import pytest

from mammadai_jax.music import corpus
from mammadai_jax.music.sample import tunes
from mammadai_jax.music.statistics.musicality import MEASURES, OF_BARS
from mammadai_jax.music.statistics.musicality.distance import Estimate, Musicality, Typical
from mammadai_jax.stages import STAGES, divided, preset
from mammadai_jax.training import musicality as run_musicality
from mammadai_jax.training.context import context_of
from mammadai_jax.training.report import Report, StageReport, html_page
from mammadai_jax.training.report.musicality import by_stage, change, spelled
from mammadai_jax.training.report.words import words
from mammadai_jax.training.run_report import compared_with
from mammadai_jax.training.settings import overlay
from tests.training.test_report import Page

SPECS = {spec.name: spec for spec in STAGES}
NONE = Estimate(math.nan, math.nan, math.nan)
REAL = Typical(dict.fromkeys(MEASURES, 0.5), dict.fromkeys(MEASURES, 0.1))


def music(distance, bars=8, **deviations):
    """With these deviations, to within a tenth; a mean of 0.5 and a tenth of each."""
    near = lambda value: Estimate(value, value - 0.1, value + 0.1)
    return Musicality(
        bars,
        REAL,
        {name: 0.5 + deviations.get(name, math.nan) / 10 for name in MEASURES},
        {name: near(deviations[name]) if name in deviations else NONE for name in MEASURES},
        near(distance),
    )


BEFORE = music(1.0, onsets_on_beats=3.0, leaps=0.5, key_clarity=1.0, rhythm_entropy=2.0)
AFTER = music(0.7, onsets_on_beats=1.0, leaps=2.5, key_clarity=1.1, rhythm_entropy=1.5)


def test_what_a_stage_gained_and_lost_in_one_sentence():
    assert change(BEFORE, AFTER, "Prior") == (
        "Against Prior: nearer to real tunes in “notes on beats” (0.80 to 0.60) and “variety of the rhythm” "
        "(0.70 to 0.65); further from them in “leaps” (0.55 to 0.75); 1 measure is unchanged; the distance "
        "to real tunes falls: 1.00 (0.90 to 1.10) before, 0.70 (0.60 to 0.80) now."
    )
    assert change(AFTER, BEFORE, "Prior").count("grows") == 1


def test_intervals_that_overlap_are_unchanged():
    said = change(BEFORE, BEFORE, "Noise")
    assert said.startswith("Against Noise: 4 measures are unchanged; the distance to real tunes is unchanged")


def test_small_changes_and_other_numbers_of_bars_are_not_mentioned():
    sharp = lambda value: {
        "leaps": Estimate(value, value, value),
        "repeated_bars_equal": Estimate(9 * value, 0, 0),
    }
    before, after = (
        BEFORE._replace(bars=bars, deviations={**BEFORE.deviations, **sharp(value)})
        for bars, value in ((8, 1.0), (4, 1.09))
    )
    assert change(before, after, "Noise").startswith("Against Noise: 4 measures are unchanged")


def test_only_the_largest_changes_are_named():
    names = [name for name in MEASURES if name not in OF_BARS][:6]
    before, after = (music(1, **{name: size + shift for size, name in enumerate(names)}) for shift in (9, 0))
    after = after._replace(deviations={**after.deviations, names[4]: before.deviations[names[4]]})
    said = change(before, after, "Noise")
    assert said.count("“") == 2
    assert "and 3 more" in said and words(names[4])[0].lower() not in said


def test_the_table_has_the_tunes_first_and_marks_the_nearest():
    few = AFTER._replace(bars=4)
    shown = by_stage({"Prior": BEFORE, "Theory": few}, "Held-out tunes", music(0.1, leaps=0.0))
    (table,) = shown.tables
    assert table.columns == ["Measure", "Held-out tunes", "Prior", "Theory"]
    rows = {row.title: row.cells for row in table.rows}
    distance = rows["Distance to real tunes"]
    assert [cell.text for cell in distance] == ["0.10", "1.00", "0.70"]
    assert [bool(cell.mark) for cell in distance] == [False, False, True]
    assert distance[1].note == "0.90 to 1.10"
    assert [bool(cell.mark) for cell in rows["Leaps"]] == [False, True, False]
    assert [cell.text for cell in rows["Notes on beats"]] == ["-", "0.80", "0.60"]
    assert len(rows) == 5  # what no column has is left out
    page = Page(html_page(Report("R", [StageReport("a", "A", "", change="Better.")], musicality=shown)))
    (section,) = [text for attrs, text in page.all("section") if attrs.get("id") == "musicality"]
    assert "Musicality by stage" in section and "Share of the intervals that are a fifth or more." in section
    assert "Better." in [text for _, text in page.all("p")]


def test_a_stage_with_fewer_bars_says_what_tunes_have_in_as_few():
    name = "repeated_bars_equal"
    (_, row) = (
        by_stage({"A": music(1, bars=4, **{name: 1.0})}, "Tunes", music(0, **{name: 0.0})).tables[0].rows
    )
    assert row.cells[1].note == "tunes 0.50 in 4 bars"


def test_every_measure_has_a_name_of_its_own_and_a_meaning():
    names = [*MEASURES, "musicality_distance"]
    assert all(words(name)[1] for name in names)
    assert len({words(name)[0] for name in names}) == len(names)


@pytest.mark.parametrize(
    ("name", "other"),
    [("noise", ""), ("prior", "noise"), ("gail", "prior"), ("theory", "prior"), ("preference", "prompted")],
)
def test_a_stage_is_compared_with_what_it_goes_on_from(name, other):
    composing = ["noise", "prior", "gail", "theory", "prompted", "preference"]
    assert compared_with(SPECS[name], composing) == other


def context(melodies, **changes):
    """The parts of a run and its context, whose corpus has these melodies."""
    settings, parts = divided(overlay(preset("smoke"), changes, "here"))
    given = dataclasses.replace(corpus.embedded(), melodies=tuple(melodies))
    return parts, dataclasses.replace(context_of(settings, parts, Path("nowhere")), corpus=lambda: given)


def test_tunes_that_no_stage_learned_from():
    many = [
        tune.transpose(shift).first(len(tune) - cut)
        for tune in corpus.embedded()
        for shift in (0, 2)
        for cut in (0, 16)
    ]
    title, all_of_them = run_musicality.real_tunes(*context(many[:5]))
    assert title == "Real tunes (embedded)" and list(all_of_them) == many[:5]
    parts, here = context(many * 30)
    title, held_out = run_musicality.real_tunes(parts, here)
    assert title == "Held-out tunes (embedded)"
    assert list(held_out) == list(here.corpus().split(0.1, 0)[1])
    fewer = run_musicality.real_tunes(*context(many * 30, prior={"held_out": 0.001}))[1]
    assert set(map(id, fewer)) <= set(map(id, held_out))


def test_samples_are_measured_with_their_accompaniment():
    measured = run_musicality.of_samples(tunes(), corpus.embedded().melodies)
    assert measured.means["consonance_on_beats"] == pytest.approx(0.782, abs=1e-3)
    assert measured.distance.value < 0.5
    assert spelled(measured.distance).startswith(f"{measured.distance.value:.2f} (")
