"""What every learner promises, whatever it learns: seeds, resuming, tracing, keys, metrics, shards.

All tests of a learner share its programs, which are most of their time.
"""

import functools
import math
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.training import loop
from mammadai_jax.training.checkpoints import Checkpoints
from mammadai_jax.training.sharding import Placement
from tests.agents.learners import LEARNERS, is_key, numbers

SHARDS = 4
UPDATES = 2
# The tests' quick compiler rounds sums by what is around them; with some optimisation what is learned is the
# same to the bit. Metrics are only with all of it, as `test_devices` has it.
ROUNDED_ALIKE = {"xla_backend_optimization_level": 1}
PLAYERS = [name for name, learner in LEARNERS.items() if learner.played]
COMPILE = jax.stages.Lowered.compile
# Further rows of learners of which another row is tested in all ways already.
VARIANTS = (
    *("ppo_episodes", "transitions", "prior_transformer"),
    *("preference_ppo", "preference_reinforce", "preference_grpo"),
)


def variants_nightly(test):
    """A test of every learner; of the variants, whose programs take long to compile, only nightly."""
    rows = [pytest.param(name, marks=[pytest.mark.nightly] * (name in VARIANTS)) for name in LEARNERS]
    return pytest.mark.parametrize("programs", rows, indirect=True, scope="module")(test)


def bits(tree):
    """Type, shape and every bit of each leaf."""
    return [(str(x.dtype), x.shape, x.tobytes()) for x in jax.tree.leaves(numbers(tree))]


def fresh(tree):
    """The same arrays, and keys of the same numbers that nobody has drawn from."""
    return jax.tree.map(lambda x: jax.random.clone(x) if is_key(x) else x, tree)


def other(config):
    """The settings with another value in each traced field."""
    return jax.tree.map(lambda x: x + 1 if isinstance(x, int) else 1.25 * x or 0.01, config)


class Programs:
    """What is compiled of a learner, and what it gave. Keys are checked while it is traced and run."""

    def __init__(self, learner):
        self.learner, self.traced = learner, 0
        self._init = jax.jit(learner.init)
        self._step = jax.jit(self._count)
        self.run, self.on_devices = functools.cache(self._run), functools.cache(self._on_devices)

    def _count(self, state, config, data):
        self.traced += 1
        return self.learner.step(state, config, data)

    def init(self, seed=0, config=None):
        with jax.debug_key_reuse(True):
            return self._init(jax.random.key(seed), self.learner.config if config is None else config)

    def step(self, state, config=None):
        """An update of the very state that is given, whose key is then used up."""
        with jax.debug_key_reuse(True):
            return self._step(state, self.learner.config if config is None else config, self.learner.data)

    def _run(self, seed=0, varied=False):
        """[state, after an update, after another], and the metrics of each update."""
        config = other(self.learner.config) if varied else self.learner.config
        states, told = [self.init(seed, config)], []
        for _ in range(UPDATES):
            state, metrics = self.step(fresh(states[-1]), config)
            states.append(state)
            told.append(metrics)
        return states, told

    @functools.cached_property
    def together(self):
        """The runs of two seeds and of other settings under one vmap: last states, metrics (3, UPDATES)."""
        config, data = self.learner.config, self.learner.data

        def one(key, config):
            advance = lambda state, _: self.learner.step(state, config, data)
            return jax.lax.scan(advance, self.learner.init(key, config), length=UPDATES)

        keys = jax.random.wrap_key_data(np.stack([jax.random.key_data(jax.random.key(s)) for s in (0, 1, 0)]))
        configs = jax.tree.map(lambda a, b: np.array([a, a, b]), config, other(config))
        return jax.jit(jax.vmap(one))(keys, configs)

    def _on_devices(self, devices):
        """State and mean metrics of a chunk of updates by SHARDS shards on so many devices."""
        learner, placement = self.learner, Placement(SHARDS, devices)
        config, first = learner.config, self.run()[0][0]
        if learner.split:
            config = config.replace(batch_size=config.batch_size // SHARDS)
        stage = loop.Learner(
            name=learner.name,
            init=lambda: first,
            step=lambda state, data: learner.step(state, config, data),
            data=placement.replicate(learner.data),
            updates=UPDATES,
            chunk=UPDATES,
            notes=1,
            shown="",
        )
        state = placement.first(stage.init)
        options = {} if learner.rounded else ROUNDED_ALIKE
        with mock.patch.object(jax.stages.Lowered, "compile", lambda lowered: COMPILE(lowered, options)):
            program = loop.program(stage, state, UPDATES, placement)
        return program(state, stage.data)


@pytest.fixture(scope="module", params=LEARNERS)
def programs(request):
    return Programs(LEARNERS[request.param])


def test_an_update_is_traced_once(programs):
    """For other states and other values of the settings that are said to be traced, too."""
    programs.run()
    programs.run(seed=1)
    programs.run(varied=True)
    assert programs.traced == 1


def test_metrics_are_finite_float32_scalars_and_updates_are_counted(programs):
    states, told = programs.run()
    assert [int(state.update) for state in states] == [0, 1, 2]
    for metrics in told:
        for name, value in metrics.items():
            assert value.shape == (), name
            assert value.dtype == jnp.float32, name
            assert math.isfinite(value), name
    first, middle, last = (
        bits(state.policy if hasattr(state, "policy") else state.params) for state in states
    )
    assert first != middle != last


@variants_nightly
def test_seeds_and_settings_under_vmap_equal_single_runs(programs):
    runs = [programs.run(0), programs.run(1), programs.run(0, varied=True)]
    together = numbers(programs.together)
    lanes = [jax.tree.map(lambda x, lane=lane: x[lane], together) for lane in range(3)]
    for lane, (states, told) in zip(lanes, runs, strict=True):
        expected = states[-1], jax.tree.map(lambda *rows: np.stack(rows), *numbers(told))
        chex.assert_trees_all_close(lane, numbers(expected), rtol=1e-5, atol=1e-5)
    assert bits(lanes[0]) != bits(lanes[1]) and bits(lanes[0]) != bits(lanes[2])


def test_a_resumed_run_is_bit_exact_and_not_traced_again(programs, tmp_path):
    (first, middle, last), (_, expected) = programs.run()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, middle)
    update, restored = checkpoints.restore(jax.eval_shape(lambda: first))
    assert update == 1
    assert bits(restored) == bits(middle) != bits(first)
    assert bits(programs.step(restored)) == bits((last, expected))
    assert programs.traced == 1


def test_no_key_is_consumed_twice(programs):
    """By jax's own check, which is on while a learner's programs are traced and run."""
    first = programs.init()
    state, _ = programs.step(first)
    if programs.learner.fixed_key:
        assert bits(state.key) == bits(first.key)
        return
    after, _ = programs.step(state)  # nothing was drawn from its key before
    assert len({str(bits(each.key)) for each in (first, state, after)}) == 3
    with pytest.raises(jax.errors.KeyReuseError):
        programs.step(first)


@pytest.mark.parametrize("programs", PLAYERS, indirect=True, scope="module")
def test_recorded_log_probabilities_are_recomputed(programs):
    learner, state = programs.learner, programs.run()[0][0]
    recorded, recomputed = jax.jit(learner.played)(state, learner.config, jax.random.key(3))
    chex.assert_trees_all_close(recorded, recomputed, atol=1e-5, rtol=0)
    assert np.std(jax.tree.leaves(recorded)[0]) > 0.1


@variants_nightly
def test_shards_learn_the_same_on_any_number_of_devices(programs):
    """To the bit; to rounding where sums are rounded by what XLA compiles around them."""
    state, told = numbers(programs.on_devices(1))
    for devices in (2, 4) if programs.learner.name == "cloning" else (4,):
        found, again = numbers(programs.on_devices(devices))
        chex.assert_trees_all_close((found, again), (state, told), rtol=1e-3, atol=3e-5)
        assert programs.learner.rounded or bits(found) == bits(state)


@variants_nightly
def test_shards_share_a_batch_or_draw_by_keys_of_their_own(programs):
    states, told = programs.run()
    state, means = programs.on_devices(1)
    assert int(state.update) == UPDATES
    for count in ("notes", "position"):  # of all shards
        if hasattr(state, count):
            assert int(getattr(state, count)) == SHARDS * int(getattr(states[-1], count)) > 0
    if not programs.learner.split:
        assert len({str(row) for row in numbers(state.key)}) == SHARDS
        return
    found, expected = numbers((state, states[-1]))
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)
    for name in ("loss", "lr", "grad_norm"):
        expected = np.mean([metrics[name] for metrics in told])
        np.testing.assert_allclose(means[name], expected, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", ["cloning", "prior_lstm", "prompted", "quality"])
def test_another_loss_may_be_given(name):
    """The other learners' own tests look at what another loss gives."""

    class Called(Exception):
        pass

    def loss(*_, **__):
        raise Called

    learner = LEARNERS[name]
    state = jax.eval_shape(learner.init, jax.random.key(0), learner.config)
    step = functools.partial(learner.step, loss=loss)
    with pytest.raises(Called):
        jax.eval_shape(step, state, learner.config, learner.data)
