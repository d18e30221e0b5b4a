import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.learning import collectives
from mammadai_jax.training import dumps, loop, nonfinite
from mammadai_jax.training.replay import made_again
from mammadai_jax.training.sharding import ALONE, Placement
from tests.agents import injection
from tests.agents.learners import LEARNERS, numbers

UPDATES = 9


def test_what_is_finite():
    sound = {"key": jax.random.key(0), "count": jnp.int32(3), "x": jnp.zeros(2), "none": jnp.zeros((0,))}
    assert nonfinite.finite(sound) and nonfinite.finite({})
    for value in (np.nan, np.inf, -np.inf):
        assert not nonfinite.finite(sound | {"y": jnp.array([[0.0], [value]])})


def test_a_value_on_one_shard_is_seen_by_all():
    rows = jnp.array([0.0, jnp.nan, 1.0, 2.0])
    of_shard = lambda state, data: (state, nonfinite.finite(data[collectives.index()]))
    for data, finite in ((rows, False), (jnp.zeros(4), True)):
        assert Placement(4).on_one_device(of_shard, ())((), data)[1] == finite


class Injected:
    """A learner into which values are put, by programs that all of them share."""

    def __init__(self, name):
        self.tiny = LEARNERS[name]
        self.learner = loop.Learner(
            name=name,
            init=lambda: self.tiny.init(jax.random.key(0), self.tiny.config),
            step=injection.injected(self.tiny),
            data=(self.tiny.data, injection.injection("loss", "nan", 0, 0)),
            updates=UPDATES,
            chunk=UPDATES,
            notes=1,
            shown="",
        )
        self.chunks = loop.Chunks(self.learner, ALONE, contextlib.nullcontext)
        self.first = jax.jit(self.learner.init)()

    def train(self, *given):
        """The state after UPDATES with a value put in, see `injection`, and their metrics."""
        self.learner = self.learner._replace(data=(self.tiny.data, injection.injection(*given)))
        self.chunks.learner = self.learner
        self.chunks.guarded = self.chunks.guarded._replace(data=self.learner.data)
        return self.chunks.make(jax.tree.map(jnp.copy, self.first), UPDATES, 0)

    def check(self, place, value, at, replayed=True):
        """One value is survived; from an update on it stops the training, and a replay finds it."""
        guarded, metrics = self.train(place, value, at, at + 1)
        assert nonfinite.finite(guarded.state) and metrics[nonfinite.SKIPPED] == 1
        assert (guarded.in_a_row, guarded.made, guarded.state.update) == (0, UPDATES, UPDATES)
        guarded, metrics = self.train(place, value, at, 100)
        assert nonfinite.finite(guarded.state) and guarded.in_a_row == nonfinite.LIMIT
        assert guarded.made == at + nonfinite.LIMIT == guarded.state.update + 1
        if replayed:
            arrays = dumps.arrays_of(state=guarded.state, data=self.learner.data)
            found = made_again(dumps.Dump("tiny", 1, arrays), self.learner, ALONE).origin
            assert "(corrupt)" in found.place[0] and found.operation == "log", (place, value, found)


@pytest.fixture(scope="module")
def cloning():
    return Injected("cloning")


@pytest.mark.parametrize("value", injection.VALUES)
@pytest.mark.parametrize("place", injection.places_of(LEARNERS["cloning"]))
def test_a_value_is_survived_once_and_found_when_it_persists(cloning, place, value):
    replayed = value == {"loss": "inf", "gradient": "-inf", "data": "nan"}[place]
    cloning.check(place, value, 2, replayed)


@pytest.mark.nightly
@pytest.mark.parametrize("name", LEARNERS)
def test_so_in_every_learner_at_random_updates(name):
    learner, random = Injected(name), np.random.default_rng(len(name))
    for place in injection.places_of(LEARNERS[name]):
        for value in injection.VALUES:
            learner.check(place, value, int(random.integers(UPDATES - nonfinite.LIMIT)))


def test_a_value_in_the_data_itself_is_named(cloning):
    data = cloning.tiny.data.replace(observation=jnp.full_like(cloning.tiny.data.observation, jnp.nan))
    arrays = dumps.arrays_of(state=cloning.first, data=(data, cloning.learner.data[1]))
    assert str(made_again(dumps.Dump("cloning", 5, arrays), cloning.learner, ALONE)).startswith(
        "stage cloning, update 5: nan is in what the update began with, data.0.observation, and reaches "
    )


def test_numbers_of_a_state_are_dumped_and_read(tmp_path):
    state = {"key": jax.random.key(3), "x": jnp.arange(3.0), "n": jnp.int32(2)}
    dump = dumps.Dump("walk", 7, dumps.arrays_of(state=state, data=jnp.ones((2, 2))))
    dumps.write(dump.path(tmp_path), dump)
    again = dumps.read(dump.path(tmp_path))
    assert (again.stage, again.update) == ("walk", 7)
    found = again.fill("state", jax.eval_shape(lambda: state))
    jax.tree.map(np.testing.assert_array_equal, numbers(found), numbers(state))
    assert again.fill("data", np.ones((5, 5), np.float32), any_length=True).shape == (2, 2)
    for other in ({"x": np.zeros(4, np.float32)}, {"x": np.zeros(3, np.int32)}, {"y": np.zeros(3)}):
        with pytest.raises(dumps.DumpError, match="written under other settings, or by another version"):
            again.fill("state", other)


def test_what_is_no_dump_is_refused_in_a_line(tmp_path):
    path = dumps.Dump("walk", 7, {}).path(tmp_path)
    with pytest.raises(dumps.DumpError, match=r"is no file: name a dump, RUN/nonfinite/STAGE-UPDATE.npz"):
        dumps.read(path)
    dumps.write(path, dumps.Dump("walk", 7, {"state": np.arange(100.0)}))
    whole = path.read_bytes()
    for damage in (b"", b"nothing", whole[:-30], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]):
        path.write_bytes(damage)
        with pytest.raises(dumps.DumpError, match="was damaged"):
            dumps.read(path)
    np.savez(path, about=np.array('{"stage": "walk", "update": 1, "format": 99}'))
    with pytest.raises(dumps.DumpError, match="no dump of format 1"):
        dumps.read(path)
    np.savez(path, about=np.array([{}], dtype=object))  # a pickle, which is never opened
    with pytest.raises(dumps.DumpError, match="was damaged"):
        dumps.read(path)
