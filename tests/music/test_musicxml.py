import base64
import collections
import dataclasses
import io
import itertools
import xml.etree.ElementTree as ET
import zipfile

import numpy as np
import pytest
from symusic import Score

from mammadai_jax.music import musicxml, mxl
from mammadai_jax.music.engraving import place_in_key, spelling
from mammadai_jax.music.heading import FIFTHS_ABOVE_MAJOR, Heading
from mammadai_jax.music.mxl import InvalidMusicXML
from mammadai_jax.music.notes import HOLD, OFF, Melody, Note
from mammadai_jax.music.piece import SATB, Piece
from mammadai_jax.music.tunes import TUNES
from tests.music.test_midi import random_pieces
from tests.music.test_piece import assert_same_music

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
        notes, _ = played(musicxml.musicxml(melody))
        shift = melody.steps_per_bar - melody.pickup if melody.pickup else 0
        assert notes == [note._replace(onset=note.onset - shift) for note in melody.notes]


def test_verovio_plays_the_tempo():
    _, score = played(musicxml.musicxml(Melody([60, HOLD], tempo=97)))
    assert score.tempos[0].qpm == pytest.approx(97, rel=1e-4)


def test_every_bar_is_full():
    for melody in random_melodies(100, seed=1):
        bars = ET.fromstring(musicxml.musicxml(melody)).findall("part/measure")
        sums = [sum(int(d.text) for d in bar.findall("note/duration")) for bar in bars]
        assert sums[0] == (melody.pickup or melody.steps_per_bar)
        assert set(sums[1:]) <= {melody.steps_per_bar}
        assert len(bars) == max(-(-len(melody) // melody.steps_per_bar), 1)
        assert (bars[0].get("implicit") == "yes") == bool(melody.pickup)


def test_the_accidentals_on_the_page_say_the_pitches():
    for melody in random_melodies(100, seed=2):
        part = ET.fromstring(musicxml.musicxml(melody)).find("part")
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
        for note in ET.fromstring(musicxml.musicxml(melody)).iter("note"):
            kinds = [tie.get("type") for tie in note.findall("tie")]
            assert kinds == [tied.get("type") for tied in note.findall("notations/tied")]
            assert ("stop" in kinds) == bool(open_ties)
            open_ties = int("start" in kinds)
        assert not open_ties


def test_beams_begin_and_end():
    for melody in random_melodies(50, seed=4):
        for bar in ET.fromstring(musicxml.musicxml(melody)).iter("measure"):
            for level in ("1", "2"):
                beams = [b.text for b in bar.findall(f"note/beam[@number='{level}']")]
                text = " ".join(b for b in beams if b and "hook" not in b).replace("continue ", "")
                assert text.replace("begin end", "").strip() == ""


def test_whole_known_tune():
    xml = musicxml.musicxml(
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
    named = lambda pitch, **key: spelling(pitch, place_in_key(pitch, Heading(**key)))
    names = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"]
    for pitch, name in enumerate(names, start=60):
        assert named(pitch) == (name[0], name.count("#") - name[1:].count("b"), 4)
    assert [named(pitch, tonic=9, mode="minor")[0] for pitch in (63, 68, 70)] == ["D", "G", "B"]
    assert named(66, tonic=8, mode="major") == ("G", -1, 4)
    assert named(60, tonic=6, mode="major") == ("B", 1, 3)
    assert named(59, tonic=1, mode="major") == ("C", -1, 4)
    for tonic, pitch, mode in itertools.product(range(12), range(128), FIFTHS_ABOVE_MAJOR):
        letter, alter, octave = named(pitch, tonic=tonic, mode=mode)
        assert 12 * (octave + 1) + NATURAL[letter] + alter == pitch and abs(alter) <= 2


def test_tunes_are_beamed_and_barred():
    for tune in TUNES:
        assert played(musicxml.musicxml(tune))[0]


def test_silence_and_nothing_are_rests():
    for melody in (Melody([]), Melody([OFF] + [HOLD] * 40)):
        notes = list(ET.fromstring(musicxml.musicxml(melody)).iter("note"))
        assert notes and all(note.find("rest").get("measure") == "yes" for note in notes)


def test_any_title_is_well_formed():
    for title in ("<script>alert(1)</script>", "]]>&\"'", "a\0b\x1b\udcff\ufffe", "Ünï\ncode"):
        assert "<script>" not in musicxml.musicxml(Melody([60], title=title))
        assert ET.fromstring(musicxml.musicxml(Melody([60], title=title))).find("work/work-title") is not None


def in_whole_bars(piece):
    """The piece with silence to the end of its last bar."""
    rest = -len(piece) % piece.steps_per_bar
    silence = np.full((len(piece.voices), rest), HOLD)
    silence[:, :1] = OFF
    return dataclasses.replace(piece, voices=np.hstack([piece.voices, silence]))


def choir(random, bars=4, **fields):
    """A piece for a choir, mostly of quarters."""
    events = random.choice([HOLD, HOLD, HOLD, OFF, 0, 1, 2, 3, 4, 5, 6, 7], (4, 4 * bars))
    events = np.where(events >= 0, events + np.array([[72], [64], [56], [48]]), events)
    spaced = np.full((4, 16 * bars), HOLD)
    spaced[:, ::4] = events
    spaced[:, : 16 - fields.get("pickup", 16)] = HOLD
    return Piece(spaced, **fields)


def test_random_pieces_come_back(random):
    for piece in random_pieces(random, 24):
        again = musicxml.parse_piece(musicxml.musicxml(piece).encode())
        assert_same_music(again, in_whole_bars(piece))
        assert again.left_out == {}


def test_a_choir_has_two_staves_and_comes_back(random):
    for number in range(8):
        piece = choir(random, title="Choral", tonic=number, mode="dorian", pickup=4 * (number % 2))
        text = musicxml.musicxml(piece)
        root = ET.fromstring(text)
        assert [p.text for p in root.iterfind("part-list/score-part/part-name")] == [
            "Soprano\nAlto",
            "Tenor\nBass",
        ]
        assert [p.findtext("measure/attributes/clef/sign") for p in root.iterfind("part")] == ["G", "F"]
        stems = {(n.findtext("voice"), n.findtext("stem")) for n in root.iter("note")} - {("1", None)}
        assert stems - {("2", None)} == {("1", "up"), ("2", "down")}
        assert_same_music(musicxml.parse_piece(text.encode()), piece)


def test_verovio_plays_the_notes_of_a_choir(random):
    piece = choir(random)
    notes, _ = played(musicxml.musicxml(piece))
    assert notes == sorted(piece.notes)


def test_a_staff_of_two_voices_shows_an_accidental_once():
    events = np.full((4, 16), HOLD)
    events[:, 0], events[1, 8], events[0, 12] = (66, 62, 55, 48), 66, 65
    bar = ET.fromstring(musicxml.musicxml(Piece(events))).find("part/measure")
    shown = [(n.findtext("pitch/step"), n.findtext("accidental")) for n in bar.iterfind("note")]
    assert shown == [("F", "sharp"), ("F", "natural"), ("D", None), ("F", None)]


def test_a_piece_in_quarters_is_written_in_16ths():
    piece = Piece([[60, 62, HOLD, OFF]], steps_per_bar=4, steps_per_quarter=1)
    again = musicxml.parse_piece(musicxml.musicxml(piece).encode())
    assert again.melody(0).notes == [Note(0, 4, 60), Note(4, 8, 62)] and again.meter == "4/4"
    with pytest.raises(ValueError, match="cannot become 4 a quarter"):
        musicxml.musicxml(Piece([[60]], steps_per_quarter=6))


def test_the_melody_of_a_score_is_its_soprano_or_its_first_voice(random):
    piece = choir(random, title="Choral", tonic=0, mode="major")
    melody = musicxml.parse(musicxml.musicxml(piece).encode(), "a/choral.musicxml")
    np.testing.assert_array_equal(melody.events, piece.voices[0])
    assert (melody.title, melody.source) == ("Choral", "a/choral.musicxml")
    assert melody.left_out == {"of other voices": sum(len(piece.melody(v).notes) for v in (1, 2, 3))}
    tune = Melody([60, HOLD, 62, HOLD] * 8, tonic=0, mode="major", tempo=90, pickup=0)
    np.testing.assert_array_equal(musicxml.parse(musicxml.musicxml(tune).encode()).events, tune.events)
    under = musicxml.musicxml(Piece(piece.voices, names=("Violin", "Soprano", "Viola", "Bass")))
    np.testing.assert_array_equal(musicxml.parse(under.encode()).events, piece.voices[1])


MEASURE = (
    "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
)


def note(step, octave=4, inside="", duration=4, voice=1):
    pitch = f"<pitch><step>{step}</step><octave>{octave}</octave></pitch>"
    return f"<note>{inside}{pitch}<duration>{duration}</duration><voice>{voice}</voice></note>"


def score(*parts, names=("Part",), head=""):
    """A document of parts, each the contents of its only measure."""
    listed = "".join(f'<score-part id="{n}"><part-name>{n}</part-name></score-part>' for n in names)
    bodies = "".join(
        f'<part id="{n}"><measure number="1">{MEASURE}{p}</measure></part>'
        for n, p in zip(names, parts, strict=True)
    )
    return f"<score-partwise>{head}<part-list>{listed}</part-list>{bodies}</score-partwise>"


def test_chords_and_voices_of_a_hymnal_are_four_voices():
    upper = note("C", 5) + note("G", 4, "<chord/>")
    lower = note("E", 4) + "<backup><duration>4</duration></backup>" + note("C", 3, voice=2)
    piece = musicxml.parse_piece(
        score(upper, lower, names=("Women", "Tenor and Bass")).encode(), "b/hymn.xml"
    )
    assert piece.voices[:, 0].tolist() == [72, 67, 64, 48] and piece.title == "hymn"
    assert piece.names == ("Women 1", "Women 2", "Tenor and Bass 1", "Tenor and Bass 2")
    two = musicxml.parse_piece(score(upper, lower, names=("Bass &amp; Tenor", "Soprano\nAlto")).encode())
    assert two.names == SATB
    assert two.voices[:, 0].tolist() == [64, 48, 67, 72]


def test_parts_for_transposing_instruments_sound_as_they_do():
    transpose = "<transpose><chromatic>-2</chromatic><octave-change>-1</octave-change></transpose>"
    head = f"<attributes>{transpose}</attributes>"
    key = "<attributes><key><fifths>2</fifths><mode>major</mode></key></attributes>"
    piece = musicxml.parse_piece(score(head + key + note("D")).encode())
    assert (piece.voices[0, 0], piece.tonic) == (48, 0)


def test_what_is_no_note_is_left_out_and_counted():
    drum = "<note><unpitched/><duration>1</duration></note>"
    cue = note("C", inside="<cue/>", duration=1)
    grace = "<note><grace/><pitch><step>C</step><octave>4</octave></pitch></note>"
    change = "<attributes><time><beats>2</beats><beat-type>4</beat-type></time></attributes>"
    melody = musicxml.parse(score(drum + cue + grace + note("E", duration=2) + change).encode())
    assert melody.notes == [Note(8, 8, 64)]
    assert melody.left_out == {"drums": 1, "cue notes": 1, "grace notes": 1}
    assert "the meter changes" in melody.remarks


def test_more_than_eight_voices_leave_the_highest_notes_of_chords():
    chord = note("C") + note("E", inside="<chord/>") + note("G", inside="<chord/>")
    names = tuple("ABC")
    piece = musicxml.parse_piece(score(*[chord] * 3, names=names).encode())
    assert piece.names == names and piece.pitches.tolist() == [67] * 3
    assert piece.left_out == {"below the highest of a chord": 6}


def test_compressed_and_other_encodings(tmp_path):
    text = score(note("C"), head="<movement-title>Für</movement-title>")
    (tmp_path / "a.musicxml").write_bytes(f'<?xml version="1.0" encoding="UTF-16"?>{text}'.encode("utf-16"))
    (tmp_path / "b.xml").write_bytes(f'<?xml version="1.0" encoding="ISO-8859-1"?>{text}'.encode("latin-1"))
    with zipfile.ZipFile(tmp_path / "c.mxl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/container.xml", "<container/>")
        archive.writestr("score.musicxml", text)
    for name in ("a.musicxml", "b.xml", "c.mxl"):
        assert musicxml.read(tmp_path / name).title == "Für"
        assert musicxml.read_piece(tmp_path / name).source == str(tmp_path / name)


def zipped(name, data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


LAUGHS = '<!DOCTYPE s [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
LATE = '<sound tempo="fast"/>'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no MusicXML: no element"),
        (b"MThd", "no MusicXML: syntax error"),
        (b"<html/>", "its first element is <html>"),
        (b"<score-timewise/>", "save it as score-partwise"),
        (b"<score-partwise/>", "no parts with measures"),
        ((LAUGHS + score(note("C"))).encode(), "declares XML entities"),
        ((LAUGHS + score(note("C"))).encode("utf-16"), "declares XML entities"),
        (zipped("readme.txt", b"hello"), "without a score"),
        (zipped("a.xml", bytes(mxl.MAX_BYTES + 1)), "larger than 16 MiB"),
        (zipped("a.xml", b"<a/>")[:40], "no compressed MusicXML"),
        (score("<note/>" * 2).encode(), "no notes"),
        (score(note("H")).encode(), "measure 1: 'H'"),
        (score(note("C", 99)).encode(), "measure 1: a pitch of 1200 is no semitone"),
        (score(note("C").replace("<octave>", "<alter>0.5</alter><octave>")).encode(), "60.5 is no semitone"),
        (score(note("C", duration="9" * 5000)).encode(), "measure 1"),
        (score(note("C", duration=10**9)).encode(), "longer than 65536 steps"),
        (score(note("C", duration=-1)).encode(), "a duration of -1"),
        (score(note("C")).replace("<divisions>1", "<divisions>11").encode(), "too fine"),
        (score(note("C")).replace("<beats>4", "<beats>0").encode(), "a meter of 0/4"),
        (score(note("C")).replace("<beats>4</beats>", "").encode(), "no meter"),
        (score(LATE + note("C")).encode(), "measure 1: could not convert"),
        (b"<score-partwise>" + b"<a>" * 100, "nested more than 64 deep"),
        (score("</measure><measure>" * 10_001).encode(), "more than 10000 measures"),
        (score(*[note("C")] * 65, names=[str(n) for n in range(65)]).encode(), "65 parts, more than 64"),
    ],
)
def test_bad_files_give_one_error_that_names_file_and_fault(data, message):
    for parse in (musicxml.parse, musicxml.parse_piece):
        if message == "no notes" and parse is musicxml.parse_piece:
            continue  # silence is a piece
        with pytest.raises(InvalidMusicXML, match=rf"^bad\.xml: .*{message}"):
            parse(data, "bad.xml")


def test_too_many_voices_are_refused():
    voices = "<backup><duration>4</duration></backup>".join(note("C", voice=n) for n in range(9))
    with pytest.raises(InvalidMusicXML, match="9 voices; a piece has 1 to 8"):
        musicxml.parse_piece(score(voices).encode())


def test_damaged_files_load_or_are_invalid(random):
    sound = musicxml.musicxml(choir(random, bars=2)).encode()
    digits = [place for place, byte in enumerate(sound) if byte in b"0123456789"]
    outcomes = collections.Counter()
    for _ in range(150):
        damaged = bytearray(sound)
        for place in random.choice(digits, 5):
            damaged[place] = random.choice(list(b"<-.0123456789"))
        try:
            musicxml.parse_piece(bytes(damaged))
            outcomes["loaded"] += 1
        except InvalidMusicXML:
            outcomes["invalid"] += 1
    assert min(outcomes["loaded"], outcomes["invalid"]) > 10


def test_a_file_that_is_too_large_or_missing(tmp_path):
    (tmp_path / "large.xml").write_bytes(bytes(mxl.MAX_BYTES + 1))
    with pytest.raises(OSError, match="larger than 16 MiB"):
        musicxml.read(tmp_path / "large.xml")
    with pytest.raises(FileNotFoundError):
        musicxml.read_piece(tmp_path / "none.xml")


def notes_of_music21(text):
    """The notes of every voice as music21 reads them, in steps; ties are joined."""
    from music21 import converter, stream

    voices = {}
    for number, part in enumerate(converter.parseData(text, format="musicxml").parts):
        for element in part.recurse().notes:
            voice = element.activeSite.id if isinstance(element.activeSite, stream.Voice) else "1"
            notes = voices.setdefault((number, voice), [])
            onset, steps = element.getOffsetInHierarchy(part) * 4, element.quarterLength * 4
            if element.tie is not None and element.tie.type in ("continue", "stop"):
                notes[-1] = notes[-1]._replace(duration=notes[-1].duration + int(steps))
            else:
                notes.append(Note(int(onset), int(steps), element.pitch.midi))
    return [notes for _, notes in sorted(voices.items())]


@pytest.mark.nightly
def test_music21_reads_the_notes_of_500_random_pieces(random):
    pytest.importorskip("music21")
    for piece in random_pieces(random, 500):
        text = musicxml.musicxml(piece)
        assert_same_music(musicxml.parse_piece(text.encode()), in_whole_bars(piece))
        written = [piece.melody(voice).notes for voice in range(len(piece.voices))]
        shifted = [[n._replace(onset=n.onset - piece.fill) for n in notes] for notes in written if notes]
        assert notes_of_music21(text) == shifted
