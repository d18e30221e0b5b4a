# pyright: reportMissingImports=false
# (imitation and what it needs are a user's to install)
"""GAIL by the library imitation, whose policy is stable-baselines3's: the peer of our update.

`pip install imitation` brings all that this module imports. Networks, melodies, epochs, minibatches and
learning rates are those of our configuration; the environment is a look-up in NumPy, so that it is not what
takes time; nothing is logged.
"""

from __future__ import annotations

import contextlib
import io
import tempfile

import numpy as np
import torch
from gymnasium import spaces
from imitation.algorithms.adversarial.gail import GAIL
from imitation.data.types import Trajectory
from imitation.rewards.reward_nets import BasicRewardNet
from imitation.util import logger
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from benchmarks import measure
from benchmarks.measure import Job
from mammadai_jax.agents import gail
from mammadai_jax.agents.cloning import Demonstrations


class Accompaniments(VecEnv):
    """The environment `accompanied` where only the accompaniment is seen, for melodies that play together.

    Args:
        backing: float32 (pieces, T + 1, 128), see AccompaniedParams.
        melodies: how many.
        actions: that a policy chooses from.

    """

    def __init__(self, backing: np.ndarray, melodies: int, actions: int):
        self.backing, self.random, self.nobody = backing, np.random.default_rng(0), [None] * melodies
        super().__init__(melodies, spaces.Box(0.0, 1.0, backing.shape[2:]), spaces.Discrete(actions))

    def reset(self):
        """Begin, each melody over an accompaniment of its own."""
        self.time, self.piece = 0, self.random.integers(len(self.backing), size=self.num_envs)
        return self.backing[self.piece, 0]

    def step_async(self, actions):
        """Actions do not change what is seen."""

    def step_wait(self):
        """Go on, all to the end together and then afresh; rewards are the discriminator's."""
        self.time += 1
        seen, ends = self.backing[self.piece, self.time], self.time == self.backing.shape[1] - 1
        told = [{"terminal_observation": row} if ends else {} for row in seen]
        return self.reset() if ends else seen, np.zeros(len(seen)), np.full(len(seen), ends), told

    def get_attr(self, attr_name, indices=None):
        """Of nobody: the environments are not objects."""
        return self.nobody

    def set_attr(self, attr_name, value, indices=None):
        """See get_attr."""

    def env_method(self, method_name, *args, indices=None, **kwargs):
        """See get_attr."""
        return self.nobody

    def env_is_wrapped(self, wrapper_class, indices=None):
        """They are not."""
        return [False] * self.num_envs

    def close(self):
        """There is nothing to close."""


def update(config: gail.Config, backing: np.ndarray, actions: int, demos: Demonstrations) -> Job:
    """A round of imitation's GAIL with the settings of ours, as far as both have them.

    Args:
        config: with a discriminator of single notes, neither bound nor penalised.
        backing: see Accompaniments.
        actions: see Accompaniments.
        demos: whole melodies.

    """
    notes = config.ppo.num_envs * config.ppo.num_steps
    venv = Accompaniments(backing, config.ppo.num_envs, actions)
    seen = np.asarray(demos.observation).reshape(-1, config.ppo.num_steps, backing.shape[2])
    seen = np.concatenate([seen, seen[:, -1:]], axis=1)  # an accompaniment's last row stays
    played = np.asarray(demos.action).reshape(-1, config.ppo.num_steps)
    reward_net = BasicRewardNet(
        venv.observation_space, venv.action_space, hid_sizes=config.hidden, activation=torch.nn.Tanh
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = GAIL(
            demonstrations=[
                Trajectory(*pair, infos=None, terminal=True) for pair in zip(seen, played, strict=True)
            ],
            demo_batch_size=config.batch_size,
            venv=venv,
            gen_algo=policy(config, venv),
            reward_net=reward_net,
            n_disc_updates_per_round=config.disc_updates,
            disc_opt_kwargs={"lr": config.learning_rate, "betas": (0.5, 0.999)},
            custom_logger=logger.configure(scratch, []),
        )

        def learn():
            with contextlib.redirect_stderr(io.StringIO()):  # a bar of progress
                trainer.train(notes)

        learn()  # its first round asks for folders, of which it makes no use
    return Job(lambda: measure.seconds(learn), notes)


def policy(config: gail.Config, venv: VecEnv) -> PPO:
    """Our PPO as stable-baselines3 spells it; activations, Adam's epsilon and initialisation are alike."""
    ours = config.ppo
    return PPO(
        "MlpPolicy",
        venv,
        learning_rate=ours.learning_rate,
        n_steps=ours.num_steps,
        batch_size=ours.num_envs * ours.num_steps // ours.num_minibatches,
        n_epochs=ours.num_epochs,
        gamma=ours.gamma,
        gae_lambda=ours.gae_lambda,
        clip_range=ours.clip_eps,
        clip_range_vf=ours.vf_clip_eps,
        normalize_advantage=ours.normalize_advantages,
        ent_coef=ours.ent_coef,
        vf_coef=ours.vf_coef / 2,  # of the squared error, not half of it
        max_grad_norm=ours.max_grad_norm,
        policy_kwargs={"net_arch": {"pi": list(ours.hidden), "vf": list(ours.hidden)}},
    )
