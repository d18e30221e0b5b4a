"""Counted work: floating-point operations of matrix products, and the least bytes that must move.

An addition and a multiplication are two operations. What is not a product of matrices is not counted, so the
fraction of a limit is a lower bound. Attention is counted as it is computed, without halving it for
causality. A test compares with XLA's own count.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax

from mammadai_jax.learning import rollout
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.note_rnn import NoteRNN

LEARNING = 3  # forward, and a backward pass with the gradients of inputs and of weights
# Adam reads and writes parameters and both moments and reads the gradient, which was written before, after
# the parameters were read twice
ADAM = 10


def mlp(*sizes: int, learning: bool = False) -> float:
    """Of a row through a feed-forward network; learning, its first layer's input needs no gradient."""
    layers = [2.0 * a * b for a, b in itertools.pairwise(sizes)]
    return LEARNING * sum(layers) - layers[0] if learning else sum(layers)


def body(network: Composer | NoteRNN, looked_back: int) -> float:
    """Of a note through a network's layers, before its heads; attention looks at so many places."""
    width = network.width
    if isinstance(network, NoteRNN):
        return 2.0 * (network.size + width) * 4 * width
    if network.body == "lstm":
        return network.num_layers * 2.0 * 2 * width * 4 * width
    # queries, keys, values, output, and the position-wise layer; scores and their weighted sum
    return network.num_layers * (2.0 * (3 + 1 + 8) * width**2 + 4.0 * looked_back * width)


def heads(network: Composer | NoteRNN, value: bool = True) -> float:
    """Of a note through the heads: the logits', and the value's where it is asked for."""
    return 2.0 * network.width * (network.size + value)


def read(network: Composer | NoteRNN, steps: int, condition: int = 0, head: float | None = None) -> float:
    """Of reading a whole melody, with a condition of so many numbers; `head` of a note in place of heads."""
    head = heads(network) if head is None else head
    return steps * (body(network, steps) + head) + 2.0 * condition * network.width


def write(network: Composer | NoteRNN, steps: int, condition: int = 0, value: bool = False) -> float:
    """Of writing notes, by a network that looks at its whole context each time."""
    note = body(network, getattr(network, "context", 0)) + heads(network, value)
    return steps * (note + 2.0 * condition * network.width)


def compose(composer: Composer, steps: int, condition: int = 0, value: bool = False) -> float:
    """Of composing a melody, by a composer whose context grows with it."""
    return sum(
        write(composer.clone(attention_window=context), end - begin, condition, value)
        for begin, end, context in rollout.sections(composer, steps)
    )


def size(tree: Any) -> int:
    """Bytes of a tree's arrays, or of their shapes."""
    leaves: Sequence[Any] = jax.tree.leaves(tree)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def composing(composer: Composer, params: Any, melodies: int, steps: int) -> int:
    """Bytes of composing: each step reads the parameters and what every melody has in memory."""
    carry = lambda context: jax.eval_shape(
        lambda: composer.clone(attention_window=context).initial_carry(melodies)
    )
    return sum(
        (end - begin) * (size(params) + size(carry(context)))
        for begin, end, context in rollout.sections(composer, steps)
    )
