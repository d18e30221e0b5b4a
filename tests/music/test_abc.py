import random

import pytest

from mammadai_jax.music import abc
from mammadai_jax.music.abc import InvalidAbc, parse
from mammadai_jax.music.transcription import WHOLE

EIGHTH = WHOLE // 8


def tune(music, key="C", meter="4/4", unit="1/8"):
    return parse(f"X:1\nT:Test\nM:{meter}\nL:{unit}\nK:{key}\n{music}\n")


def pitches(music, **header):
    return [note.pitch for note in tune(music, **header).notes]


def lengths(music, **header):
    """Durations in eighths."""
    return [note.duration / EIGHTH for note in tune(music, **header).notes]


def onsets(music, **header):
    return [note.onset / EIGHTH for note in tune(music, **header).notes]


def test_header():
    names = "X: 17\nT: First name\nT: Second\nO: Irland\nR: reel\n"
    read = parse(names + "M: C|\nL: 1/8\nQ: 1/2=104\nK: A Dorian % note\nA|\n")
    assert (read.number, read.title, read.origin, read.rhythm) == ("17", "First name", "Irland", "reel")
    assert (read.meter, read.bar, read.tonic, read.mode, read.tempo) == ("C|", WHOLE, 9, "dorian", 208.0)


def test_octaves():
    assert pitches("C, C c c' c''") == [48, 60, 72, 84, 96]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("C", [60, 62, 64, 65, 67, 69, 71]),
        ("D", [61, 62, 64, 66, 67, 69, 71]),
        ("Eb", [60, 62, 63, 65, 67, 68, 70]),
        ("F#", [61, 63, 65, 66, 68, 70, 71]),
        ("Em", [60, 62, 64, 66, 67, 69, 71]),
        ("E Minor", [60, 62, 64, 66, 67, 69, 71]),
        ("Gdor", [60, 62, 64, 65, 67, 69, 70]),
        ("Glyd", [61, 62, 64, 66, 67, 69, 71]),
        ("A Mixolydian", [61, 62, 64, 66, 67, 69, 71]),
        ("Dmix =c", [60, 62, 64, 66, 67, 69, 71]),
        ("HP", [61, 62, 64, 66, 67, 69, 71]),
        ("Es", [60, 62, 63, 65, 67, 68, 70]),
        ("H", [61, 63, 64, 66, 68, 70, 71]),
        ("none", [60, 62, 64, 65, 67, 69, 71]),
        ("", [60, 62, 64, 65, 67, 69, 71]),
        ("D exp _b _e ^f", [60, 62, 63, 66, 67, 69, 70]),
        ("exp ^f", [60, 62, 64, 66, 67, 69, 71]),
        ("F clef=bass", [60, 62, 64, 65, 67, 69, 70]),
        ("bass", [60, 62, 64, 65, 67, 69, 71]),
        ("clef=alto", [60, 62, 64, 65, 67, 69, 71]),
        ("Gm clef=treble ^f", [60, 62, 63, 66, 67, 69, 70]),
    ],
)
def test_key_signatures(key, expected):
    assert sorted(pitches("CDEFGAB", key=key)) == expected


def test_an_accidental_holds_to_the_bar_line_in_every_octave():
    assert pitches("^F F f F, | F f") == [66, 66, 78, 54, 65, 77]
    assert pitches("_B B =B B | B", key="F") == [70, 70, 71, 71, 70]
    assert pitches("^F\nF | F") == [66, 66, 65]
    assert pitches("^^F __B") == [67, 69]


def test_a_tie_carries_an_accidental_over_the_bar_line_but_no_further():
    read = tune("^f4-|f2f2")
    assert [(n.pitch, n.duration // EIGHTH) for n in read.notes] == [(78, 6), (77, 2)]


@pytest.mark.parametrize(
    ("key", "pitch"),
    [
        ("C octave=-1", 50),
        ("C octave = 1 clef=bass", 74),
        ("C transpose=-2", 60),
        ("C clef=treble-8", 50),
        ("C treble+8", 74),
        ("C clef=bass middle=d", 62),
    ],
)
def test_notes_sound_where_the_key_field_puts_them(key, pitch):
    assert pitches("D", key=key) == [pitch]
    assert pitches(f"[K:{key}]D D") == [pitch] * 2
    assert pitches("D\nV:1 octave=1\nD") == [62, 74]


def test_the_tonic_of_explicit_and_missing_keys():
    key = lambda text: (tune("D8", key=text).tonic, tune("D8", key=text).mode)
    assert key("D exp _b") == (2, "")
    assert key("") == key("clef=bass") == key("bass") == (-1, "")


def test_the_last_field_before_the_music_holds():
    read = parse("X:1\nM:4/4\nM:3/4\nL:1/4\nL:1/8\nQ:1/4=80\nQ:1/4=90\nK:C\nC|\n")
    assert (read.meter, read.tempo, read.notes[0].duration) == ("3/4", 90, EIGHTH)
    read = tune("[M:3/4][K:G]\nQ:1/4=70\nF6|A6|[M:4/4]B8|")
    assert (read.meter, read.bar, read.tonic, read.tempo) == ("3/4", WHOLE * 3 // 4, 7, 70)
    assert read.notes[0].pitch == 66


@pytest.mark.parametrize(
    ("meter", "bar"),
    [("6/8", 6 / 8), ("(2+3)/8", 5 / 8), ("2+2+3/8", 7 / 8), ("C", 1), ("C|", 1), ("none", 0), ("4/0", 0)],
)
def test_meters(meter, bar):
    assert tune("C", meter=meter).bar == bar * WHOLE


def test_what_is_left_out_is_counted():
    music = "{ab}[CEG]2 A0 | B & c [de] | f |1 g a :|2 b |]"
    read = tune(music)
    assert [note.pitch for note in read.notes] == [67, 71, 77, 83]
    assert read.left_out == {
        "grace notes": 2,
        "below the highest of a chord": 2,
        "without length": 1,
        "in an overlay": 3,
        "in an ending before the last": 2,
    }
    assert tune("CDE [F] !trill!G").left_out == {}
    assert tune("{!f!a}C & {b}c").left_out == {"grace notes": 2, "in an overlay": 1}


def test_fields_of_the_file_and_text_between():
    first, second = abc.split("%abc\nM:3/4\nO:Wales\n\nX:1\nK:C\nC6|\n\nX:2\nM:4/4\nK:C\nC8|\n")
    assert (parse(first).meter, parse(first).origin, parse(second).meter) == ("3/4", "Wales", "4/4")
    (only,) = abc.split("X:1\nK:C\nC\n%%begintext\nA B C\n%%endtext\nw: a b\n+: c d\nD\n")
    assert [note.pitch for note in parse(only).notes] == [60, 62]


def test_ties_join_equal_notes_only():
    assert lengths("A2-A2-|A4 A-B") == [8, 1, 1]


def test_lengths():
    assert lengths("A A2 A/ A/2 A3/2 A// A3/ A/4") == [1, 2, 0.5, 0.5, 1.5, 0.25, 1.5, 0.25]
    assert lengths("A", unit="1/4") == [2]
    assert lengths("A", unit="1") == [8]
    assert lengths("A", unit="", meter="2/4") == [0.5]
    assert lengths("A", unit="", meter="6/8") == [1]


def test_broken_rhythm():
    assert lengths("A>B c<d A>>B c<<<d") == [1.5, 0.5, 0.5, 1.5, 1.75, 0.25, 0.125, 1.875]
    assert lengths("(AB)>c A->B A > B") == [1, 1.5, 0.5, 1.5, 0.5, 1.5, 0.5]
    assert onsets("A>z B") == [0, 2]


def test_tuplets():
    assert lengths("(3ABc d") == pytest.approx([2 / 3] * 3 + [1])
    assert lengths("(3A2B c") == pytest.approx([4 / 3, 2 / 3, 2 / 3])
    assert lengths("(3:2:2A2B c") == pytest.approx([4 / 3, 2 / 3, 1])
    assert lengths("(2AB c", meter="6/8") == [1.5, 1.5, 1]
    assert lengths("(5ABcde", meter="6/8") == pytest.approx([0.6] * 5)
    assert lengths("(5ABcde") == pytest.approx([0.4] * 5)
    assert lengths("(5ABcde", meter="3/4") == pytest.approx([0.4] * 5)
    assert lengths("(7ABcdefg", meter="9/8") == pytest.approx([3 / 7] * 7)
    assert lengths("[M:6/8](5ABcde") == pytest.approx([0.6] * 5)
    assert lengths("(3A>Bc") == pytest.approx([1, 1 / 3, 2 / 3])


def test_what_is_not_melody_is_left_out():
    assert pitches('"Am"A {gf}B !trill!c +fermata+d HA TB ~c .d uA vB (cd) [I:stuff]e') == [
        69, 71, 72, 74, 69, 71, 72, 74, 69, 71, 72, 74, 76
    ]  # fmt: skip
    assert pitches("A\\\nB % c d e\n%%text c d\nw: do re mi\nW:dead\nN:bad\nc") == [69, 71, 72]
    assert pitches("A & c d e | B") == [69, 71]


def test_rests():
    assert onsets("z2A x B Z c Z2 d") == [2, 4, 13, 30]
    assert tune("A8 | z8").length == 2 * WHOLE


def test_of_a_chord_the_highest_note_stays():
    assert pitches("[CEG] [^Gc,]2 G") == [67, 68, 68]
    assert pitches('["4"CE"^b"G]') == [67]
    assert pitches("[!f!CE] [+b+C!trill!E]") == [64, 64]
    assert lengths("[CEG] [C2E2]2 [CE]/") == [1, 4, 0.5]


def test_fields_inside_a_tune():
    assert pitches("F | [K:G]F\nK:F\nB") == [65, 66, 70]
    assert lengths("A [L:1/4]A\nL:1/16\nA") == [1, 2, 0.5]
    assert onsets("[M:3/4]Z A") == [6]


def test_a_line_that_begins_with_a_note_and_a_repeat_is_no_field():
    assert pitches("A2\nB:|\nc::\nd") == [69, 71, 72, 74]


@pytest.mark.parametrize(
    "music",
    ["|: A2 B2 |1 c4 :|2 d4 || e4 |]", "A2B2 |[1 c2 | c2 :|[2 d4 :| e4", "A2B2 [1,3 c4 :| [2,4 d4 :|: e4 :|"],
)
def test_repeats_are_played_once_with_the_last_ending(music):
    assert pitches(music) == [69, 71, 74, 76]


def test_endings_of_two_parts():
    assert pitches("A |1 B :|2 c || d |1 e :|2 f |]") == [69, 72, 74, 77]
    assert pitches("A |1 B :|2 c | d |1 e :|2 f |]") == [69, 72, 74, 77]


def test_only_single_lines_divide_bars():
    lines = tune("A4 | A8 | A4 :: A4 | A8 || A8 |]").bar_lines
    assert [at / EIGHTH for at in lines] == [4, 12, 20]


def test_mode_is_judged_where_it_is_not_written():
    assert tune("G2 A2 _B2 c2 | d4 _e2 d2", key="G").mode == "minor"
    assert tune("G2 A2 _B2 c2 | d4 =e2 d2", key="G").mode == "dorian"
    assert tune("G2 A2 B2 c2 | d2 =f2", key="G").mode == "mixolydian"
    assert tune("G2 A2 B2 c2 | d2 =f2", key="G major").mode == "major"
    assert (tune("G2A2", key="none").tonic, tune("G2A2", key="none").mode) == (-1, "")


@pytest.mark.parametrize(
    ("text", "tempo"),
    [
        ("1/4=90", 90),
        ("3/8=120", 180),
        ("100", 100),
        ('1/4=80 "Slow"', 80),
        ('"Slow" 1/2=40', 80),
        ('"Slowly"', 120),
        ("", 120),
        ("1/4 3/8 1/4 3/8=40", 200),
        ("C=120", 60),
        ("C3=40", 60),
        ("90=3/8", 135),
        ("1/4=66.5", 66.5),
        ("1/4=0", 120),
        ("1/4=99999", 120),
    ],
)
def test_tempo(text, tempo):
    assert parse(f"X:1\nQ:{text}\nM:4/4\nK:C\nC|\n").tempo == tempo


def test_a_file_of_tunes(tmp_path):
    text = "% a book\r\rX:1\rT:Früh\rM:4/4\rL:1/4\rK:C\rCD|\r\rThis is a text.\r\rX:2\rM:none\rK:G\rF|\r"
    path = tmp_path / "tunes.abc"
    path.write_bytes(text.encode("latin-1"))
    first, second = abc.read(path)
    assert (first.title, [n.pitch for n in first.notes]) == ("Früh", [60, 62])
    assert (second.bar, second.meter, [n.pitch for n in second.notes]) == (0, "", [66])
    assert abc.decode(text.encode()) == text.replace("\r", "\n")


def test_quoted_printable():
    assert abc.decode(b"K:G\n=3DF A=\nB") == "K:G\n=F AB"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("X:1\nT:no key\n", "no K: field"),
        ("X:1\nK:C\nV:1\nC\nV:2\nE\n", "more than one voice"),
        ("X:1\nK:C\nC [V:1] D [V:2] E\n", "more than one voice"),
        ('X:1\nK:C\nC "Am D\n', 'a " is not closed'),
        ("X:1\nK:C\nC [E\nG] D\n", r"a \[ is not closed"),
        ("X:1\nK:C octave=9\nC\n", "beyond MIDI's pitches: C"),
    ],
)
def test_unreadable(text, message):
    with pytest.raises(InvalidAbc, match=message):
        parse(text)


def spell(notes):
    """ABC in sixteenths of (pitch, duration), -1 being silence, a bar line after every sixteen."""
    names = ["C", "^C", "D", "^D", "E", "F", "^F", "G", "^G", "A", "^A", "B"]
    text = ""
    for pitch, duration in notes:
        octave = pitch // 12 - 5
        name = (
            "z" if pitch < 0 else names[pitch % 12] if "^" in names[pitch % 12] else "=" + names[pitch % 12]
        )
        text += name + ("'" if octave > 0 else ",") * (abs(octave) if pitch >= 0 else 0) + f"{duration} "
    return text


@pytest.mark.parametrize("seed", range(20))
def test_what_was_spelled_is_read(seed):
    rng = random.Random(seed)
    notes = [(rng.choice([-1, *range(30, 100)]), rng.randint(1, 16)) for _ in range(100)]
    now, expected = 0, []
    for pitch, duration in notes:
        if pitch >= 0:
            expected.append((now * EIGHTH // 2, duration * EIGHTH // 2, pitch))
        now += duration
    assert [tuple(note) for note in tune(spell(notes), unit="1/16").notes] == expected


@pytest.mark.parametrize("seed", range(200))
def test_nonsense_is_read_or_refused(seed):
    rng = random.Random(seed)
    text = "".join(rng.choice("ABcd|:[](){}\"'^_=/<>-123 zZX&\n!+KLM~.") for _ in range(300))
    try:
        read = tune(text)
    except InvalidAbc:
        return
    ends = [note.onset + note.duration for note in read.notes]
    assert all(end <= note.onset for end, note in zip(ends, read.notes[1:], strict=False))
    assert not ends or ends[-1] <= read.length
