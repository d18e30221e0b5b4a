# pyright: reportAttributeAccessIssue=false
# (flax adds `replace` to its dataclasses)
"""RL Tuner (Jaques et al. 2017) again: its Table 1 over seeds, what its released program hid, and better.

    python -m experiments.theory --out DIR [--note-rnn FILE]
        [--parts published released corrected modern frontier]

* published: paper mode from the published Note RNN, if its weights are given as FILE (.npz: kernel, bias,
  out_kernel, out_bias): Q, Psi, G, G with the drifting prior of the released program, and RL alone;
* released, corrected: Q, Psi and G in paper mode from a prior of our own on real melodies, under both orders
  of the labels;
* modern: whole melodies of 32, 128 and 256 steps from that prior, labels corrected, by projection;
* frontier: 16 values of c trained together in one vmapped program.

Every model and seed is a file in DIR, and the same command goes on after an interruption. Writes of all that
is there `table.csv` and `table.md` (a row a measure, a column a model: mean and the interval of the seeds),
`curves-PART.svg` (the rules' reward against log p while learning) and `frontier.svg`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import theory_pages
from mammadai_jax.agents import prior as priors
from mammadai_jax.agents import projection, tuner
from mammadai_jax.cli import answered, keep_programs
from mammadai_jax.environments import Theory
from mammadai_jax.music import corpus, statistics, theory
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.notes import Melody
from mammadai_jax.networks.note_rnn import NoteRNN
from mammadai_jax.objectives import distributions
from mammadai_jax.stages import Settings, divided
from mammadai_jax.stages import prior as prior_stage
from mammadai_jax.training import loop
from mammadai_jax.training.context import context_of
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import as_dict

GROUP = 1000  # melodies composed at once
# As many cells as the paper's Note RNN; told the metre and what lies back, which the paper's was not.
OWN = prior_stage.Settings(
    learner=priors.Config(
        width=100, match_steps=0, countdown=0, dropout=0.05, optimiser="adam", learning_rate=5e-3
    )
)
ALGORITHMS: dict[str, dict[str, Any]] = {
    "Q": {"algorithm": "q"},
    "Psi": {"algorithm": "psi"},
    "G": {"algorithm": "g"},
    "G, drifting prior": {"algorithm": "g", "drifting_prior": True},
    "RL only": {"algorithm": "pure_rl"},
}


class Model(NamedTuple):
    """What is trained, or only measured where `notes` is 0."""

    name: str
    network: tuner.Network
    prior: Any
    config: tuner.Config | projection.Config
    piece: theory.Config
    notes: int


def load_note_rnn(path: Path) -> tuple[NoteRNN, Any]:
    """The published Note RNN and its parameters; ValueError if the file holds something else."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            kernel, bias, out, out_bias = (file[k] for k in ("kernel", "bias", "out_kernel", "out_bias"))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no Note RNN: {error}") from None
    network = NoteRNN(*out.shape[::-1])
    value = {"kernel": np.zeros((network.width, 1), np.float32), "bias": np.zeros(1, np.float32)}
    head = {"kernel": out, "bias": out_bias}
    params = {"params": {"kernel": kernel, "bias": bias, "logits_head": head, "value_head": value}}
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 1), int), jnp.zeros((1, 1), int))
    params = jax.tree.map(jnp.asarray, params)
    if jax.tree.map(jnp.shape, params) != jax.tree.map(lambda x: x.shape, shapes):
        raise ValueError(f"{path} is no Note RNN: {jax.tree.map(jnp.shape, params)}")
    return network, params


def own_prior(melodies: corpus.Corpus, out: Path) -> tuple[tuner.Network, Any]:
    """A prior trained on a corpus, in its own run directory, or what is found there."""
    path = out / "prior"
    about = {"settings": as_dict(OWN), "data": {"digest": melodies.digest}}
    with Run(path, about, resume=(path / "run.json").exists()) as run:
        context = context_of(*divided(Settings()), path)
        context = dataclasses.replace(context, corpus=lambda: melodies)
        data = prior_stage.data(OWN, context)
        state = loop.train(prior_stage.make_learner(OWN, context, data), run)
    return prior_stage.composer_of(OWN), state.average


State = tuner.State | projection.State


def begin(model: Model, seed: int, updates: int) -> tuple[State, Any]:
    """A learner's first state, and a compiled program that makes so many updates of a state."""
    _, network, prior, config, piece, _ = model
    if isinstance(config, projection.Config):
        learner, init = projection, lambda key: projection.init(key, config, prior)
    else:
        learner, init = tuner, lambda key: tuner.init(key, config, network, prior, piece)
    state = jax.jit(init)(jax.random.key(seed))
    step = lambda state, _: (learner.step(state, config, network, piece)[0], None)
    program = jax.jit(lambda s: jax.lax.scan(step, s, length=updates)[0], donate_argnums=0)
    return state, program.lower(state).compile()


def train(model: Model, seed: int, points: int = 20) -> tuple[State, list[dict[str, float]], float]:
    """Tune -> the state, a learning curve of so many points, the seconds it took without compilation."""
    notes_per_update = model.config.num_envs * model.piece.length
    updates = max(1, round(model.notes / points / notes_per_update))
    state, program = begin(model, seed, updates)
    curve, seconds = [], 0.0
    for _ in range(points):
        begun = time.perf_counter()
        state = jax.block_until_ready(program(state))
        seconds += time.perf_counter() - begun
        heard = measure(model, state, 500, seed=len(curve))[1]
        curve.append({"notes": int(state.update) * notes_per_update, "seconds": seconds, **heard})
    return state, curve, seconds


def measure(model: Model, state: State | None, melodies: int, seed: int) -> tuple[np.ndarray, dict]:
    """Let a model compose, as it is or before training -> tokens (N, T), what prior and rules say of them."""
    count = min(melodies, GROUP)
    parts = [
        _compose(model.config, state, model.prior, model.network, model.piece, key, count)
        for key in jax.random.split(jax.random.key(seed), -(-melodies // GROUP))
    ]
    tokens = np.concatenate([np.asarray(part[0]).T for part in parts])
    return tokens, {k: float(np.mean([part[1][k] for part in parts])) for k in parts[0][1]}


@functools.partial(jax.jit, static_argnums=(3, 6))
def _compose(config, state, prior, network, piece, key, melodies):
    """Melodies (T, B) and their means; before training (state None) the policy is the prior."""
    env = Theory(piece)
    if state is None or isinstance(config, projection.Config):
        params = prior if state is None else state.params
        config = projection.Config(num_envs=melodies)
        played = projection.play(params, prior, config, network, env, key)
        previous_token, theory_reward = played.observation.token, played.reward.theory
    else:
        config = config.replace(exploration="sampling", num_envs=melodies, rule_weights={})
        played = tuner.play(state.params, state.prior, config, network, env, key)
        previous_token, theory_reward = played.previous_token, played.theory
    # G's prior may have drifted: log p is that of the prior it started from
    times = jnp.broadcast_to(jnp.arange(piece.length)[:, None], previous_token.shape)
    opinion = distributions.Categorical(network.apply(prior, previous_token, times).logits)
    log_prior = jnp.asarray(opinion.log_prob(played.action))
    means = {
        "theory": theory_reward.mean(),
        "log_prior": log_prior.mean(),
        "log_prior_last": log_prior[-1].mean(),
        "entropy": -played.log_prob.mean(),
    }
    return played.action, means


def result(out: Path, model: Model, seed: int, melodies: int) -> dict[str, Any]:
    """Train and measure a model with a seed, or read what is on file."""
    path = out / f"{model.name} {seed}.json".replace(" ", "-").replace(",", "").lower()
    if path.exists():
        return json.loads(path.read_text())
    state, curve, seconds = train(model, seed) if model.notes else (None, [], 0.0)
    tokens, heard = measure(model, state, melodies, seed=1000 + seed)
    alphabet = Theory(model.piece).alphabet
    composed = [Melody(alphabet.decode(row)) for row in tokens]
    table = statistics.rl_tuner_table(tokens, model.piece.labels)
    found = {
        "model": model.name,
        "seed": seed,
        "notes": model.notes,
        "seconds": seconds,
        "compositions": len(tokens),
        **table,
        **heard,
        "distinct": len(np.unique(tokens, axis=0)) / len(tokens),
        "self_overlap": statistics.self_overlap(composed, n=6),
        "curve": curve,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(found).encode())
    shown = ("num_starting_tonic", "notes_in_motif", "theory", "log_prior")
    print(f"{path.stem}: {seconds:.0f} s,", ", ".join(f"{k} {found[k]:.3f}" for k in shown), flush=True)
    return found


def published(network: NoteRNN, params: Any, notes: int) -> list[Model]:
    """Paper mode from the published Note RNN, labels as released."""
    paper, piece = tuner.PAPER.replace(random_primer=True), theory.Config()
    models = [Model("Note RNN", network, params, paper, piece, 0)]
    return models + [
        Model(name, network, params, paper.replace(**changes), piece, notes)
        for name, changes in ALGORITHMS.items()
    ]


def own(network: tuner.Network, params: Any, notes: int, labels: theory.Labels) -> list[Model]:
    """Paper mode from our own prior."""
    piece = theory.Config(labels=labels)
    models = [Model(f"Prior, {labels}", network, params, tuner.PAPER, piece, 0)]
    return models + [
        Model(f"{name}, {labels}", network, params, tuner.PAPER.replace(**ALGORITHMS[name]), piece, notes)
        for name in ("Q", "Psi", "G")
    ]


def modern(network: tuner.Network, params: Any, updates: int | None, lengths: Sequence[int]) -> list[Model]:
    """Whole melodies of several lengths from our own prior; the longer, the fewer in an update."""
    long = projection.LONG.replace(lr_decay_steps=120)
    half = long.replace(num_envs=long.num_envs // 2, batch_size=long.batch_size // 2)
    models = []
    for length in lengths:
        piece = theory.Config(length=length, labels="corrected")
        config = projection.SHORT if length <= 32 else long if length <= 128 else half
        config = config.replace(lr_decay_steps=updates or config.lr_decay_steps)
        notes = config.lr_decay_steps * config.num_envs * length
        models.append(Model(f"Prior, {length} steps", network, params, config, piece, 0))
        models.append(Model(f"Modern, {length} steps", network, params, config, piece, notes))
    return models


def frontier(network: tuner.Network, params: Any, updates: int, values: int = 16) -> list[dict[str, float]]:
    """16 values of c, trained together: c, the rules' reward and KL(pi || p), both means a note."""
    piece, scales = theory.Config(labels="corrected"), jnp.geomspace(0.05, 5.0, values)
    tune = lambda scale: projection.SHORT.replace(
        reward_scale=scale,
        temperature=1.0,
        rule_weights={},
        rule_targets={},
        variety=0.0,
        ess_fraction=0.4,
        copy_lag=0,
        num_envs=projection.SHORT.num_envs // 8,
        batch_size=projection.SHORT.batch_size // 2,
        num_minibatches=projection.SHORT.num_minibatches // 2,
        lr_decay_steps=updates,
    )
    keys = jnp.broadcast_to(jax.random.key(0), (values,))
    states = jax.jit(jax.vmap(lambda key, c: projection.init(key, tune(c), params)))(keys, scales)
    step = jax.vmap(lambda state, c: projection.step(state, tune(c), network, piece)[0])
    program = jax.jit(lambda s: jax.lax.fori_loop(0, updates, lambda _, s: step(s, scales), s))
    states = program(states)
    listen = lambda state, c: _compose(tune(c), state, params, network, piece, keys[0], GROUP)[1]
    heard = jax.tree.map(np.asarray, jax.jit(jax.vmap(listen))(states, scales))
    kl = -heard["entropy"] - heard["log_prior"]
    rows = zip(1.0 / np.asarray(scales), heard["theory"], kl, heard["log_prior"], strict=True)
    return [dict(zip(("c", "theory", "kl", "log_prior"), map(float, row), strict=True)) for row in rows]


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--note-rnn", type=Path, help="weights of the published Note RNN")
    parts = ("published", "released", "corrected", "modern", "frontier")
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--notes", type=int, default=1_000_000, help="played in paper mode")
    parser.add_argument("--updates", type=int, help="in modern mode, instead of 280 (32 steps) or 120")
    parser.add_argument("--lengths", type=int, nargs="+", default=(32, 128, 256), help="in modern mode")
    parser.add_argument("--melodies", type=int, default=20_000, help="that each seed composes to be judged")
    parser.add_argument("--corpus", default="folk")
    args = parser.parse_args()
    keep_programs()
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    note_rnn = load_note_rnn(args.note_rnn) if args.note_rnn else None
    prior = own_prior(corpus.load(args.corpus), args.out)
    models = {
        "released": lambda: own(*prior, args.notes, "released"),
        "corrected": lambda: own(*prior, args.notes, "corrected"),
        "modern": lambda: modern(*prior, args.updates, args.lengths),
    }
    if note_rnn:
        models["published"] = lambda: published(*note_rnn, args.notes)
    for part in (part for part in args.parts if part in models):
        for model, seed in [(model, seed) for seed in seeds for model in models[part]()]:
            result(args.out / part, model, seed, args.melodies)
        theory_pages.write(args.out, {part: theory_pages.read(args.out / part) for part in parts})
    if "frontier" in args.parts:
        path = args.out / "frontier.json"
        if not path.exists():
            write_atomically(path, json.dumps(frontier(*prior, args.updates or 120)).encode())
        theory_pages.write_frontier(args.out, json.loads(path.read_text()))


if __name__ == "__main__":
    sys.exit(answered(main, "theory"))
