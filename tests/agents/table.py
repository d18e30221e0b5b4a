"""A composer without a body, whose policy is a table, and parameters without a compiled program."""

import functools
import itertools

import jax
import numpy as np

from mammadai_jax.networks.composer import Composer


class Table(Composer):
    """A composer that knows the last token and the prompt alone: its logits are linear in their embeddings.

    It is compiled in a fraction of a real one's time, and with a unit matrix as its token table any policy of
    the last token is one of its policies.
    """

    def _read(self, tokens, times, condition, deterministic, quarters):
        return self._embed(tokens, times, (), condition), ()

    def step(self, carry, token, time, condition=None):
        return self.heads(self._embed(token, time, (), condition)), carry

    def initial_carry(self, batch):
        return ()

    def extend_carry(self, carry):
        return carry


def table_of(size):
    """Such a composer of `size` notes, to which the time means nothing."""
    return Table(size=size, width=size + 1, metre=False, lookback=())


def table(logits, value):
    """Parameters for the logits (A + 1, A) and the value (A + 1,) after each token; the last one is start."""
    logits, value = np.asarray(logits, np.float32), np.asarray(value, np.float32)
    heads = {"logits_head": logits, "value_head": value[:, None]}
    heads = {name: {"kernel": x, "bias": np.zeros(x.shape[1:], np.float32)} for name, x in heads.items()}
    return {"params": {"token_table": {"embedding": np.eye(len(logits), dtype=np.float32)}, **heads}}


def melodies_of(size, steps):
    """Every melody (T, A^T) of `size` notes, and the token before each of its notes."""
    played = np.array(list(itertools.product(range(size), repeat=steps)), np.int32).T
    return played, np.concatenate([np.full_like(played[:1], size), played[:-1]])


def drawn(network, *inputs, scale=0.3, seed=0, **options):
    """Normal random parameters of a network for such inputs, biases and all."""
    shapes = jax.eval_shape(functools.partial(network.init, **options), jax.random.key(0), *inputs)
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: random.normal(0, scale, x.shape).astype(x.dtype), shapes)
