import json

import pytest

from mammadai_jax.commands.desk import Continue, Infill, Score, Vary
from mammadai_jax.music import reading

SCALE = [60, 62, 64, 65, 67, 69, 71, 72]
TUNE = "X:1\nT:Low\nM:3/4\nL:1/4\nQ:1/4=90\nK:G\nD,|G,A,B,|D2C|A,2F,|G,2|]\n"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("desk") / "low.abc"
    path.write_text(TUNE)
    return path


@pytest.mark.parametrize(
    ("command", "stem"),
    [
        (lambda *given: Continue(*given, bars=2), "low-continued-bars2-prompted-0-1"),
        (lambda *given: Infill(*given, bars="2-3"), "low-infilled-bars2-3-prompted-0-1"),
        (lambda *given: Vary(*given, strength=0.5), "low-varied0.5-prompted-0-1"),
    ],
)
def test_what_is_written_is_a_tune_in_all_formats(file, taught, capsys, command, stem):
    tune = reading.read(file)
    for _ in range(2):  # the same request writes the same, else FileExistsError
        command(file, taught, 1, None, None, 0, 1, 1.0, file.parent).run()
    printed = capsys.readouterr()
    assert f"{file.parent / stem}.mid" in printed.out.splitlines()
    assert ": G major, 3/4, 90 quarter notes a minute" in printed.err
    midi, abc, xml = (
        reading.read(file.parent / f"{stem}{suffix}") for suffix in (".mid", ".abc", ".musicxml")
    )
    assert midi.notes == abc.notes == xml.notes
    for again in (midi, abc, xml):
        assert (again.meter, again.tempo, again.tonic, again.mode) == ("3/4", 90, 7, "major")
    assert midi.notes[0] == tune.notes[0]


def test_a_prompt_of_mirex_is_answered(taught, tmp_path):
    given = [{"start": 16 + 4 * place, "pitch": pitch, "duration": 4} for place, pitch in enumerate(SCALE)]
    prompt, answer = tmp_path / "prompt.json", tmp_path / "answer.json"
    prompt.write_text(json.dumps({"prompt": given}))
    Continue(prompt, taught, out=tmp_path, bars=2, json=answer).run()
    written = json.loads(answer.read_text())["generation"]
    midi = reading.read(tmp_path / "prompt-continued-bars2-prior-0-1.mid")
    # of the prompt's four bars after the upbeat's, the last two are silent, and stay
    assert len(midi) == 96 and [note.pitch for note in midi.notes[:8]] == SCALE
    assert written == [
        {"start": note.onset + 16, "pitch": note.pitch, "duration": note.duration} for note in midi.notes[8:]
    ]
    assert written[0]["start"] >= 80 and written[-1]["pitch"] % 12 == 0
    (tmp_path / "prompt-continued-bars2-prior-1-1.mid").write_text("another's")
    with pytest.raises(FileExistsError):  # and nothing else is replaced either
        Continue(prompt, taught, seed=1, out=tmp_path, bars=2, json=answer).run()
    assert json.loads(answer.read_text())["generation"] == written
    with pytest.raises(ValueError, match="--json holds one result: not --number 2"):
        Continue(prompt, taught, number=2, json=answer).run()


def test_figures_are_printed_and_written(file, taught, capsys, tmp_path):
    Score(file, taught, prompt="a low tune", json=tmp_path / "a.json").run()
    said = capsys.readouterr().out
    tree = json.loads((tmp_path / "a.json").read_text())
    assert tree["prompt"] == "a low tune" and "Low: G major, 3/4" in said
    for heading in ("Traits", "Prior", "Theory", "Prompted", "Reward model"):
        assert f"\n{heading}\n" in said and tree[heading]
