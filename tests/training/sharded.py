"""Train tiny learners by the stages of a run, for test_devices: here, or in a process of its own.

`python -m tests.training.sharded RUN SHARDS DEVICES UPDATES LEARNER...` prints of each the digest of what all
shards agree on, and of the metrics.
"""

import hashlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import embedding, prior, tuner
from mammadai_jax.music import corpus
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.training import launch, loop, preference, stages
from mammadai_jax.training.joint_embedding import JointEmbedding
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import overlay, preset
from mammadai_jax.training.sharding import Placement
from tests.training import tiny

TINY = {
    "prior": {"learner": {"width": 8, "batch_size": 8, "sequence_length": 16, "dropout": 0.1}},
    "imitation": {
        "cloning": {"batch_size": 16},
        "learner": {
            "batch_size": 16,
            "disc_updates": 2,
            "context_length": 2,
            "ppo": {"hidden": [8], "num_envs": 8, "num_minibatches": 2, "num_epochs": 1},
        },
    },
    "theory": {"length": 16, "learner": {"num_envs": 8, "batch_size": 8}},
    "preference": {
        "length": 48,
        "num_excerpts": 16,
        "captions_per_excerpt": 2,
        "embedding": tiny.EMBEDDING | {"batch_size": 8, "dropout": 0.0},
        "composer": {"width": 8, "num_heads": 2, "num_layers": 1, "batch_size": 8},
        "reward_model": {"ensemble_size": 2, "batch_size": 8, "trait_units": 8},
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
    """Stages by name, each made when it is called."""
    settings = overlay(preset("smoke"), {**TINY, "shards": shards}, "tiny")
    tunes = corpus.embedded()

    def replayed(what):
        config = tuner.Config(
            "g", what, num_envs=8 // shards, batch_size=8 // shards, num_minibatches=2, buffer_size=512
        )
        learner, piece = settings.prior.learner, stages.piece(settings)
        composer = prior.make_composer(learner, MAGENTA.size)

        def init():
            params = prior.init(jax.random.key(0), learner, MAGENTA.size).average
            return tuner.init(jax.random.key(1), config, composer, params, piece)

        step = lambda state, _: tuner.step(state, config, composer, piece)
        return stages.theory_stage(settings, None)._replace(name=what, init=init, step=step)

    def prompted(of):
        given = preference.material(settings, tunes)
        vocabulary, data = preference.embedding_data(settings, given)
        if of == "embedding":
            return preference.embedding_stage(settings, data)
        config = settings.preference.embedding
        towers = jax.jit(lambda: embedding.init(jax.random.key(0), config, data))()
        joint = JointEmbedding(vocabulary, embedding.finish(towers, config, data))
        base = preference.prompted_template(settings, jax.random.key(1)).average
        tokens, prompts = given.tokens[:8], joint.text(given.prompts[:8])
        pairs = preference.pairs_of(joint, prompts, tokens, tokens[::-1], tokens[:, 0] % 3 - 1)
        reward_params = preference.reward_model_stage(settings, pairs, base)
        if of == "reward_model":
            return reward_params
        taste = preference.taste_of(settings, reward_params.init().params, joint, prompts, tokens)
        return preference.preference_stage(settings, prompts, base, taste)

    return {
        "prior": lambda: stages.prior_stage(settings, tunes)._replace(measure=None),
        "cloning": lambda: stages.cloning_stage(settings),
        "gail": lambda: stages.gail_stage(settings, None),
        "theory": lambda: stages.theory_stage(settings, None),
        **{name: lambda what=name: replayed(what) for name in ("melodies", "transitions")},
        **{name: lambda of=name: prompted(of) for name in ("embedding", "reward_model", "preference")},
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
