"""Mutation testing: the share of small faults in the numeric modules that the tests of each module find.

    python -m tests.mutants --out mutants.jsonl

changes one operator, comparison, number or condition of a module at a time (by Cosmic Ray's operators), runs
the tests of that module on it in a process of their own, and appends a line a mutant to the file. What the
file has already is not run again. Annotations and the defaults of configurations, which are choices, are left
alone, and so are decorators, as without `jax.jit` or `functools.cache` a result is the same. `--show` only
prints the table of a file and the mutants that survived.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import difflib
import functools
import itertools
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRACT = "tests/agents/test_contract.py"
THEORY = ("tests/music/test_theory.py",)
HARMONY = ("tests/music/test_harmony.py",)
STATISTICS = ("tests/music/test_statistics.py",)
MUSICALITY = ("tests/music/test_musicality.py",)
ENVIRONMENTS = ("tests/test_environments.py", "tests/environments/test_theory.py")
DEVICES = ("tests/training/test_devices.py", CONTRACT)
TUNER = ("tests/agents/test_tuner.py", CONTRACT)
PREFERENCE = ("tests/agents/test_preference.py", CONTRACT)

# The tests of each module; of the conformance suite those whose name matches the words.
MODULES: dict[str, tuple[tuple[str, ...], str]] = {
    "agents/ppo.py": (("tests/agents/test_ppo.py", CONTRACT), "ppo and not preference"),
    "agents/dqn.py": (("tests/agents/test_dqn.py", CONTRACT), "dqn"),
    "environments/episodes.py": (("tests/agents/test_ppo.py",), ""),
    "objectives/discriminator.py": (("tests/objectives/test_discriminator.py",), ""),
    "objectives/returns.py": (("tests/objectives/test_returns.py",), ""),
    "objectives/kl.py": (("tests/objectives/test_kl.py",), ""),
    "objectives/policy_losses.py": (("tests/objectives/test_policy_losses.py",), ""),
    "objectives/value_losses.py": (("tests/objectives/test_value_losses.py",), ""),
    "objectives/preferences.py": (("tests/objectives/test_preferences.py",), ""),
    "objectives/contrastive.py": (("tests/objectives/test_contrastive.py",), ""),
    "agents/gail.py": (("tests/agents/test_gail.py", CONTRACT), "gail"),
    "objectives/soft_backups.py": (("tests/objectives/test_soft_backups.py",), ""),
    "objectives/importance.py": (("tests/objectives/test_importance.py",), ""),
    "agents/tuner/losses.py": (TUNER, "melodies or transitions"),
    "agents/projection/__init__.py": (("tests/agents/test_projection.py", CONTRACT), "projection"),
    "agents/preference/__init__.py": (PREFERENCE, "preference"),
    "agents/preference/losses.py": (PREFERENCE, "preference"),
    "agents/preference/updates.py": (PREFERENCE, "preference"),
    "agents/reward_model.py": (("tests/agents/test_reward_model.py", CONTRACT), "reward_model"),
    "agents/dpo.py": (("tests/agents/test_dpo.py", CONTRACT), "dpo"),
    "learning/collectives.py": (
        ("tests/learning/test_collectives.py", *DEVICES),
        "shard and (cloning or gail) or mean or arrays",
    ),
    "training/sharding.py": (DEVICES, "shard and (cloning or gail)"),
    "training/loop.py": (("tests/training/test_loop.py",), ""),
    "training/checkpoints.py": (("tests/training/test_checkpoints.py",), ""),
    "music/grid.py": (("tests/music/test_grid.py",), ""),
    "music/notation.py": (("tests/music/test_notation.py",), ""),
    "music/piece.py": (("tests/music/test_piece.py",), ""),
    "music/progressions.py": (("tests/music/test_progressions.py",), ""),
    "music/signatures.py": (("tests/music/test_signatures.py",), ""),
    "music/smf.py": (("tests/music/test_smf.py",), ""),
    "music/harmony/chords.py": (HARMONY, ""),
    "music/harmony/motion.py": (HARMONY, ""),
    "music/harmony/voices.py": (HARMONY, ""),
    "music/theory/melody.py": (THEORY, ""),
    "music/theory/motifs.py": (THEORY, ""),
    "music/theory/rules.py": (THEORY, ""),
    "music/statistics/features.py": (STATISTICS, ""),
    "music/statistics/musicality/distance.py": (MUSICALITY, ""),
    "music/statistics/musicality/form.py": (MUSICALITY, ""),
    "music/statistics/musicality/melody.py": (MUSICALITY, ""),
    "music/statistics/musicality/tune.py": (MUSICALITY, ""),
    "music/statistics/novelty.py": (STATISTICS, ""),
    "music/statistics/overlap.py": (STATISTICS, ""),
    "music/statistics/tuner_table.py": (STATISTICS, ""),
    "environments/accompanied.py": (ENVIRONMENTS, ""),
    "environments/base.py": (ENVIRONMENTS, ""),
    "environments/polyphonic.py": (("tests/environments/test_polyphonic.py",), ""),
    "environments/theory.py": (ENVIRONMENTS, ""),
}
# An operator becomes one of its own kind: of another kind it would mostly be a TypeError.
KINDS = (
    {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"},
    {"BitAnd", "BitOr", "BitXor"},
    {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"},
    {"Is", "IsNot"},
    {"Delete", "USub"},
    {"Delete", "Not"},
    {"Delete", "Invert"},
)
SKIPPED = ("Variable", "RemoveDecorator", "NoOp")
SLOWEST = 60.0  # seconds that a mutant's tests may take beyond three times the unchanged module's


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of one module: the place (from 0) among those where the operator applies, and its line."""

    module: str
    operator: str
    occurrence: int
    line: int

    @property
    def name(self) -> str:
        """What tells it from all others."""
        return f"{self.module} {self.operator} {self.occurrence}"


def mutants(module: str) -> list[Mutant]:
    """All mutants of a module, in order."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    source = (ROOT / "mammadai_jax" / module).read_text()
    nodes, kept = list(ast_nodes(get_ast(source))), unchanged_parts(source)
    found = []
    for name in sorted(filter(meaningful, operator_names())):
        operator = get_operator(name)()
        places = (place for node in nodes for place in operator.mutation_positions(node))
        for occurrence, ((line, column), _) in enumerate(places):
            if not any(begin <= (line, column) < end for begin, end in kept):
                found.append(Mutant(module, name, occurrence, line))
    return found


def meaningful(operator: str) -> bool:
    """Whether an operator's mutants are of the original's kind and can be told from it."""
    if "Operator_" in operator:
        pair = set(operator.split("_")[-2:])
        return any(pair <= kind for kind in KINDS)
    return not any(skipped in operator for skipped in SKIPPED)


def unchanged_parts(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations and the defaults of a class's fields begin and end: (line, column) each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.ClassDef):
            parts += [field.value for field in node.body if isinstance(field, ast.AnnAssign)]
        for part in parts:
            if isinstance(part, ast.expr):
                found.append(((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)))
    return found


def sample(per_module: int, seed: int) -> list[Mutant]:
    """So many mutants of each module, drawn by chance; the first of all modules come first."""
    drawn = []
    for module in MODULES:
        every = mutants(module)
        random.Random(f"{seed} {module}").shuffle(every)
        drawn.append(itertools.islice(filter(parses, every), per_module))
    return [mutant for row in itertools.zip_longest(*drawn) for mutant in row if mutant]


def parses(mutant: Mutant) -> bool:
    """Whether a mutant is Python: Cosmic Ray takes the stars of `{**rest}` for an operator too."""
    try:
        compile(mutated(mutant)[1], mutant.module, "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def mutated(mutant: Mutant) -> tuple[str, str]:
    """The module's source, and the mutant's."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (ROOT / "mammadai_jax" / mutant.module).read_text()
    changed = mutate_code(source, get_operator(mutant.operator)(), mutant.occurrence)
    if changed is None:
        raise ValueError(f"{mutant.name} is no mutant")
    return source, changed


@contextlib.contextmanager
def tree(module: str, source: str) -> Iterator[Path]:
    """A copy of the project in which a module has another source."""
    with tempfile.TemporaryDirectory() as room:
        ignored = shutil.ignore_patterns(".*", "__pycache__", "runs", "*.jsonl")
        copy = Path(shutil.copytree(ROOT, Path(room) / "tree", ignore=ignored))
        (copy / "mammadai_jax" / module).write_text(source)
        yield copy


def run_tests(copy: str, arguments: list[str], log: str) -> None:
    """In a process of its own: run tests in a tree, whose exit status it takes over."""
    with Path(log).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mammadai_jax", "tests")]:
        del sys.modules[name]  # of the unchanged tree, which multiprocessing imports
    sys.path.insert(0, copy)
    import pytest

    os._exit(pytest.main(["-x", "-p", "no:cacheprovider", *arguments]))


def evaluate(module: str, source: str, limit: float) -> tuple[str, float, str]:
    """Run a module's tests on a source -> "killed", "survived" or "timeout", seconds, what was printed."""
    files, words = MODULES[module]
    arguments = [file for file in files if (ROOT / file).exists()]
    arguments += ["-k", f"not test_contract or ({words})"] if words else []
    begun = time.monotonic()
    with tree(module, source) as copy:
        log = copy.parent / "log"
        process = processes().Process(target=run_tests, args=(str(copy), arguments, str(log)))
        process.start()
        process.join(limit)
        outcome = {None: "timeout", 0: "survived"}.get(process.exitcode, "killed")
        process.kill()
        process.join()
        printed = log.read_text(errors="replace")
    if process.exitcode in (4, 5):
        raise RuntimeError(f"no tests were run for {module}: {printed[-1000:]}")
    return outcome, time.monotonic() - begun, printed


@functools.cache
def processes() -> multiprocessing.context.ForkServerContext:
    """Processes that begin with what is slow to import, and nothing of this project."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pytest", "chex", "distrax", "flax.linen", "optax", "rlax", "scipy.stats"]
    )
    return context


def unchanged(module: str) -> float:
    """Seconds that the tests take on the module as it is, which they must pass."""
    outcome, seconds, printed = evaluate(module, (ROOT / "mammadai_jax" / module).read_text(), 3600)
    if outcome != "survived":
        raise RuntimeError(f"the tests of {module} fail on it unchanged:\n{printed[-3000:]}")
    return seconds


def read(path: Path) -> dict[str, dict]:
    """Rows by the mutants' names."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def table(rows: list[dict]) -> str:
    """A Markdown row for each module and for all, and the survivors."""
    lines = ["| module | mutants | killed | share |", "|---|---|---|---|"]
    for module in [*MODULES, None]:
        of = [row for row in rows if module in (None, row["module"])]
        killed = sum(row["outcome"] != "survived" for row in of)
        if of:
            lines.append(f"| {module or 'all'} | {len(of)} | {killed} | {100 * killed / len(of):.0f} % |")
    for row in rows:
        if row["outcome"] == "survived":
            lines.append(f"\n{row['name']} (line {row['line']}):\n{row['diff']}")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing in the file and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("mutants.jsonl"), help="a line for each mutant")
    parser.add_argument("--per-module", type=int, default=15, help="mutants drawn of each module")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--only", nargs="*", default=list(MODULES), help="modules")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at once")
    parser.add_argument("--show", action="store_true", help="print the file's table and run nothing")
    chosen = parser.parse_args()
    if not chosen.show:
        run(chosen)
    print(table([row for row in read(chosen.out).values() if row["module"] in chosen.only]))


def run(chosen: argparse.Namespace) -> None:
    """Test every mutant that the file does not have, several at once."""
    known = read(chosen.out)
    missing = [
        m for m in sample(chosen.per_module, chosen.seed) if m.module in chosen.only and m.name not in known
    ]
    known_limits: dict[tuple, float] = {}

    def limit(module: str) -> float:
        if MODULES[module] not in known_limits:
            known_limits[MODULES[module]] = 3 * unchanged(module) + SLOWEST
        return known_limits[MODULES[module]]

    def one(mutant: Mutant) -> None:
        source, changed = mutated(mutant)
        outcome, seconds, _ = evaluate(mutant.module, changed, limit(mutant.module))
        diff = "\n".join(difflib.unified_diff(source.splitlines(), changed.splitlines(), lineterm="", n=0))
        row = {
            "name": mutant.name,
            **dataclasses.asdict(mutant),
            "outcome": outcome,
            "seconds": round(seconds, 1),
        }
        with chosen.out.open("a") as file:
            file.write(json.dumps({**row, "diff": diff}) + "\n")
        print(f"{outcome:9}{seconds:6.1f} s  {mutant.name}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(chosen.jobs) as pool:
        list(pool.map(one, missing))


if __name__ == "__main__":
    main()
