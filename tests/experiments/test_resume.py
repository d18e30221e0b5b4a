import sys

import numpy as np

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


TRAINER = """
import json, sys, time
from pathlib import Path
out, stages = Path(sys.argv[1]), sys.argv[2].split()
out.mkdir(exist_ok=True)
log = out / "log.jsonl"
done = log.read_text().count("\\n") if log.exists() else 0
for number in range(done, 2 * len(stages)):
    stage = stages[number // 2]
    with log.open("a") as file:
        file.write(json.dumps({"stage": stage}) + "\\n")
    step = out / "checkpoints" / stage / f"{number:09d}"
    step.mkdir(parents=True, exist_ok=True)
    time.sleep(0.05)
    step.with_name(f"{step.name}.json").write_text("{}")
"""


def test_kills_fall_into_every_stage_and_into_saves(tmp_path, monkeypatch):
    def command(out, *_, **__):
        return [sys.executable, "-c", TRAINER, str(out), " ".join(resume.STAGES)]

    monkeypatch.setattr(resume, "command", command)
    resume.undisturbed(tmp_path / "undisturbed")
    rng = np.random.default_rng(0)
    kills = resume.in_stages(tmp_path / "staged", 1, rng)
    assert [kill.where for kill in kills] == list(resume.STAGES)
    assert kills[0].saving  # the first of those that are aimed at saves
    assert [kill.where for kill in resume.at_any_time(tmp_path / "anywhere", 2, rng, 0.2)] == ["teach"] * 2
