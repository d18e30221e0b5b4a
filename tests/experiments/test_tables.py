import numpy as np

from experiments.tables import interval, markdown, read_csv, write_csv


def test_an_interval_is_students():
    mean, half = interval([1.0, 2.0, 3.0])
    np.testing.assert_allclose([mean, half], [2.0, 4.302652729911275 / np.sqrt(3)])
    assert np.isnan(interval([1.0])[1])


def test_tables_are_read_as_they_were_written(tmp_path):
    write_csv(tmp_path / "a.csv", [{"a": 1, "b": "x"}, {"a": 2.5, "c": 3}])
    found = read_csv(tmp_path / "a.csv")
    assert found == [{"a": "1", "b": "x", "c": ""}, {"a": "2.5", "b": "", "c": "3"}]


def test_a_markdown_table_has_its_head_a_line_and_its_rows():
    lines = markdown(["a", "b"], [["x", 1], ("", 2.5)]).split("\n")
    assert lines == ["| a | b |", "|---|---|", "| x | 1 |", "|  | 2.5 |"]
    assert markdown(["", "b"], []) == "|  | b |\n|---|---|"
