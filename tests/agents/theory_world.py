"""For the tests of the tuner and the projection: a tabular network, two rules, all melodies of two notes."""

import functools
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from mammadai_jax.music import theory
from mammadai_jax.networks.composer import Output

SIZE = theory.melody.SIZE
PIECE = theory.Config(length=4)
LENGTH = 2  # of the melodies that are enumerated


class Table:
    """A network whose parameters are its outputs, indexed by the time and the token before."""

    size = start = SIZE

    @staticmethod
    def init(key, tokens, times):
        del key, tokens, times
        return {"logits": jnp.zeros((5, SIZE + 1, SIZE)), "value": jnp.zeros((5, SIZE + 1))}

    @staticmethod
    def initial_carry(batch):
        del batch
        return ()

    @staticmethod
    def apply(params, *arguments, method=None):
        carry, inputs = (arguments[:1], arguments[1:3]) if method == "step" else ((), arguments)
        places = inputs[::-1]
        output = Output(params["logits"][places], params["value"][places])
        return (output, *carry) if method == "step" else output


def opening_c(state, action, config):
    """1 for middle C as the first note."""
    del config
    return 1.0 * ((state.time == 0) & (action == theory.melody.TONIC))


def high(state, action, config):
    """More for a higher token, and less the later."""
    del config
    return action / SIZE - 0.1 * state.time


RULES = {"opening_c": opening_c, "high": high}


@functools.cache
def weights(network, seed=0, spread=0.3):
    """Random parameters: heads begin near zero, where all policies are alike."""

    def make(key):
        rows = jnp.zeros((1, 1), jnp.int32)
        key, key_spread = jax.random.split(key)
        params = network.init(key, rows, rows)
        return jax.tree.map(lambda x: x + spread * jax.random.normal(key_spread, x.shape), params)

    return jax.jit(make)(jax.random.key(seed))


@functools.partial(jax.jit, static_argnames="network")
def _read(network, params, previous_token):
    times = jnp.broadcast_to(jnp.arange(len(previous_token))[:, None], previous_token.shape)
    return network.apply(params, previous_token, times)


def read(network, params, previous_token):
    """A network's logits (T, B, A) for whole melodies, given the token before each note (T, B)."""
    return np.asarray(_read(network, params, previous_token).logits)


def raw(tree):
    """The tree with keys as numbers."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, raw(found), raw(expected))


def assert_close(found, expected, rtol=1e-5, atol=1e-6):
    close = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol)
    jax.tree.map(close, raw(found), raw(expected))


def differ(found, expected):
    pairs = zip(jax.tree.leaves(raw(found)), jax.tree.leaves(raw(expected)), strict=True)
    return any((one != other).any() for one, other in pairs)


def pick(rows, action):
    return np.take_along_axis(np.asarray(rows), np.asarray(action)[..., None], axis=-1)[..., 0]


log_softmax = functools.partial(special.log_softmax, axis=-1)


@functools.cache
def small_world():
    """The prior's log-probabilities and the rules' weighted rewards, tables (time, last token, note)."""
    prior = log_softmax(np.asarray(weights(Table, 2, 1.0)["logits"], np.float64))
    earned = lambda state, note: opening_c(state, note, None) + 3.0 * high(state, note, None)
    rows = [[earned(SimpleNamespace(time=t), note) for note in range(SIZE)] for t in range(len(prior))]
    return prior, np.broadcast_to(np.array(rows)[:, None], prior.shape)


@functools.cache
def all_melodies():
    """All melodies of two notes: token before, action (time, melody), and their places in a table."""
    action = np.array(list(itertools.product(range(SIZE), repeat=LENGTH)), np.int32).T
    previous_token = np.concatenate([np.full_like(action[:1], SIZE), action[:-1]])
    return previous_token, action, (np.arange(LENGTH)[:, None], previous_token, action)
