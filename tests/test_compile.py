"""What `benchmarks.compile` counts, in a text written by hand and in programs; and a TPU's compiler."""

import importlib.util
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks import compile as compiling
from benchmarks import estimates, measure, programs
from benchmarks.chips import CHIPS, Abroad
from benchmarks.measure import Program
from tests import compiled
from tests.agents.learners import LEARNERS

CHIP, SPEC = CHIPS["v5e"], ("NWC", "WIO", "NWC")
# As libtpu writes it: five passes of a loop that slices rows of 512 bytes, then sums over four chips
TEXT = """
HloModule jit_f, is_scheduled=true

%sliced (param_0: f32[5,1,128], param_1: s32[]) -> f32[1,128] {
  %param_0 = f32[5,1,128]{2,1,0:T(1,128)} parameter(0)
  %param_1 = s32[]{:T(128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %row = f32[1,1,128]{2,1,0:T(1,128)} dynamic-slice(%param_0, %param_1, %zero, %zero), dynamic_slice_sizes={1,1,128}
  ROOT %bitcast = f32[1,128]{1,0:T(1,128)S(1)} bitcast(%row)
}

%body (arg: (s32[], f32[5,1,128], s32[])) -> (s32[], f32[5,1,128], s32[]) {
  %arg = (s32[]{:T(128)}, f32[5,1,128]{2,1,0:T(1,128)}, s32[]{:T(128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %rows = f32[5,1,128]{2,1,0:T(1,128)} get-tuple-element(%arg), index=1
  %bound = s32[]{:T(128)} get-tuple-element(%arg), index=2
  %fusion = f32[1,128]{1,0:T(1,128)S(1)} fusion(%rows, %i), kind=kLoop, calls=%sliced, backend_config={"window_config":{"estimated_cycles":"30"}}
  ROOT %tuple = (s32[]{:T(128)}, f32[5,1,128]{2,1,0:T(1,128)}, s32[]{:T(128)}) tuple(%i, %rows, %bound)
}

%condition (arg.1: (s32[], f32[5,1,128], s32[])) -> pred[] {
  %arg.1 = (s32[]{:T(128)}, f32[5,1,128]{2,1,0:T(1,128)}, s32[]{:T(128)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  CONDITION
}

ENTRY %main (rows.1: f32[5,1,128]) -> f32[5,1,128] {
  %rows.1 = f32[5,1,128]{2,1,0:T(1,128)} parameter(0)
  %first = s32[]{:T(128)} constant(0)
  %passes = s32[]{:T(128)} constant(5)
  %begin = (s32[]{:T(128)}, f32[5,1,128]{2,1,0:T(1,128)}, s32[]{:T(128)}) tuple(%first, %rows.1, %passes)
  %while = (s32[]{:T(128)}, f32[5,1,128]{2,1,0:T(1,128)}, s32[]{:T(128)}) while(%begin), condition=%condition, body=%body
  %last = f32[5,1,128]{2,1,0:T(1,128)} get-tuple-element(%while), index=1
  %negated = f32[5,1,128]{2,1,0:T(1,128)} negate(%last), backend_config={"window_config":{"estimated_cycles":"50"}}
  ROOT %sum = f32[5,1,128]{2,1,0:T(1,128)} all-reduce(%negated), replica_groups={{0,1,2,3}}, to_apply=%add
}
"""  # noqa: E501
CONSTANT = """%bound.1 = s32[]{:T(128)} constant(5)
  ROOT %less = pred[]{:T(512)} compare(%i.1, %bound.1), direction=LT"""
CARRIED = """%bound.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=2
  ROOT %less = pred[]{:T(512)} compare(%i.1, %bound.1), direction=LT"""
ENDLESS = "ROOT %less = pred[]{:T(512)} not-finite(%i.1)"


@pytest.mark.parametrize(("condition", "passes"), [(CONSTANT, 5), (CARRIED, 5), (ENDLESS, 1)])
def test_a_loop_counts_as_often_as_it_runs(condition, passes):
    cost = estimates.cost(TEXT.replace("CONDITION", condition), chips=4)
    assert (cost.looped, cost.cycles) == (passes * 30, passes * 30 + 50)
    assert cost.unbounded == (condition == ENDLESS)
    row, number, truth = 512, 4, 1
    compared = number + truth if condition == ENDLESS else 2 * number + truth
    # of the rows a pass reads one; `negated` reads and writes all
    assert cost.moved == passes * (row + number + compared) + 2 * 5 * row
    assert cost.collectives == {"all-reduce": 1}
    assert cost.sent == 5 * row * 2 * 3 / 4


def test_what_other_collectives_send():
    reading = estimates.Reading(TEXT, chips=4)
    kinds = {"all-gather": 3.0, "all-to-all": 0.75, "reduce-scatter": 0.75, "collective-permute": 1.0}
    assert {kind: reading._sent(kind, 1.0) for kind in kinds} == kinds


def test_products_count_as_often_as_scans_run():
    weights, rows, image = jnp.ones((8, 8)), jnp.ones((4, 8)), jnp.ones((2, 16, 3))

    def network(weights, rows, image):
        rows, _ = jax.lax.scan(lambda rows, _: (jnp.tanh(rows @ weights), None), rows, length=5)
        rows = jax.lax.cond(rows[0, 0] > 0, lambda: rows @ weights, lambda: rows)
        return rows, jax.lax.conv_general_dilated(image, jnp.ones((4, 3, 7)), (4,), "VALID", None, None, SPEC)

    traced = jax.make_jaxpr(network)(weights, rows, image)
    convolved = 2 * (2 * 4 * 7) * (4 * 3)
    assert compiling.products(traced.jaxpr) == 6 * 2 * 4 * 8 * 8 + convolved


def test_a_job_is_described_without_being_compiled():
    double, numbers = lambda x: 2 * x, jnp.arange(3.0)
    with measure.described() as found:
        inside = measure.job(double, numbers, units=3, updates=True)
    assert found == [Program(double, (numbers,), 3, True)]
    assert inside.compiling is None and math.isnan(inside.clock())
    assert measure.job(double, numbers, units=3).compiling


def test_a_learner_has_a_shard_on_every_chip():
    program = compiled.program_of("cloning")
    for devices in (1, 4):
        traced = compiling.trace(program, Abroad(devices, devices, tuple(jax.devices()[:devices])))
        state = program.arguments[0]
        shapes = [leaf.shape for leaf in jax.tree.leaves(traced.out_info[0])]
        own = (devices,) if devices > 1 else ()
        assert shapes == [leaf.shape for leaf in jax.tree.leaves(state.replace(key=None))] + [own]
        assert ("all_to_all" in str(traced.jaxpr)) == (devices > 1)


def test_arguments_may_be_numbers():
    program = Program(lambda x, scale: x * scale, (jnp.ones(2), 3), 1.0)
    traced = compiling.trace(program, Abroad(1, 1, tuple(jax.devices()[:1])))
    assert traced.out_info[0].shape == (2,)


def test_a_row_tells_the_limit_and_what_failed():
    cost = estimates.Cost(cycles=3e6, looped=1.5e6, moved=819e6, sent=2000.0)
    cost.collectives["all-to-all"] = 2
    row = compiling.Report("x/1", 64, 1.5, 197e9, cost, 320_000_000)
    assert row.cells(CHIP, 1) == [
        *("x/1", "64", "1.50 s", "197 GFLOP", "819 MB", "2 ms", "1 ms, products", "50%", "320 MB, 2.0%")
    ]
    assert row.cells(CHIP, 4)[-2:] == ["2.00 kB", "2 all-to-all"]
    assert row._replace(products=0.0).cells(CHIP, 1)[6] == "1 ms, memory"
    assert compiling.Report("x/1", 64, failure="no").cells(CHIP, 1) == ["x/1", "64", "fails: no"]


def test_programs_are_chosen_by_name_or_family():
    assert list(compiling.chosen(["cloning", "theory/1024"])) == ["theory/1024", "cloning/256"]
    with pytest.raises(ValueError, match="no program is called nothing; --list names them"):
        compiling.chosen(["nothing", "cloning"])


@pytest.mark.nightly
@pytest.mark.parametrize("name", programs.unmeasured())
def test_learners_without_a_workload_make_a_state_like_the_one_before(name):
    program = programs.unmeasured()[name]()
    state = program.arguments[0]
    after = jax.eval_shape(program.function, *program.arguments)
    kinds = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)] for tree in (state, after)]
    assert kinds[0] == kinds[1] and program.units > 0


@pytest.mark.nightly
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the extra `aot` is not installed")
@pytest.mark.parametrize("target", ["v5e:1", "v5e:2x2"])
def test_every_learner_is_compiled_for_a_tpu(target):
    """In a process of its own: libtpu loads once, and only where jax was told that there is no TPU."""
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.compiled", target]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=7200)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == list(LEARNERS)
