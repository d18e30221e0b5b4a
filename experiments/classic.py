"""PPO and Q-learning on two classic tasks: the learners are not made for music alone.

    python -m experiments.classic [--seeds 10]

* CartPole-v1 by PPO: seeds whose policy reaches a return of 475 of 500 after 500,000 steps;
* Catch (bsuite) by double Q-learning: the mean return, of at most 1.

All seeds of a task are one vmapped program. Returns are means of 100 episodes of the greedy policy. Prints a
table. The two environments are on gymnax's contract, and equal those of gymnax step by step.
"""

from __future__ import annotations

import argparse
import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mammadai_jax import spaces
from mammadai_jax.agents import dqn, ppo
from mammadai_jax.environments import episodes
from mammadai_jax.learning.rollout import rollout

EPISODES = 100  # of an evaluation


class Classic:
    """Time limits and automatic resets of gymnax's contract; a subclass gives `begin` and `advance`."""

    num_actions: int
    max_steps: int

    @property
    def default_params(self) -> None:
        """None: nothing of these tasks can be changed."""
        return

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """All actions."""
        del params
        return spaces.Discrete(self.num_actions)

    def begin(self, key: jax.Array) -> Any:
        """The first state of an episode."""
        raise NotImplementedError

    def advance(self, state: Any, action: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        """-> the next state, reward (), whether it is terminal ()."""
        raise NotImplementedError

    def observe(self, state: Any) -> jax.Array:
        """The observation of a state, float32 (D,)."""
        raise NotImplementedError

    def reset(self, key: jax.Array, params: Any = None) -> tuple[jax.Array, Any]:
        """-> observation, state."""
        del params
        state = self.begin(key)
        return self.observe(state), state

    def step(self, key: jax.Array, state: Any, action: jax.Array, params: Any = None) -> tuple:
        """-> observation, state, reward, terminated, truncated, info."""
        after, reward, terminated = self.advance(state, action)
        truncated = after.time >= self.max_steps
        final, (fresh, fresh_state) = self.observe(after), self.reset(key, params)
        select = functools.partial(jnp.where, terminated | truncated)
        observation, state = jax.tree.map(select, (fresh, fresh_state), (final, after))
        return observation, state, reward, terminated, truncated, {"final_observation": final}


@struct.dataclass
class CartPoleState:
    """int32 `time`; position, velocity, angle and angular velocity, float32 (4,)."""

    time: jax.Array
    place: jax.Array


class CartPole(Classic):
    """CartPole-v1 (Barto et al. 1983): every step earns 1 until the pole falls or the cart leaves."""

    num_actions, max_steps = 2, 500

    def observation_space(self, params: Any = None) -> spaces.Box:
        """Position, velocity, angle, angular velocity."""
        del params
        return spaces.Box(-np.inf, np.inf, (4,))

    def begin(self, key: jax.Array) -> CartPoleState:
        """Near the upright position."""
        return CartPoleState(jnp.int32(0), jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05))

    def advance(self, state, action):
        """Euler's method, 0.02 s a step; a force of 10 N; a pole of 0.1 kg and 1 m on a cart of 1 kg."""
        _, speed, angle, spin = state.place
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        push = (10.0 * (2 * action - 1) + 0.05 * spin**2 * sine) / 1.1
        spin_change = (9.8 * sine - cosine * push) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
        speed_change = push - 0.05 * spin_change * cosine / 1.1
        place = state.place + 0.02 * jnp.stack([speed, speed_change, spin, spin_change])
        terminated = (jnp.abs(place[0]) > 2.4) | (jnp.abs(place[2]) > 12 * 2 * np.pi / 360)
        return CartPoleState(state.time + 1, place), jnp.float32(1.0), terminated

    def observe(self, state):
        """All of it but the time."""
        return state.place


@struct.dataclass
class CatchState:
    """int32 `time`, which is also the ball's row, `ball` and `paddle`: their columns."""

    time: jax.Array
    ball: jax.Array
    paddle: jax.Array


class Catch(Classic):
    """A ball falls through ten rows of five columns (Osband et al. 2020): 1 if it is caught, -1 if not."""

    num_actions, max_steps, rows, columns = 3, 1000, 10, 5

    def observation_space(self, params: Any = None) -> spaces.Box:
        """The board, row by row."""
        del params
        return spaces.Box(0.0, 1.0, (self.rows * self.columns,))

    def begin(self, key: jax.Array) -> CatchState:
        """The ball anywhere in the first row, the paddle in the middle of the last."""
        return CatchState(jnp.int32(0), jax.random.randint(key, (), 0, self.columns), jnp.int32(2))

    def advance(self, state, action):
        """Left, stay, right; the ball falls by one row."""
        paddle = jnp.clip(state.paddle + action - 1, 0, self.columns - 1)
        terminated = state.time + 1 == self.rows - 1
        reward = jnp.where(terminated, jnp.where(paddle == state.ball, 1.0, -1.0), 0.0)
        return CatchState(state.time + 1, state.ball, paddle), reward, terminated

    def observe(self, state):
        """1 where the ball is and where the paddle is."""
        cells = jnp.arange(self.rows * self.columns)
        paddle = (self.rows - 1) * self.columns + state.paddle
        return ((cells == state.time * self.columns + state.ball) | (cells == paddle)).astype(jnp.float32)


class Task(NamedTuple):
    """A learner (a module of `agents`) and its config, an environment, steps to train, a return to reach."""

    name: str
    learner: Any
    config: Any
    env: Classic
    steps: int
    goal: float


TASKS = [
    Task(
        "CartPole-v1, PPO",
        ppo,
        ppo.Config(num_envs=16, num_steps=128, num_epochs=4, num_minibatches=8, learning_rate=1e-3),
        CartPole(),
        steps=500_000,
        goal=475.0,
    ),
    Task(
        "Catch, double Q-learning",
        dqn,
        dqn.Config(num_envs=16, num_steps=4, epsilon_decay=10_000),
        Catch(),
        steps=100_000,
        goal=0.95,
    ),
]


def greedy_return(task: Task, params: Any, key: jax.Array) -> jax.Array:
    """Mean return of the first episodes of the greedy policy, float32 ()."""
    network = task.learner.make_network(task.config, task.env)

    def policy(params, observation, carry, key):
        del key
        output = network.apply(params, observation)
        logits = output[0] if task.learner is ppo else output
        action = logits.argmax(axis=-1)
        return action, jnp.zeros(action.shape), carry

    key, key_play = jax.random.split(key)
    trajectory = rollout(
        policy, params, (), episodes.begin(key, task.env, None, EPISODES), key_play, task.env.max_steps,
        advance=episodes.make_advance(task.env, None),
        observe=lambda now: now.observation,
    )[0]  # fmt: skip
    outcome = trajectory.reward
    first = jnp.cumprod(jnp.concatenate([jnp.ones((1, EPISODES)), outcome.discount[:-1]]), axis=0)
    return (first * outcome.reward).sum(axis=0).mean()


def measure(task: Task, seeds: int) -> tuple[np.ndarray, float]:
    """The greedy policies' mean returns, sorted, of all seeds side by side; seconds without compilation."""
    learner, config, env = task.learner, task.config, task.env
    keys, keys_evaluate = jax.random.split(jax.random.key(0), (2, seeds))
    states = jax.jit(jax.vmap(lambda key: learner.init(key, config, env)))(keys)
    step = jax.jit(jax.vmap(lambda state: learner.step(state, config, env)[0]), donate_argnums=0)
    program = step.lower(states).compile()
    begun = time.perf_counter()
    for _ in range(task.steps // (config.num_envs * config.num_steps)):
        states = program(states)
    states = jax.block_until_ready(states)
    seconds = time.perf_counter() - begun
    evaluate = jax.jit(jax.vmap(lambda params, key: greedy_return(task, params, key)))
    return np.sort(np.asarray(evaluate(states.params, keys_evaluate))), seconds


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    print("| task | steps | goal | seeds that reach it | lowest return | median return | seconds |")
    print("|---|---|---|---|---|---|---|")
    for task in TASKS:
        found, seconds = measure(task, args.seeds)
        reached = f"{(found >= task.goal).sum()} of {args.seeds}"
        returns = f"{found[0]:.4g} | {np.median(found):.4g}"
        print(
            f"| {task.name} | {task.steps:,} | {task.goal:g} | {reached} | {returns} | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
