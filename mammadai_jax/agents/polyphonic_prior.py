"""The prior of pieces of several voices: the polyphonic composer, trained by maximum likelihood on frames.

The learner is that of `prior`. Its corpus is one row of decisions, frame after frame and in each frame in the
order of `decision_order`; windows begin where a frame does, and are moved up or down as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from flax import struct

from mammadai_jax.agents import prior
from mammadai_jax.agents.prior import State
from mammadai_jax.fields import MAX_LAYERS, MAX_WIDTH, static, traced
from mammadai_jax.learning.optimisers import Optimiser
from mammadai_jax.music.piece import MAX_VOICES, decision_order, decisions
from mammadai_jax.networks.polyphonic import PolyphonicComposer

__all__ = ["Config", "State", "decided", "init", "make_composer", "step", "stream"]


@struct.dataclass
class Config:
    """Settings of the prior of several voices; a step is a frame.

    The learning rate rises linearly over the warm-up and then falls to zero along a cosine.

    Attributes:
        voices: voices of a piece.
        hold: whether the alphabet's last token holds what sounds.
        steps_per_quarter: steps of a quarter note.
        body: network of the composer, "lstm" or "transformer".
        width: units of each layer.
        num_layers: layers of the network.
        num_heads: heads of each attention layer.
        attention_window: earlier steps that attention can read.
        match_steps: how far back the passage is looked for that the last steps repeat; what followed there is
            an input. 0 for none.
        dropout: probability that a unit is dropped while training.
        feature_dropout: probability that a feature of a decision is dropped while training.
        transpose: largest number of semitones by which a window is moved up or down at random.
        batch_size: examples in a minibatch; here windows of the corpus.
        sequence_length: steps of a window.
        num_updates: updates until the learning rate has fallen to zero; 0 leaves the stage out.
        optimiser: "adam", or "muon", which takes orthogonalised steps of matrices.
        learning_rate: step size of the optimiser; its peak.
        lr_warmup_steps: updates in which the learning rate rises.
        weight_decay: coefficient of AdamW's weight decay; of matrices only.
        max_grad_norm: largest global norm of the gradient.
        ema_decay: decay of the moving average of the parameters; evaluation and composing use the average.

    """

    voices: int = static(4, low=1, high=MAX_VOICES)
    hold: bool = static(False)
    steps_per_quarter: int = static(4, low=1, high=64)
    body: Literal["lstm", "transformer"] = static("lstm")
    width: int = static(256, low=1, high=MAX_WIDTH)
    num_layers: int = static(1, low=1, high=MAX_LAYERS)
    num_heads: int = static(4, low=1)
    attention_window: int = static(256, low=1, unit="steps")
    match_steps: int = static(256, low=0, high=4096, unit="steps")
    dropout: float = static(0.5, low=0, high=0.99)
    feature_dropout: float = static(0.1, low=0, high=0.99)
    transpose: int = static(6, low=0, high=36, unit="semitones")
    batch_size: int = static(12, low=1)
    sequence_length: int = static(192, low=1, unit="steps")
    num_updates: int = traced(500, low=0, unit="updates")
    optimiser: Optimiser = static("adam")
    learning_rate: float = traced(3e-3, low=0)
    lr_warmup_steps: int = traced(50, low=0, unit="updates")
    weight_decay: float = traced(0.05, low=0)
    max_grad_norm: float = traced(1.0, low=0)
    ema_decay: float = traced(0.995, low=0, high=1)


def make_composer(config: Config, size: int) -> PolyphonicComposer:
    """The network of a config, for an alphabet of `size` tokens."""
    pieces = ("voices", "hold", "steps_per_quarter", "match_steps")
    network = ("body", "width", "num_layers", "num_heads", "attention_window", "dropout", "feature_dropout")
    return PolyphonicComposer(size=size, **{name: getattr(config, name) for name in (*pieces, *network)})


def stream(pieces: Sequence[np.ndarray], size: int) -> prior.Stream:
    """Lay pieces of tokens (T_i, V) of an alphabet of `size` end to end; ValueError if there is no token."""
    return prior.stream([decided(piece) for piece in pieces], size)


def decided(piece: np.ndarray) -> np.ndarray:
    """The tokens (T * V,) of a piece (T, V), in the order in which they are decided."""
    return decisions(piece, decision_order(piece.shape[1]))


def init(key: jax.Array, config: Config, size: int) -> State:
    """A fresh learner for an alphabet of `size` tokens."""
    return prior.init_composer(key, config, make_composer(config, size))


def step(
    state: State,
    config: Config,
    data: prior.Stream,
    size: int,
    *,
    loss: Callable[..., jax.Array] = prior.negative_log_likelihood,
) -> tuple[State, dict[str, Any]]:
    """One update, as `prior.step`; "bits" are those of a decision."""
    composer = make_composer(config, size)
    pitches = range(1, composer.frames.pitches + 1)
    return prior.step_composer(
        state, config, composer, data, pitches=pitches, voices=config.voices, loss=loss
    )
