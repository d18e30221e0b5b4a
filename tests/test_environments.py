import functools
import sys
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import environment as benchmark
from mammadai_jax import environments, spaces
from mammadai_jax.environments import ENVIRONMENTS, RLTuner, frames_from_events, make, represent
from mammadai_jax.music import harmony
from mammadai_jax.music.notes import HOLD, OFF

REPRESENTATIONS = ("snapshot", "counts", "decayed")
SOURCES = ("accompaniment", "melody", "both")
MELODY, THEORY, ACCOMPANIED = {"name": "rl_tuner"}, {"name": "theory"}, {"name": "accompanied"}
POLYPHONIC = {"name": "polyphonic", "config": harmony.Config(voices=2, frames=8)}
SNAPSHOT, COUNTS, DECAYED = (
    {**ACCOMPANIED, "representation": representation, "source": "both"} for representation in REPRESENTATIONS
)
IN_TIME = {**SNAPSHOT, "metre": True}


@functools.cache
def made(**kwargs):
    """An environment that tests share, so that its step is compiled once."""
    return make(**kwargs)


def rollout(env, params, actions):
    """Observations (T + 1, ...) from reset on, the first state, and the stacked rest of step."""
    obs, first = env.reset(jax.random.key(0), params)
    state, rows = first, []
    for time, action in enumerate(np.asarray(actions, np.int32)):
        row = env.step(jax.random.key(time + 1), state, action, params)
        state, rows = row[1], [*rows, jax.tree.map(np.asarray, row)]
    later, *rest = jax.tree.map(lambda *x: np.stack(x), *rows)
    return np.concatenate([np.asarray(obs)[None], later]), first, *rest


# The same observations, from Lowe's and Jaques's words, with loops and NumPy only.


def seen_rl_tuner(actions):
    rows, last = [], 38
    for t in range(len(actions) + 1):
        row = np.zeros(39 + 16 + 8)
        row[last] = 1
        row[39 + t % 16] = 1
        row[55 + (t // 16) % 8] = 1
        rows.append(row)
        last = actions[t] if t < len(actions) else None
    return np.array(rows)


def sounding(tokens):
    """Frames (T, 128) of piano tokens: 0 is silence, 1 is A0."""
    frames = np.zeros((len(tokens), 128))
    for t, token in enumerate(tokens):
        if token > 0:
            frames[t, token + 20] = 1
    return frames


def seen_accompaniment(frames, representation):
    """Row t: with the frame of step t; one row more than frames, as the last."""
    rows, counts, decayed = [], np.zeros(128), np.zeros(128)
    most = max(frames.sum(axis=0).max(), 1)
    for frame in frames:
        counts = counts + frame
        decayed = np.where(frame > 0, 1.0, decayed * 255 / 256)
        rows.append({"snapshot": frame, "counts": counts / most, "decayed": decayed}[representation])
    return np.array([*rows, rows[-1]])


def seen_melody(frames, representation):
    """Row t: before the note of step t is chosen."""
    rows, counts, decayed, frame = [np.zeros(128)], np.zeros(128), np.zeros(128), None
    for frame in frames:
        counts = counts + frame
        decayed = np.where(frame > 0, 1.0, decayed * 255 / 256)
        seen = {"snapshot": frame, "counts": counts / max(counts.max(), 1), "decayed": decayed}
        rows.append(seen[representation])
    return np.array(rows)


@pytest.mark.parametrize(
    "kwargs", [MELODY, THEORY, POLYPHONIC, ACCOMPANIED, SNAPSHOT, COUNTS, DECAYED, IN_TIME]
)
def test_keeps_the_contract(kwargs):
    env, params = made(**kwargs)
    environments.check(env, params.replace(max_steps_in_episode=20), steps=45)
    assert env.action_space(params).n == env.num_actions


class WrongDtype(RLTuner):
    def observe(self, state, params):
        return super().observe(state, params).astype(jnp.int32)


class OutOfBounds(RLTuner):
    def observe(self, state, params):
        return super().observe(state, params) + state.time


class ChangesStructure(RLTuner):
    def step(self, key, state, action, params=None):
        obs, state, *rest = super().step(key, state, action, params)
        return obs, {"time": state.time, "token": state.token}, *rest


class WeakensDtype(RLTuner):
    def step(self, key, state, action, params=None):
        obs, state, *rest = super().step(key, state, action, params)
        return obs, state.replace(time=state.time.astype(jnp.float32)), *rest


class ForgetsFinalObservation(RLTuner):
    def step(self, key, state, action, params=None):
        *rest, info = super().step(key, state, action, params)
        return *rest, {name: value for name, value in info.items() if name != "final_observation"}


class NeverResets(RLTuner):
    def step(self, key, state, action, params=None):
        params = self.default_params if params is None else params
        obs, state, reward, terminated, info = self.step_env(key, state, action, params)
        return obs, state, reward, terminated, jnp.zeros((), bool), {**info, "final_observation": obs}


class NeverEnds(RLTuner):
    @property
    def default_params(self):
        return environments.Params(max_steps_in_episode=1 << 30)


class IntegerFlags(RLTuner):
    def step(self, key, state, action, params=None):
        obs, state, reward, terminated, *rest = super().step(key, state, action, params)
        return obs, state, reward, terminated.astype(jnp.int32), *rest


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (WrongDtype, "leaves the space"),
        (OutOfBounds, "not in its space"),
        (ChangesStructure, "tree structs"),
        (WeakensDtype, "dtype"),
        (ForgetsFinalObservation, "final_observation"),
        (NeverResets, "not a fresh one"),
        (NeverEnds, "no episode ended"),
        (IntegerFlags, "not bool"),
    ],
)
def test_check_refuses_what_is_broken(broken, complaint):
    with pytest.raises(AssertionError, match=complaint):
        environments.check(broken(), steps=40)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("source", SOURCES)
def test_accompanied_observations_equal_numpy(random, representation, source):
    backing = random.random((5, 256, 128)) < 0.03
    actions = np.where(random.random(256) < 0.3, 0, random.integers(0, 89, 256))
    kind = {**ACCOMPANIED, "representation": representation, "source": source}
    env, params = made(**kind)[0], make(**kind, accompaniments=backing)[1]
    obs, first, _, _, terminated, _, info = rollout(env, params, actions)
    assert terminated[-1]
    obs = np.append(obs[:256], info["final_observation"][-1:], axis=0)
    parts = []
    if source != "melody":
        parts.append(seen_accompaniment(backing[first.piece].astype(float), representation))
    if source != "accompaniment":
        parts.append(seen_melody(sounding(actions), representation))
    np.testing.assert_allclose(obs, np.concatenate(parts, axis=1), atol=1e-5)


@pytest.mark.parametrize("source", ["accompaniment", "both"])
def test_the_metre_is_observed_after_the_notes(source):
    kind = {**ACCOMPANIED, "source": source}
    (with_metre, params), (without, _) = made(**kind, metre=True), made(**kind)
    size = without.observation_size
    assert with_metre.observation_size == size + 20
    states = [with_metre.begin(jnp.int32(1)).replace(time=jnp.int32(time)) for time in range(130)]
    seen = np.stack([with_metre.observe(state, params) for state in states])
    plain = np.stack([without.observe(state, params) for state in states])
    np.testing.assert_array_equal(seen[:, :size], plain)
    np.testing.assert_array_equal(seen[:, size : size + 16].argmax(1), np.arange(130) % 16)
    np.testing.assert_array_equal(seen[:, size + 16 :].argmax(1), np.arange(130) // 16 % 4)
    np.testing.assert_array_equal(seen[:, size:].sum(1), 2)


def test_rl_tuner_observations_equal_numpy():
    params = environments.Params(max_steps_in_episode=256)
    actions = np.random.default_rng(3).integers(0, 38, 256)
    obs, *_, info = rollout(made(**MELODY)[0], params, actions)
    obs = np.append(obs[:256], info["final_observation"][-1:], axis=0)
    np.testing.assert_array_equal(obs, seen_rl_tuner(actions))


def test_default_accompaniments_repeat_their_bar():
    frames = environments.default_accompaniments()
    assert frames.shape == (5, 256, 128)
    np.testing.assert_array_equal(frames[:, :240], frames[:, 16:])
    assert frames.sum(axis=2).max() == 1 and frames.any(axis=(1, 2)).all()


def test_frames_hold_and_rest():
    frames = frames_from_events(np.array([60, HOLD, OFF, HOLD]), 8)
    np.testing.assert_array_equal(np.flatnonzero(frames[:, 60]), [0, 1, 4, 5])
    assert frames.sum() == 4


def test_decay_is_one_when_a_note_sounds_again():
    frames = np.zeros((1, 600, 128), bool)
    frames[0, [0, 512], 60] = True
    decayed = represent(frames, "decayed")[0, :, 60]
    np.testing.assert_allclose(decayed[[0, 1, 511, 512]], [1, 255 / 256, (255 / 256) ** 511, 1], rtol=1e-4)


@pytest.mark.parametrize("kwargs", [MELODY, THEORY, POLYPHONIC, DECAYED])
def test_a_melody_terminates_exactly_at_its_length(kwargs):
    env, params = made(**kwargs)
    params = params.replace(max_steps_in_episode=20)
    actions = np.arange(1, 42, dtype=np.int32) % env.num_actions
    obs, first, states, _, terminated, truncated, info = rollout(env, params, actions)
    np.testing.assert_array_equal(np.flatnonzero(terminated), [19, 39])
    np.testing.assert_array_equal(info["terminated"], terminated)
    np.testing.assert_array_equal(info["discount"], 1.0 - terminated)
    assert not truncated.any() and not info["truncated"].any()
    final = info["final_observation"]
    assert final.shape == obs[1:].shape and final.dtype == obs.dtype
    np.testing.assert_array_equal(final[~terminated], obs[1:][~terminated])
    longer = params.replace(max_steps_in_episode=100)
    for end in (19, 39):
        assert states.time[end] == 0 and not np.array_equal(final[end], obs[end + 1])
        assert states.token[end] == first.token
        before = jax.tree.map(lambda leaf, end=end: leaf[end - 1], states)
        goes_on = env.step(jax.random.key(0), before, actions[end], longer)[0]
        np.testing.assert_allclose(final[end], goes_on, atol=1e-6)


def test_another_accompaniment_is_drawn_after_the_end():
    env, params = made(**ACCOMPANIED)
    params = params.replace(max_steps_in_episode=1)
    _, _, states, *_ = rollout(env, params, np.zeros(100, np.int32))
    assert set(np.asarray(states.piece)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("representation", "expected"), [("counts", 1.0), ("decayed", 255 / 256)])
def test_long_melodies_do_not_overflow(representation, expected):
    frames = frames_from_events(np.array([60, HOLD, OFF, HOLD]), 64)[None]
    env, params = make("accompanied", representation=representation, source="melody", accompaniments=frames)
    params = params.replace(max_steps_in_episode=1 << 30)

    @jax.jit
    def play(memory):
        state = env.begin(jnp.int32(0)).replace(time=jnp.int32(70_000), memory=memory)
        state = env.advance(state, jnp.int32(40), params)  # middle C
        later = env.advance(state, jnp.int32(0), params)
        return env.observe(state, params)[60], env.observe(later, params)[60]

    memory = np.zeros(128, np.int32)
    if representation == "counts":
        memory[60] = 70_000
    now, later = play(memory)
    assert float(now) == 1.0
    np.testing.assert_allclose(later, expected, rtol=1e-6)


def test_jit_and_eager_agree():
    env, params = made(**MELODY)
    compiled = rollout(env, params, [0, 1, 2])
    with jax.disable_jit():
        eager = rollout(env, params, [0, 1, 2])
    chex.assert_trees_all_close(compiled, eager, atol=1e-6)


def test_params_may_be_left_out():
    env, params = made(**MELODY)
    key = jax.random.key(4)
    chex.assert_trees_all_equal(env.reset(key), env.reset(key, params))
    _, state = env.reset(key)
    chex.assert_trees_all_equal(env.step(key, state, 5), env.step(key, state, 5, params))


def test_vmap_over_keys_and_over_lengths():
    env, params = made(**DECAYED)
    lengths = np.arange(4, 12)
    many = params.replace(max_steps_in_episode=lengths)
    axes = params.replace(max_steps_in_episode=0, backing=None)
    keys = jax.random.split(jax.random.key(0), 8)
    _, state = jax.jit(jax.vmap(env.reset, in_axes=(0, axes)))(keys, many)
    assert len(set(np.asarray(state.piece))) > 1
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, axes)))
    ends = []
    for _ in range(11):
        _, state, _, terminated, _, _ = step(keys, state, np.arange(8), many)
        ends.append(terminated)
    np.testing.assert_array_equal(np.argmax(ends, axis=0) + 1, lengths)


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_step_is_traced_once(name):
    env, params = made(name=name)
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(env.step, n=1))
    _, state = env.reset(jax.random.key(0), params)
    for time in range(40):
        state = step(jax.random.key(time), state, np.int32(time % 3), params)[1]
    for length in (7, 9):
        step(jax.random.key(0), state, np.int32(0), params.replace(max_steps_in_episode=length))
    assert int(state.time) == 40 % int(params.max_steps_in_episode)


@pytest.mark.parametrize("kwargs", [THEORY, POLYPHONIC, DECAYED])
def test_no_key_is_used_twice(kwargs):
    with jax.debug_key_reuse(True):
        env, params = make(**kwargs)
        obs, *_ = rollout(env, params.replace(max_steps_in_episode=2), np.zeros(3, np.int32))
    assert len(obs) == 4


@pytest.mark.parametrize("kwargs", [MELODY, POLYPHONIC, DECAYED])
def test_float32_also_under_x64(kwargs):
    with jax.enable_x64(True):
        env, params = make(**kwargs)
        environments.check(env, params.replace(max_steps_in_episode=3), steps=5)
        assert env.reset(jax.random.key(0), params)[0].dtype == jnp.float32


def test_reward_sees_before_action_and_after():
    def reward(state, action, after):
        return 100.0 * state.token + 10.0 * action + (after.time - state.time)

    env, params = make("rl_tuner", reward=reward)
    _, _, _, rewards, *_ = rollout(env, params, [3, 5])
    np.testing.assert_array_equal(rewards, [3800 + 30 + 1, 300 + 50 + 1])
    assert not rollout(*made(**MELODY), [3, 5])[3].any()


def test_the_faithful_source_ignores_actions():
    env, params = made(**ACCOMPANIED, representation="counts", source="accompaniment")
    low, high = (rollout(env, params, np.full(50, action, np.int32))[0] for action in (0, 88))
    np.testing.assert_array_equal(low, high)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"representation": "counted"}, "representation is one of"),
        ({"source": "drums"}, "source is one of"),
        ({"accompaniments": np.zeros((256, 128), bool)}, r"\(pieces, steps, 128\), got \(256, 128\)"),
        ({"accompaniments": np.zeros((0, 256, 128), bool)}, "accompaniments are"),
        ({"accompaniments": np.zeros((1, 256, 88), bool)}, "accompaniments are"),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make("accompanied", **kwargs)


def test_unknown_names_and_batches_of_actions():
    with pytest.raises(
        ValueError, match=r"'improv'; there are \['accompanied', 'polyphonic', 'rl_tuner', 'theory'\]"
    ):
        make("improv")
    env, params = made(**MELODY)
    _, state = env.reset(jax.random.key(0), params)
    with pytest.raises(AssertionError):
        env.step(jax.random.key(0), state, np.arange(3), params)


@pytest.mark.parametrize(
    ("space", "inside", "outside"),
    [
        (spaces.Discrete(3), [0, 2], [-1, 3]),
        (spaces.Box(-1.0, 2.0, (2,)), [[-1.0, 2.0]], [[-1.1, 0.0], [0.0, 2.1]]),
    ],
)
def test_spaces_hold_what_they_sample(space, inside, outside):
    draw = jax.jit(jax.vmap(space.sample))(jax.random.split(jax.random.key(0), 200))
    assert draw.shape == (200, *space.shape) and draw.dtype == space.dtype
    contains = jax.jit(space.contains)
    assert all(contains(np.asarray(row)) for row in draw)
    lowest, highest = np.min(draw), np.max(draw)
    assert (lowest, highest) == (0, 2) if space.shape == () else lowest < -0.9 and highest > 1.9
    assert all(contains(np.asarray(x)) for x in inside)
    assert not any(contains(np.asarray(x)) for x in outside)


def test_spaces_of_an_environment(monkeypatch):
    """Our own, and those of gymnax once a program has imported that."""
    name = "gymnax.environments.spaces"
    monkeypatch.delitem(sys.modules, name, raising=False)
    env, params = made(**ACCOMPANIED)
    assert env.action_space(params) == env.action_space() == spaces.Discrete(89)
    assert env.observation_space(params) == env.observation_space() == spaces.Box(0.0, 1.0, (128,))
    assert spaces.Discrete(89).dtype == jnp.int32 and spaces.Box(0.0, 1.0, (128,)).dtype == jnp.float32
    fake = types.SimpleNamespace(Discrete=lambda n: ("theirs", n), Box=lambda *box: ("theirs", *box))
    monkeypatch.setitem(sys.modules, name, fake)
    assert env.action_space() == ("theirs", 89)
    assert env.observation_space() == ("theirs", 0.0, 1.0, (128,))


@pytest.mark.parametrize("variant", sorted(benchmark.VARIANTS))
def test_the_benchmark_compares_with_the_same_observations(variant):
    name, kwargs = benchmark.VARIANTS[variant]
    env, params = made(name=name, **kwargs)
    if name == "accompanied":  # whichever accompaniment is drawn, it is the first
        params = params.replace(backing=jnp.stack([params.backing[0]] * 5))
    actions = np.random.default_rng(0).integers(0, env.num_actions, 20)
    observe = benchmark.numpy_observer(env, params)
    theirs = [observe(time, int(action)) for time, action in enumerate(actions)]
    np.testing.assert_allclose(rollout(env, params, actions)[0][1:], theirs, atol=1e-5)
