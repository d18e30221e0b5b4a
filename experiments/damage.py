"""Damages copies of a run's files in every way, and counts what becomes of each.

    python -m experiments.damage RUN --count 400

RUN is a finished run, which is only read. Two tables are printed: of random flipped bits in every file that a
run is read from, and of kinds of damage to the newest of two checkpoints of a stage. What was read is
compared with what the sound files hold:

harmless   the same was read
fell back  the checkpoint before was restored, and a line said so
refused    an error that says which file it is
SILENT     something else was read without a word
CRASH      any other error

Exit code 1 if anything is SILENT or CRASH.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from experiments.tables import markdown
from mammadai_jax.music import archive, corpus
from mammadai_jax.stages import STAGES, joint_embedding, reward_model
from mammadai_jax.training import sealed
from mammadai_jax.training.checkpoints import Checkpoints
from mammadai_jax.training.context import context_of, settings_of_run
from mammadai_jax.training.run import LOGS, Run, identity, read, read_rows
from mammadai_jax.training.settings import recorded

OLDER, NEWEST = "000000001", "000000002"
WRONG = ("SILENT", "CRASH")
Damage = Callable[[Path], Any]


class FellBack(ValueError):
    """An older checkpoint was restored, and that was said."""


def outcome(reader: Callable[[], Any], sound: Any) -> str:
    """What a reader makes of damaged files; `sound` is what it makes of sound ones."""
    try:
        return "harmless" if reader() == sound else "SILENT"
    except FellBack:
        return "fell back"
    except ValueError:
        return "refused"
    except Exception as error:
        return f"CRASH {type(error).__name__}"


# ---- flipped bits


def flip(path: Path, rng: np.random.Generator) -> None:
    """Flip a bit of a file."""
    data = bytearray(path.read_bytes() or b"\0")
    at = rng.integers(8 * len(data))
    data[at // 8] ^= 1 << at % 8
    path.write_bytes(data)


def flips(path: Path, reader: Callable[[], Any], count: int, rng: np.random.Generator) -> Counter[str]:
    """What becomes of `count` random flipped bits, one at a time."""
    data, sound, counts = path.read_bytes(), reader(), Counter()
    for _ in range(count):
        flip(path, rng)
        counts[outcome(reader, sound)] += 1
        path.write_bytes(data)
    return counts


def settings(run: Path) -> Any:
    """What `compose` and `--resume` read of run.json."""
    return recorded(*settings_of_run(run, STAGES))


def embedding(run: Path) -> Any:
    """What is read of embedding.json."""
    _, parts = settings_of_run(run, STAGES)
    own = parts["embedding"].settings
    joint = joint_embedding.load_joint_embedding(run, own.learner, None, levels=own.rvq_levels)
    parts = (joint.embedding.text_centre, joint.embedding.music_centre, joint.codebooks)
    return joint.reader, [None if part is None else np.asarray(part).tobytes() for part in parts]


def logs(run: Path) -> Any:
    """What a resumed training reads of log.jsonl and timing.jsonl."""
    about = {name: value for name, value in read(run).items() if name in ("settings", "data", "sweep")}
    with Run(run, about, resume=True) as opened:
        for stage in trained(run):
            kept = opened.checkpoints(stage)
            update = kept.updates()[-1]
            opened.rewind(stage, update, kept.logged(update))
    return [read_rows(run / name) for name in LOGS]


def trained(run: Path) -> list[str]:
    """The stages that have checkpoints, in their order."""
    return [spec.name for spec in STAGES if (run / "checkpoints" / spec.name).is_dir()]


def template_of(run: Path, stage: str) -> Callable[[], Any]:
    """() -> a state of the stage as it is before its first update."""
    settings, parts = settings_of_run(run, STAGES)
    spec, own = parts[stage]
    assert spec.template
    return functools.partial(spec.template, own, context_of(settings, parts, run))


def state_of(run: Path, stage: str) -> Callable[[], Any]:
    """() -> the update and the bytes of the stage's state that is restored."""
    template = jax.eval_shape(template_of(run, stage))
    directory, own = run / "checkpoints" / stage, identity(run)
    newest = max(Checkpoints(directory, run=own).updates())

    def restore() -> Any:
        said: list[str] = []
        restored = Checkpoints(directory, run=own).restore(template, said.append)
        if said and (restored is None or restored[0] != newest):
            raise FellBack(said[0])
        return restored and (restored[0], raw(restored[1]))

    return restore


def raw(state: Any) -> list[bytes]:
    """The bytes of a state's leaves."""
    is_key = lambda leaf: jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    leaves = [jax.random.key_data(leaf) if is_key(leaf) else leaf for leaf in jax.tree.leaves(state)]
    return [np.asarray(leaf).tobytes() for leaf in leaves]


def read_from(run: Path, stage: str) -> Iterator[tuple[Path, Callable[[], Any]]]:
    """Every file that a run is read from, and how."""
    yield run / "run.json", functools.partial(settings, run)
    yield run / "embedding.json", functools.partial(embedding, run)
    comparisons = run / reward_model.COMPARISONS
    yield comparisons, functools.partial(reward_model.read_comparisons, comparisons)
    for name in LOGS:
        yield run / name, functools.partial(logs, run)
    restore = state_of(run, stage)
    for path in sorted(path for path in (run / "checkpoints" / stage).rglob("*") if path.is_file()):
        yield path, restore
    cached = run / "folk.npz"
    archive.save(cached, corpus.embedded().melodies, [])
    yield cached, lambda: [melody.events.tolist() for melody in archive.load(cached)[0]]


# ---- kinds of damage to a checkpoint


def cut(path: Path, rng: np.random.Generator) -> None:
    """Cut a file anywhere."""
    data = path.read_bytes() or b"\0"
    path.write_bytes(data[: rng.integers(len(data))] if path.stat().st_size else data)


def zeros(path: Path, rng: np.random.Generator) -> None:
    """Overwrite half of a file with zeros, or fill an empty one."""
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2] + bytes(size - size // 2 or 512))


def append(path: Path, rng: np.random.Generator) -> None:
    """Append random bytes."""
    path.write_bytes(path.read_bytes() + rng.bytes(64))


def link(path: Path, rng: np.random.Generator) -> None:
    """Put a link to the file in its place."""
    away = path.parents[len(path.parts) - 4] / f"away-{path.name}-{rng.integers(2**31)}"
    shutil.move(path, away)
    path.symlink_to(away)


def pipe(path: Path, rng: np.random.Generator) -> None:
    """Put a pipe in its place."""
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, rng: np.random.Generator) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


def delete(path: Path, rng: np.random.Generator) -> None:
    """Remove it."""
    path.unlink()


def swap(one: Path, other: Path) -> None:
    """Exchange two files or folders."""
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def forge(directory: Path, **changes: Any) -> None:
    """Change the newest manifest, with a right digest of its own."""
    path = directory / f"{NEWEST}.json"
    contents = json.loads(path.read_text()) | changes
    sealed.write(path, contents.pop("format"), contents)


def forge_file(directory: Path, name: str) -> None:
    """Write nonsense into a file of the newest step, and its digest into the manifest."""
    path = directory / NEWEST / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3] + b"9" * 99)
    table = json.loads((directory / f"{NEWEST}.json").read_text())["files"]
    forge(directory, files=table | {name: hashlib.sha256(path.read_bytes()).hexdigest()})


def older_for_newer(directory: Path, with_manifest: bool) -> None:
    """Put the older step in the place of the newer, and its manifest too."""
    shutil.rmtree(directory / NEWEST)
    shutil.copytree(directory / OLDER, directory / NEWEST)
    if with_manifest:
        shutil.copy(directory / f"{OLDER}.json", directory / f"{NEWEST}.json")


def kinds(directory: Path, rng: np.random.Generator) -> Iterator[tuple[str, Damage]]:
    """Names of kinds of damage, and what they do to a stage's directory."""
    step = directory / NEWEST
    names = sorted(str(path.relative_to(directory)) for path in step.rglob("*") if path.is_file())
    for how in (flip, cut, zeros, append, link, pipe, folder, delete):
        for name in (*names, f"{NEWEST}.json"):
            yield f"{how.__name__} {name}", lambda at, how=how, name=name: how(at / name, rng)
    for name in names:
        inner = str(Path(name).relative_to(NEWEST))
        yield f"forge {name}", lambda at, inner=inner: forge_file(at, inner)
    manifest, moved = f"{NEWEST}.json", "000000009"
    yield "no step", lambda at: shutil.rmtree(at / NEWEST)
    yield "a file for the step", lambda at: (shutil.rmtree(at / NEWEST), (at / NEWEST).touch())
    yield (
        "a link for the step",
        lambda at: ((at / NEWEST).rename(at / "away"), (at / NEWEST).symlink_to("away")),
    )
    yield "step renamed", lambda at: (at / NEWEST).rename(at / moved)
    yield "manifest renamed", lambda at: (at / manifest).rename(at / f"{moved}.json")
    yield (
        "both renamed",
        lambda at: ((at / NEWEST).rename(at / moved), (at / manifest).rename(at / f"{moved}.json")),
    )
    yield "steps swapped", lambda at: swap(at / NEWEST, at / OLDER)
    yield "manifests swapped", lambda at: swap(at / manifest, at / f"{OLDER}.json")
    yield "older step", lambda at: older_for_newer(at, False)
    yield "older step and manifest", lambda at: older_for_newer(at, True)
    yield "both steps flipped", lambda at: [flip(at / of / "manifest.ocdbt", rng) for of in (OLDER, NEWEST)]
    yield "sparse file of a TiB", lambda at: os.truncate(at / NEWEST / "manifest.ocdbt", 1 << 40)
    for name, value in {
        "format": 99,
        "update": 1,
        "run": "another",
        "stage": "another",
        "files": None,
        "leaves": {"a": "float32(4611686018427387904, 4611686018427387904)"},
        "logged": 3,
    }.items():
        yield f"manifest with {name} {value!r:.20}", lambda at, it={name: value}: forge(at, **it)
    for name in ("../../../run.json", "/dev/zero", "\0", "x" * 5000):
        yield f"manifest names {name!r:.20}", lambda at, name=name: forge(at, files={name: "0" * 64})
    yield "foreign files", lambda at: [(at / of / ".DS_Store").touch() for of in ("", NEWEST, f"{NEWEST}/d")]
    yield "foreign pipe", lambda at: os.mkfifo(at / NEWEST / "pipe")
    yield "foreign folder", lambda at: shutil.copytree(at / OLDER, at / "best")


def two_checkpoints(run: Path, stage: str) -> Path:
    """A run beside the given one with that stage alone, of which the newest of two states is the run's."""
    other, first = run.with_name("two"), jax.jit(template_of(run, stage))()
    template = jax.eval_shape(lambda: first)
    restored = Checkpoints(run / "checkpoints" / stage, run=identity(run)).restore(template)
    assert restored
    other.mkdir()
    shutil.copy(run / "run.json", other)
    kept = Checkpoints(other / "checkpoints" / stage, run=identity(run))
    for name, state in ((OLDER, first), (NEWEST, restored[1])):
        kept.save(int(name), state)
    return other


def damaged(run: Path, stage: str, rng: np.random.Generator) -> dict[str, str]:
    """The outcome of every kind of damage."""
    directory, outcomes = run / "checkpoints" / stage, {}
    restore = state_of(run, stage)
    sound, kept = restore(), shutil.copytree(directory, run / "kept")
    for name, damage in kinds(directory, rng):
        damage(directory)
        outcomes[name] = outcome(restore, sound)
        shutil.rmtree(directory)
        shutil.copytree(kept, directory)
    return outcomes


def main(run: tyro.conf.Positional[Path], stage: str = "prior", count: int = 400, seed: int = 0) -> int:
    """Print both tables.

    Args:
        run: a finished run.
        stage: whose checkpoints are damaged.
        count: bits that are flipped in each file.
        seed: of what is random.

    """
    rng, counts = np.random.default_rng(seed), {}
    with tempfile.TemporaryDirectory() as room:
        copy = shutil.copytree(run, Path(room, "run"), ignore=shutil.ignore_patterns("samples", "composed"))
        for path, reader in read_from(copy, stage):
            counts[str(path.relative_to(copy))] = flips(path, reader, count, rng)
        outcomes = damaged(two_checkpoints(copy, stage), stage, rng)
    columns = ("harmless", "fell back", "refused", *WRONG)
    counts[f"{len(outcomes)} kinds of damage to a checkpoint"] = Counter(outcomes.values())
    sums = lambda found: [sum(found[kind] for kind in found if kind.startswith(column)) for column in columns]
    print(markdown(["file", *columns], [[name, *sums(found)] for name, found in counts.items()]))
    wrong = {name: kind for name, kind in outcomes.items() if kind.startswith(WRONG)}
    print(*(f"{kind}: {name}" for name, kind in wrong.items()), sep="\n", end="")
    return int(any(kind.startswith(WRONG) for found in counts.values() for kind in found))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
