import importlib

import chex
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax import wrappers
from gymnax.environments import spaces as gymnax_spaces
from gymnax.experimental.rollout import RolloutWrapper

from benchmarks import environment as benchmark
from mammadai_jax import environments, spaces
from mammadai_jax.environments import ENVIRONMENTS, RLTuner, frames_from_events, make, represent
from mammadai_jax.music.notes import HOLD, OFF

REPRESENTATIONS = ("snapshot", "counts", "decayed")
SOURCES = ("accompaniment", "melody", "both")
VARIANTS = [("rl_tuner", {}), ("theory", {})] + [
    ("accompanied", {"representation": representation, "source": source})
    for representation in REPRESENTATIONS
    for source in SOURCES
]


def rollout(env, params, actions, key=None):
    """Observations (T + 1, ...) from reset on, and the stacked rest of step."""
    key = jax.random.key(0) if key is None else key
    obs, state = env.reset(key, params)

    def step(state, xs):
        obs, state, *rest = env.step(*(xs[0], state, xs[1], params))
        return state, (obs, state, *rest)

    keys = jax.random.split(jax.random.key(1), len(actions))
    _, (later, states, *rest) = jax.lax.scan(step, state, (keys, jnp.asarray(actions)))
    return jnp.concatenate([obs[None], later]), state, states, *rest


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


@pytest.mark.parametrize(("name", "kwargs"), VARIANTS)
def test_keeps_the_contract(name, kwargs):
    env, params = make(name, **kwargs)
    environments.check(env, params.replace(max_steps_in_episode=20), steps=45)


def test_check_accepts_an_environment_of_gymnax():
    environments.check(*gymnax.make("CartPole-v1"), steps=60)


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
def test_accompanied_observations_equal_numpy(representation, source, rng=7):
    rng = np.random.default_rng(rng)
    backing = rng.random((1, 256, 128)) < 0.03
    actions = np.where(rng.random(256) < 0.3, 0, rng.integers(0, 89, 256)).astype(np.int32)
    env, params = make("accompanied", representation=representation, source=source, accompaniments=backing)
    obs, _, _, _, _, _, info = rollout(env, params, actions)
    obs = np.append(obs[:256], info["final_observation"][-1:], axis=0)
    parts = []
    if source != "melody":
        parts.append(seen_accompaniment(backing[0].astype(float), representation))
    if source != "accompaniment":
        parts.append(seen_melody(sounding(actions), representation))
    np.testing.assert_allclose(obs, np.concatenate(parts, axis=1), atol=1e-5)


def test_rl_tuner_observations_equal_numpy():
    env, _ = make("rl_tuner")
    params = environments.Params(max_steps_in_episode=256)
    actions = np.random.default_rng(3).integers(0, 38, 256).astype(np.int32)
    obs, *_, info = rollout(env, params, actions)
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


@pytest.mark.parametrize(("name", "kwargs"), [VARIANTS[0], VARIANTS[1], VARIANTS[-1]])
def test_a_melody_terminates_exactly_at_its_length(name, kwargs):
    env, params = make(name, **kwargs)
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
    for end in (19, 39):
        assert states.time[end] == 0 and not np.array_equal(final[end], obs[end + 1])
        assert states.token[end] == first.token
        before = jax.tree.map(lambda leaf, end=end: leaf[end - 1], states)
        last = env.advance(before, actions[end], params)
        np.testing.assert_allclose(final[end], env.observe(last, params), atol=1e-6)


def test_another_accompaniment_is_drawn_after_the_end():
    env, params = make("accompanied")
    params = params.replace(max_steps_in_episode=1)
    _, _, states, *_ = rollout(env, params, np.zeros(100, np.int32))
    assert set(np.asarray(states.piece)) == {0, 1, 2, 3, 4}


def test_long_melodies_do_not_overflow():
    events = np.array([60, HOLD, OFF, HOLD])
    frames = frames_from_events(events, 64)[None]
    for representation in ("counts", "decayed"):
        env, params = make(
            "accompanied", representation=representation, source="melody", accompaniments=frames
        )
        params = params.replace(max_steps_in_episode=1 << 30)
        state = env.begin(jnp.int32(0)).replace(time=jnp.int32(70_000))
        if representation == "counts":
            state = state.replace(memory=state.memory.at[60].set(70_000))
        state = jax.jit(env.advance)(state, jnp.int32(40), params)  # middle C
        assert float(env.observe(state, params)[60]) == 1.0
        later = jax.jit(env.advance)(state, jnp.int32(0), params)
        expected = {"counts": 1.0, "decayed": 255 / 256}[representation]
        np.testing.assert_allclose(env.observe(later, params)[60], expected, rtol=1e-6)


@pytest.mark.parametrize(("name", "kwargs"), [VARIANTS[0], VARIANTS[-1]])
def test_jit_and_eager_agree(name, kwargs):
    env, params = make(name, **kwargs)
    compiled = rollout(env, params, np.arange(3, dtype=np.int32))
    with jax.disable_jit():
        eager = rollout(env, params, np.arange(3, dtype=np.int32))
    chex.assert_trees_all_close(compiled, eager, atol=1e-6)


@pytest.mark.parametrize("name", ["accompanied", "rl_tuner"])
def test_params_may_be_left_out(name):
    env, params = make(name)
    key = jax.random.key(4)
    chex.assert_trees_all_equal(env.reset(key), env.reset(key, params))
    _, state = env.reset(key)
    chex.assert_trees_all_equal(env.step(key, state, 5), env.step(key, state, 5, params))


def test_vmap_over_keys_and_over_lengths():
    env, params = make("accompanied", representation="decayed", source="both")
    lengths = jnp.arange(4, 12)
    many = params.replace(max_steps_in_episode=lengths)
    axes = params.replace(max_steps_in_episode=0, backing=None)
    keys = jax.random.split(jax.random.key(0), 8)
    _, state = jax.vmap(env.reset, in_axes=(0, axes))(keys, many)
    assert len(set(np.asarray(state.piece))) > 1
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, axes)))
    ends = []
    for _ in range(11):
        _, state, _, terminated, _, _ = step(keys, state, jnp.arange(8), many)
        ends.append(terminated)
    np.testing.assert_array_equal(np.argmax(ends, axis=0) + 1, lengths)


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_step_is_traced_once(name):
    env, params = make(name)
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(env.step, n=1))
    _, state = env.reset(jax.random.key(0), params)
    for time in range(40):
        state = step(jax.random.key(time), state, jnp.int32(time % 3), params)[1]
    for length in (7, 9):
        step(jax.random.key(0), state, jnp.int32(0), params.replace(max_steps_in_episode=length))


@pytest.mark.parametrize(("name", "kwargs"), [VARIANTS[0], VARIANTS[1], VARIANTS[-1]])
def test_no_key_is_used_twice(name, kwargs):
    with jax.debug_key_reuse(True):
        env, params = make(name, **kwargs)
        rollout(env, params.replace(max_steps_in_episode=5), np.zeros(8, np.int32))


def test_float32_also_under_x64():
    with jax.enable_x64(True):
        for name, kwargs in (VARIANTS[0], VARIANTS[-1]):
            env, params = make(name, **kwargs)
            environments.check(env, params.replace(max_steps_in_episode=3), steps=5)


def test_reward_sees_before_action_and_after():
    def reward(state, action, after):
        return 100.0 * state.token + 10.0 * action + (after.time - state.time)

    env, params = make("rl_tuner", reward=reward)
    _, _, _, rewards, *_ = rollout(env, params, np.array([3, 5], np.int32))
    np.testing.assert_array_equal(rewards, [3800 + 30 + 1, 300 + 50 + 1])
    assert not rollout(*make("rl_tuner"), np.array([3, 5], np.int32))[3].any()


def test_the_faithful_source_ignores_actions():
    env, params = make("accompanied", representation="counts")
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
    with pytest.raises(ValueError, match=r"'improv'; there are \['accompanied', 'rl_tuner', 'theory'\]"):
        make("improv")
    env, params = make("rl_tuner")
    _, state = env.reset(jax.random.key(0), params)
    with pytest.raises(AssertionError):
        env.step(jax.random.key(0), state, jnp.arange(3), params)


# Programs written for gymnax.


def test_spaces_are_those_of_gymnax_and_equal_ours():
    env, params = make("accompanied")
    actions, observations = env.action_space(params), env.observation_space(params)
    assert isinstance(actions, gymnax_spaces.Discrete) and isinstance(observations, gymnax_spaces.Box)
    key = jax.random.key(0)
    for theirs, ours in ((actions, spaces.Discrete(89)), (observations, spaces.Box(0.0, 1.0, (128,)))):
        assert (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype)
        chex.assert_trees_all_equal(theirs.sample(key), ours.sample(key))
        assert ours.contains(ours.sample(key)) and not ours.contains(jnp.full(ours.shape, 89))
    assert actions.n == spaces.Discrete(89).n == 89


def test_spaces_without_gymnax(monkeypatch):
    monkeypatch.delitem(importlib.sys.modules, "gymnax.environments.spaces")
    environments.check(*make("rl_tuner"), steps=40)
    assert isinstance(make("rl_tuner")[0].action_space(), spaces.Discrete)


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_gymnax_wrappers(name):
    one = lambda *_: jnp.float32(1.0)
    env, params = make(name, **({"rules": {"one": one}} if name == "theory" else {"reward": one}))
    params = params.replace(max_steps_in_episode=12)
    env = wrappers.StickyActionWrapper(wrappers.LogWrapper(wrappers.FlattenObservationWrapper(env)), 0.5)
    assert env.observation_space(params).shape == env.reset(jax.random.key(0), params)[0].shape
    *_, info = rollout(env, params, np.zeros(30, np.int32))
    np.testing.assert_array_equal(np.flatnonzero(info["returned_episode"]), [11, 23])
    assert info["returned_episode_returns"][-1] == info["returned_episode_lengths"][-1] == 12


@pytest.mark.parametrize("name", ["accompanied", "rl_tuner"])
def test_gymnax_adapters(name):
    env, params = make(name)
    params = params.replace(max_steps_in_episode=3)
    key = jax.random.key(0)

    legacy = wrappers.LegacyStepAPIWrapper(env)
    assert len(legacy.step(key, legacy.reset(key, params)[1], 0, params)) == 5

    timestep = (dm_env := wrappers.GymnaxToDmEnvWrapper(env)).reset(key, params)
    discounts = [(timestep := dm_env.step(key, timestep, 0, params)).discount for _ in range(3)]
    assert discounts == [1.0, 1.0, 0.0]

    gym = wrappers.GymnaxToGymWrapper(env, params, seed=1)
    obs, _ = gym.reset(seed=2)
    assert gym.action_space.n == env.num_actions and obs.shape == gym.observation_space.shape
    assert [bool(gym.step(0)[2]) for _ in range(3)] == [False, False, True]

    vector = wrappers.GymnaxToVectorGymWrapper(env, 4, params, seed=1)
    assert vector.reset()[0].shape == (4, env.observation_size) == vector.step(np.zeros(4, int))[0].shape


def test_gymnax_rollout_gives_the_return():
    env, params = make("rl_tuner", reward=lambda state, action, after: jnp.float32(1.0))
    runner = RolloutWrapper(env=env, env_params=params)
    *_, done, returns = runner.batch_rollout(jax.random.split(jax.random.key(0), 5), None)
    np.testing.assert_array_equal(returns, np.full((5, 1), 32.0))
    np.testing.assert_array_equal(done.sum(axis=1), np.ones(5))


def _tonic(state, action, after):
    """1 for middle C on the piano alphabet."""
    return jnp.float32(action == 40)


def _stepwise(state, action, after):
    """1 for a move by one or two semitones: depends on the note before."""
    move = jnp.abs(action - state.token)
    return jnp.float32(
        (move >= 1) & (move <= 2) & (jnp.minimum(action, state.token) >= 2) & (state.token < 38)
    )


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")  # not our package, not our warnings
@pytest.mark.parametrize(
    ("name", "reward", "random", "goal"),
    [("rl_tuner", _stepwise, 6.0, 20.0), ("accompanied", _tonic, 6.0, 128.0)],
)
def test_a_ppo_written_for_gymnax_learns(name, reward, random, goal):
    """jaxnasium's PPO, through its adapter for gymnax, on the environments as they are."""
    ppo = pytest.importorskip("jaxnasium.algorithms", exc_type=ImportError)
    adapter = pytest.importorskip("jaxnasium.wrappers").GymnaxWrapper
    env, params = make(name, reward=reward)
    wrapped = adapter(env, _params=params)
    settings = {"num_envs": 32, "num_steps": 64, "learning_rate_start": 3e-3, "warmup_steps": 32}
    trainer = ppo.PPO(total_timesteps=32_768, log_function=None, **settings)
    untrained = trainer.init_agent(jax.random.key(1), wrapped)
    returns = trainer.evaluate(jax.random.key(2), untrained, wrapped, 20, False)
    assert returns.mean() < random
    trained, _ = trainer.train(jax.random.key(0), wrapped)
    returns = trainer.evaluate(jax.random.key(2), trained, wrapped, 20, False)
    assert returns.mean() > goal, f"the mean return after training is {returns.mean():.1f}"


@pytest.mark.parametrize("variant", sorted(benchmark.VARIANTS))
def test_the_benchmark_compares_with_the_same_observations(variant):
    name, kwargs = benchmark.VARIANTS[variant]
    if name == "accompanied":
        kwargs = {**kwargs, "accompaniments": environments.default_accompaniments()[:1]}
    env, params = make(name, **kwargs)
    actions = np.random.default_rng(0).integers(0, env.num_actions, 20)
    observe = benchmark.numpy_observer(env, params)
    theirs = [observe(time, int(action)) for time, action in enumerate(actions)]
    np.testing.assert_allclose(rollout(env, params, actions)[0][1:], theirs, atol=1e-5)
