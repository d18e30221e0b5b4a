import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from mammadai_jax.music.midi import Line
from mammadai_jax.music.notes import HOLD, OFF, Melody
from mammadai_jax.music.piece import Piece
from mammadai_jax.music.score import ScoreUnavailable, piano_roll_svg, sheet_svg

SVG = "{http://www.w3.org/2000/svg}"
MELODY = Melody([60, HOLD, 64, HOLD, OFF, HOLD, 67, 72] * 4, title="Tune")
CHOIR = Piece(np.where(np.arange(16) % 8, HOLD, [[72], [67], [64], [48]]), title="Choral")
NASTY = "</title><script>alert(1)</script>&\"'\0\x1b\udcff"


def rectangles(svg, group):
    root = ET.fromstring(svg)
    found = root.findall(f"{SVG}g[@class='{group}']/{SVG}rect")
    return np.array([[float(r.get(k)) for k in ("x", "y", "width", "height")] for r in found])


def test_every_note_of_the_roll_lies_where_and_as_high_as_it_sounds():
    boxes = rectangles(piano_roll_svg(MELODY), "melody")
    onsets, durations, pitches = np.array(MELODY.notes).T
    slope, start = np.polyfit(onsets, boxes[:, 0], 1)
    np.testing.assert_allclose(boxes[:, 0], start + slope * onsets, atol=0.02)
    assert (boxes[:, 2] <= slope * durations).all() and (boxes[:, 2] > 0.8 * slope * durations).all()
    slope, start = np.polyfit(pitches, boxes[:, 1], 1)
    assert slope < 0
    np.testing.assert_allclose(boxes[:, 1], start + slope * pitches, atol=0.02)
    np.testing.assert_allclose(boxes[:, 3], -slope, atol=0.02)


@pytest.mark.parametrize("events", [[], [OFF], [0], [127] * 9, [0, 127] * 500, list(range(128))])
def test_any_melody_stays_inside_the_picture(events):
    svg = piano_roll_svg(Melody(events), width=300, height=100)
    for box in ET.fromstring(svg).iter(f"{SVG}rect"):
        x, y, width, height = (float(box.get(k)) for k in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + width <= 300 and y + height <= 100 and width > 0 and height > 0


def test_lines_lie_behind_the_melody():
    svg = piano_roll_svg(MELODY, [Line("bass", np.array([36] + [HOLD] * 31))])
    assert len(rectangles(svg, "line")) == 1
    assert svg.index('class="line"') < svg.index('class="melody"')


def test_bars_and_octaves_are_labelled():
    texts = [text.text for text in ET.fromstring(piano_roll_svg(MELODY)).iter(f"{SVG}text")]
    assert "C4" in texts and "C5" in texts and {"1", "2"} <= set(texts) and "3" not in texts
    long = piano_roll_svg(Melody([60] * 16 * 500))
    assert len([t for t in ET.fromstring(long).iter(f"{SVG}text")]) < 40


def test_every_voice_of_a_piece_has_its_colour_and_its_name():
    svg = piano_roll_svg(CHOIR)
    root = ET.fromstring(svg)
    assert root[0].text == "Choral: 8 notes in 1 bars"
    groups = root.findall(f"{SVG}g[@class='voice']")
    assert [group[0].text for group in groups] == ["Bass", "Tenor", "Alto", "Soprano"]
    fills = [group.get("fill") for group in groups]
    assert len(set(fills)) == 4 and fills[3].startswith("var(--roll-voice-1, #")
    assert [len(group.findall(f"{SVG}rect")) for group in groups] == [2] * 4
    eight = piano_roll_svg(Piece(np.full((8, 4), 60)))
    assert all(f"--roll-voice-{number}," in eight for number in range(1, 9))


def test_sheet_music_of_a_choir_has_two_staves():
    pytest.importorskip("verovio")
    root = ET.fromstring(sheet_svg(CHOIR))
    of_class = lambda name: [g for g in root.iter(f"{SVG}g") if g.get("class") == name]
    assert len(of_class("note")) == 8 and len(of_class("staff")) == 2
    assert len(of_class("staff")) * 2 == len(of_class("layer"))


def test_the_roll_says_what_it_is():
    root = ET.fromstring(piano_roll_svg(MELODY))
    assert root.get("role") == "img"
    assert root[0].tag == f"{SVG}title" and root[0].text == "Tune: 16 notes in 2 bars"
    assert ET.fromstring(piano_roll_svg(MELODY, title="A"))[0].text.startswith("A:")


@pytest.mark.parametrize("draw", [piano_roll_svg, sheet_svg])
def test_titles_are_text_and_nothing_else(draw):
    if draw is sheet_svg:
        pytest.importorskip("verovio")
    svg = draw(Melody(MELODY.events, title=NASTY))
    assert "<script" not in svg and "alert(1)" in svg
    ET.fromstring(svg)


@pytest.mark.parametrize("draw", [piano_roll_svg, sheet_svg])
def test_the_same_picture_twice(draw):
    if draw is sheet_svg:
        pytest.importorskip("verovio")
    assert draw(MELODY) == draw(MELODY)


def test_sheet_music_has_every_note_and_takes_the_colour_of_the_page():
    pytest.importorskip("verovio")
    svg = sheet_svg(MELODY)
    root = ET.fromstring(svg)
    assert len([g for g in root.iter(f"{SVG}g") if g.get("class") == "note"]) == len(MELODY.notes)
    assert 'color="currentColor"' in svg and '"black"' not in svg


def test_sheet_music_of_long_and_empty_melodies():
    pytest.importorskip("verovio")
    for melody in (Melody([]), Melody([60, HOLD] * 16 * 20)):
        assert ET.fromstring(sheet_svg(melody)).tag == "{http://www.w3.org/2000/svg}svg"


def test_without_verovio_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "verovio", None)
    with pytest.raises(ScoreUnavailable, match=r"pip install 'mammadai-jax\[score\]'"):
        sheet_svg(MELODY)


@pytest.mark.parametrize("arguments", [{"width": 10}, {"height": 10}])
def test_a_picture_without_room_is_refused(arguments):
    with pytest.raises(ValueError, match="at least"):
        piano_roll_svg(MELODY, **arguments)
