"""Programs by others on our environments: of gymnax and jaxnasium, where these are installed."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import classic
from mammadai_jax import environments, spaces
from mammadai_jax.agents import ppo
from mammadai_jax.environments import ENVIRONMENTS, make

gymnax = pytest.importorskip("gymnax")
wrappers = pytest.importorskip("gymnax.wrappers")
gymnax_spaces = pytest.importorskip("gymnax.environments.spaces")
rollouts = pytest.importorskip("gymnax.experimental.rollout")

pytestmark = pytest.mark.nightly


def test_check_accepts_an_environment_of_gymnax():
    env, params = gymnax.make("CartPole-v1")
    environments.check(env, params, steps=60)
    with pytest.raises(AssertionError, match="no episode ended"):
        environments.check(env, params, steps=1)


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


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_gymnax_wrappers(name):
    one = lambda *_: jnp.float32(1.0)
    env, params = make(
        name, **({"rules": {"one": one}} if name in ("polyphonic", "theory") else {"reward": one})
    )
    params = params.replace(max_steps_in_episode=12)
    env = wrappers.StickyActionWrapper(wrappers.LogWrapper(wrappers.FlattenObservationWrapper(env)), 0.5)
    assert env.observation_space(params).shape == env.reset(jax.random.key(0), params)[0].shape

    def step(state, key):
        _, state, *_, info = env.step(key, state, 0, params)
        return state, info

    _, state = env.reset(jax.random.key(0), params)
    _, info = jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 30))
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


@pytest.mark.parametrize(
    ("ours", "theirs"), [(classic.CartPole(), "CartPole-v1"), (classic.Catch(), "Catch-bsuite")]
)
def test_classic_tasks_equal_those_of_gymnax(ours, theirs):
    env, params = gymnax.make(theirs)
    key = jax.random.key(0)
    _, state = env.reset(key, params)
    if theirs == "CartPole-v1":
        place = jnp.stack([state.x, state.x_dot, state.theta, state.theta_dot])
        mine = classic.CartPoleState(jnp.int32(0), place)
    else:
        mine = classic.CatchState(jnp.int32(0), state.ball_x, state.paddle_x)
    ended = False
    for action in np.random.default_rng(0).integers(0, ours.num_actions, 100):
        _, state, *expected, info = env.step(key, state, action, params)
        _, mine, *found, ours_info = ours.step(key, mine, action)
        np.testing.assert_allclose(found, expected)
        seen = ours_info["final_observation"], jnp.ravel(info["final_observation"])
        np.testing.assert_allclose(*seen, atol=1e-5)
        if ended := bool(found[1]):
            break
    assert ended


def test_ppo_learns_on_an_environment_of_gymnax():
    env, params = gymnax.make("CartPole-v1")
    config = ppo.Config(hidden=(8,), num_envs=4, num_steps=32, num_minibatches=4)
    step = jax.jit(lambda state: ppo.step(state, config, env, params))
    state, metrics = step(ppo.init(jax.random.key(0), config, env, params))
    assert int(state.update) == 1 and metrics["return"] > 5


def test_gymnax_rollout_gives_the_return():
    env, params = make("rl_tuner", reward=lambda state, action, after: jnp.float32(1.0))
    runner = rollouts.RolloutWrapper(env=env, env_params=params)
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
    embedding_template = trainer.init_agent(jax.random.key(1), wrapped)
    returns = trainer.evaluate(jax.random.key(2), embedding_template, wrapped, 20, False)
    assert returns.mean() < random
    trained, _ = trainer.train(jax.random.key(0), wrapped)
    returns = trainer.evaluate(jax.random.key(2), trained, wrapped, 20, False)
    assert returns.mean() > goal, f"the mean return after training is {returns.mean():.1f}"
