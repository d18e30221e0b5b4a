"""Did a change of the code change what is learned? `python -m tests.golden record FILE`, then `compare FILE`.

`record` makes 20 updates of every learner of tests/agents/learners.py from fixed seeds, and teaches the smoke
preset; `compare` does so again and tells which arrays and samples are not the same to the bit, and how
far they are.
Record from the commit before the change, on the same machine: bits depend on the processor and on jaxlib.
"""

import argparse
import hashlib
import tempfile
from pathlib import Path

import jax
import numpy as np

from tests.agents.learners import LEARNERS, numbers

UPDATES = 20


def learned(learner):
    """What a learner has after its updates, and its metrics at each: arrays by name."""

    @jax.jit
    def run(key, config, data):
        advance = lambda state, _: learner.step(state, config, data)
        return jax.lax.scan(advance, learner.init(key, config), length=UPDATES)

    state, metrics = run(jax.random.key(0), learner.config, learner.data)
    arrays = {f"state/{number:03d}": leaf for number, leaf in enumerate(jax.tree.leaves(numbers(state)))}
    return arrays | {f"metrics/{name}": np.asarray(values) for name, values in metrics.items()}


def samples():
    """The bytes of every MIDI file of a smoke run, by their path."""
    from mammadai_jax.stages import preset, teach

    with tempfile.TemporaryDirectory() as room:
        out = Path(room) / "run"
        teach(preset("smoke"), out)
        found = sorted((out / "samples").rglob("*.mid"))
        return {str(path.relative_to(out)): np.frombuffer(path.read_bytes(), np.uint8) for path in found}


def everything():
    """All arrays, by a name that begins with the learner's."""
    found = {}
    for name, learner in LEARNERS.items():
        print(name, flush=True)
        found |= {f"{name}/{key}": array for key, array in learned(learner).items()}
    return found | samples()


def digest(array):
    """Of type, shape and every bit."""
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()


def compare(before, after):
    """A line for each learner, and one for each array of it that was not there before to the bit."""
    group_of = lambda name: name.rsplit("/", 2)[0]
    for group in sorted(set(map(group_of, before | after))):
        old, new = ({k: x for k, x in side.items() if group_of(k) == group} for side in (before, after))
        gone, same = set(map(digest, old.values())), set(map(digest, new.values()))
        print(
            f"{group}: {len(old)} arrays before, {len(new)} after, {len(gone - same)} of before are no more"
        )
        for name, array in new.items():
            if digest(array) not in gone:
                print(f"    {name}: {apart(old.get(name), array)}")


def apart(before, after):
    """How far an array is from what had its name."""
    if before is None or before.shape != after.shape:
        return f"new, {after.dtype}{after.shape}"
    return f"largest difference {np.abs(before.astype(float) - after.astype(float)).max():.3g}"


def main():
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    if options.action == "record":
        np.savez(options.file, **everything())
    else:
        with np.load(options.file) as before:
            compare(dict(before), everything())


if __name__ == "__main__":
    main()
