"""gymnax 1.0's contract as a check for any environment."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp


def check(env: Any, params: Any = None, key: jax.Array | None = None, steps: int = 300) -> None:
    """Check an environment, of any package, against gymnax 1.0's contract.

    Args:
        env: the environment.
        params: its params, its own by default.
        key: of the random actions, ().
        steps: how many to take; an episode must end within them, so that its end is checked.

    Raises:
        AssertionError: naming the first violation.

    """
    params = env.default_params if params is None else params
    key = jax.random.key(0) if key is None else key
    obs, state = jax.jit(env.reset)(key, params)
    observations, actions = env.observation_space(params), env.action_space(params)
    assert (obs.shape, obs.dtype) == (observations.shape, observations.dtype), "reset leaves the space"
    step, ended = jax.jit(env.step), False
    for index, (key_action, key_step) in enumerate(jax.random.split(key, (steps, 2))):
        action = actions.sample(key_action)
        assert bool(actions.contains(action)), "a sampled action is not in its space"
        before = state
        obs, state, reward, terminated, truncated, info = step(key_step, state, action, params)
        assert bool(observations.contains(obs)), f"the observation after step {index} is not in its space"
        chex.assert_trees_all_equal_shapes_and_dtypes(before, state)
        chex.assert_shape([reward, terminated, truncated], ())
        assert terminated.dtype == truncated.dtype == jnp.bool_, "end flags are not bool"
        assert "final_observation" in info, 'info has no "final_observation"'
        chex.assert_trees_all_equal_shapes_and_dtypes(info["final_observation"], obs)
        if bool(terminated) or bool(truncated):
            ended = True
            assert int(state.time) == 0, "the state after an end is not a fresh one"
        else:
            chex.assert_trees_all_equal(info["final_observation"], obs)
    assert ended, f"no episode ended within {steps} steps: allow more, so that the end is seen"
    again = step(key_step, before, action, params)
    chex.assert_trees_all_equal(again[:4], (obs, state, reward, terminated))
