"""Words that the field's own terms have replaced do not come back as names."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

import mammadai_jax

ROOT = Path(mammadai_jax.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# No name of any kind is one of these.
EVERYWHERE = {
    *("leash", "coefficient", "stop_kl", "whiten", "value_weight", "entropy_weight"),
    *("judge", "Judge", "judged", "there", "follow", "exploring", "effective", "annealing", "settling"),
    *("echo", "copying", "fed", "clock", "visited", "discriminate", "attend", "descend"),
    *("examination", "audition", "playing", "space", "listen", "Lesson", "rehearse"),
    *("untrained", "untaught", "unasked", "untuned", "told", "wanted"),
}

# These are plain words in one sense and riddles in another: where they must not stand.
FIELD, PARAMETER, FUNCTION, MODULE = "field", "parameter", "function", "module"
CONTEXTS = {
    "melodies": ({FIELD: "Config"}, "batch_size or num_envs; as a variable or a parameter it holds melodies"),
    "steps": ({FIELD: "Config"}, "num_steps; as a variable it is a length in 16th notes"),
    "trace": ({FIELD: "Config", PARAMETER: "agents"}, "gae_lambda, td_lambda; jax.jit(f).trace is jax's"),
    "clip": ({FIELD: "Config", PARAMETER: ""}, "clip_eps or max_grad_norm; jnp.clip is NumPy's"),
    "beta": (
        {FIELD: "Config", PARAMETER: "agents"},
        "kl_coef; Adam's and optax's betas, and DPO's in equations",
    ),
    "target": ({FIELD: "Config"}, "kl_target or target_kl; a regression's target is a variable"),
    "first": (
        {FIELD: "Config", PARAMETER: "agents"},
        "reference, of a policy; the first of several otherwise",
    ),
    "base": (
        {FIELD: "Config", PARAMETER: "agents"},
        "reference, of a policy; a base class, or base settings",
    ),
    "read": ({FIELD: "Config", PARAMETER: "", FUNCTION: "agents"}, "forward, of a network; files are read"),
    "improve": (
        {FUNCTION: "agents"},
        "minibatch step; best_of_n improves the answer, as its literature says",
    ),
    "matrix": ({MODULE: ""}, "win_rates; a matrix is one of numbers"),
    "learning": (
        {MODULE: "", PARAMETER: "", FUNCTION: ""},
        "losses; the package learning/ is a room of the design",
    ),
    "known": ({FIELD: "", PARAMETER: ""}, "what it is; collectives pass an unknown function's constants on"),
    "heard": ({FIELD: "", PARAMETER: ""}, "traits; of simulated listeners in prose only"),
    "found": ({FIELD: "", PARAMETER: ""}, "what it is; a search's result"),
}


def names(tree, path):
    """(context, name, line) of everything that a file defines."""
    yield MODULE, path.stem, 1
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                    yield FIELD + node.name, part.target.id, part.lineno
        elif isinstance(node, (ast.FunctionDef, ast.Lambda)):
            arguments = node.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                yield PARAMETER, argument.arg, argument.lineno
            if isinstance(node, ast.FunctionDef):
                yield FUNCTION, node.name, node.lineno


def offences(path):
    """Where a file uses a replaced word as a name."""
    text, place = path.read_text(), path.relative_to(ROOT)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and token.string in EVERYWHERE:
            yield f"{place}:{token.start[0]}: {token.string}"
    for context, name, line in names(ast.parse(text), path):
        for kind, where in CONTEXTS.get(name, ({},))[0].items():
            of_class = kind == FIELD and context.startswith(FIELD) and where in context
            of_room = kind != FIELD and context == kind and (not where or place.parts[0] == where)
            if of_class or of_room:
                yield f"{place}:{line}: {kind} {name}: {CONTEXTS[name][1]}"


@pytest.mark.parametrize("room", sorted({path.relative_to(ROOT).parts[0] for path in FILES}))
def test_replaced_words_are_not_names(room):
    files = [path for path in FILES if path.relative_to(ROOT).parts[0] == room]
    assert not [offence for path in files for offence in offences(path)]
