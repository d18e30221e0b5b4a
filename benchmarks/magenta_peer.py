# pyright: reportMissingImports=false
# (magenta and what it needs are a user's to install)
"""RL Tuner by Magenta's own program: the peer of our paper mode, and its rules' the peer of our rules.

    pip install tensorflow-cpu tf-keras tf-slim librosa pydub pretty_midi bokeh IPython pandas matplotlib
    pip install --no-deps magenta note-seq

(magenta 2.1.4 asks for TensorFlow 2.9.1, which is no longer made for today's Python, but runs under 2.21.)
Nothing of the program is changed. Its networks start at random, as our benchmark's do, and the evaluation
before its training is left out. It runs in a process of its own, where what TensorFlow prints is not seen.
Give it an environment of its own too: imitation imports TensorFlow where it finds it, and crashes by it.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import sys
import tempfile
import types
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.measure import Job
from mammadai_jax.agents.tuner import Config

# These import the whole of Magenta when they are imported, and with it much that is no longer to be had.
PACKAGES = "magenta", "magenta.common", "magenta.models", "magenta.models.rl_tuner"
STEPS = 1000  # of a run


def learning(config: Config, length: int) -> Job:
    """Magenta's training loop: environment steps, with an update for every few of them.

    Args:
        config: of our paper mode.
        length: of a melody, in steps.

    Raises:
        ImportError: if Magenta, or what it needs, is not installed.

    """
    return apart(_learning, config, length)


def _learning(config: Config, length: int) -> Job:
    tuner = learner(config, length)
    tuner.train(2 * config.batch_size, config.epsilon_decay)  # so that its replay buffer has a batch
    return Job(lambda: measure.seconds(lambda: tuner.train(STEPS, config.epsilon_decay)), STEPS)


def rules(tokens: np.ndarray) -> Job:
    """The nine rules' opinion of every note of melodies int (N, T) by Magenta's functions; see `learning`."""
    return apart(_rules, tokens)


def _rules(tokens: np.ndarray) -> Job:
    tuner = learner(Config(), tokens.shape[1])
    rows = np.eye(tuner.num_actions)[tokens]

    def score_rules():
        for melody in rows:
            tuner.reset_composition()
            for beat, note in enumerate(melody):
                tuner.beat = beat
                tuner.reward_music_theory(note)
                tuner.composition.append(np.argmax(note))

    return Job(lambda: measure.seconds(score_rules), tokens.size)


def apart(make: Callable[..., Job], *arguments: Any) -> Job:
    """A job that is made, and runs, in another process; raises what its maker raises."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    spawn.Process(target=serve, args=(theirs, make, *arguments), daemon=True).start()
    theirs.close()  # so that an end of the process is an end of the pipe
    units = ours.recv()
    if isinstance(units, Exception):
        raise units

    def clock():
        ours.send("run")
        return ours.recv()

    return Job(clock, units)


def serve(pipe: Connection, make: Callable[..., Job], *arguments: Any) -> None:
    """The other process: tell the units of a job, then the seconds of a run whenever asked."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        job = make(*arguments)
    except Exception as error:
        pipe.send(error)
        return
    pipe.send(job.units)
    while pipe.recv():
        pipe.send(job.clock())


def learner(config: Config, length: int) -> Any:
    """Magenta's learner with the settings of ours."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # it knows no other
    import tensorflow.compat.v1 as tf

    sys.modules.update(packages())
    from magenta.contrib import training
    from magenta.models.rl_tuner import rl_tuner

    class Tuner(rl_tuner.RLTuner):
        def evaluate_model(self, *args, **kwargs):
            """Nothing: it is not learning."""

    tf.disable_v2_behavior()
    with tempfile.TemporaryDirectory() as folder:  # asked for, and never written to
        tuner = Tuner(
            folder,
            dqn_hparams=training.HParams(
                random_action_probability=config.epsilon,
                store_every_nth=1,
                train_every_nth=config.num_envs * length // config.num_minibatches,
                minibatch_size=config.batch_size,
                discount_rate=config.gamma,
                max_experience=config.buffer_size,
                target_network_update_rate=config.tau,
            ),
            reward_scaler=config.reward_scale,
            algorithm=config.algorithm,
            note_rnn_checkpoint_dir=folder,
            num_notes_in_melody=length,
            output_every_nth=sys.maxsize,
            initialize_immediately=False,
        )
        tuner.initialize_internal_models_graph_session(restore_from_checkpoint=False)
    return tuner


def packages() -> dict[str, types.ModuleType]:
    """Packages whose modules can be imported, without what the packages themselves import."""
    spec = importlib.util.find_spec("magenta")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'magenta'")
    found = {name: types.ModuleType(name) for name in PACKAGES}
    for name, module in found.items():
        module.__path__ = [str(Path(spec.submodule_search_locations[0], *name.split(".")[1:]))]
    return found
