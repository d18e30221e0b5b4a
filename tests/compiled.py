"""Compile the tests' learners for TPUs that are not there, for test_compile, in a process of its own.

`python -m tests.compiled TARGET [LEARNER...]` prints the name of each learner whose update is compiled.
"""

import sys

import jax

from benchmarks import chips, compile, estimates
from benchmarks.measure import Program
from tests.agents.learners import LEARNERS


def program_of(name):
    """A learner's update, of an abstract state."""
    learner = LEARNERS[name]
    state = jax.eval_shape(lambda: learner.init(jax.random.key(0), learner.config))
    step = lambda state, data: learner.step(state, learner.config, data)[0]
    return Program(step, (state, learner.data), 1.0, True)


def main(target, *names):
    """Compile learners one after another."""
    chips.stay_at_home()
    _, placement = chips.placed(target)
    for name in names or LEARNERS:
        compiled = compile.trace(program_of(name), placement).lower().compile()
        cost = estimates.cost(compiled.as_text(), placement.devices)
        assert cost.cycles > 0
        assert bool(cost.sent) == (placement.devices > 1)
        print(name, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
