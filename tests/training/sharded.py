"""Train tiny learners by the stages of a run, for test_devices: here, or in a process of its own.

`python -m tests.training.sharded RUN SHARDS DEVICES UPDATES LEARNER...` prints of each the digest of what all
shards agree on, and of the metrics.
"""

import dataclasses
import hashlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import embedding as towers_agent
from mammadai_jax.agents import tuner
from mammadai_jax.stages import (
    cloning,
    divided,
    embedding,
    gail,
    preference,
    preset,
    prior,
    prompted,
    reward_model,
    theory,
)
from mammadai_jax.stages.captioned import captioned_of
from mammadai_jax.stages.prior import composer_of
from mammadai_jax.training import launch, loop
from mammadai_jax.training.context import context_of
from mammadai_jax.training.host_copy import back_on_devices, host_copy
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import overlay, share
from mammadai_jax.training.sharding import Placement
from tests.training import tiny

TINY = {
    "prior": {"learner": {"width": 8, "batch_size": 8, "sequence_length": 16, "dropout": 0.1}},
    "cloning": {"learner": {"hidden": [8], "batch_size": 16}},
    "gail": {
        "learner": {
            "batch_size": 16,
            "disc_updates": 2,
            "context_length": 2,
            "ppo": {"hidden": [8], "num_envs": 8, "num_minibatches": 2, "num_epochs": 1},
        },
    },
    "theory": {"length": 16, "learner": {"num_envs": 8, "batch_size": 8}},
    "embedding": {
        "length": 48,
        "num_excerpts": 16,
        "captions_per_excerpt": 2,
        "learner": tiny.EMBEDDING | {"batch_size": 8, "dropout": 0.0},
    },
    "prompted": {"learner": {"width": 8, "num_heads": 2, "num_layers": 1, "batch_size": 8}},
    "reward_model": {"learner": {"ensemble_size": 2, "batch_size": 8, "trait_units": 8}},
    "preference": {
        "learner": {
            "num_envs": 8,
            "num_epochs": 1,
            "num_minibatches": 1,
            "kl_target": 3.0,
            "target_kl": 1.0,
            "optimiser": "muon",
            "critic_width": 128,
        },
    },
}


def learners(shards):
    """Learners by name, each made when it is called."""
    settings = overlay(preset("smoke"), {**TINY, "shards": shards}, "tiny")
    untrained = {}
    context = context_of(*divided(settings), Path("nowhere"))
    context = dataclasses.replace(context, learned=untrained.get)

    def learner(stage):
        own = getattr(settings, stage.name)
        return stage.make_learner(own, context, stage.data(own, context))

    def replayed(what):
        sizes = {"num_envs": 8, "num_minibatches": 2, "batch_size": 8}
        buffer_size = 512 if what == "transitions" else 16
        config = share(tuner.Config(learns_from=what, buffer_size=buffer_size, **sizes), shards)
        composer, piece = composer_of(settings.prior), theory.piece(settings.theory)
        begin = prior.template(settings.prior, context).average
        return theory.learner_from(settings.theory, context, begin)._replace(
            name=what,
            init=lambda: tuner.init(context.key("theory"), config, composer, begin, piece),
            step=lambda state, _: tuner.step(state, config, composer, piece),
        )

    def prompted_as(of):
        own = settings.embedding
        if of == "embedding":
            return learner(embedding.STAGE)
        data = embedding.data(own, context)
        towers = jax.jit(lambda: towers_agent.init(jax.random.key(0), own.learner, data[1]))()
        untrained["embedding"] = joint = embedding.fit_joint_embedding(
            own, jax.random.key(0), towers.average, data
        )
        untrained["prompted"] = prompted.template(settings.prompted, context).average
        excerpts = captioned_of(context)
        tokens, rows = excerpts.tokens[:8], preference.rows_of(context, excerpts.prompts[:8])
        pairs = reward_model.compared(joint, rows["condition"], tokens, tokens[::-1], tokens[:, 0] % 3 - 1)
        model = reward_model.make_learner(settings.reward_model, context, reward_model.Data([], pairs))
        if of == "reward_model":
            return model
        reward = preference.scaled_reward(context, model.init().params, rows, tokens)
        return preference.make_learner(settings.preference, context, preference.Data(rows, reward))

    return {
        "prior": lambda: learner(prior.STAGE)._replace(measure=None),
        "cloning": lambda: learner(cloning.STAGE),
        "gail": lambda: learner(gail.STAGE),
        "theory": lambda: theory.learner_from(settings.theory, context, None),
        **{name: lambda what=name: replayed(what) for name in ("melodies", "transitions")},
        **{name: lambda of=name: prompted_as(of) for name in ("embedding", "reward_model", "preference")},
    }


def digest(tree):
    """Of every bit."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        found.update(b"".join(np.asarray(part.data).tobytes() for part in leaf.addressable_shards[:1]))
    return found.hexdigest()[:16]


def train(path, placement, updates, *names):
    """Train learners, going on where the run is -> of each the digests of what it learned and logged."""
    resume, digests = (path / "run.json").exists(), {}
    with Run(path, {"shards": placement.shards}, resume) as run:
        for name in names:
            stage = learners(placement.shards)[name]()._replace(updates=updates, chunk=2)
            first = placement.first(stage.init)
            assert digest(back_on_devices(host_copy(first))) == digest(first), "a copy has other bits"
            state = loop.train(stage, run, 1e9, placement)
            if launch.leads():
                same = state.params if name != "gail" else (state.policy.params, state.discriminator)
                logged = hashlib.sha256(repr(list(map(dict, run.rows(name)))).encode()).hexdigest()[:16]
                digests[name] = [digest(same), logged]
    return digests


def main(path, shards, devices, updates, *names):
    """Train as one of several processes, if the environment says so, and print the digests."""
    launch.join()
    placement = Placement(int(shards), int(devices))
    for name, digests in train(Path(path), placement, int(updates), *names).items():
        print(name, *digests, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
