"""Rounds of learning from a study that is being rated: answers -> reward model -> PPO -> new pairs.

A process of its own makes them, so that the page answers meanwhile. Every round fits the run's reward model
to all answers so far beside some of the comparisons that the run was trained on, makes a few updates of PPO
from the agent of the round before, and puts pairs of the new agent and the base into the study: of a larger
pool those on which the heads of the reward model disagree most, and some at random.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import preference, reward_model
from mammadai_jax.learning import epochs
from mammadai_jax.listening.study import Study, StudyError, rounds
from mammadai_jax.listening.study.making import SamplePair, add_pairs
from mammadai_jax.listening.study.selection import information_gain, propensities, systematic
from mammadai_jax.music.sample import unaccompanied
from mammadai_jax.stages import STAGES, preference_reward
from mammadai_jax.stages import preference as preference_stage
from mammadai_jax.stages import reward_model as reward_stage
from mammadai_jax.stages.captioned import captioned_of
from mammadai_jax.stages.prompted import composer_of, write_melodies
from mammadai_jax.stages.rating import is_run, prompts_of
from mammadai_jax.training.checkpoints import Checkpoints
from mammadai_jax.training.context import context_of, is_trained, restore, say, settings_of_run
from mammadai_jax.training.run import identity, is_box
from mammadai_jax.training.stage import Part

AGENTS = "agents"  # in the folder of the study: the agent of every round
POLL_SECONDS = 0.5
NICENESS = 10
SLOTS = 64  # answers that a compiled program takes, or a multiple


@dataclasses.dataclass(frozen=True)
class RoundSettings:
    """What a round does.

    Attributes:
        updates: of PPO.
        num_envs: melodies in each of them.
        epochs: passes of the reward model over the comparisons.
        replayed: comparisons of the run's own that are learned from beside the answers.
        answers_weight: share of the loss that the answers have, whatever their number.
        pairs: new pairs.
        pool: pairs composed for each that is taken.
        random_share: probability with which a pair of the pool is taken at random.

    """

    updates: int = 6
    num_envs: int = 64
    epochs: float = 2.0
    replayed: int = 256
    answers_weight: float = 0.5
    pairs: int = 20
    pool: int = 3
    random_share: float = 0.25


class Rounds:
    """What the rounds of a study need of a run; the run itself stays as it is.

    Args:
        run: whose stage "preference" goes on learning.
        study: whose answers it learns from.
        settings: see RoundSettings.

    Raises:
        StudyError: if the run has no such stage.

    """

    def __init__(self, run: Path, study: Study, settings: RoundSettings | None = None):
        check_learnable(run)
        self.study, self.settings = study, settings or RoundSettings()
        self.context = context_of(*settings_of_run(run, STAGES), run)
        self.own, self.judging = map(self.context.settings_of, ("preference", "reward_model"))
        self.composer, self.joint = composer_of(self.context), self.context.learned("embedding")
        self.length = self.context.settings_of("embedding").length
        self.base = self.context.learned("prompted")
        self.prompts = preference_reward.rows_of(self.context, captioned_of(self.context).prompts)
        self.checkpoints = Checkpoints(study.folder / AGENTS, run=identity(run))
        self.config = dataclasses.replace(
            self.own.learner,
            num_steps=self.length,
            num_envs=min(self.settings.num_envs, self.own.learner.num_envs),
            num_updates=self.settings.updates,
            critic_warmup_steps=0,
            reward_weights=preference_stage.reward_weights(self.own),
        )
        self.reward_config = dataclasses.replace(self.judging.learner, num_epochs=self.settings.epochs)
        self.state = self._newest()
        self.reference = self._melodies(self.base, self._key("reference"), self._some_prompts()["condition"])

    def make(self) -> dict[str, Any]:
        """One round -> numbers about it, which the study keeps."""
        begun = time.monotonic()
        number = rounds.begin_round(self.study)
        params, accuracy = self.fit_reward()
        kl = self.improve(params, number)
        self.checkpoints.save(number, self.state)
        pairs = self.new_pairs(params, number)
        add_pairs(self.study, pairs, number=number)
        report = {"accuracy": accuracy, "kl": kl, "seconds": round(time.monotonic() - begun, 1)}
        rounds.end_round(self.study, number, report)
        return {"round": number, **report}

    def prepare(self) -> None:
        """Compile the programs before the first answers are in; nothing changes."""
        pairs = self._pairs(self._replayed()[:1])
        params = self.context.learned("reward_model")
        self._reward_step(self._reward_state(params, "prepare"), pairs)
        reward = preference_reward.scaled_reward(self.context, params, self._some_prompts(), self.reference)
        self._agent_step(self.state, preference_stage.Data(self.prompts, reward))

    def fit_reward(self) -> tuple[reward_model.Params, float]:
        """The run's reward model, trained on the answers too -> its parameters, and its accuracy on those."""
        answers = self.study.comparisons()
        pairs = self._pairs(answers)
        trained = self.context.learned("reward_model")
        state = self._reward_state(trained, f"reward {len(answers)}")
        for _ in range(max(1, epochs.updates_in(self.reward_config, len(pairs.choice)))):
            state, _ = self._reward_step(state, pairs)
        return state.params, self._accuracy(state.params, pairs, len(answers))

    def improve(self, params: reward_model.Params, number: int) -> float:
        """Updates of PPO by a reward model -> the divergence from the base, nats a melody."""
        reward = preference_reward.scaled_reward(self.context, params, self._some_prompts(), self.reference)
        own = preference_stage.Data(self.prompts, reward)
        key = self._key(f"round {number}")
        self.state = dataclasses.replace(self.state, update=jnp.int32(0), key=key)
        metrics = {}
        for _ in range(self.settings.updates):
            self.state, metrics = self._agent_step(self.state, own)
        return round(float(metrics["objective/kl"]), 3)

    def new_pairs(self, params: reward_model.Params, number: int) -> list[SamplePair]:
        """Pairs of the agent and the base for prompts that nothing learned from."""
        count = self.settings.pairs * self.settings.pool
        prompts = prompts_of(self.context, count, f"round {number}")
        condition = self.joint.condition(prompts)
        policy = self.state.params["policy"]
        a = self._melodies(policy, self._key(f"agent {number}"), condition)
        b = self._melodies(self.base, self._key(f"base {number}"), condition)
        chances = propensities(self._gains(params, condition, a, b), self.settings.random_share)
        random = self.context.random(f"pairs {number}")
        chosen, inclusion = systematic(random, chances, min(self.settings.pairs, count))
        texts = [prompts[index] for index in chosen]
        samples = [unaccompanied(rows[chosen], "", texts) for rows in (a, b)]
        names = rounds.agent_of(number), rounds.BASE
        rows = zip(texts, *samples, inclusion.tolist(), strict=True)
        return [SamplePair(text, x, y, names, chance) for text, x, y, chance in rows]

    def _newest(self) -> preference.State:
        """The agent of the last round, else that of the run."""
        trained = preference_stage.tuner_of(restore(Part(preference_stage.STAGE, self.own), self.context))
        if self.checkpoints.updates():
            restored = self.checkpoints.restore(trained, say)
            assert restored is not None
            return restored[1]
        return trained

    @functools.cached_property
    def _agent_step(self) -> Any:
        """(state, data) -> state, metrics: an update of PPO."""
        reward = preference_reward.reward_of(self.judging.learner, self.composer)
        return jax.jit(
            lambda state, data: preference.step(
                state,
                self.config,
                self.composer,
                data.prompts,
                reward_fn=reward,
                reward_params=data.reward,
            )
        )

    @functools.cached_property
    def _reward_step(self) -> Any:
        """(state, pairs) -> state, metrics: an update of the reward model."""
        return jax.jit(
            lambda state, pairs: reward_model.step(state, self.reward_config, self.composer, pairs)
        )

    @functools.cached_property
    def _rewards(self) -> Any:
        """(params, pairs) -> each head's rewards of a and of b."""
        return jax.jit(
            lambda params, pairs: reward_model.pair_rewards(params, self.reward_config, self.composer, pairs)
        )

    def _reward_state(self, params: reward_model.Params, purpose: str) -> reward_model.State:
        fresh = reward_model.optimiser(self.reward_config).init(params)  # pyright: ignore[reportArgumentType]
        return reward_model.State(params, fresh, jnp.int32(0), self._key(purpose))

    def _pairs(self, answers: Sequence[Any]) -> reward_model.Pairs:
        """The answers, repeated to a multiple of SLOTS (each has its program), and the run's own."""
        slots = -(-len(answers) // SLOTS) * SLOTS
        own = self._replayed()
        rows = [*(answers[index % len(answers)] for index in range(slots)), *own]
        pairs = reward_stage.pairs_of(rows, self.joint, self.length)
        share = self.settings.answers_weight if own else 1.0
        each = [share / slots] * slots + [(1 - share) / max(len(own), 1)] * len(own)
        return dataclasses.replace(pairs, weight=jnp.asarray(each, jnp.float32) * len(each))

    def _melodies(self, params: Any, key: jax.Array, condition: jax.Array) -> np.ndarray:
        temperature = self.own.learner.temperature
        return write_melodies(
            self.composer, params, key, condition, steps=self.length, temperature=temperature
        )

    def _some_prompts(self, count: int = 128) -> preference_reward.Rows:
        random = self.context.random("scale of rounds")
        chosen = random.permutation(len(self.prompts["claims"]))[:count]
        return {name: each[chosen] for name, each in self.prompts.items()}

    def _replayed(self) -> list[Any]:
        """Some of the comparisons that the run was trained on."""
        own = reward_stage.read_comparisons(self.context.path / reward_stage.COMPARISONS)
        chosen = self.context.random("replayed").permutation(len(own))[: self.settings.replayed]
        return [own[index] for index in chosen]

    def _accuracy(self, params: reward_model.Params, pairs: reward_model.Pairs, count: int) -> float:
        """Share of decided answers, the first of the pairs, that the rewards agree with; 0.5 without any."""
        first, second = self._rewards(params, pairs)
        choice = np.asarray(pairs.choice)[:count]
        favour = np.asarray((first - second).mean(axis=0))[:count] * choice
        return round(float((favour[choice != 0] > 0).mean()), 3) if choice.any() else 0.5

    def _gains(
        self, params: reward_model.Params, condition: jax.Array, a: np.ndarray, b: np.ndarray
    ) -> np.ndarray:
        """What a choice is expected to tell about which head is right, (N,)."""
        pairs = reward_stage.compared(self.joint, condition, a, b, np.zeros(len(a), np.int32))
        first, second = self._rewards(params, pairs)
        each = 1 / (1 + np.exp(-np.asarray(first - second)))
        return information_gain(np.stack([each, 1 - each], axis=-1))

    def _key(self, purpose: str) -> jax.Array:
        return self.context.key(f"rating {purpose}")


def check_learnable(run: Path) -> None:
    """StudyError unless a run has what learning from answers needs."""
    if not is_run(run):
        raise StudyError(f"{run} is no run: only a run's agent can learn from the answers")
    if is_box(run):
        raise StudyError(f"{run} is a box of weights, which learns no more: train a run")
    missing = [name for name in ("prompted", "reward_model", "preference") if not is_trained(run, name)]
    if missing:
        raise StudyError(f"{run} cannot learn from answers: it has no trained stage {missing[0]!r}")


def watch(study: Study, run: Path, parent: int) -> None:
    """Make every round that is due, until the process that serves the page has ended."""
    made = Rounds(run, study)
    made.prepare()
    while os.getppid() == parent:
        if rounds.is_due(study):
            _attempt(made)
        time.sleep(POLL_SECONDS)


def _attempt(made: Rounds) -> None:
    """A round; one that fails is told on the page, and the next one is tried after more answers."""
    try:
        report = made.make()
        say(f"round {report['round']}: learned from {made.study.count('answers')} answers, {report}")
    except Exception as error:
        traceback.print_exc()
        number = 1 + sum(row["state"] == "done" for row in made.study.database.rows("SELECT * FROM rounds"))
        rounds.end_round(made.study, number, {"error": " ".join(str(error).split())[:200]}, "failed")


@contextlib.contextmanager
def learning_process(study: Study, sources: Sequence[Path], every: int) -> Iterator[None]:
    """Within, a process of its own makes rounds after so many answers each."""
    run = run_of(study, sources)
    check_learnable(run)
    rounds.enable(study, every, str(run.resolve()))
    program = [sys.executable, "-m", "mammadai_jax.stages.rating_rounds", str(study.folder), str(run)]
    cache = jax.config.values["jax_compilation_cache_dir"]
    environment = os.environ | ({"JAX_COMPILATION_CACHE_DIR": cache} if cache else {})
    process = subprocess.Popen([*program, str(os.getpid())], env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def run_of(study: Study, sources: Sequence[Path]) -> Path:
    """The run that learns: the one given, else the one that did, else the one whose folder has the study."""
    given = [path for path in sources if is_run(path)]
    return given[0] if given else Path(rounds.run_of(study) or study.folder.resolve().parent)


def main() -> None:
    """The process: arguments are the study's folder, the run, and the number of the process that serves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the server, which ends this process
    os.nice(NICENESS)
    folder, run, parent = sys.argv[1:]
    with Study(folder) as study:
        watch(study, Path(run), int(parent))


if __name__ == "__main__":
    main()
