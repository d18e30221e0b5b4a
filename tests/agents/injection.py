"""Numbers that are not finite, put into the reward, the loss, the gradient or the data of any learner."""

import contextlib
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp

from mammadai_jax.agents import preference, projection
from mammadai_jax.environments import episodes
from mammadai_jax.learning import collectives
from mammadai_jax.objectives import returns, soft_backups

PLACES = ("reward", "loss", "gradient", "data")
VALUES = ("nan", "inf", "-inf")
# where each learner's reward is an argument of a function: owner, name, number of the argument
REWARDED = {
    "ppo": (returns, "advantages", 0),
    "ppo_episodes": (returns, "advantages", 0),
    "gail": (returns, "advantages", 0),
    "dqn": (episodes, "Outcome", 0),
    "melodies": (soft_backups, "reward", 0),
    "transitions": (soft_backups, "reward", 0),
    "projection": (projection, "Rewards", 0),
    "preference_ppo": (preference.losses, "penalised_gae", 0),
    "preference_critic": (preference.losses, "penalised_gae", 0),
    "preference_reinforce": (preference.losses, "monte_carlo", 0),
    "preference_grpo": (returns, "group_advantages", 0),
}


class Injection(NamedTuple):
    """What is put where and when, all of it numbers of one program.

    Attributes:
        place: index in PLACES.
        kind: index in VALUES.
        since: the first update that is changed, counted from 0.
        until: the first that is not changed any more.

    """

    place: jax.Array
    kind: jax.Array
    since: jax.Array
    until: jax.Array


def injection(place, value, since, until):
    numbers = PLACES.index(place), VALUES.index(value), since, until
    return Injection(*map(jnp.int32, numbers))


def corrupt(numbers, kind, now):
    """The numbers, or where `now` one of VALUES in the place of all, which arises here and is no input."""
    nan_or_inf = -jnp.log(jnp.where(kind == 0, -1.0, 0.0))
    return jnp.where(now, jnp.where(kind == 2, -1.0, 1.0) * nan_or_inf, numbers)


def places_of(learner):
    """Those of PLACES that a learner has."""
    floats = any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(learner.data))
    return [p for p in PLACES if {"reward": learner.name in REWARDED, "data": floats}.get(p, True)]


def first_float(tree, change):
    """The tree with its first array of floats changed."""
    leaves, structure = jax.tree.flatten(tree)
    index = next(i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating))
    leaves[index] = change(leaves[index])
    return jax.tree.unflatten(structure, leaves)


def injected(learner):
    """(state, (data, Injection)) -> (state, metrics): the learner's step with a value put into it."""

    def step(state, data):
        data, given = data
        now = (state.update >= given.since) & (state.update < given.until)
        change = {p: _change(given.kind, now & (given.place == PLACES.index(p))) for p in PLACES}
        with contextlib.ExitStack() as patches:
            for place in places_of(learner):
                if place == "data":
                    data = first_float(data, change[place])
                else:
                    patches.enter_context(_patched(learner, place, change[place]))
            return learner.step(state, learner.config, data)

    return step


def _change(kind, now):
    return lambda numbers: corrupt(numbers, kind, now)


def _patched(learner, place, change):
    """While a step is traced: its place is changed."""
    if place == "reward":
        return _argument_changed(*REWARDED[learner.name], change)
    return _value_and_grad_changed(place, change)


def _argument_changed(owner, name, number, change):
    function = getattr(owner, name)

    def changed(*arguments, **named):
        before, after = arguments[:number], arguments[number + 1 :]
        return function(*before, change(arguments[number]), *after, **named)

    return mock.patch.object(owner, name, changed)


@contextlib.contextmanager
def _value_and_grad_changed(place, change):
    original = collectives.value_and_grad

    def value_and_grad(loss, has_aux=True, **named):
        def changed(*arguments):
            result = loss(*arguments)
            return (change(result[0]), *result[1:]) if has_aux else change(result)

        if place == "loss":
            return original(changed, has_aux, **named)
        gradient_of = original(loss, has_aux, **named)

        def of_all(*arguments):
            value, gradient = gradient_of(*arguments)
            return value, first_float(gradient, change)

        return of_all

    with mock.patch.object(collectives, "value_and_grad", value_and_grad):
        yield
