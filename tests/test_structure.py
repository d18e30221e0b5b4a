"""The measures of the house: imports go down, functions and files are short, signatures small."""

import ast
import re
import statistics
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np

import mammadai_jax

ROOT = Path(mammadai_jax.__file__).parent
# From the front door down; what is in one row is on one floor.
FLOORS = (
    *(
        {"cli", "__main__", "__init__"},
        {"commands"},
        {"stages"},
        {"training"},
        {"listening"},
        {"agents"},
        {"learning"},
    ),
    *({"objectives"}, {"environments"}, {"text"}, {"networks"}, {"music"}, {"fields", "spaces", "version"}),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FILES = sorted(ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imported(path):
    """The package's modules that a file imports, also within functions."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mammadai_jax"):
            place = node.module.removeprefix("mammadai_jax").removeprefix(".")
            for name in node.names:
                inside = f"{place}.{name.name}".strip(".")
                yield inside if inside in MODULES else place


def functions():
    """Every function: its file, its name, and its node."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def body_lines(node):
    """Lines of a function's body without its docstring."""
    first = node.body[1:] if ast.get_docstring(node) else node.body
    return node.end_lineno - first[0].lineno + 1 if first else 0


def test_imports_go_down():
    rooms = lambda name: name.partition(".")[0]
    upward = {
        f"{module_of(path)} imports {name}"
        for path in FILES
        for name in imported(path)
        if name and module_of(path) and FLOOR[rooms(name)] < FLOOR[rooms(module_of(path))]
    }
    assert not upward


def test_imports_have_no_circles():
    graph = {module_of(path): set(imported(path)) - {module_of(path), ""} for path in FILES}
    order = list(TopologicalSorter(graph).static_order())  # CycleError names a circle
    assert set(graph) <= set(order)


def test_nothing_that_learns_reads_the_measures_of_musicality():
    """They are for evaluation: a measure that is optimised no longer measures anything."""
    home = "music.statistics.musicality"
    readers = {
        module_of(path) for path in FILES if any(name and name.startswith(home) for name in imported(path))
    }
    allowed = {
        "commands.evaluate",
        "training.run_report",
        "training.musicality",
        "training.report.musicality",
    }
    assert {name for name in readers if not name.startswith(home)} == allowed
    of_learners = {"agents", "learning", "objectives", "environments", "listening", "networks", "stages"}
    indirect = {
        module_of(path)
        for path in FILES
        if any(name in allowed | {home} for name in imported(path))
        and module_of(path).partition(".")[0] in of_learners
    }
    assert not indirect


def test_functions_are_short():
    lines = [body_lines(node) for _, node in functions()]
    assert statistics.median(lines) <= 6
    assert np.quantile(lines, 0.9) <= 20
    assert not [name for name, node in functions() if body_lines(node) > 45]


def test_files_are_short():
    assert not [path.name for path in FILES if len(path.read_text().splitlines()) > 350]


def test_types_are_checked_in_whole_files_where_the_mathematics_is():
    rooms = [path for name in ("objectives", "learning", "stages") for path in (ROOT / name).rglob("*.py")]
    assert not [path.name for path in rooms if "\n# pyright:" in f"\n{path.read_text()}"]


def test_signatures_are_small():
    """At most six positional parameters, self among them not counted."""
    positional = lambda node: [
        a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")
    ]
    assert not [name for name, node in functions() if len(positional(node)) > 6]


def test_what_is_called_settings_below_the_front_door_has_a_type_of_its_own():
    """Only stages/ and the command line know the whole tree, which has none; test_registry.py watches."""
    whole = lambda annotation: not (annotation and re.search(r"\w+Settings\b", ast.unparse(annotation)))
    assert not [
        name
        for name, node in functions()
        if not name.startswith(("stages/", "commands/", "cli.py"))
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if argument.arg == "settings" and whole(argument.annotation)
    ]


def test_every_learner_has_the_four_names():
    learners = {
        path for path in (ROOT / "agents").iterdir() if path.name not in ("__init__.py", "__pycache__")
    }
    for path in learners:
        tree = TREES[path if path.is_file() else path / "__init__.py"]
        defined = {getattr(node, "name", "") for node in tree.body} | {
            name.asname or name.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for name in node.names
        }
        assert {"Config", "State", "init", "step"} <= defined, path.name
