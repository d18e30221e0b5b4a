"""The tests themselves: each has a way to fail."""

import ast
import functools
from pathlib import Path

from tests import mutants

TESTS = Path(__file__).parent
FAILING = {"pytest.raises", "pytest.warns", "pytest.fail"}


def _name(call: ast.Call) -> str:
    """The last part of what is called, "" if it has no name."""
    function = call.func
    return getattr(function, "attr", getattr(function, "id", ""))


def _fails_by_itself(function: ast.AST) -> bool:
    """Whether there is an assertion in it, or a call that makes one."""
    nodes = list(ast.walk(function))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    asserted = any(isinstance(node, ast.Assert) for node in nodes)
    expected = FAILING & {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    return asserted or bool(expected) or any(_name(call).startswith("assert_") for call in calls)


def _functions(tree: ast.AST) -> dict[str, ast.AST]:
    """All functions of a module and all its classes, also those within others, by name."""
    kinds = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    found = {node.name: node for node in ast.walk(tree) if isinstance(node, kinds)}
    for node in ast.walk(tree):  # f = lambda ...
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            found |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
    return found


def _imported(tree: ast.AST) -> dict[str, tuple[str, str]]:
    """Where names come from that a module has from other test modules: (module, name there)."""
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tests"
        for alias in node.names
    }


@functools.cache
def _module(name: str) -> ast.AST | None:
    """A test module by its dotted name, None if there is none of that name."""
    path = TESTS.parent.joinpath(*name.split(".")).with_suffix(".py")
    return ast.parse(path.read_text()) if path.is_file() else None


def can_fail(function: ast.AST, tree: ast.AST, seen: frozenset[int] = frozenset()) -> bool:
    """Whether a function of a module asserts anything, by itself or through a helper of the tests."""
    if _fails_by_itself(function):
        return True
    functions, imported, seen = _functions(tree), _imported(tree), seen | {id(function)}
    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        helper, home = functions.get(_name(call)), tree
        owner = getattr(getattr(call.func, "value", None), "id", _name(call))
        if helper is None and owner in imported:
            module, name = imported[owner]
            # `from tests.x import helper`, or `from tests import x` and x.helper(...)
            home = _module(f"{module}.{name}") or _module(module)
            name = _name(call) if isinstance(call.func, ast.Attribute) else name
            helper = home and _functions(home).get(name)
        if helper is not None and id(helper) not in seen and can_fail(helper, home, seen):
            return True
    return False


def functions_that_test(tree: ast.AST) -> list[ast.AST]:
    """The test functions of a module, and the methods of its test classes."""
    kinds = ast.FunctionDef, ast.AsyncFunctionDef
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test")]
    bodies = [tree.body, *(node.body for node in classes)]
    return [
        node for body in bodies for node in body if isinstance(node, kinds) and node.name.startswith("test")
    ]


def idle(source: str) -> list[str]:
    """The names of a module's tests that cannot fail but by an error in what they call."""
    tree = ast.parse(source)
    return [test.name for test in functions_that_test(tree) if not can_fail(test, tree)]


def test_every_test_has_a_way_to_fail(record_property):
    files = sorted(TESTS.rglob("test_*.py"))
    checked = sum(len(functions_that_test(ast.parse(path.read_text()))) for path in files)
    record_property("tests with a way to fail", checked)
    found = [f"{path.relative_to(TESTS)}: {name}" for path in files for name in idle(path.read_text())]
    assert not found, f"{len(found)} of {checked} tests assert nothing: " + ", ".join(found)
    assert len(files) > 50 and checked > 500


SOURCE = """
import numpy as np
import pytest
from tests.text import tiny_bert
from tests.training.test_report import Page, decoded as read

def helper(x):
    return deeper(x)

def deeper(x):
    assert x

def silent(x):
    return silent(x)

def test_nothing():
    silent(1)
    tiny_bert.tensors()

def test_asserts():
    assert True

def test_expects_an_error():
    with pytest.raises(ValueError):
        int("x")

def test_compares():
    np.testing.assert_allclose(1, 1)

def test_through_helpers():
    helper(1)

def test_through_an_imported_helper():
    read("data:", "")

def test_through_an_imported_class():
    Page("")

class TestGroup:
    def test_method(self):
        print("assert")
"""


def test_a_test_without_an_assertion_is_found():
    assert idle(SOURCE) == ["test_nothing", "test_method"]
    assert not idle("def helper():\n    test_a()")
    assert idle("def test_a():\n    test_b()\ndef test_b():\n    test_a()") == ["test_a", "test_b"]


def test_mutants_are_of_modules_that_exist_and_run_tests_that_exist():
    for module, (tests, _) in mutants.MODULES.items():
        for path in (f"mammadai_jax/{module}", *tests):
            assert (mutants.ROOT / path).is_file(), path
