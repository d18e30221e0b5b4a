import sys

import pytest

from experiments import prior


@pytest.mark.nightly
def test_a_small_run_goes_on_where_it_ended(tmp_path, monkeypatch):
    few = ["--corpus", "embedded", "--updates", "2", "--bodies", "LSTM"]
    monkeypatch.setattr(sys, "argv", ["prior", "--out", str(tmp_path), *few])
    prior.main()
    table = (tmp_path / "table.md").read_text()
    log = (tmp_path / "lstm" / "log.jsonl").read_bytes()
    assert "Kneser-Ney" in table and "LSTM, 1 x 256" in table
    prior.main()
    assert (tmp_path / "table.md").read_text() == table
    assert (tmp_path / "lstm" / "log.jsonl").read_bytes() == log
