# pyright: reportAttributeAccessIssue=false
# (flax adds `replace` to its dataclasses)
"""The systems of a seed of experiments/preference.py, what they write, and what both juries say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import second_jury
from experiments.preference_pages import TERMS
from experiments.preference_settings import BEST, BEST_OF, NOISE, ROWS, SYSTEMS
from experiments.preference_world import World, prompts_of, terms_of, write
from mammadai_jax.agents import dpo, preference, prompted
from mammadai_jax.learning import best_of_n
from mammadai_jax.listening import gathering, win_rates
from mammadai_jax.listening import panel as panels
from mammadai_jax.music import statistics
from mammadai_jax.music.notes import MAGENTA, Melody
from mammadai_jax.stages.captioned import claims_that_hold, hear, listeners_of, requests, simulated
from mammadai_jax.stages.preference_reward import reward_of, rows_of
from mammadai_jax.training.loop import Learner

LEARNED_FROM = 4000  # melodies among which copied runs are looked for
VOTES = 2  # listeners of each jury who compare a pair
JURIES = ("first", "second")
log_prob = jax.jit(dpo.log_prob, static_argnums=1)
_gold = jax.jit(panels.gold)
_second_gold = jax.jit(second_jury.gold)


def tune(world: World, drive: Callable, system: str, begin: Any) -> Any:
    """A system's parameters, tuned from `begin` with a KL penalty to it."""
    config, own = world.settings.preference.learner, SYSTEMS[system]
    updates = max(1, round(own.share * config.num_updates))
    config = config.replace(num_steps=world.length, num_updates=updates).replace(**own.learner)
    # among the data, so that all systems share a program
    weights = {name: own.weights.get(name, 0.0) for name in TERMS}
    rates = {"num_updates": jnp.int32(config.num_updates), "learning_rate": jnp.float32(config.learning_rate)}
    traced = {"reward_weights": weights, **rates}

    def step(state, data):
        prompts, params, traced = data
        return preference.step(
            state,
            config.replace(**traced),
            world.composer,
            prompts,
            reward_fn=world.reward,
            reward_params=params,
        )

    learner = Learner(
        name=system,
        init=lambda: preference.init(world.context.key(system), config, world.composer, begin),
        step=step,
        data=(prompts_of(world, world.learn.prompts), world.rewarding, traced),
        updates=updates,
        chunk=world.settings.preference.log_every,
        notes=config.num_envs * world.length,
        shown="reward/gold",
    )
    return drive(learner).params["policy"]


def best_of(world: World, texts: Sequence[str], n: int) -> np.ndarray:
    """The best of n melodies of the base for each prompt, by the reward model: int32 (N, T)."""
    rows, temperature = rows_of(world.context, texts), world.settings.preference.learner.temperature
    own = reward_of(world.settings.reward_model.learner, world.composer)
    score = lambda tokens: own(world.taste, rows, tokens)["preference"]
    sample = lambda key: prompted.compose(
        world.composer, world.base, key, rows["condition"], world.length, temperature=temperature
    )
    best = jax.jit(lambda key: best_of_n.best_of_n(key, n, sample, score)[0])
    return np.asarray(best(world.context.key(f"best of {n}")))


def contest(
    world: World, drive: Callable, texts: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """What the base, the systems and best-of-n write for prompts, and a row of measures of each."""
    params = {"base": world.base}
    params["R"] = tune(world, drive, "R", world.base)
    params["U"] = tune(world, drive, "U", world.base)
    params["RU"] = tune(world, drive, "RU", params["R"])
    written = {name: write(world, p, texts, f"{name} written") for name, p in params.items()}
    rows = [
        {"system": name, **measured(world, tokens, texts, params[name])} for name, tokens in written.items()
    ]
    written[BEST] = best_of(world, texts, BEST_OF)
    kl = {"kl": best_of_n.divergence(BEST_OF)}
    return written, [*rows, {"system": BEST, **measured(world, written[BEST], texts), **kl}]


def measured(world: World, tokens: np.ndarray, texts: Sequence[str], params: Any = None) -> dict[str, float]:
    """All rewards of melodies for their prompts, the second jury's gold, variety, and copied runs.

    With the parameters that wrote them also their divergence from the base, nats a melody.
    """
    panel, measure = world.second
    terms = {**terms_of(world, tokens, texts), **_second_gold(panel, measure(tokens))}
    melodies = [Melody(MAGENTA.decode(row)) for row in tokens]
    values = {name: float(np.mean(each)) for name, each in terms.items()}
    values["distinct"] = statistics.distinct(melodies)
    values["self_overlap"] = statistics.self_overlap(melodies, 6)
    drawn = world.learn.draw(world.context.random("copied"), min(LEARNED_FROM, len(world.learn.tokens)))
    learned_from = [Melody(MAGENTA.decode(row)) for row in world.learn.tokens[drawn]]
    values["copied"] = float(np.mean(statistics.novelty(melodies, learned_from).notes))
    if params is not None:
        condition, melody = world.joint.condition(texts), jnp.asarray(tokens)
        each = [log_prob(p, world.composer, condition, melody) for p in (params, world.base)]
        values["kl"] = float(np.mean(each[0] - each[1]))
    return values


def deviations(world: World, tokens: np.ndarray, texts: Sequence[str]) -> dict[str, float]:
    """Of every reward over melodies for their prompts."""
    return {name: float(values.std()) for name, values in terms_of(world, tokens, texts).items()}


def compare(
    world: World, written: Mapping[str, np.ndarray], texts: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Rows of wins of a system against another, by each jury at each level of noise.

    At all levels the same listeners hear the same pairs in the same order, with the same random numbers.
    """
    for name in JURIES:
        for noise in NOISE:
            for number, (a, b) in enumerate(ROWS):
                key = jax.random.fold_in(world.context.key(f"{name} jury"), number)
                gatherer = jury_of(world, name, noise, key)
                choices = gatherer.gather(requests(texts, written[a], written[b], (a, b)))
                row = win_rates.win_rates(choices, [(a, b)])[0]
                yield {"jury": name, "noise": noise, **row._asdict()}


def jury_of(world: World, name: str, noise: float, key: jax.Array) -> gathering.Gatherer:
    """A jury whose listeners have so many times their own noise."""
    louder = lambda panel: panel.replace(noise=noise * panel.noise)
    if name == "first":
        return simulated(louder(world.jury), key, votes=VOTES, name="first-jury")
    panel, measure = world.second
    return second_jury.jury(louder(panel), measure, key, VOTES)


def utilities(world: World, tokens: np.ndarray, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """What melodies (N, T) are worth to teachers, both juries and the reward model, each (N,)."""
    panel, measure = world.second
    terms, claims = terms_of(world, tokens, texts), jnp.asarray(claims_that_hold(texts, tokens))
    values = {
        "teachers": _gold(listeners_of(world.context)[0], hear(tokens), claims),
        "first": terms["gold"],
        "second": _second_gold(panel, measure(tokens))["second_gold"],
        "reward_model": terms["preference"],
    }
    return {name: np.asarray(value) for name, value in values.items()}


def correlations(
    world: World, written: Mapping[str, np.ndarray], texts: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """For each system, the correlations over its melodies of what they are worth to whom."""
    pairs = (
        ("teachers", "first"),
        ("reward_model", "first"),
        ("reward_model", "second"),
        ("first", "second"),
    )
    for name, tokens in written.items():
        values = utilities(world, tokens, texts)
        yield {
            "melodies": name,
            **{f"{a}, {b}": float(np.corrcoef(values[a], values[b])[0, 1]) for a, b in pairs},
        }
