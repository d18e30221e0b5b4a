import dataclasses

import numpy as np
import pytest

from experiments import diversity
from experiments.tables import write_csv
from mammadai_jax.music.notes import HOLD, MAGENTA
from mammadai_jax.stages import STAGES
from mammadai_jax.training.context import context_of, settings_of_run


def curve(*rewards, vendi):
    rows = zip(rewards, vendi, strict=True)
    rest = {"runs": 1.0, "shared": 0.0, "melodies": 1.0}
    return [{"update": 10.0 * n, "reward": r, "vendi": v, **rest} for n, (r, v) in enumerate(rows)]


def test_variants_are_compared_at_the_highest_reward_that_all_reach():
    curves = {
        "slow": curve(0.0, 1.0, 2.0, vendi=(100, 90, 80)),
        "fast": curve(0.0, 4.0, 8.0, 3.0, vendi=(100, 60, 20, 70)),
        "back": curve(0.0, 2.0, 1.0, vendi=(100, 50, 10)),
    }
    found = diversity.at_equal_reward(curves)
    assert list(found) == ["before", "slow", "fast", "back"]
    assert [row["reward"] for row in found.values()] == [0, 2, 3, 2]
    assert [row["vendi"] for row in found.values()] == [100, 80, 70, 50]
    assert [row["update"] for row in found.values()] == [0, 20, 30, 10]
    assert [row["vendi"] for row in diversity.at_the_end(curves).values()] == [100, 80, 70, 10]
    nothing_gained = diversity.at_equal_reward({"one": curve(1.0, 0.5, vendi=(9, 8))})
    assert nothing_gained["one"] == nothing_gained["before"]


def test_the_table_has_intervals_over_seeds():
    seeds = [diversity.at_equal_reward({"one": curve(0.0, 1.0, vendi=(100, v))}) for v in (50, 60)]
    lines = diversity.page(seeds).splitlines()
    assert lines[0] == "| 2 seeds | before | one |"
    assert f"| Vendi score | 100 ± 0 | 55 ± {5 * 12.7062:.2g} |" in lines


def test_measurements_are_read_as_they_were_written(tmp_path):
    rows = curve(0.1, 1 / 3, vendi=(7.25, 1e-9))
    write_csv(tmp_path / "one.csv", rows)
    assert diversity.read(tmp_path / "one.csv") == rows


def test_curves_are_means_over_seeds():
    runs = [{"one": curve(0.0, x, vendi=(100, 50 + x))} for x in (1.0, 3.0)]
    assert diversity.curves_of(runs) == {"one": [(0.0, 100.0), (2.0, 52.0)]}


def test_one_melody_again_and_again_is_not_diverse():
    events = np.full(96, HOLD)
    events[::4] = 60 + np.arange(24) % 12
    found = diversity.measure(np.stack([MAGENTA.encode(events)] * 5))
    assert found["vendi"] == pytest.approx(1) and found["melodies"] == 0.2 and found["shared"] == 1


@pytest.mark.nightly
@pytest.mark.parametrize("variant", diversity.VARIANTS)
def test_a_run_is_tuned_and_measured(taught, variant, monkeypatch):
    monkeypatch.setattr(diversity, "EVERY", 1)
    _, parts = settings_of_run(taught, STAGES)
    settings = dataclasses.replace(parts["preference"].settings, **diversity.VARIANTS[variant])
    context = context_of(*settings_of_run(taught, STAGES), taught)
    (rows,) = diversity.tuned(context, settings, [3])
    assert [row["update"] for row in rows] == list(range(settings.learner.num_updates + 1))
    assert all(np.isfinite(list(row.values())).all() and row["vendi"] >= 1 for row in rows)
