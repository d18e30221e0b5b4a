import pytest

from experiments import resume


@pytest.mark.nightly
def test_killed_twice_a_training_ends_with_the_same_bytes(capsys):
    assert resume.main(kills=2, seed=1) == 0
    assert "DIFFERENT" not in capsys.readouterr().out


def test_a_difference_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "leaves", lambda out, stage: {stage: b""})
    for name, text in (("a", "1"), ("b", "2")):
        (tmp_path / name / "samples").mkdir(parents=True)
        (tmp_path / name / "log.jsonl").write_text("{}")
        (tmp_path / name / "samples" / "1.mid").write_text(text)
    equal = resume.compare(tmp_path / "a", tmp_path / "b")
    assert equal["log.jsonl"] and not equal["samples/1.mid"]
