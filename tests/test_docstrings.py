"""Public numeric functions state shapes in their docstrings, and check them before they compute."""

import ast
import re
from pathlib import Path

import mammadai_jax

ROOT = Path(mammadai_jax.__file__).parent
ROOMS = (
    *("objectives", "learning", "agents", "networks", "environments"),
    *("music/theory", "music/harmony", "music/statistics", "music/traits.py"),
)
# "(T, B)", "(N,)", "(2 K + 1, kinds)", "()", "(..., A)" and the like
SHAPE = re.compile(r"\((\)|\.\.\.|[A-Z0-9][^()]*\)|\w[\w ]*,|ceil|length|words\)|indices\))")
CHECKS = ("chex.", "token(")  # `token` of music/theory asserts that an action is a scalar

# Functions without a shape in the docstring or without assertions, with the reason.
LEARNERS = "a learner's init and step take a key, a config and a state, whose class gives the shapes"
SHAPELESS = {
    "init": LEARNERS,
    "step": LEARNERS,
    "value_and_grad": "takes and returns functions",
    "index": "a scalar",
}
UNCHECKED = {
    "init": LEARNERS,
    "step": LEARNERS,
    "music/theory/melody.py": "its functions take the action after `advance` or a rule has checked it",
    "music/harmony/chords.py": "`view` checks the action for each rule",
    "music/harmony/motion.py": "`view` checks the action for each rule",
    "music/theory/rules.py": "`reward` checks the action for all rules",
}


def parameters(function):
    """(name, annotation) of the parameters, without the types of functions among them."""
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        text = ast.unparse(argument.annotation) if argument.annotation else ""
        yield argument.arg, re.sub(r"Callable\[.*\]", "", text)


def is_numeric(function):
    """Whether a function takes or returns arrays, by its annotations."""
    texts = [text for _, text in parameters(function)]
    texts.append(ast.unparse(function.returns) if function.returns else "")
    return any(
        re.search(r"\b(jax\.Array|np\.ndarray|ArrayLike)\b", re.sub(r"Callable.*", "", t)) for t in texts
    )


def has_shape_to_check(function):
    """Whether jax.Arrays come in, other than keys, scalars and those with any leading axes.

    What takes np.ndarrays raises ValueError where it has to.
    """
    arrays = {name for name, text in parameters(function) if text in ("jax.Array", "jax.Array | None")}
    abstract = "NotImplementedError" in ast.unparse(function)
    arrays = {name for name in arrays if not name.startswith("key")}
    return bool(arrays) and not abstract and not re.search(r"\.\.\.[,)]", ast.get_docstring(function) or "")


def functions():
    """File and node of public functions, and of public methods of classes that are no flax modules."""
    files = [path for room in ROOMS for path in sorted([ROOT / room, *(ROOT / room).rglob("*.py")])]
    for path in (path for path in files if path.suffix == ".py"):
        for node in ast.parse(path.read_text()).body:
            module = isinstance(node, ast.ClassDef) and "nn.Module" in map(ast.unparse, node.bases)
            parts = node.body if isinstance(node, ast.ClassDef) and not module else [node]
            if not getattr(node, "name", "_").startswith("_"):
                named = (part for part in parts if isinstance(part, ast.FunctionDef))
                yield from ((path, part) for part in named if not part.name.startswith("_"))


def name_of(path, function):
    return f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"


def exempt(path, function, reasons):
    return function.name in reasons or str(path.relative_to(ROOT)) in reasons


def test_numeric_functions_state_shapes():
    numeric = ((path, f) for path, f in functions() if is_numeric(f) and not exempt(path, f, SHAPELESS))
    assert not [name_of(path, f) for path, f in numeric if not SHAPE.search(ast.get_docstring(f) or "")]


def test_numeric_functions_check_shapes():
    checked = (
        (path, f) for path, f in functions() if has_shape_to_check(f) and not exempt(path, f, UNCHECKED)
    )
    assert not [name_of(path, f) for path, f in checked if not any(c in ast.unparse(f) for c in CHECKS)]
