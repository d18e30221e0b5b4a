from experiments import resume


def test_a_difference_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "leaves", lambda out, stage: {stage: b""})
    for name, text in (("a", "1"), ("b", "2")):
        (tmp_path / name / "samples").mkdir(parents=True)
        for record in resume.RECORDS:
            (tmp_path / name / record).write_text("{}")
        (tmp_path / name / "samples" / "1.mid").write_text(text)
    equal = resume.compare(tmp_path / "a", tmp_path / "b")
    assert equal["log.jsonl"] and not equal["samples/1.mid"]
