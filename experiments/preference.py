# pyright: reportAttributeAccessIssue=false
# (flax adds `replace` to its dataclasses)
"""MusicRL at note level (Cideron et al. 2024): win rates by simulated listeners, and what lies behind them.

    python -m experiments.preference --out DIR [--seeds 3] [--preset full|tiny]

One base for all: a joint embedding of captions and melodies, a second one for evaluation only, a prompted
composer, a quality model, and a reward model on pairs that simulated listeners chose from. Then, for every
seed, MusicRL-R (adherence and quality), -U (the reward model) and -RU (U, from R and with a KL penalty to R)
by PPO (see SYSTEMS). They and the base write for prompts of held-out melodies in held-out wordings, and
listeners who taught nobody compare them.

DIR is a run directory: the same command goes on after an interruption. Writes `win_matrix.csv`,
`systems.csv`, `judges.csv`, `methods.csv`, `facts.json`, `report.md`, and the curves `rewards.svg` and
`overoptimisation.svg`. Every listener is simulated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import preference_pages as pages
from experiments.preference_world import (
    FULL,
    TINY,
    World,
    compose,
    parted,
    prepare,
    prompts_of,
    taste_of,
    terms_of,
    write,
)
from mammadai_jax.agents import dpo, embedding, preference, prompted, reward_model
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.learning import best_of_n, epochs
from mammadai_jax.listening import calibration, pairs, win_rates
from mammadai_jax.listening import panel as panels
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.music import captions, statistics
from mammadai_jax.music.draws import draw
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.notes import MAGENTA, Melody
from mammadai_jax.stages.captioned import (
    claims_of,
    claims_that_hold,
    hear,
    listeners_of,
    requests,
    simulated,
)
from mammadai_jax.stages.preference import reward_of
from mammadai_jax.stages.reward_model import learner_from, pairs_of
from mammadai_jax.training import loop
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import as_dict
from mammadai_jax.training.stage import key_of

GUIDANCE = (2, 3)  # beside none
FEW = 2000  # pairs, from which a reward model learns too little
PROBED = 6000  # excerpts from which a probe learns the kinds of tunes
ASKED = 1024  # prompts that are asked whether their claims hold
MANY = 20_000  # pairs, from which those of other kinds learn
# "tunes" are the melodies that the prompts were made for
ROWS = (*pages.PAPER, ("tunes", "base"), ("RU", "tunes"))


class System(NamedTuple):
    """What distinguishes a tuned composer.

    Attributes:
        weights: of the rewards, see `reward_of`; what is not named weighs nothing and is merely written down.
        share: of the learner's updates.
        learner: its other settings, see agents.preference.Config.

    """

    weights: Mapping[str, float]
    share: float
    learner: Mapping[str, Any]


CHOSEN = {"preference": 1.0, "variety": 2.0}
# U is stopped before it is over-optimised. RU goes on for longer and further from R, whose quality it has.
SYSTEMS = {
    "R": System({"adherence": 0.5, "quality": 1.0, "variety": 2.0}, 1.0, {"learning_rate": 2e-3}),
    "U": System(CHOSEN, 0.5, {}),
    "RU": System({"preference": 1.0, "variety": 1.2}, 2.0, {"kl_coef": 0.003}),
    "U-adam": System(CHOSEN, 0.5, {"optimiser": "adam", "learning_rate": 7e-4}),
    "U-reinforce": System(CHOSEN, 0.5, {"method": "reinforce"}),
    "U-unleashed": System(
        {"preference": 1.0}, 1.75, {"kl_coef": 0.0, "num_updates": 0, "learning_rate": 1e-4}
    ),
}


def tune(world: World, drive: Callable, system: str, seed: int, begin: Any) -> Any:
    """A system's parameters, tuned from `begin` with a KL penalty to it."""
    config, own = world.settings.preference.learner, SYSTEMS[system]
    updates = max(1, round(own.share * config.num_updates))
    config = config.replace(num_steps=world.length, num_updates=updates).replace(**own.learner)
    name = f"{system}-{seed}"
    # among the data, so that all systems share a program
    weights = {name: own.weights.get(name, 0.0) for name in pages.TERMS}
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
        name=name,
        init=lambda: preference.init(key_of(seed, name), config, world.composer, begin),
        step=step,
        data=(prompts_of(world, world.learn.prompts), world.rewarding, traced),
        updates=updates,
        chunk=world.settings.preference.log_every,
        notes=config.num_envs * world.length,
        shown="reward/gold",
    )
    return drive(learner).params["policy"]


def heard(world: World, tokens: np.ndarray, texts: Sequence[str], params: Any = None) -> dict[str, float]:
    """All rewards of melodies for their prompts, their variety, and what they owe to the corpus.

    With the parameters that wrote them also their divergence from the base, nats a melody.
    """
    terms = terms_of(world, tokens, texts)
    melodies = [Melody(MAGENTA.decode(row)) for row in tokens]
    found = {name: float(np.mean(values)) for name, values in terms.items()}
    found["distinct"] = statistics.distinct(melodies)
    found["self_overlap"] = statistics.self_overlap(melodies, 6)
    known = [
        Melody(MAGENTA.decode(row)) for row in world.learn.tokens[:: max(1, len(world.learn.tokens) // 4000)]
    ]
    found["copied"] = float(np.mean(statistics.novelty(melodies, known).notes))
    if params is not None:
        condition, melody = world.joint.text(texts), jnp.asarray(tokens)
        each = [log_prob(p, world.composer, condition, melody) for p in (params, world.base)]
        found["kl"] = float(np.mean(each[0] - each[1]))
    return found


def deviations(world: World, tokens: np.ndarray, texts: Sequence[str]) -> dict[str, float]:
    """Of every reward over melodies for their prompts."""
    return {name: float(values.std()) for name, values in terms_of(world, tokens, texts).items()}


log_prob = jax.jit(dpo.log_prob, static_argnums=1)


def contest(
    world: World, drive: Callable, texts: Sequence[str], seed: int
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """What the base and the systems of a seed write for prompts, and a row of what is heard of each."""
    params = {"base": world.base}
    params["R"] = tune(world, drive, "R", seed, world.base)
    params["U"] = tune(world, drive, "U", seed, world.base)
    params["RU"] = tune(world, drive, "RU", seed, params["R"])
    written = {name: write(world, p, texts, f"{name} {seed}") for name, p in params.items()}
    rows = [
        {"system": name, "seed": seed, **heard(world, tokens, texts, params[name])}
        for name, tokens in written.items()
    ]
    return written, rows


def compare(world: World, written: Mapping[str, np.ndarray], texts: Sequence[str], seed: int) -> list:
    """All pairs of systems compared by held-out listeners, two a pair."""
    made = []
    for number, (a, b) in enumerate(ROWS):
        key = jax.random.fold_in(world.context.key(f"jury {seed}"), number)
        gatherer = simulated(world.jury, key, votes=2, name="held-out")
        made += gatherer.gather(requests(texts, written[a], written[b], (a, b)))
    return made


def reward_models(world: World, choices: Sequence[Comparison], drive: Callable) -> list[dict[str, Any]]:
    """Accuracy of reward models by number of pairs, from the composer and from scratch, and their ceiling."""
    learned_from, told_by = parted(world.context, choices)
    test = pairs_of(told_by, world.joint, world.length)
    ceiling, kept = raters_ceiling(world, told_by), len(learned_from)
    rows, many = [], min(MANY, kept)
    for count, start in [(n, "composer") for n in sizes(kept)] + [(many, "scratch"), (many, "no traits")]:
        own = world.settings.reward_model.learner
        config = own.replace(trait_units=0) if start == "no traits" else own
        name = "judge" if (count, start) == (kept, "composer") else f"judge-{count}-{start}"
        learned = train_reward_model(world, drive, learned_from[:count], config, name, start)
        told = calibration.predict(learned, config, world.composer, test)
        report = calibration.report(told, np.asarray(test.choice), ceiling)
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
    return tune(world._replace(taste=taste), drive, "U-unleashed", 0, world.base)


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
    """PPO, MusicRL's REINFORCE, DPO and best of n on the same reward model: KL, proxy and gold."""
    rows = []

    def tell(name: str, tokens: np.ndarray, params: Any = None, kl: float | None = None) -> None:
        found = heard(world, tokens, texts, params)
        rows.append({"method": name, **found, **({} if kl is None else {"kl": kl})})

    tell("base", write(world, world.base, texts, "base"), kl=0.0)
    tuned = tune(world, drive, "U", 0, world.base)
    tell("PPO", write(world, tuned, texts, "ppo"), tuned)
    tuned = tune(world, drive, "U-adam", 0, world.base)
    tell("PPO by Adam", write(world, tuned, texts, "ppo"), tuned)
    tuned = tune(world, drive, "U-reinforce", 0, world.base)
    tell("REINFORCE", write(world, tuned, texts, "reinforce"), tuned)
    tuned = prefer(world, drive, choices)
    tell("DPO", write(world, tuned, texts, "dpo"), tuned)
    condition, temperature = world.joint.text(texts), world.settings.preference.learner.temperature
    own = reward_of(world.settings.reward_model.learner, world.composer)
    score = lambda tokens: own(world.taste, {"condition": condition}, tokens)["preference"]
    sample = lambda key: prompted.compose(
        world.composer, world.base, key, condition, world.length, temperature=temperature
    )
    for n in (4, 16, 64):
        best = jax.jit(lambda key, n=n: best_of_n.best_of_n(key, n, sample, score)[0])
        tokens = np.asarray(best(world.context.key(f"best of {n}")))
        tell(f"best of {n}", tokens, kl=best_of_n.divergence(n))
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
    return {
        "tunes": len(first),
        "recall_at_10": float(embedding.recall_at(text, music, 10)),
        "chance": 10 / len(first),
        "bits_right_caption": nats(text) / np.log(2),
        "bits_wrong_caption": nats(jnp.roll(text, 1, axis=0)) / np.log(2),
        "bits_own_music": nats(music) / np.log(2),
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
    claims, condition = jnp.asarray(claims_of(texts)), world.joint.text(texts)
    probe, key = probe_of(world), world.context.key("realised")
    told = {}
    for guidance in (0, 1, *GUIDANCE):
        made = compose(world.settings, world.context, params, key, condition, guidance)
        told[guidance] = np.asarray(captions.holds(claims, jnp.asarray(made), probe))
    rates = {}
    for column, name in enumerate(captions.ATTRIBUTES):
        claimed = np.asarray(claims[:, column])
        values = np.unique(claimed[claimed >= 0])
        if len(values):
            rate = lambda holds, rows, column=column: 100 * float(holds[rows, column].mean())
            share = {g: [rate(holds, claimed == v) for v in values] for g, holds in told.items()}
            number = [np.sum(claimed == v) for v in values]
            plain = {f"guidance {g}": float(np.average(each, weights=number)) for g, each in share.items()}
            balanced = {f"balanced {g}": float(np.mean(each)) for g, each in share.items()}
            rates[name] = {"claims": int(np.sum(number)), "values": len(values), **plain, **balanced}
    return rates


def probe_of(world: World) -> captions.KindProbe:
    """Which kind of tune melodies are, learned from excerpts whose first caption says so."""
    told = [captions.parse(text).get("kind", "") for text in world.learn.prompts]
    known = np.flatnonzero([kind != "" for kind in told])
    kinds = np.array(told)[known]
    drawn = draw(world.context.random("kinds"), min(PROBED, len(known)), kinds)
    return captions.KindProbe.fit(world.learn.tokens[known[drawn]], kinds[drawn].tolist())


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=192, help="that each seed's systems write for")
    parser.add_argument("--preset", choices=("full", "tiny"), default="full")
    args = parser.parse_args()
    keep_programs()
    settings = {"full": FULL, "tiny": TINY}[args.preset]
    about = {"settings": as_dict(settings), "data": {"corpus": settings.corpus}}
    with Run(args.out, about, resume=(args.out / "run.json").exists()) as run:
        drive = lambda stage: loop.train(stage, run)
        world = prepare(settings, run, drive)
        rows = world.test.draw(world.context.random("test prompts"), args.prompts)
        texts, tunes = [world.test.prompts[row] for row in rows], world.test.tokens[rows]
        asked = world.test.draw_prompts(world.context.random("realised"), ASKED)
        found: dict[str, Any] = {
            "embedding": embeddings(world),
            "realised": realised(world, world.base, asked),
        }
        systems, choices = [], []
        for seed in range(args.seeds):
            written, rows = contest(world, drive, texts, seed)
            choices += compare(world, {**written, "tunes": tunes}, texts, seed)
            systems += rows
            if seed == 0:
                found["deviations"] = deviations(world, written["base"], texts)
                found["consistency"] = consistency(world, written["base"], texts)
            win_rates.write_csv(run.path / "win_matrix.csv", win_rates.win_rates(choices, ROWS))
            pages.write_csv(run.path / "systems.csv", systems)
        systems.append({"system": "tunes", "seed": 0, **heard(world, tunes, texts)})
        pages.write_csv(run.path / "systems.csv", systems)
        asked = pairs.read(run.path / "comparisons.jsonl")
        pages.write_csv(run.path / "judges.csv", reward_models(world, asked, drive))
        pages.write_csv(run.path / "methods.csv", methods(world, drive, texts, asked))
        unleash(world, drive, asked)
        write_atomically(run.path / "facts.json", json.dumps(found, indent=1).encode())
        pages.write(run)


if __name__ == "__main__":
    sys.exit(answered(main, "preference"))
