import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from mammadai_jax.music import chords, musicxml
from mammadai_jax.music.chords import IS_CHORD, QUALITIES, Chord, Symbol, in_words, name
from mammadai_jax.music.heading import Heading
from mammadai_jax.music.notes import HOLD, OFF
from mammadai_jax.music.piece import Piece

C, G_MAJOR, F_MINOR = (
    Heading(tonic=0, mode="major"),
    Heading(tonic=7, mode="major"),
    Heading(tonic=5, mode="minor"),
)


def piece(*rows, **fields):
    """A piece of quarter notes, of chords from the highest voice down, 0 for silence."""
    voices = np.full((len(rows[0]), 4 * len(rows)), HOLD, np.int16)
    voices[:, ::4] = np.where(np.array(rows).T > 0, np.array(rows).T, OFF)
    return Piece(voices, **{"tonic": 0, "mode": "major", **fields})


@pytest.mark.parametrize(
    ("pitches", "symbol", "inversion"),
    [
        ([72, 67, 64, 48], "C", 0),
        ([72, 67, 60, 52], "C/E", 1),
        ([76, 72, 60, 43], "C/G", 2),
        ([72, 64, 60, 48], "C", 0),  # without its fifth
        ([69, 64, 60, 45], "Am", 0),
        ([71, 65, 62, 50], "Bdim/D", 1),
        ([68, 64, 60, 48], "C+", 0),
        ([65, 62, 59, 43], "G7", 0),
        ([65, 59, 55, 43], "G7", 0),  # without its fifth
        ([67, 65, 59, 50], "G7/D", 2),
        ([72, 69, 65, 50], "Dm7", 0),
        ([71, 67, 64, 48], "Cmaj7", 0),
        ([69, 65, 62, 47], "Bm7b5", 0),
        ([68, 65, 62, 47], "Bdim7", 0),
        ([71, 67, 60, 45, 40], None, None),
        ([67, 65, 60, 48], "Csus4", 0),
        ([67, 60, 48, 36], "C5", 0),
        ([60, 48], None, None),
        ([], None, None),
        ([61, 60], None, None),
    ],
)
def test_chords_by_name(pitches, symbol, inversion):
    chord = name(pitches)
    assert (chord and in_words(chord, C)) == symbol
    assert (chord and chord.inversion) == inversion
    assert not chord or {p % 12 for p in pitches} <= chord.classes


def test_a_chord_is_named_alike_in_every_key_and_order():
    for quality, (intervals, _) in QUALITIES.items():
        for root in range(12):
            chord = name([48 + root, *(60 + root + interval for interval in reversed(intervals))])
            assert chord == Chord(root, quality, root)


def test_symbols_are_spelled_in_the_key():
    assert in_words(Chord(6, "minor", 9), G_MAJOR) == "F#m/A"
    assert in_words(Chord(8, "major", 0), F_MINOR) == "Ab/C"
    in_c = lambda root, quality: in_words(Chord(root, quality, root), Heading(tonic=0, mode="major"))
    assert [in_c(root, "major") for root in (1, 3, 4, 8, 10)] == ["Db", "Eb", "E", "Ab", "Bb"]
    assert in_c(8, "diminished-seventh") == "G#dim7"


def test_the_notes_of_every_chord_are_thirds_apart():
    thirds = [name for name, (intervals, _) in chords.QUALITIES.items() if 3 in intervals or 4 in intervals]
    for tonic, root, quality in itertools.product(range(12), range(12), thirds):
        places = chords.places_in(Chord(root, quality, root), Heading(tonic=tonic, mode="major"))
        assert all((7 * place - pitch) % 12 == 0 for pitch, place in places.items())
        if 7 in chords.QUALITIES[quality][0]:
            letters = [place * 4 % 7 for place in places.values()]  # C 0, D 1 ...
            assert [(letter - letters[0]) % 7 for letter in letters] == [0, 2, 4, 6][: len(letters)]


def test_a_note_is_spelled_by_the_chord_in_which_it_begins():
    music = piece([80, 72, 65, 41], [80, 74, 71, 41], [80, 76, 71, 40])  # F minor, a seventh, E major
    music.voices[0, 4] = HOLD
    root = ET.fromstring(musicxml.musicxml(music))
    soprano = [note.find("pitch") for note in root.iter("note") if note.findtext("voice") == "1"]
    names = [(pitch.findtext("step"), pitch.findtext("alter")) for pitch in soprano if pitch is not None]
    assert names[:2] == [("A", "-1"), ("G", "1")]


def test_triads_and_sevenths_are_those_with_a_third():
    bits = lambda *classes: sum(1 << c for c in classes)
    assert IS_CHORD[[bits(0, 4, 7), bits(0, 4), bits(2, 5, 7, 11), bits(0, 3, 6, 9)]].all()
    assert not IS_CHORD[[0, bits(0), bits(0, 7), bits(0, 5, 7), bits(0, 1), bits(0, 2, 4, 6)]].any()


def test_the_chord_of_a_beat_is_the_first_with_a_third():
    music = piece([72, 67, 64, 48], [72, 67, 64, 48], [72, 67, 60, 43], [74, 67, 59, 43])
    music.voices[0][8:16] = [72, HOLD, 71, HOLD, 74, HOLD, HOLD, HOLD]  # a suspension that resolves
    music.voices[2][8:16] = [62, HOLD, HOLD, HOLD, 59, HOLD, HOLD, HOLD]
    assert chords.symbols(music) == (Symbol(0, Chord(0, "major", 0)), Symbol(8, Chord(7, "major", 7)))
    assert chords.by_bar(music, chords.symbols(music)) == "| C G |"


def test_a_beat_without_a_chord_keeps_the_symbol_before():
    music = piece([72, 67, 64, 48], [72, 71, 70, 61], [0, 0, 0, 0], [72, 67, 64, 48])
    assert [symbol.step for symbol in chords.symbols(music)] == [0]


def test_agreement_of_a_melody_with_the_named_chords_on_strong_beats():
    # beats 1 and 3 of a bar are strong: C with E, then no chord with D, for which C still holds
    music = piece([76, 67, 60, 48], [72, 67, 64, 48], [74, 73, 72, 71], [72, 67, 64, 48], [0, 67, 64, 48])
    assert chords.agreement(music) == (1, 2)
    assert chords.agreement(music, voice=3) == (2, 3)


@pytest.mark.parametrize(
    ("meter", "steps", "strong"),
    [
        ("4/4", 16, [0, 8, 16]),
        ("3/4", 12, [0, 12]),
        ("2/4", 8, [0, 8, 16]),
        ("6/8", 12, [0, 12]),
        ("12/8", 24, [0, 12]),
    ],
)
def test_strong_beats(meter, steps, strong):
    assert list(chords.strong_beats(Heading(meter=meter, steps_per_bar=steps), 24)) == [
        s for s in strong if s < 24
    ]


def test_chord_symbols_in_musicxml_stand_where_they_begin():
    music = piece([76, 67, 60, 48], [76, 67, 60, 48], [76, 72, 69, 54], [77, 71, 67, 50], tonic=7)
    music.voices[0][4:12] = HOLD  # the melody holds while the chord changes
    text = musicxml.musicxml(music, chords.symbols(music))
    measure = ET.fromstring(text.encode()).find("part/measure")
    assert measure is not None
    kinds = [child.tag for child in measure if child.tag in ("harmony", "note")][:5]
    assert kinds == ["harmony", "harmony", "note", "harmony", "note"]
    first, second, third = measure.findall("harmony")
    assert (first.findtext("root/root-step"), first.findtext("kind"), first.find("offset")) == (
        "C",
        "major",
        None,
    )
    assert (second.findtext("root/root-step"), second.findtext("root/root-alter")) == ("F", "1")
    assert (second.findtext("kind"), second.findtext("offset")) == ("half-diminished", "8")
    assert (third.findtext("bass/bass-step"), third.findtext("inversion")) == ("D", "2")
    back = musicxml.parse_piece(text.encode())
    np.testing.assert_array_equal(back.voices, music.voices)


def test_chord_symbols_of_an_upbeat():
    music = piece([0] * 4, [0] * 4, [0] * 4, [67, 62, 59, 43], [72, 67, 64, 48], pickup=4)
    measures = ET.fromstring(musicxml.musicxml(music, chords.symbols(music)).encode()).findall("part/measure")
    roots = [[h.findtext("root/root-step") for h in measure.findall("harmony")] for measure in measures]
    assert roots[:2] == [["G"], ["C"]]
