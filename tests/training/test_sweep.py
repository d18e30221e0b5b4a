import csv
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax import cli
from mammadai_jax.stages import STAGES, divided
from mammadai_jax.training import loop, sweep
from mammadai_jax.training.context import context_of
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import SettingsError, as_dict
from tests.training import tiny

TINY = tiny.ROAD
RUN, PARTS = divided(TINY)
SPECS = {spec.name: spec for spec in STAGES if spec.metrics}


def maker(stage, path):
    return sweep.maker(PARTS[stage], context_of(RUN, PARTS, path))


def rows_of(out):
    with (out / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("stage", SPECS)
def test_every_setting_that_may_be_swept_can_be(taught, stage):
    may = [name for name, traced in sweep.sweepable(PARTS[stage]).items() if traced]
    axes = sweep.fitted(RUN, PARTS[stage], dict.fromkeys(may, (1,)))
    every = sweep.together(maker(stage, taught), sweep.grid(axes, range(2)))
    state = jax.eval_shape(every.init)
    after, metrics = jax.eval_shape(every.step, state, every.data)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert may and {f"{every.shown}[0]", f"{every.shown}[1]", every.shown} < set(metrics)


def test_it_learns_what_single_runs_learn(taught, tmp_path):
    name = "prior.learner.learning_rate"
    rows, cost = sweep.sweep(taught, STAGES, "prior", tmp_path / "all", {name: (1e-3, 1e-2)}, seeds=2)
    assert [(row[name], row["seed"]) for row in rows] == [(v, s) for v in (1e-3, 1e-2) for s in (0, 1)]
    assert cost.learners == 4 and min(cost.together, cost.alone) > 0
    make = maker("prior", taught)
    for number in (1, 2):
        single = make({name: rows[number][name], "seed": rows[number]["seed"]})
        with Run(tmp_path / f"{number}", {}) as run:
            loop.train(single, run)
            last = run.rows("prior")[-1]
        told = {metric: rows[number][metric] for metric in last if metric not in ("stage", "update")}
        assert told == pytest.approx({metric: last[metric] for metric in told}, rel=1e-4, abs=1e-5)
        assert "held_out_bits" in told
    assert rows[0] != pytest.approx(rows[2], nan_ok=True) and rows[0] != pytest.approx(rows[1], nan_ok=True)


@pytest.mark.parametrize(
    ("stage", "before", "found"),
    [
        ("gail", "cloning", lambda state: (state.reference, state.policy.params)),
        ("theory", "prior", lambda state: (state.prior, state.params)),
        ("preference", "prompted", lambda state: (state.reference, state.params["policy"])),
    ],
)
def test_learners_begin_as_what_the_run_learned_before(taught, stage, before, found):
    expected = context_of(RUN, PARTS, taught).learned(before)
    begun = maker(stage, taught)({})
    for part in jax.jit(lambda: found(begun.init()))():
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, part, expected)))


def test_a_learner_that_diverges_leaves_the_others_alone(taught, tmp_path):
    name = "cloning.learner.learning_rate"
    both, _ = sweep.sweep(taught, STAGES, "cloning", tmp_path / "both", {name: (1e-3, 1e38)}, updates=4)
    one, _ = sweep.sweep(taught, STAGES, "cloning", tmp_path / "one", {name: (1e-3,)}, updates=4)
    assert both[0] == pytest.approx(one[0], rel=1e-5)
    assert math.isnan(both[1]["nats"])
    assert rows_of(tmp_path / "both")[1] == {name: "1e+38", "seed": "0", "nats": "", "accuracy": ""}
    assert sweep.table(both, SPECS["cloning"].metrics, [name]).splitlines()[2].split() == [
        "1e38",
        "-",
        "-",
        "1",
        "of",
        "1",
    ]


def test_the_stage_that_needs_listeners_sweeps_too(taught):
    make = maker("preference", taught)
    data = make({}).data

    def coefficient(beta):
        changed = make({"preference.learner.kl_coef": beta})
        return changed.step(changed.init(), data)[1]["kl_coef"]

    found = jax.jit(jax.vmap(coefficient))(jnp.array([0.1, 0.9]))  # of the update nothing else is computed
    np.testing.assert_allclose(found, [0.1, 0.9], rtol=1e-6)


def test_as_a_user_runs_it(taught, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "keep_programs", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    out = tmp_path / "out"
    argv = ["sweep", "theory", "--from", str(taught), "--out", str(out), "--seeds", "2"]
    argv += [
        "--set",
        "theory.learner.reward_scale=0.5,2",
        "--set",
        "theory.learner.rule_weights.leap-up-back=1",
    ]
    assert cli.main(argv) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["reward_scale", "leap_up_back", "theory", "log_prior", "entropy", "diverged"]
    assert [line.split()[0] for line in said[1:3]] == ["0.5", "2"] and said[1].count("±") == 3
    assert "4 learners in one program" in said[4] and said[5].endswith("sweep.csv")
    rows = rows_of(out)
    assert [row["seed"] for row in rows] == ["0", "1", "0", "1"]
    assert list(rows[0])[:3] == [
        "theory.learner.reward_scale",
        "theory.learner.rule_weights.leap_up_back",
        "seed",
    ]
    assert {"theory", "log_prior", "loss", "motif"} < set(rows[0])
    assert cli.main(argv) == 2 and "add --resume" in capsys.readouterr().err
    assert cli.main([*argv, "--resume"]) == 0 and rows_of(out) == rows
    assert cli.main([*argv, "--resume", "--updates", "4"]) == 2


@pytest.mark.parametrize(
    ("stage", "given", "said"),
    [
        (
            "theory",
            "theory.learner.num_envs=2,4",
            "num_envs decides the program and cannot be swept; there are",
        ),
        ("theory", "theory.learner.copy_lag=1", "theory.learner.copy_lag decides the program"),
        ("theory", "theory.learner.rule_weights.jazz=1", "jazz is no hyperparameter of theory"),
        ("theory", "scale=1", "scale is no hyperparameter of theory and cannot be swept; there are theory."),
        (
            "theory",
            "prior.learner.max_grad_norm=1",
            "prior.learner.max_grad_norm is no hyperparameter of theory",
        ),
        ("prior", "prior.learner.num_updates=1,2", "prior.learner.num_updates decides"),
        ("gail", "gail.learner.ppo.hidden=3", "gail.learner.ppo.hidden decides"),
        (
            "prior",
            "prior.learner.lr_warmup_steps=1.5",
            "prior.learner.lr_warmup_steps asks for whole numbers, not 1.5",
        ),
        ("theory", "theory.learner.tau=2", "theory.learner.tau is between 0 and 1, not 2"),
        ("theory", "theory.learner.reward_scale=a", "not 'theory.learner.reward_scale=a'"),
        ("theory", "theory.learner.reward_scale", "not 'theory.learner.reward_scale'"),
        ("theory", "theory.learner.reward_scale=nan", "scale is between"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_a_line(taught, tmp_path, capsys, monkeypatch, stage, given, said):
    monkeypatch.setattr(cli, "keep_programs", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    argv = ["sweep", stage, "--from", str(taught), "--out", str(tmp_path / "out"), "--set", given]
    assert cli.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mammadai: ") and said in line
    assert not (tmp_path / "out").exists()


def test_a_run_without_what_comes_before_is_refused(tmp_path):
    with Run(tmp_path / "run", {"settings": as_dict(TINY)}):
        pass
    for stage, before in (("theory", "prior"), ("gail", "cloning"), ("preference", "prompted")):
        with pytest.raises(ValueError, match=f"no stage '{before}' yet"):
            sweep.sweep(tmp_path / "run", STAGES, stage, tmp_path / "out", {})
    with pytest.raises(ValueError, match="holds no run"):
        sweep.sweep(tmp_path, STAGES, "theory", tmp_path / "out", {})
    with pytest.raises(SettingsError):
        sweep.fitted(RUN, PARTS["theory"], {"theory.num_updates": (1.0,)})
    assert not (tmp_path / "out").exists()
