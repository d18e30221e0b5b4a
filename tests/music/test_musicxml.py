import base64
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from symusic import Score

from mammadai_jax.music.musicxml import musicxml, spelling
from mammadai_jax.music.notes import HOLD, OFF, Melody, Note
from mammadai_jax.music.tunes import TUNES

BARS = [(16, "4/4"), (16, "C|"), (12, "3/4"), (12, "6/8"), (14, "7/8"), (20, "5/4"), (8, "2/4"), (6, "3/8")]
BARS += [(5, "?"), (15, "15/16")]
MODES = ("major", "minor", "dorian", "phrygian", "lydian", "mixolydian", "")
NATURAL = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
SHOWN = {"flat-flat": -2, "flat": -1, "natural": 0, "sharp": 1, "double-sharp": 2}


def random_melodies(count, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(count):
        size, meter = BARS[number % len(BARS)]
        events = rng.choice([HOLD] * 60 + [OFF] * 5 + list(range(36, 96)), rng.integers(1, 6 * size))
        pickup = int(rng.integers(1, size)) if number % 3 == 0 else 0
        if pickup:
            events = np.r_[[OFF], [HOLD] * (size - pickup - 1), np.maximum(events, OFF)[:1], events]
        yield Melody(
            events,
            steps_per_bar=size,
            meter=meter,
            pickup=pickup,
            tonic=int(rng.integers(-1, 12)),
            mode=MODES[number % len(MODES)],
            tempo=float(rng.integers(40, 200)),
        )


def played(xml):
    """What verovio plays of a document: its notes in steps."""
    verovio = pytest.importorskip("verovio")
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    assert toolkit.loadData(xml)
    score = Score.from_midi(base64.b64decode(toolkit.renderToMIDI()))
    step = score.ticks_per_quarter / 4
    notes = [note for track in score.tracks for note in track.notes]
    return sorted(Note(round(n.time / step), round(n.duration / step), n.pitch) for n in notes), score


def test_verovio_plays_the_notes_of_random_melodies():
    for melody in random_melodies(60):
        notes, _ = played(musicxml(melody))
        shift = melody.steps_per_bar - melody.pickup if melody.pickup else 0
        assert notes == [note._replace(onset=note.onset - shift) for note in melody.notes]


def test_verovio_plays_the_tempo():
    _, score = played(musicxml(Melody([60, HOLD], tempo=97)))
    assert score.tempos[0].qpm == pytest.approx(97, rel=1e-4)


def test_every_bar_is_full():
    for melody in random_melodies(100, seed=1):
        bars = ET.fromstring(musicxml(melody)).findall("part/measure")
        sums = [sum(int(d.text) for d in bar.findall("note/duration")) for bar in bars]
        assert sums[0] == (melody.pickup or melody.steps_per_bar)
        assert set(sums[1:]) <= {melody.steps_per_bar}
        assert len(bars) == max(-(-len(melody) // melody.steps_per_bar), 1)
        assert (bars[0].get("implicit") == "yes") == bool(melody.pickup)


def test_the_accidentals_on_the_page_say_the_pitches():
    for melody in random_melodies(100, seed=2):
        part = ET.fromstring(musicxml(melody)).find("part")
        fifths = int(part.findtext("measure/attributes/key/fifths"))
        key = {letter: 1 for letter in "FCGDAEB"[: max(fifths, 0)]}
        key |= {letter: -1 for letter in "BEADGCF"[: max(-fifths, 0)]}
        pitches = []
        for bar in part.findall("measure"):
            shown = {}
            for note in bar.findall("note"):
                if note.find("rest") is not None or note.find("tie[@type='stop']") is not None:
                    continue
                place = (note.findtext("pitch/step"), int(note.findtext("pitch/octave")))
                if note.find("accidental") is not None:
                    shown[place] = SHOWN[note.findtext("accidental")]
                alter = shown.get(place, key.get(place[0], 0))
                pitches.append(12 * (place[1] + 1) + NATURAL[place[0]] + alter)
        assert pitches == melody.pitches.tolist()


def test_ties_begin_and_end():
    for melody in random_melodies(50, seed=3):
        open_ties = 0
        for note in ET.fromstring(musicxml(melody)).iter("note"):
            kinds = [tie.get("type") for tie in note.findall("tie")]
            assert kinds == [tied.get("type") for tied in note.findall("notations/tied")]
            assert ("stop" in kinds) == bool(open_ties)
            open_ties = int("start" in kinds)
        assert not open_ties


def test_beams_begin_and_end():
    for melody in random_melodies(50, seed=4):
        for bar in ET.fromstring(musicxml(melody)).iter("measure"):
            for level in ("1", "2"):
                beams = [b.text for b in bar.findall(f"note/beam[@number='{level}']")]
                text = " ".join(b for b in beams if b and "hook" not in b).replace("continue ", "")
                assert text.replace("begin end", "").strip() == ""


def test_whole_known_tune():
    xml = musicxml(
        Melody([60, *[HOLD] * 5, 61, HOLD, 61, *[HOLD] * 7], tonic=0, mode="major", tempo=90, title="A & B")
    )
    root = ET.fromstring(xml)
    assert root.findtext("work/work-title") == "A & B"
    written = [
        (n.findtext("type"), len(n.findall("dot")), n.findtext("pitch/step"), n.findtext("accidental"))
        for n in root.iter("note")
    ]
    assert written == [("quarter", 1, "C", None), ("eighth", 0, "C", "sharp"), ("half", 0, "C", None)]
    assert root.findtext(".//per-minute") == "90"


def test_spelling_follows_the_key():
    names = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"]
    for pitch, name in enumerate(names, start=60):
        assert spelling(pitch) == (name[0], name.count("#") - name[1:].count("b"), 4)
    assert spelling(66, -4) == ("G", -1, 4)
    assert spelling(60, 6) == ("B", 1, 3)
    assert spelling(59, -5) == ("C", -1, 4)
    for fifths in range(-7, 8):
        for pitch in range(128):
            letter, alter, octave = spelling(pitch, fifths)
            assert 12 * (octave + 1) + NATURAL[letter] + alter == pitch and abs(alter) <= 2


def test_tunes_are_beamed_and_barred():
    for tune in TUNES:
        assert played(musicxml(tune))[0]


def test_silence_and_nothing_are_rests():
    for melody in (Melody([]), Melody([OFF] + [HOLD] * 40)):
        notes = list(ET.fromstring(musicxml(melody)).iter("note"))
        assert notes and all(note.find("rest").get("measure") == "yes" for note in notes)


def test_any_title_is_well_formed():
    for title in ("<script>alert(1)</script>", "]]>&\"'", "a\0b\x1b\udcff\ufffe", "Ünï\ncode"):
        assert "<script>" not in musicxml(Melody([60], title=title))
        assert ET.fromstring(musicxml(Melody([60], title=title))).find("work/work-title") is not None
