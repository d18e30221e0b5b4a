import dataclasses

import jax
import numpy as np
import pytest

from mammadai_jax.environments import frames_from_events
from mammadai_jax.stages import divided, gail
from mammadai_jax.stages.accompanied import LENGTH, imitation_data
from mammadai_jax.training.context import context_of
from mammadai_jax.training.settings import SettingsError, overlay
from mammadai_jax.training.stage import ComposeRequest
from tests.training.tiny import ROAD


def test_ten_tunes_in_three_keys_are_shown_to_imitation():
    demonstrations = imitation_data("counts", "both").demonstrations
    assert demonstrations.action.shape == (30 * LENGTH,)
    assert demonstrations.observation.shape[0] == 30 * LENGTH


def test_the_task_may_be_made_first_where_a_program_is_traced():
    imitation_data.cache_clear()
    jax.eval_shape(lambda: imitation_data("counts", "melody").env.reset(jax.random.key(0)))
    task = imitation_data("counts", "melody")
    leaves = jax.tree.leaves((task.params, vars(task.env)))
    assert not [leaf for leaf in leaves if isinstance(leaf, jax.core.Tracer)]
    jax.eval_shape(lambda: task.env.reset(jax.random.key(0)))


def test_the_published_task_is_an_option_of_cloning(tmp_path):
    published = {"cloning": {"metre": False, "progressions": False}}
    for settings, pieces, size in ((ROAD, 30, 276), (overlay(ROAD, published, "here"), 15, 256)):
        task = gail.task(context_of(*divided(settings), tmp_path))
        assert task.params.backing.shape[0] == pieces and task.env.observation_size == size
        assert [a.piece for a in task.backings] == list(range(pieces // 3))


def test_the_chord_of_a_bar_is_observed_below_the_notes_of_the_line():
    task = imitation_data("snapshot", "accompaniment", progressions=True)
    backing = np.asarray(task.params.backing)[:, :LENGTH]
    for arranged in task.arrangements:
        rows, frames = backing[arranged.piece], frames_from_events(arranged.line, LENGTH)
        np.testing.assert_array_equal(rows[:, 12:], frames[:, 12:])
        for step in range(0, LENGTH, 16):
            chord = [symbol.chord for symbol in arranged.chords if symbol.step <= step][-1]
            assert set(np.flatnonzero(rows[step + 15, :12])) == chord.classes
    assert not np.asarray(imitation_data("snapshot", "accompaniment").params.backing)[..., :12].any()


def test_melodies_are_composed_over_the_accompaniments_that_were_learned_from(taught):
    context = context_of(*divided(ROAD), taught)
    task = gail.task(context)
    samples = gail.compose(
        ROAD.gail, context, context.learned("cloning"), jax.random.key(0), ComposeRequest(11, bars=1)
    )
    assert [sample.title for sample in samples[:2]] == [
        f"GAIL {i + 1} over {task.backings[i].backing}" for i in range(2)
    ]
    for sample, backing in zip(samples, [*task.backings, task.backings[0]], strict=True):
        np.testing.assert_array_equal(sample.line, backing.line[:16])


def test_gail_begins_with_the_cloned_parameters(taught):
    context = context_of(*divided(ROAD), taught)
    learner = gail.make_learner(ROAD.gail, context, ())
    warm = jax.jit(lambda: learner.init().policy.params)()
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, warm, context.learned("cloning"))))


def test_without_cloning_gail_begins_from_scratch(tmp_path):
    settings = overlay(ROAD, {"cloning": {"num_updates": 0}}, "here")
    context = context_of(*divided(settings), tmp_path)
    assert context.learned("cloning") is None
    begun, scratch = (
        jax.jit(make)()
        for make in (
            lambda: gail.make_learner(settings.gail, context, ()).init().policy.params,
            lambda: gail.template(settings.gail, context).policy.params,
        )
    )
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, begun, scratch)))


def test_a_policy_of_another_size_than_the_cloned_one_is_refused(taught):
    settings = overlay(ROAD, {"gail": {"learner": {"ppo": {"hidden": [9]}}}}, "here")
    context = dataclasses.replace(context_of(*divided(settings), taught), learned=lambda name: name)
    with pytest.raises(SettingsError, match=r"gail.learner.ppo.hidden \(9,\) is not cloning.learner.hidden"):
        gail.make_learner(settings.gail, context, ())
