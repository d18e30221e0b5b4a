"""What README.md and docs/usage.md print for a shell: it parses, and README's lines run in their order."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from mammadai_jax import cli

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/usage.md")
CONFIGURATION = "seed = 1\n[prior.learner]\nnum_updates = 1000\n[theory.learner.rule_weights]\nmotif = 2.0\n"


def shell_lines(page):
    """The lines of a page's bash blocks, in order."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def commands(page):
    """The command lines of `mammadai` in them."""
    parts = [shlex.split(part, comments=True) for line in shell_lines(page) for part in line.split("&&")]
    return [words[1:] for words in parts if words and words[0] == "mammadai"]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_is_understood(page, taught, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(CONFIGURATION)
    Path("runs").mkdir()
    Path("runs/try").symlink_to(taught)
    found = commands(page)
    assert len(found) >= 5
    for words in found:
        assert type(cli.parse(words)).__name__.lower() == words[0].replace("-", "")


def test_the_configuration_of_the_usage_page_is_the_one_that_is_read():
    page = (ROOT / "docs/usage.md").read_text()
    (printed,) = re.findall(r"```toml\n# mine.toml\n(.*?)```", page, re.DOTALL)
    assert printed == CONFIGURATION


def test_the_first_line_leaves_a_shell_that_knows_the_command():
    first, *_, using = shell_lines("README.md")
    assert ". .venv/bin/activate" in first and "mammadai" in using


def shared_installation(room):
    """Text of a shell in place of pip: the packages that run this test, and the command, in the new .venv."""
    packages = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    return f"""
python3() {{ {shlex.quote(sys.executable)} "$@"; }}
pip() {{
    export PYTHONPATH={shlex.quote(packages)}
    printf '#!/bin/sh\\nexec python -m mammadai_jax "$@"\\n' > .venv/bin/mammadai
    chmod +x .venv/bin/mammadai
}}
set -e -x
cd {shlex.quote(str(room))}
"""


@pytest.mark.nightly
def test_the_lines_of_the_readme_run_in_their_order_in_one_shell(tmp_path):
    """As printed but for pip, which would download, the test suite, which runs this, and long training."""
    lines = [line for line in shell_lines("README.md") if "pytest" not in line]
    assert len(lines) == 10
    lines = [re.sub(r"mammadai teach$", "mammadai teach --preset smoke", line) for line in lines]
    script = shared_installation(tmp_path) + "\n".join(lines)
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert (tmp_path / "runs/mammadai/report.html").exists() and (tmp_path / "runs/sweep/sweep.csv").exists()
    assert len(list((tmp_path / "runs/try/composed").glob("preference-0-*.mid"))) == 3
