# pyright: reportAttributeAccessIssue=false
# (flax declares that apply returns a tuple)
"""Learning from whole melodies, each by all that its notes are worth together.

Of whole melodies m the policy that Psi-learning aims at, undiscounted and at temperature t, is known up to a
constant (Jaques et al. 2017):

    pi*(m)  =  (p(m) exp(r(m) / c)) ** (1 / t) / Z

So what the network plays is weighed by (pi*(m) / pi(m)) ** (1 / eta) and learned by likelihood: a projection
of pi* on what the network can play. The step is as long as the sample allows: eta is the smallest from 1 on
at which the weights are worth a given share of the sample (Peters et al. 2010; Abdolmaleki et al. 2018). A
melody that was praised for its last note is learned whole: no note waits for its successors to be judged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mammadai_jax.agents.tuner.config import Config, Network
from mammadai_jax.agents.tuner.losses import of
from mammadai_jax.agents.tuner.rollout import Played
from mammadai_jax.learning import collectives

LARGEST = 1e9  # eta, at which all weights are the same


class Weighed(NamedTuple):
    """Melodies, fed and action (N, T), and how much each counts (N,), 1 on average."""

    previous_token: jax.Array
    action: jax.Array
    weight: jax.Array


def log_prob(params: Any, network: Network, previous_token: jax.Array, action: jax.Array) -> jax.Array:
    """Of whole melodies (T, B) under the network, float32 (B,)."""
    times = jnp.broadcast_to(jnp.arange(len(previous_token))[:, None], previous_token.shape)
    return of(jax.nn.log_softmax(network.apply(params, previous_token, times).logits), action).sum(axis=0)


def weights(score: jax.Array, effective: float | jax.Array) -> jax.Array:
    """exp(score / eta) (N,), 1 on average, of log pi*(m) / pi(m) (N,), known but for a constant.

    Their effective number, (sum w)^2 / sum w^2, is at least the share `effective` of N.
    """
    chex.assert_rank(score, 1)
    share = lambda eta: 1.0 / (len(score) * jnp.square(jax.nn.softmax(score / eta)).sum())

    def halve(_, bounds):
        low, high = bounds
        middle = jnp.sqrt(low * high)
        enough = share(middle) >= effective
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    _, eta = jax.lax.fori_loop(0, 50, halve, (jnp.float32(1.0), jnp.float32(LARGEST)))
    eta = jnp.where(share(1.0) >= effective, 1.0, eta)
    return len(score) * jax.nn.softmax(score / eta)


def weigh(params: Any, played: Played, config: Config, network: Network) -> Weighed:
    """Played melodies by their part in the projection, among those of all shards."""
    score = collectives.gather(collectives.each(_score, params, played, config, network))
    return Weighed(
        played.previous_token.T, played.action.T, collectives.share(weights(score, config.ess_fraction))
    )


def _score(params: Any, played: Played, config: Config, network: Network) -> jax.Array:
    """Log pi*(m) / pi(m) of played melodies (B,), but for a constant."""
    aim = config.reward_scale * played.theory + of(played.log_prior, played.action)
    own = log_prob(params, network, played.previous_token, played.action)
    return aim.sum(axis=0) / config.temperature - own


def minibatches(key: jax.Array, melodies: Weighed, config: Config) -> Weighed:
    """The melodies in minibatches (M, batch, ...): shuffled, once for every epoch that this takes."""
    number, wanted = len(melodies.weight), config.num_minibatches * config.batch_size
    keys = jax.random.split(key, -(-wanted // number))
    order = jax.vmap(lambda key: jax.random.permutation(key, number))(keys).ravel()[:wanted]
    return jax.tree.map(lambda x: x[order.reshape(config.num_minibatches, config.batch_size)], melodies)


def weighed_loss(learned: dict, target: Any, config: Config, network: Network, batch: Weighed) -> jax.Array:
    """Nats a note of weighed melodies, float32 ()."""
    del target, config
    nats = -log_prob(learned["network"], network, batch.previous_token.T, batch.action.T)
    return (batch.weight * nats).mean() / batch.previous_token.shape[1]
