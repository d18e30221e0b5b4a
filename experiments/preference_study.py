# pyright: reportAttributeAccessIssue=false
# (flax adds `replace` to its dataclasses)
"""What lies behind the win matrix of experiments/preference.py, of its first seed alone.

Reward models by number of pairs, other methods on the same reward model, over-optimisation of a weak one, how
well the embedding finds melodies by their captions, and how often a prompt's claims hold of what is written.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.preference_pages import FACTS, JUDGES, METHODS
from experiments.preference_settings import SYSTEMS
from experiments.preference_systems import best_of, deviations, measured, tune
from experiments.preference_world import World, compose, parted, prompts_of, taste_of, write
from experiments.tables import write_csv
from mammadai_jax.agents import dpo, embedding, expert_iteration, prompted, reward_model
from mammadai_jax.learning import best_of_n, epochs
from mammadai_jax.listening import calibration, pairs
from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.music import captions
from mammadai_jax.music.draws import draw
from mammadai_jax.music.files import write_atomically
from mammadai_jax.stages.captioned import claims_of, claims_that_hold, hear, listeners_of
from mammadai_jax.stages.preference_reward import reward_of
from mammadai_jax.stages.reward_model import COMPARISONS, learner_from, pairs_of
from mammadai_jax.training.loop import Learner

GUIDANCE = (2, 3)  # beside none
FEW = 2000  # pairs, from which a reward model learns too little
PROBED = 6000  # excerpts from which a probe learns the kinds of tunes
ASKED = 1024  # prompts that are asked whether their claims hold
MANY = 20_000  # pairs, from which those of other kinds learn


def study(world: World, drive: Callable, written: Mapping[str, np.ndarray], texts: Sequence[str]) -> None:
    """Write JUDGES, METHODS and FACTS into the run directory."""
    path, base = world.context.path, written["base"]
    asked = world.test.draw_prompts(world.context.random("realised"), ASKED)
    facts = {
        "embedding": embeddings(world),
        "realised": realised(world, world.base, asked),
        "deviations": deviations(world, base, texts),
        "consistency": consistency(world, base, texts),
    }
    choices = pairs.read(path / COMPARISONS)
    write_csv(path / JUDGES, reward_models(world, choices, drive))
    write_csv(path / METHODS, methods(world, drive, texts, choices))
    unleash(world, drive, choices)
    write_atomically(path / FACTS, json.dumps(facts, indent=1).encode())


def reward_models(world: World, choices: Sequence[Comparison], drive: Callable) -> list[dict[str, Any]]:
    """Accuracy of reward models by number of pairs, from the composer and from scratch, and their ceiling."""
    learned_from, tested_on = parted(world.context, choices)
    test = pairs_of(tested_on, world.joint, world.length)
    ceiling, kept = raters_ceiling(world, tested_on), len(learned_from)
    rows, many = [], min(MANY, kept)
    for count, start in [(n, "composer") for n in sizes(kept)] + [(many, "scratch"), (many, "no traits")]:
        own = world.settings.reward_model.learner
        config = own.replace(trait_units=0) if start == "no traits" else own
        name = "reward_model" if (count, start) == (kept, "composer") else f"judge-{count}-{start}"
        learned = train_reward_model(world, drive, learned_from[:count], config, name, start)
        predicted = calibration.predict(learned, config, world.composer, test)
        report = calibration.report(predicted, np.asarray(test.choice), ceiling)
        rows.append(
            {
                "pairs": count,
                "start": start,
                "accuracy": report.accuracy,
                "share_of_ceiling": report.accuracy / ceiling,
                "log_loss": report.log_loss,
                "calibration_error": report.calibration_error,
            }
        )
    return rows


def train_reward_model(
    world: World,
    drive: Callable,
    choices: Sequence[Comparison],
    config: reward_model.Config,
    name: str,
    start: str = "composer",
) -> reward_model.Params:
    """A reward model that has learned from these choices."""
    settings = dataclasses.replace(world.settings.reward_model, learner=config)
    data = pairs_of(choices, world.joint, world.length)
    learner = learner_from(settings, world.context, data, None if start == "scratch" else world.base)
    return drive(learner._replace(name=name.replace(" ", "-"))).params


def unleash(world: World, drive: Callable, choices: Sequence[Comparison]) -> Any:
    """U without a KL penalty, by a reward model of only FEW pairs: a proxy to be over-optimised.

    Its rate is low and does not fall, so that what happens is seen while it does.
    """
    few = parted(world.context, choices)[0][:FEW]
    reward_params = train_reward_model(
        world, drive, few, world.settings.reward_model.learner, f"judge-{len(few)}-composer"
    )
    taste, _ = taste_of(world.settings, world.context, reward_params)
    return tune(world._replace(taste=taste), drive, "U-unleashed", world.base)


def sizes(most: int) -> list[int]:
    """Numbers of pairs to learn from."""
    return [count for count in (500, FEW, 6000, MANY) if count < most] + [most]


def raters_ceiling(world: World, choices: Sequence[Comparison]) -> float:
    """Accuracy of who knows the taste of those who were asked, but not which of them it was."""
    asked = listeners_of(world.context)[0]
    a, b, _, texts = pairs.to_arrays(choices, world.length)
    hold = lambda tokens: jnp.asarray(claims_that_hold(texts, tokens))
    worth = [panels.utility(asked, hear(x), hold(x)) for x in (a, b)]
    return float(panels.ceiling(asked, *worth).taste)


def methods(world: World, drive: Callable, texts: Sequence[str], choices: Sequence) -> list[dict[str, Any]]:
    """Methods that learn from the same pairs, most of them by the same reward model: KL, proxy and gold."""
    rows = []

    def add(name: str, tokens: np.ndarray, params: Any = None, kl: float | None = None) -> None:
        row = measured(world, tokens, texts, params)
        rows.append({"method": name, **row, **({} if kl is None else {"kl": kl})})

    add("base", write(world, world.base, texts, "base"), kl=0.0)
    tuned = tune(world, drive, "U", world.base)
    add("PPO", write(world, tuned, texts, "ppo"), tuned)
    for name, system in (("PPO by Adam", "U-adam"), ("REINFORCE", "U-reinforce"), ("GRPO", "U-grpo")):
        tuned = tune(world, drive, system, world.base)
        add(name, write(world, tuned, texts, name.lower()), tuned)
    for name, learn in (("DPO", prefer), ("expert iteration", imitate)):
        tuned = learn(world, drive, choices)
        add(name, write(world, tuned, texts, name.lower()), tuned)
    for n in (4, 16, 64):
        add(f"best of {n}", best_of(world, texts, n), kl=best_of_n.divergence(n))
    return rows


def prefer(world: World, drive: Callable, choices: Sequence[Comparison]) -> Any:
    """The base, tuned by direct preference optimisation on the pairs that the reward model learned from."""
    data = pairs_of(parted(world.context, choices)[0], world.joint, world.length)
    config = dpo.Config(learning_rate=2e-4)
    learner = Learner(
        name="dpo",
        init=lambda: dpo.init(world.context.key("dpo"), config, world.base),
        step=lambda state, data: dpo.step(state, config, world.composer, data),
        data=data,
        updates=epochs.updates_in(config, len(data.choice)),
        chunk=50,
        notes=2 * config.batch_size * world.length,
        shown="rewards/accuracies",
    )
    return drive(learner).params


def imitate(world: World, drive: Callable, choices: Sequence[Comparison]) -> Any:
    """The base, tuned by expert iteration on the reward model alone, which learned from the choices."""
    del choices
    own, score = world.settings.preference, reward_of(world.settings.reward_model.learner, world.composer)
    updates = max(1, round(SYSTEMS["U"].share * own.learner.num_updates))
    config = expert_iteration.Config(
        num_steps=world.length,
        num_envs=max(1, own.learner.num_envs // expert_iteration.Config().candidates),
        temperature=own.learner.temperature,
        num_updates=updates,
    )
    prefers = lambda *given: score(*given)["preference"]
    learner = Learner(
        name="expert",
        init=lambda: expert_iteration.init(world.context.key("expert"), config, world.base),
        step=lambda state, data: expert_iteration.step(
            state, config, world.composer, data[0], prefers, data[1]
        ),
        data=(prompts_of(world, world.learn.prompts), world.taste),
        updates=updates,
        chunk=own.log_every,
        notes=config.num_envs * config.candidates * world.length,
        shown="reward/best",
    )
    return drive(learner).params


def embeddings(world: World) -> dict[str, float]:
    """How well held-out captions find their melody among held-out tunes, and the composer its condition."""
    _, first = np.unique(world.test.group, return_index=True)
    random, collections = world.context.random("tunes"), world.test.collection[first]
    first = first[draw(random, min(1000, len(first)), collections)]
    texts = [world.test.texts[i][0] for i in first]
    tokens = jnp.asarray(world.test.tokens[first])
    text, music = world.joint.text(texts), world.joint.music(tokens)
    nats = lambda condition: float(
        prompted.negative_log_likelihood(world.composer, world.base, tokens, condition).mean()
    )
    condition = world.joint.condition(texts)
    return {
        "tunes": len(first),
        "recall_at_10": float(embedding.recall_at(text, music, 10)),
        "chance": 10 / len(first),
        "bits_right_caption": nats(condition) / np.log(2),
        "bits_wrong_caption": nats(jnp.roll(condition, 1, axis=0)) / np.log(2),
        "bits_own_music": nats(world.joint.condition_of(tokens)) / np.log(2),
    }


def consistency(world: World, tokens: np.ndarray, texts: Sequence[str]) -> dict[str, float]:
    """The second embedding's likeness of melodies to their prompts and to others', and its difference's z."""
    text, music = world.ears.text(texts), world.ears.music(jnp.asarray(tokens))
    right = np.asarray(embedding.adherence(text, music))
    wrong = np.asarray(embedding.adherence(jnp.roll(text, 1, axis=0), music))
    apart = right - wrong
    return {
        "right": float(right.mean()),
        "shuffled": float(wrong.mean()),
        "z": float(apart.mean() / apart.std(ddof=1) * np.sqrt(len(apart))),
    }


def realised(world: World, params: Any, texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """How often claims about an attribute hold, %, by guidance, of which 0 is no prompt.

    "balanced" are the means over what may be claimed of it, each value counting the same: most tunes are in
    major, and a composer that knows no other would do well otherwise.
    """
    claims, condition = jnp.asarray(claims_of(texts)), world.joint.condition(texts)
    probe, key = probe_of(world), world.context.key("realised")
    holds = {}
    for guidance in (0, 1, *GUIDANCE):
        made = compose(world.settings, world.context, params, key, condition, guidance)
        holds[guidance] = np.asarray(captions.holds(claims, jnp.asarray(made), probe))
    rates = {}
    for column, name in enumerate(captions.ATTRIBUTES):
        claimed = np.asarray(claims[:, column])
        values = np.unique(claimed[claimed >= 0])
        if len(values):
            rate = lambda held, rows, column=column: 100 * float(held[rows, column].mean())
            share = {g: [rate(held, claimed == v) for v in values] for g, held in holds.items()}
            number = [np.sum(claimed == v) for v in values]
            plain = {f"guidance {g}": float(np.average(each, weights=number)) for g, each in share.items()}
            balanced = {f"balanced {g}": float(np.mean(each)) for g, each in share.items()}
            rates[name] = {"claims": int(np.sum(number)), "values": len(values), **plain, **balanced}
    return rates


def probe_of(world: World) -> captions.KindProbe:
    """Which kind of tune melodies are, learned from excerpts whose first caption says so."""
    stated = [captions.parse(text).get("kind", "") for text in world.learn.prompts]
    labelled = np.flatnonzero([kind != "" for kind in stated])
    kinds = np.array(stated)[labelled]
    drawn = draw(world.context.random("kinds"), min(PROBED, len(labelled)), kinds)
    return captions.KindProbe.fit(world.learn.tokens[labelled[drawn]], kinds[drawn].tolist())
