"""Stage "reward_model": learns from comparisons of two melodies which one a listener prefers."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import embedding, reward_model
from mammadai_jax.fields import static
from mammadai_jax.learning import epochs
from mammadai_jax.listening import pairs
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.listening.study import Study
from mammadai_jax.listening.study.store import is_study
from mammadai_jax.music.files import expanded, write_atomically
from mammadai_jax.music.files import read as read_bytes
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.stages.captioned import captioned_of, listeners_of, requests, simulated
from mammadai_jax.stages.joint_embedding import JointEmbedding
from mammadai_jax.stages.prompted import composer_of, width_of, write_melodies
from mammadai_jax.text.vocabulary import tokenize
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.settings import share
from mammadai_jax.training.stage import Context, StageSpec

COMPARISONS = "comparisons.jsonl"  # in a run directory
MAX_BYTES = 1 << 30  # of a file of comparisons
REFERENCE = 64  # melodies with which a tune is compared
LEARNER = reward_model.Config(trait_units=128, learning_rate=1e-3)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stage "reward_model": from pairwise choices to a score of melodies, as MusicRL.

    Attributes:
        num_listeners: simulated listeners; a quarter of them only evaluates the result.
        num_pairs: pairs of melodies that the listeners compare.
        ratings: a study of `mammadai rate`, or a JSONL file of comparisons, that takes the simulated
            listeners' place; none if empty.
        log_every: updates between log lines.
        learner: see agents.reward_model.

    """

    num_listeners: int = static(default=32, low=2, high=10_000)
    num_pairs: int = static(default=8192, low=1)
    ratings: str = ""
    log_every: int = static(default=50, low=1)
    learner: reward_model.Config = dataclasses.field(default_factory=lambda: LEARNER)


PRESETS: Mapping[str, Settings] = {
    "smoke": Settings(
        num_listeners=8,
        num_pairs=8,
        log_every=20,
        learner=dataclasses.replace(LEARNER, trait_units=0, batch_size=4),
    ),
    "quick": Settings(num_pairs=3072),
}
likeness = jax.jit(embedding.adherence)


class Data(NamedTuple):
    """What the reward model learns from: the comparisons, and the same as arrays."""

    comparisons: list[Comparison]
    pairs: reward_model.Pairs


def files(settings: Settings) -> Mapping[str, str]:
    """The digest of the ratings; an error if they are missing or have a line that is no comparison."""
    if not settings.ratings:
        return {}
    path = expanded(settings.ratings)
    if not any(one.sign for one in read_comparisons(path, prompted=True)):
        raise ValueError(f"{path}: no comparison prefers a melody: gather more")
    return {"ratings": _digest(path)}


def data(settings: Settings, context: Context) -> Data:
    """The comparisons of the file of ratings, or of simulated listeners."""
    ratings = settings.ratings
    comparisons = read_comparisons(expanded(ratings)) if ratings else collect_comparisons(settings, context)
    length = context.settings_of("embedding").length
    return Data(comparisons, pairs_of(comparisons, context.learned("embedding"), length))


def example(settings: Settings, context: Context) -> Data:
    """The comparisons of the file of ratings, or of two excerpts; nothing is composed."""
    if settings.ratings:
        return data(settings, context)
    excerpts, joint = captioned_of(context), context.learned("embedding")
    tokens, condition = excerpts.tokens[:2], joint.condition(excerpts.prompts[:2])
    return Data([], compared(joint, condition, tokens, tokens, tokens[:, 0]))


def collect_comparisons(settings: Settings, context: Context) -> list[Comparison]:
    """Simulated listeners' choices between two melodies of the prompted composer for the same prompt."""
    prompts = captioned_of(context).draw_prompts(context.random("comparisons"), settings.num_pairs)
    condition = context.learned("embedding").condition(prompts)
    key_a, key_b, key_choice = jax.random.split(context.key("comparisons"), 3)
    a, b = (
        write_melodies(
            composer_of(context),
            context.learned("prompted"),
            key,
            condition,
            steps=context.settings_of("embedding").length,
            temperature=context.settings_of("prompted").temperature,
        )
        for key in (key_a, key_b)
    )
    gatherer = simulated(listeners_of(context)[0], key_choice)
    return gatherer.gather(requests(prompts, a, b, ("prompted", "prompted")))


def pairs_of(comparisons: Sequence[Comparison], joint: JointEmbedding, length: int) -> reward_model.Pairs:
    """Comparisons of melodies of so many steps as arrays; ValueError where none prefers a melody."""
    if not any(one.sign for one in comparisons):
        raise ValueError(f"none of {len(comparisons)} comparisons prefers a melody: gather more")
    a, b, choice, prompts = pairs.to_arrays(comparisons, length)
    return compared(joint, joint.condition(prompts), a, b, choice)


def compared(
    joint: JointEmbedding, condition: jax.Array, a: np.ndarray, b: np.ndarray, choice: np.ndarray
) -> reward_model.Pairs:
    """Melodies a and b (N, T) for conditions (N, C), with the likeness of each to its condition."""
    near = [likeness(condition, joint.embedding.music(jnp.asarray(one))) for one in (a, b)]
    return reward_model.Pairs(condition, *map(jnp.asarray, (a, b, choice)), likeness=jnp.stack(near, axis=1))


def make_learner(settings: Settings, context: Context, data: Data) -> Learner:
    """Training of the reward model, whose body begins as the prompted composer."""
    return learner_from(settings, context, data.pairs, context.learned("prompted"))


def learner_from(settings: Settings, context: Context, compared: reward_model.Pairs, params: Any) -> Learner:
    """Training of the reward model from a composer's parameters, or from scratch where they are None."""
    config, composer = share(settings.learner, context.shards), composer_of(context)
    width = compared.condition.shape[-1]
    init = lambda: reward_model.init(
        context.key("judge"), config, composer, width, params=params, likeness=True
    )
    return Learner(
        name="reward_model",
        init=init,
        step=lambda state, data: reward_model.step(state, config, composer, data),
        data=compared,
        updates=max(1, epochs.updates_in(settings.learner, len(compared.choice))),
        chunk=settings.log_every,
        notes=2 * settings.learner.batch_size * context.settings_of("embedding").length,
        shown="accuracy",
    )


def template(settings: Settings, context: Context) -> reward_model.State:
    """A state before training, from scratch."""
    config, width = share(settings.learner, context.shards), width_of(context)
    return reward_model.init(context.key("judge"), config, composer_of(context), width, likeness=True)


def save_comparisons(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write comparisons anew, whole or not at all, and beside them their digest as `sha256sum` writes it."""
    unfinished = path.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    pairs.write(unfinished, comparisons)
    unfinished.replace(path)
    write_atomically(path.with_name(path.name + ".sha256"), f"{_digest(path)}  {path.name}\n".encode())


def read_comparisons(path: Path, *, prompted: bool = False) -> list[Comparison]:
    """The comparisons of a study or a file.

    PairsError if the digest beside the file is another one, or a line is damaged. If `prompted`, every
    comparison must have a prompt.
    """
    if is_study(path):
        return _of_study(path, prompted)
    comparisons, beside = pairs.read(path, prompted=prompted), path.with_name(path.name + ".sha256")
    if beside.is_file() and beside.read_text(errors="replace").partition(" ")[0] != _digest(path):
        raise pairs.PairsError(
            f"{path} was damaged or edited: its SHA-256 is not that of {beside.name}. Put back a copy, or "
            "remove that file if the changes are yours"
        )
    return comparisons


def _of_study(path: Path, prompted: bool) -> list[Comparison]:
    with Study(path) as study:
        comparisons = study.comparisons()
    if prompted and not all(tokenize(one.prompt) for one in comparisons):
        raise pairs.PairsError(
            f"{path}: there are pairs without a prompt, from which this stage cannot learn"
        )
    return comparisons


def _digest(path: Path) -> str:
    """SHA-256 of a study's or a file's comparisons, in hexadecimal."""
    if is_study(path):
        lines = map(pairs.line_of, read_comparisons(path))
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    return hashlib.sha256(read_bytes(path, MAX_BYTES)).hexdigest()


def score(
    settings: Settings, context: Context, learned: Any, tokens: np.ndarray, prompt: str
) -> dict[str, float]:
    """Where the score of a tune's tokens (T,) is among those of melodies composed for its prompt."""
    joint: JointEmbedding = context.learned("embedding")
    composer, length = composer_of(context), context.settings_of("embedding").length
    condition = jnp.tile(joint.condition([prompt]), (1 + REFERENCE, 1))
    composed = write_melodies(
        *(composer, context.learned("prompted"), context.key("score"), condition[1:]),
        steps=length,
        temperature=context.settings_of("prompted").temperature,
    )
    melodies = np.concatenate([excerpt(tokens, length)[None], composed])
    near = likeness(condition, joint.embedding.music(jnp.asarray(melodies)))
    each = _rewards(learned, settings.learner, composer, condition, melodies, near)
    scores = np.asarray(reward_model.score(each, reward_model.normalise(each[:, 1:]))[0])
    name = f"of {REFERENCE} melodies composed for the prompt"
    return {
        f"deviations above the mean {name}": float(scores[0]),
        f"share {name} that it beats": float((scores[0] > scores[1:]).mean()),
    }


def excerpt(tokens: np.ndarray, length: int) -> np.ndarray:
    """The first steps of tokens (T,) of MAGENTA, or all and silence: int32 (length,)."""
    rest = np.full(max(length - len(tokens), 0), MAGENTA.hold)
    rest[:1] = MAGENTA.silence
    return np.append(tokens, rest)[:length].astype(np.int32)


_rewards = jax.jit(reward_model.rewards, static_argnums=2)

STAGE = StageSpec(
    name="reward_model",
    title="Reward model",
    settings_type=Settings,
    presets=PRESETS,
    depends_on=("prompted", "embedding"),
    files=files,
    data=data,
    example=example,
    make_learner=make_learner,
    updates="learner.num_epochs",
    template=template,
    weights=lambda state: state.params,
    save=lambda context, data, learned: save_comparisons(context.path / COMPARISONS, data.comparisons),
    score=score,
)
