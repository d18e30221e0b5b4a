import base64
import dataclasses
import datetime
import functools
import hashlib
import io
import math
import re
import shutil
import sys
import wave
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from mammadai_jax.music.midi import Line
from mammadai_jax.music.notes import HOLD, OFF, Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.score import piano_roll_svg
from mammadai_jax.music.statistics import features, table
from mammadai_jax.training.report import (
    Progress,
    Report,
    Sample,
    StageReport,
    audio,
    charts,
    html_page,
    page,
    words,
    write,
)
from mammadai_jax.training.report import table as tables

VOID = {"br", "img", "link", "meta"}
HOSTILE = '<img src=x onerror="alert(1)">\'</script><script>alert(2)</script>&\0\udcff\nx{{ 7 * 7 }}{% raw %}'
MELODY = Melody(np.tile([60, HOLD, 62, 64, OFF, HOLD, 67, HOLD], 8), title="Tune", tempo=120)
SAMPLE = Sample(MELODY, "A tune", line=np.tile([48, HOLD], 32), drums={36: range(0, 64, 4)})
CURVES = {"reward": [(0, 1.0), (1, 2.0), (2, 4.0)], "entropy": [(i, math.exp(-i)) for i in range(1000)]}


def report(**changes):
    noise = StageReport("noise", "Noise", "Random notes.", [SAMPLE] * 3, table([MELODY], [MELODY] * 2))
    gail = dataclasses.replace(noise, name="gail", title="GAIL", curves=CURVES)
    whole = Report(
        "A training", [noise, gail], table([MELODY]), [SAMPLE], {"Seed": "0", "Command": "one\ntwo"}
    )
    return dataclasses.replace(whole, **changes)


@functools.cache
def usual():
    return html_page(report())


class Page(HTMLParser):
    """A page's elements as (tag, attributes, text); an assertion fails where they do not nest."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"attribute given twice: {tag} {names}"
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open and self.open[-1][0]}"
        self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element[2].append(data)

    def all(self, tag, **wanted):
        return [
            (attrs, "".join(text))
            for name, attrs, text in self.elements
            if name == tag and all(attrs.get(k.rstrip("_")) == v for k, v in wanted.items())
        ]


def decoded(uri, kind):
    assert uri.startswith(f"data:{kind};base64,")
    return base64.b64decode(uri.partition(",")[2], validate=True)


def test_the_page_nests_has_unique_ids_and_every_reference_leads_somewhere():
    parsed = Page(usual())
    ids = [attrs["id"] for _, attrs, _ in parsed.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs, _ in parsed.elements:
        for name in ("aria-labelledby", "data-audio", "data-plays"):
            assert attrs.get(name, ids[0]) in ids
        if attrs.get("href", "").startswith("#"):
            assert attrs["href"][1:] in ids
    assert parsed.all("html")[0][0]["lang"] == "en"
    assert parsed.all("title")[0][1] == "A training"
    assert all("aria-label" in attrs for attrs, _ in parsed.all("audio"))
    assert all(text.strip() for _, text in parsed.all("button"))
    assert [attrs["class"] for attrs, _ in parsed.all("li")] == ["stop", "stop", "stop corpus"]


def test_the_page_asks_for_nothing_outside_and_its_policy_forbids_it():
    source = usual()
    parsed = Page(source)
    for tag, attrs, _ in parsed.elements:
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            assert attrs.get(name, "#").startswith(("data:", "#")), (tag, name)
        assert not any(name.startswith("on") for name in attrs), "inline handlers are dead under the policy"
    assert set(re.findall(r"https?://[^\"' ]*", source)) <= {"http://www.w3.org/2000/svg"}
    assert "url(" not in source and "@import" not in source
    policy = parsed.all("meta", **{"http-equiv": "Content-Security-Policy"})[0][0]["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["media-src"] == rules["img-src"] == "data:"
    (script,) = parsed.all("script")
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"


def unfinished(**changes):
    given = {
        "ended": ("Noise", HOSTILE),
        "following": ("GAIL",),
        "chapters": 9,
        "written": "2026-12-01T10:20:30+00:00",
    }
    return html_page(report(progress=Progress(**{**given, **changes})))


def test_a_training_that_goes_on_says_how_far_it_is_and_its_colours_stay():
    parsed = Page(unfinished())
    ((section, said),) = parsed.all("section", class_="progress")
    assert "Learning now: GAIL." in said and "As of 2026-12-01 10:20:30." in " ".join(said.split())
    assert (section["data-written"], section["data-stopped"]) == ("2026-12-01T10:20:30+00:00", "")
    hues = lambda parsed: [attrs["style"] for attrs, _ in parsed.all("section", class_="stage")][:2]
    assert hues(parsed) == hues(Page(html_page(report(stages=[*report().stages, *report().stages[1:] * 7]))))
    assert "before, between and after 9 stages" in parsed.all("p", class_="lead")[0][1]
    assert not Page(usual()).all("section", class_="progress")
    assert not Page(html_page(Report("R", [], progress=Progress((), ("A",), 1, "")))).all("table")


def test_a_training_that_has_stopped_says_why():
    ((section, said),) = Page(unfinished(stopped=HOSTILE)).all("section", class_="progress")
    assert "alert(1)" in said and "alert(1)" in section["data-stopped"] and "Learning now" not in said


@pytest.mark.nightly
def test_in_a_browser_a_training_that_goes_on_is_loaded_again_but_not_while_something_plays(tmp_path):
    playwright, chromium = pytest.importorskip("playwright.sync_api"), shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    now = datetime.datetime.now(datetime.UTC).isoformat()
    for name, stopped in (("goes_on", ""), ("stopped", "It stopped")):
        (tmp_path / name).write_text(unfinished(written=now, stopped=stopped))
    (tmp_path / "page.html").write_text((tmp_path / "goes_on").read_text())
    flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    with (
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=chromium, args=flags) as browser,
    ):
        page, loads = browser.new_page(), []
        page.on("load", lambda: loads.append(1))
        page.goto((tmp_path / "page.html").as_uri())
        page.evaluate("document.querySelectorAll('details')[1].open = true")
        page.evaluate("document.querySelectorAll('audio')[1].currentTime = 2.5")
        page.wait_for_timeout(12_000)
        assert len(loads) == 2
        assert page.evaluate("[...document.querySelectorAll('details')].map((d) => d.open)").index(True) == 1
        assert page.evaluate("document.querySelectorAll('audio')[1].currentTime") == 2.5
        page.evaluate("document.querySelectorAll('audio')[0].loop = true")
        page.evaluate("document.querySelectorAll('audio')[0].play()")
        page.wait_for_timeout(12_000)
        assert len(loads) == 2
        page.evaluate("document.querySelectorAll('audio')[0].pause()")
        (tmp_path / "page.html").write_text((tmp_path / "stopped").read_text())
        page.wait_for_timeout(24_000)
        assert len(loads) == 3


def test_sheet_music_fetches_nothing():
    for attrs, _ in Page(usual()).all("img"):
        drawing = decoded(attrs["src"], "image/svg+xml").decode()
        assert set(re.findall(r'(?:xlink:)?href="([^#][^"]*)"', drawing)) == set()
        assert "<script" not in drawing and "url(http" not in unquote(drawing)


def test_hostile_texts_stay_texts():
    sample = Sample(dataclasses.replace(MELODY, title=HOSTILE), HOSTILE)
    stage = StageReport(HOSTILE, HOSTILE, HOSTILE, [sample], {HOSTILE: 1.0}, {HOSTILE: [(0, 1.0), (1, 2.0)]})
    source = html_page(Report(HOSTILE, [stage, stage], {HOSTILE: 1.0}, [sample], {HOSTILE: HOSTILE}))
    parsed = Page(source)
    assert len(parsed.all("script")) == 1
    assert all(attrs["src"].startswith("data:image/svg+xml") for attrs, _ in parsed.all("img"))
    assert not any(name.startswith("on") for _, attrs, _ in parsed.elements for name in attrs)
    assert "alert(2)" in parsed.all("h1")[0][1] and "{{ 7 * 7 }}{% raw %}" in parsed.all("h1")[0][1]
    source.encode()


def test_the_same_report_gives_the_same_bytes_also_through_a_file(tmp_path):
    write(tmp_path / "a.html", report())
    write(tmp_path / "b.html", report())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes() == usual().encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_failure_keeps_the_old_page_and_leaves_no_part(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(target, report())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"] and target.read_text() == "old"


def test_every_sample_is_a_wav_as_long_as_its_melody():
    players = Page(usual()).all("audio")
    assert [attrs["id"] for attrs, _ in players] == [f"stage{s}-{i}" for s in (0, 1) for i in range(3)] + [
        "corpus-0"
    ]
    for attrs, _ in players:
        with wave.open(io.BytesIO(decoded(attrs["src"], "audio/wav"))) as sound:
            assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16_000)
            assert sound.getnframes() == 8 * 16_000  # 64 sixteenths at 120 quarters a minute
            assert float(attrs["data-seconds"]) == 8
            assert np.abs(np.frombuffer(sound.readframes(8 * 16_000), "<i2")).max() > 20_000


def test_the_accompaniment_and_the_drums_are_heard_and_seen():
    plain = Sample(MELODY, "A tune")
    sounds = {
        audio.Audio(8000).source(s) for s in (SAMPLE, plain, dataclasses.replace(plain, line=SAMPLE.line))
    }
    assert len(sounds) == 3
    line = Page(usual()).all("g", class_="line")
    assert len(line) == 7


@pytest.mark.parametrize(
    ("count", "rate", "steps"),
    [(1, 16_000, 64), (3, 11_025, 64), (4, 8000, 64), (8, 8000, 32), (40, 8000, 16)],
)
def test_audio_keeps_to_its_budget_by_rate_and_then_by_whole_bars(monkeypatch, count, rate, steps):
    monkeypatch.setattr(audio, "AUDIO_BYTES", 750_000)
    plan = audio.Audio.that_fits([SAMPLE] * count)
    cut = plan.excerpt(SAMPLE)
    assert (plan.rate, len(cut.melody)) == (rate, steps)
    assert cut.line is not None and len(cut.line) == steps
    assert max(cut.drums[36]) < steps
    assert ("first" in cut.title) == (steps < 64)


def test_a_piece_is_heard_and_seen_with_all_its_voices():
    piece = Piece(np.tile([[72], [67], [64], [48]], 64), title="Choral")
    sample = Sample(piece, "A choral")
    html = html_page(Report("R", [StageReport("a", "A", "", [sample])], {}, []))
    assert html.count('class="voice"') == 4 and "256 notes, 8 seconds" in html
    cut = audio.Audio(8000, seconds=5).excerpt(sample)
    assert cut.music.voices.shape == (4, 32) and "first 2 bars" in cut.title
    assert audio.Audio(8000).source(sample) != audio.Audio(8000).source(Sample(sample.melody, ""))


def test_notes_lie_where_the_playhead_passes():
    left, right = page._ROLL_EDGES
    drawing = piano_roll_svg(
        Melody([60, HOLD, 62, HOLD]), [Line("bass", np.array([40, HOLD, HOLD, HOLD]))], **page._ROLL
    )
    notes = re.search(r'class="melody".*', drawing).group()
    xs = [float(x) / page._ROLL["width"] for x in re.findall(r'<rect x="([\d.]+)"', notes)]
    np.testing.assert_allclose(xs, [left, (left + right) / 2], atol=1e-4)


def test_undefined_numbers_are_dashes_and_gaps():
    curve = [(0, math.nan), (1, 1.0), (2, math.inf), (3, 2.0), (4, 3.0), (math.nan, 1.0)]
    stage = StageReport(
        "a", "A", "", [], {"rest_rate": math.nan, "kl": math.inf}, {"reward": curve, "loss": [(0, math.nan)]}
    )
    parsed = Page(html_page(Report("R", [stage], {"rest_rate": -math.inf}, [], {})))
    rows = [text for _, text in parsed.all("td")]
    assert rows == ["-", "-", "-", "0if alike"]
    assert "Nothing was recorded." in [text for _, text in parsed.all("p")]
    (chart,) = (text for attrs, text in parsed.all("svg") if attrs.get("class") == "chart")
    assert "nan" not in chart.lower() and "inf" not in chart.lower()
    assert len(parsed.all("polyline")) == 1  # 2, 3; the 1 before the gap is a dot


def test_nothing_to_show_is_said():
    stage = StageReport("empty", "Empty", "")
    for whole in (
        Report("R", []),
        Report("R", [stage]),
        Report("", [stage, stage], {}, [Sample(Melody([]), "")]),
    ):
        Page(html_page(whole))
    assert "No samples." in html_page(Report("R", [stage]))
    assert not Page(html_page(Report("R", [stage]))).all("button")
    assert "An empty melody." in html_page(Report("R", [stage], {}, [Sample(Melody([]), "")]))


@pytest.mark.parametrize("tempo", [0.0, -1.0, 1.0, 1e9, math.nan, math.inf])
def test_an_absurd_tempo_costs_the_sound_and_not_the_report(tempo):
    odd = Sample(dataclasses.replace(MELODY, tempo=tempo), "Odd")
    stage = StageReport("noise", "Noise", "", [SAMPLE])
    source = html_page(Report("R", [stage], {}, [odd]))
    assert "No audio: tempo is 5 to 2000" in source
    assert len(Page(source).all("audio")) == 1


def test_without_verovio_a_hint_takes_the_place_of_the_sheets(monkeypatch):
    monkeypatch.setitem(sys.modules, "verovio", None)
    parsed = Page(html_page(report()))
    assert not parsed.all("img")
    hints = [text for _, text in parsed.all("p") if "mammadai-jax[score]" in text]
    assert len(hints) == 3  # one for each stage and the corpus


def test_a_melody_that_cannot_be_engraved_does_not_spoil_the_others():
    odd = Sample(dataclasses.replace(MELODY, steps_per_bar=13, meter=""), "Odd")
    parsed = Page(html_page(report(reference_samples=[odd, SAMPLE])))
    assert len(parsed.all("img")) + sum("no sheet music" in text for _, text in parsed.all("p")) == 8


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        ([1, 2, 3], 2.4, {1}),
        ([1, 3, 9], 2, {0, 1}),
        ([math.nan, 5, 7], 6.5, {2}),
        ([2, 2], 5, set()),
        ([math.nan, math.inf], 5, set()),
        ([3], 3, set()),
        ([], 3, set()),
    ],
)
def test_the_nearest_value(values, target, expected):
    assert tables.nearest(values, target) == expected


def test_the_nearest_stage_is_marked_in_each_row():
    noise = {"melodies": 3, "rest_rate": 0.5, "overlap_area": 0.1, "kl/pitch_range": 9.0, "copied_notes": 1.0}
    prior = {"melodies": 9, "rest_rate": 0.2, "overlap_area": 0.7, "kl/pitch_range": 1.0, "copied_notes": 2.0}
    stages = [StageReport(title, title, "", table=row) for title, row in (("Noise", noise), ("Prior", prior))]
    parsed = Page(html_page(Report("R", stages, {"melodies": 9, "rest_rate": 0.6})))
    marked = [text for _, text in parsed.all("td", class_="nearest")]
    assert marked == [f"{value}nearest to the tunes" for value in ("0.500", "0.700", "1")]
    assert [text for _, text in parsed.all("th", scope="col")] == [
        "Statistic",
        "Noise",
        "Prior",
        "Tunes",
    ] * 2


def test_every_statistic_has_a_plain_name_and_an_explanation():
    names = {part for name in table([MELODY], [MELODY] * 2) for part in name.split("/")} | set(
        features([MELODY])
    )
    assert not [name for name in names if not words.words(name)[1]]
    assert len({words.words(name)[0] for name in names}) == len(names)
    assert words.words("num_of_trills") == words.words("kl/num_of_trills") == ("Num of trills", "")


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (-3, 8), (1e-9, 3e-9), (0, 12345), (-2e6, -1e6), (0.999, 1.001), (0.00053, 0.00134)],
)
def test_ticks_are_round_and_inside(low, high):
    marks = charts.ticks(low, high)
    assert 3 <= len(marks) <= 6
    assert low - 1e-9 * (high - low) <= marks[0] and marks[-1] <= high + 1e-9 * (high - low)
    np.testing.assert_allclose(np.diff(marks), marks[1] - marks[0])


def test_a_long_curve_is_thinned_and_keeps_its_spikes():
    values = np.zeros(100_000)
    values[54_321] = 100.0
    chart = charts.line_chart(list(enumerate(values)), "Loss")
    assert chart is not None and len(chart.curves) == 1
    points = np.array([pair.split(",") for pair in chart.curves[0].split()], float)
    assert len(points) <= 302 and (np.diff(points[:, 0]) >= 0).all()
    assert points[:, 1].min() < 20 < 130 < points[:, 1].max()


@pytest.mark.parametrize(
    "points", [[(5, 1.0)], [(0, 0.0), (9, 0.0)], [(0, 1e300), (1, -1e300)], [(1, 2.0), (1, 3.0)]]
)
def test_any_curve_stays_inside_its_chart(points):
    parsed = Page(html_page(Report("R", [StageReport("a", "A", "", curves={"loss": points})])))
    assert len(parsed.all("polyline")) + len(parsed.all("circle")) >= 1
    for _, attrs, _ in parsed.elements:
        for name, limit in {"x": 320, "x1": 320, "cx": 320, "y": 180, "y1": 180, "cy": 180}.items():
            assert 0 <= float(attrs.get(name, 0)) <= limit
        for pair in attrs.get("points", "0,0").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 320 and 0 <= y <= 180


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "3"),
        (12345, "12,345"),
        (0.12345, "0.123"),
        (1.5e-7, "1.5e-7"),
        (2.5e12, "2.5e12"),
        (math.nan, "-"),
    ],
)
def test_numbers_are_short(value, words):
    assert charts.number(value) == words


def test_ticks_can_be_told_apart():
    for low, high in ((0.9991, 0.9994), (0, 0.3), (20, 31), (-1e5, 1e5), (1e-7, 9e-7), (2e6, 9e6)):
        labels = charts._labels(charts.ticks(low, high))
        assert len(set(labels)) == len(labels) and max(map(len, labels)) <= 8, labels


def test_columns_beside_the_stages_are_shown_but_not_marked():
    stages = {"Noise": {"notes": 3.0}, "Prior": {"notes": 9.0}}
    (table,) = tables.statistics(stages, {"notes": 8.0}, {"Corpus": {"notes": 8.1}}).tables
    assert [*table.columns, *table.corpus] == ["Statistic", "Noise", "Prior", "Corpus", "Tunes"]
    (row,) = table.rows
    assert [cell.text for cell in row.cells] == ["3", "9", "8.1", "8"]
    assert [cell.mark for cell in row.cells] == ["", "nearest to the tunes", "", ""]


COMPARED = tables.Comparison(
    "Rules",
    "What the rules say.",
    {"Noise": {"key": -0.4, "motif": 2.0, "log_prior": -3.0}, "Theory": {"key": -0.0001, "motif": 3.0}},
    {"Corpus": {"key": 0.0, "motif": 9.0}},
    {"key": math.inf, "motif": 0.0},
)


def test_a_comparison_marks_what_is_best_among_the_stages():
    parsed = Page(html_page(report(comparisons=[COMPARED, COMPARED])))
    marked = [text for _, text in parsed.all("td", class_="nearest") if text.endswith("best")]
    assert marked == [">-0.001best", "2best"] * 2
    (section,) = [text for attrs, text in parsed.all("section") if attrs.get("id") == "comparison1"]
    for shown in ("Rules", "What the rules say.", "Stays in the key", "Noise", "Theory", "Corpus", "9"):
        assert shown in section
    ids = [attrs["id"] for _, attrs, _ in parsed.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_claims_have_a_tick_or_a_cross():
    claims = {"mode: minor": True, "meter: triple": False, HOSTILE: True}
    sample = dataclasses.replace(SAMPLE, claims=claims)
    parsed = Page(html_page(report(reference_samples=[sample])))
    said = [" ".join(text.split()) for attrs, text in parsed.all("li") if not attrs]
    assert said[:2] == ["✓ mode: minorholds", "✗ meter: tripledoes not hold"] and len(said) == 3
    assert len(parsed.all("script")) == 1


def test_hostile_comparisons_stay_texts():
    odd = tables.Comparison(HOSTILE, HOSTILE, {HOSTILE: {HOSTILE: 1.0}}, {HOSTILE: {}}, {HOSTILE: math.inf})
    parsed = Page(html_page(report(comparisons=[odd, tables.Comparison("", "", {})])))
    assert len(parsed.all("script")) == 1
    assert not any(name.startswith("on") for _, attrs, _ in parsed.elements for name in attrs)


def test_curves_with_a_prefix_are_folded():
    names = ("theory", "rules/key", "objective/kl", "loss/policy_avg", "val/ratio", "odd/cosine")
    stage = StageReport("a", "A", "", curves=dict.fromkeys(names, CURVES["reward"]))
    parsed = Page(html_page(Report("R", [stage])))
    titles = [text.removesuffix("last 4") for _, text in parsed.all("figcaption")]
    opened = ["All rules together", "Divergence from the reference, for each melody"]
    assert titles == [
        *opened,
        "Stays in the key",
        "Policy loss",
        "Mean probability ratio",
        "Cosine of matching pairs",
    ]
    folds = [text.split("\n") for _, text in parsed.all("details")]
    folds = {lines[0]: [title for title in titles if any(title in line for line in lines)] for lines in folds}
    assert folds["Rules, one by one"] == ["Stays in the key"]
    assert folds["How the optimisation goes"] == ["Policy loss", "Mean probability ratio"]
    assert folds["Odd"] == ["Cosine of matching pairs"]
