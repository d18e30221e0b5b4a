import dataclasses
import os

import pytest

from mammadai_jax.commands.parsing import _summary, parsed

DRAWN = """
╭─ Unrecognized options ─────────────╮
│ Unrecognized options: --a|b        │
│ ────────────────────────────────── │
│ Perhaps you meant:                 │
│     --ab INT                       │
│         as --this (default: 1)     │
│ ────────────────────────────────── │
│ For full helptext, run x --help    │
╰────────────────────────────────────╯
"""
PLAIN = """
 Unrecognized options
 -----------------------------------
  Unrecognized options: --a|b
  ----------------------------------
  Perhaps you meant:
      --ab INT
          as --this (default: 1)
  ----------------------------------
  For full helptext, run x --help

"""
BOXES = {
    "drawn": DRAWN,
    "without UTF-8": PLAIN,
    "in colour": DRAWN.replace("│", "\x1b[31m│\x1b[0m").replace("--ab", "\x1b[1m--ab\x1b[0m"),
}


@dataclasses.dataclass
class Command:
    """A command.

    Attributes:
        name: what it is for.

    """

    name: str = "x"


@pytest.mark.parametrize("boxed", BOXES.values(), ids=BOXES)
def test_a_box_becomes_a_line(boxed):
    assert _summary(boxed) == "Unrecognized options: --a|b (perhaps --ab)"


@pytest.mark.parametrize("columns", [None, "40"])
def test_long_words_stay_whole_and_the_terminal_is_as_before(monkeypatch, columns):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    word = "y" * 200
    with pytest.raises(ValueError, match=f"^Unrecognized options: {word}: see `mammadai command --all`$"):
        parsed(Command, "mammadai command", [word], advice="--all")
    assert os.environ.get("COLUMNS") == columns


def test_help_is_printed_and_ends(capsys):
    with pytest.raises(SystemExit, match="0"):
        parsed(Command, "mammadai command", ["--help"])
    assert "what it is for" in capsys.readouterr().out
    assert parsed(Command, "mammadai command", ["--name", "z"]).name == "z"
