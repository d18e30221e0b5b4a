import zipfile

import pytest

from mammadai_jax.music import chorales
from mammadai_jax.music.mxl import InvalidMusicXML
from mammadai_jax.music.piece import SATB
from mammadai_jax.music.transcription import WHOLE, to_melody

QUARTER = WHOLE // 4
ATTRIBUTES = (
    "<attributes><divisions>4</divisions><key><fifths>1</fifths><mode>minor</mode></key>"
    "<time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
)


def note(name, duration, inside=""):
    """A note such as "F#4", or a rest "R", of so many 16ths."""
    pitch = "<rest/>"
    if name != "R":
        alter = f"<alter>{name.count('#') - name.count('b')}</alter>"
        pitch = f"<pitch><step>{name[0]}</step>{alter}<octave>{name[-1]}</octave></pitch>"
    return f"<note>{inside}{pitch}<duration>{duration}</duration><voice>1</voice></note>"


def write(tmp_path, measures, names=("Soprano", "Alto", "Tenor", "Bass")):
    parts = "".join(
        f'<score-part id="P{i}"><part-name>{n}</part-name></score-part>' for i, n in enumerate(names)
    )
    music = "".join(f"<measure>{measure}</measure>" for measure in measures)
    bodies = "".join(
        f'<part id="P{i}">{music if n == "Soprano" else "<measure/>"}</part>' for i, n in enumerate(names)
    )
    path = tmp_path / "bwv99.9.mxl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/container.xml", "<container/>")
        archive.writestr(
            "score.xml", f"<score-partwise><part-list>{parts}</part-list>{bodies}</score-partwise>"
        )
    return path


def write_chorale(path, measures=None):
    """A chorale of four voices; each of them has its measures, by default a chord for two bars."""
    names = ("Soprano", "Alto", "Tenor", "Bass")
    measures = measures or [
        [ATTRIBUTES + note(name, 16), note(name, 16)] for name in ("C5", "G4", "E4", "C3")
    ]
    listed = "".join(f'<score-part id="{name}"><part-name>{name}</part-name></score-part>' for name in names)
    parts = "".join(
        f'<part id="{name}">' + "".join(f"<measure>{measure}</measure>" for measure in part) + "</part>"
        for name, part in zip(names, measures, strict=True)
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "score.xml", f"<score-partwise><part-list>{listed}</part-list>{parts}</score-partwise>"
        )
    return path


def test_soprano_with_pickup_ties_and_split_measures(tmp_path):
    measures = [
        ATTRIBUTES + note("B4", 4),
        note("F#4", 8) + note("Bb4", 8, '<tie type="start"/>'),
        note("Bb4", 8, '<tie type="stop"/>') + note("R", 4),
        note("G4", 4),
        note("E4", 12),
    ]
    tune = chorales.read(write(tmp_path, measures, ("Violin", "Soprano", "Alto", "Tenor", "Bass")))
    assert [(n.onset // QUARTER, n.duration // QUARTER, n.pitch) for n in tune.notes] == [
        (0, 1, 71), (1, 2, 66), (3, 4, 70), (8, 1, 67), (9, 3, 64)
    ]  # fmt: skip
    assert (tune.tonic, tune.mode, tune.meter, tune.title) == (4, "minor", "4/4", "BWV 99.9")
    melody = to_melody(tune, "", "")
    assert (melody.pickup, len(melody)) == (4, 64)


def test_the_last_ending_is_played(tmp_path):
    ending = '<barline><ending number="{}" type="start"/></barline>'
    measures = [
        ATTRIBUTES + note("C4", 16),
        ending.format(1) + note("D4", 16),
        ending.format(2) + note("E4", 16),
    ]
    tune = chorales.read(write(tmp_path, measures))
    assert [n.pitch for n in tune.notes] == [60, 64]
    assert tune.length == 2 * WHOLE and tune.left_out == {"in an ending before the last": 1}


def test_other_voices_grace_notes_and_chords_are_left_out(tmp_path):
    second = (
        "<note><pitch><step>A</step><octave>3</octave></pitch><duration>16</duration><voice>2</voice></note>"
    )
    grace = "<note><grace/><pitch><step>D</step><octave>5</octave></pitch><voice>1</voice></note>"
    for lower, higher in (("C5", "A4"), ("A4", "C5")):
        measures = [ATTRIBUTES + grace + note(lower, 16) + note(higher, 16, "<chord/>") + second]
        tune = chorales.read(write(tmp_path, measures))
        assert [tuple(n) for n in tune.notes] == [(0, WHOLE, 72)]
        assert tune.left_out == {"grace notes": 1, "below the highest of a chord": 1, "of other voices": 1}


def test_a_piece_has_four_voices_with_what_is_held_and_what_is_struck_again(tmp_path):
    tied = note("G4", 8, '<tie type="start"/>') + note("G4", 4, '<tie type="stop"/>') + note("G4", 4)
    measures = [
        [ATTRIBUTES + note("C5", 16), note("D5", 8) + note("R", 8)],
        [ATTRIBUTES + tied, note("F4", 16)],
        [ATTRIBUTES + note("E4", 16), note("D4", 16)],
        [ATTRIBUTES + note("C3", 16), note("B2", 16) + note("G2", 16, "<chord/>")],
    ]
    piece = chorales.read_piece(write_chorale(tmp_path / "bwv1.mxl", measures), "bach/bwv1.mxl", "bach")
    assert [[tuple(n) for n in piece.melody(voice).notes] for voice in range(4)] == [
        [(0, 16, 72), (16, 8, 74)],
        [(0, 12, 67), (12, 4, 67), (16, 16, 65)],
        [(0, 16, 64), (16, 16, 62)],
        [(0, 16, 48), (16, 16, 47)],
    ]
    assert (piece.title, piece.names, piece.source) == ("BWV 1", SATB, "bach/bwv1.mxl")
    assert (piece.tonic, piece.mode, piece.meter, len(piece)) == (4, "minor", "4/4", 32)
    assert piece.left_out == {"below the highest of a chord": 1}


def test_repeated_sections_are_played_once_or_twice_each_time_with_their_ending(tmp_path):
    begin, end = '<barline><repeat direction="forward"/></barline>', '<barline><repeat direction="backward"/>'
    ending = '<barline><ending number="{}" type="start"/></barline>'
    measures = [
        ATTRIBUTES + note("C4", 16),
        begin + note("D4", 16),
        ending.format(1) + note("E4", 16) + f"{end}</barline>",
        ending.format(2) + note("F4", 16),
        note("G4", 16) + f"{end}</barline>",
        note("A4", 16),
    ]
    path = write_chorale(tmp_path / "bwv1.mxl", [measures] * 4)
    once, twice = (chorales.read_piece(path, repeats=repeats) for repeats in (False, True))
    assert once.melody(0).pitches.tolist() == [60, 62, 65, 67, 69]
    assert once.left_out == {"in an ending before the last": 4}
    assert twice.melody(0).pitches.tolist() == [60, 62, 64, 62, 65, 67, 65, 67, 69]
    assert twice.left_out == {} and len(twice) == 9 * 16


def test_notes_between_16ths_are_sampled_and_bars_out_of_phase_remarked(tmp_path):
    halves = ATTRIBUTES.replace("<divisions>4", "<divisions>8")
    voice = [halves + note("C4", 1) + note("D4", 1) + note("E4", 30)]
    voice += [note("F4", 8), note("G4", 32), note("A4", 8), note("B4", 32)]
    piece = chorales.read_piece(write_chorale(tmp_path / "bwv1.mxl", [voice] * 4))
    assert piece.melody(3).pitches.tolist() == [60, 64, 65, 67, 69, 71]
    assert piece.left_out == {"shorter than a 16th note": 4}
    assert piece.remarks == ("notes moved to 16ths", "bar lines out of phase")


def test_every_voice_of_a_chorale_is_needed(tmp_path):
    with pytest.raises(InvalidMusicXML, match="no part named Tenor among four or more"):
        chorales.read_piece(write(tmp_path, ["<note/>"], ("Soprano", "Alto", "Baritone", "Bass")))


def test_no_chorale(tmp_path):
    with pytest.raises(InvalidMusicXML, match="Soprano"):
        chorales.read(write(tmp_path, [], ("Piano",)))
    with pytest.raises(InvalidMusicXML, match="time signature"):
        chorales.read(write(tmp_path, [note("C5", 16)]))
    for step, duration in (("X", 4), ("C", "four")):
        with pytest.raises(InvalidMusicXML, match="unreadable: measure"):
            chorales.read(write(tmp_path, [ATTRIBUTES + note(f"{step}4", duration)]))
    path = tmp_path / "text.mxl"
    path.write_text("not a zip file")
    with pytest.raises(InvalidMusicXML, match="no MusicXML"):
        chorales.read(path)
