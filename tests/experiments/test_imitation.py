import csv
import sys

import pytest

from experiments import imitation


@pytest.mark.nightly
def test_a_small_run_compares_cloning_and_gail(tmp_path, monkeypatch):
    few = ["--updates", "10", "--warm", "20", "--seeds", "2", "--melodies", "6"]
    few += ["--representations", "snapshot", "--sources", "melody"]
    monkeypatch.setattr(sys, "argv", ["imitation", "--out", str(tmp_path), *few])
    imitation.main()
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["tunes", "noise", "cloning", "cloning", "gail", "gail"]
    assert float(rows[0]["ngrams"]) == 1.0  # the tunes against themselves
    assert float(rows[1]["overlap"]) < float(rows[0]["overlap"])
    assert rows[2]["overlap"] != rows[3]["overlap"]  # seeds differ
    assert (tmp_path / "table.md").read_text().count("\n") == 2 + 4
