import zipfile

import pytest

from mammadai_jax.music import chorales
from mammadai_jax.music.chorales import InvalidChorale
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


def test_no_chorale(tmp_path):
    with pytest.raises(InvalidChorale, match="Soprano"):
        chorales.read(write(tmp_path, [], ("Piano",)))
    with pytest.raises(InvalidChorale, match="time signature"):
        chorales.read(write(tmp_path, [note("C5", 16)]))
    for step, duration in (("X", 4), ("C", "four")):
        with pytest.raises(InvalidChorale, match="unreadable: measure"):
            chorales.read(write(tmp_path, [ATTRIBUTES + note(f"{step}4", duration)]))
    path = tmp_path / "text.mxl"
    path.write_text("not a zip file")
    with pytest.raises(InvalidChorale, match="no compressed MusicXML"):
        chorales.read(path)
