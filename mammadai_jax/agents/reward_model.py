# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportArgumentType=false
# (flax declares that apply returns a tuple)
"""The reward model: a number for a melody and its prompt, learned from which of two was preferred.

    P(a preferred) : P(tie) : P(b preferred) = e^{r_a} : nu e^{(r_a + r_b) / 2} : e^{r_b}

This is Davidson's model (1970); without ties, nu = 0, it is Bradley and Terry's (1952), whose loss for a
preferred w and a rejected l is -log sigmoid(r_w - r_l - margin). Differences of rewards mean something,
their level does not: `normalise` sets it on reference melodies.

The network is a `RewardNetwork`: a composer's body and an ensemble of heads. Each head
weighs the pairs by a bootstrap of its own (Poisson(1) counts, Oza & Russell 2001), so that the heads'
spread tells how little the pairs say about a melody. It is trained for one
epoch by a falling rate (Huang et al. 2023).
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from mammadai_jax.fields import static, traced
from mammadai_jax.learning import epochs
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.reward_network import RewardNetwork

NEVER = -1e9  # log nu where there are no ties
HASTE = 100.0  # Adam moves numbers by about the rate; log nu is a single one and has further to go
FRESH = 2.0  # and so have the heads and what hears the traits, beside a body that has composed before
# P(count <= 0), P(count <= 1), ... of Poisson(1)
POISSON = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 8)])).astype(np.float32)


@struct.dataclass
class Config:
    """Settings of the reward model. The learning rate falls linearly to zero over all epochs.

    Attributes:
        ensemble_size: heads of the ensemble; a single head weighs every pair by the pair's own weight.
        trait_units: units of the layer that reads the traits of a melody; 0 for no such layer.
        ties: whether ties are modelled; if not, tied pairs have no weight.
        batch_size: examples in a minibatch; here pairs of melodies.
        num_epochs: passes over the data.
        learning_rate: step size of the optimiser; its value at the start.
        weight_decay: coefficient of AdamW's weight decay; of matrices only.
        max_grad_norm: largest global norm of the gradient.
        margin: difference that the reward of the preferred melody is asked to exceed the other's by.
        center_rewards_coefficient: weight of (r_a + r_b)^2 in the loss, which keeps rewards near zero.

    """

    ensemble_size: int = static(4, low=1)
    trait_units: int = static(0, low=0, high=4096)
    ties: bool = static(True)
    batch_size: int = static(32, low=1)
    num_epochs: float = traced(1.0, low=0)
    learning_rate: float = traced(5e-4, low=0)
    weight_decay: float = traced(0.01, low=0)
    max_grad_norm: float = traced(1.0, low=0)
    margin: float = traced(0.0, low=0, unit="reward")
    center_rewards_coefficient: float = traced(0.01, low=0)


@struct.dataclass
class Params:
    """`network`, of the judge, and `log_nu` (heads,), how ready each head is to call a tie."""

    network: Any
    log_nu: jax.Array


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: what is learned.
        opt_state: of the optimiser.
        update: int32, how many updates were made.
        key: of the order of the examples and of all that is random in an update; it stays the same.

    """

    params: Any
    opt_state: Any
    update: jax.Array
    key: jax.Array


@struct.dataclass
class Pairs:
    """Pairs of melodies for one prompt each, and what was chosen.

    Attributes:
        condition: the prompts, float32 (N, C), or None.
        a: tokens of one melody, int32 (N, T).
        b: tokens of the other, int32 (N, T).
        choice: int32 (N,): 1 if a was preferred, -1 if b was, 0 for a tie.
        weight: of each pair, float32 (N,); None weighs all the same.
        likeness: cosine of the prompt with a and with b in an embedding, float32 (N, 2), or None.

    """

    condition: Any
    a: jax.Array
    b: jax.Array
    choice: jax.Array
    weight: Any = None
    likeness: Any = None


@struct.dataclass
class Scale:
    """`shift` (heads,), taken from each head's reward, and the common `gain` () that follows."""

    shift: Any = 0.0
    gain: Any = 1.0


RAW = Scale()


def optimiser(config: Config) -> optax.GradientTransformation:
    """Of all that learn from examples, with log nu and all but the body made faster."""

    def hasten(updates, params):
        parts = updates.network["params"]
        parts = {
            name: part if name == "composer" else jax.tree.map(lambda x: FRESH * x, part)
            for name, part in parts.items()
        }
        return Params({"params": parts}, HASTE * updates.log_nu)

    return optax.chain(epochs.optimiser(config), optax.stateless(hasten))


def reward_network(config: Config, composer: Composer) -> RewardNetwork:
    """The network that a config describes, on a composer's body."""
    return RewardNetwork(composer, config.ensemble_size, config.trait_units)


def init(
    key: jax.Array,
    config: Config,
    composer: Composer,
    condition_size: int = 0,
    params: Any = None,
    likeness: bool = False,
) -> State:
    """A fresh learner.

    Args:
        key: of parameters and of everything random later on.
        config: see Config.
        composer: the body; its width, layers and so on are those of `params`.
        condition_size: C, numbers in a prompt; 0 for melodies without one.
        params: a composer's, for the body to begin with; from scratch if None. A composer that never had a
            prompt leaves the prompt's layer fresh.
        likeness: whether the judge is told how like melody and prompt are.

    Returns:
        State. ValueError if the parameters are not of such a composer.

    """
    key, key_network = jax.random.split(key)
    condition = jnp.zeros((1, condition_size)) if condition_size else None
    near = jnp.zeros(1) if likeness else None
    network = reward_network(config, composer).init(
        key_network, jnp.zeros((1, 32), jnp.int32), condition, near
    )
    if params is not None:
        body = lay(params["params"], network["params"]["composer"])
        network = {"params": {**network["params"], "composer": body}}
    learned = Params(network=network, log_nu=jnp.zeros(config.ensemble_size))
    return State(learned, optimiser(config).init(learned), jnp.int32(0), key)


def lay(given: Any, fresh: Any) -> dict[str, Any]:
    """A composer's parameters in the place of fresh ones of the same names; ValueError if they do not fit."""
    missing = fresh.keys() - given.keys() - {"condition_layer"}
    if missing:
        raise ValueError(f"the parameters are of another composer: they lack {', '.join(sorted(missing))}")
    laid = {name: given.get(name, fresh[name]) for name in fresh}
    shapes = lambda tree: jax.tree.map(jnp.shape, tree)
    wrong = sorted(name for name in laid if shapes(laid[name]) != shapes(fresh[name]))
    if wrong:
        raise ValueError(
            f"the parameters are of another composer: {wrong[0]} has shapes {shapes(laid[wrong[0]])} where "
            f"{shapes(fresh[wrong[0]])} are needed; give the composer that they were trained with"
        )
    return jax.tree.map(jnp.copy, laid)  # a copy: a donated state does not take the composer with it


def rewards(
    params: Params,
    config: Config,
    composer: Composer,
    condition: Any,
    tokens: jax.Array,
    likeness: Any = None,
) -> jax.Array:
    """Each head's reward of melodies (B, T) for prompts (B, C) or None: float32 (heads, B).

    A judge that was made for it is told their `likeness` (B,), see Pairs.
    """
    chex.assert_rank(tokens, 2)
    return reward_network(config, composer).apply(params.network, tokens, condition, likeness)


def score(each: jax.Array, scale: Scale = RAW) -> tuple[jax.Array, jax.Array]:
    """The heads' mean and standard deviation (B,), (B,), of their rewards (heads, B).

    Without a `scale` the deviation has the heads' differing levels in it, which mean nothing.
    """
    each = (each - jnp.reshape(scale.shift, (-1, 1))) * scale.gain
    return each.mean(axis=0), each.std(axis=0)


def normalise(each: jax.Array) -> Scale:
    """The scale on which scores of reference melodies, of rewards (heads, B), have mean 0 and variance 1.

    Every head's mean becomes 0; one gain for all lets the spread of the heads keep its meaning.
    """
    return Scale(shift=each.mean(axis=1), gain=1.0 / (each.mean(axis=0).std() + 1e-8))


def log_probabilities(difference: jax.Array, log_nu: jax.Array | float) -> jax.Array:
    """Davidson's log P(a preferred, tie, b preferred), (..., 3), of differences r_a - r_b (...)."""
    tie = jnp.broadcast_to(log_nu, difference.shape)
    return jax.nn.log_softmax(jnp.stack([difference / 2, tie, -difference / 2], axis=-1))


def negative_log_likelihood(
    difference: jax.Array, choice: jax.Array, log_nu: jax.Array | float = NEVER, margin: float = 0.0
) -> jax.Array:
    """-log P of choices (...) given differences r_a - r_b (...); with the default, Bradley and Terry's.

    A margin is taken from the difference in favour of the chosen. Tied, a pair with the default log nu has no
    meaning: give it no weight.
    """
    favour = jnp.where(choice == 0, difference, choice * difference - margin)
    win, tie, _ = jnp.moveaxis(log_probabilities(favour, log_nu), -1, 0)
    return -jnp.where(choice == 0, tie, win)


def weights(key: jax.Array, config: Config, data: Pairs, chosen: jax.Array) -> jax.Array:
    """Of the chosen pairs (B,) for every head, float32 (heads, B).

    How often a head's bootstrap has a pair depends on the pair alone, so later epochs show the same ones.
    """
    own = jnp.ones(chosen.shape) if data.weight is None else data.weight[chosen]
    if not config.ties:
        own = own * (data.choice[chosen] != 0)
    if config.ensemble_size == 1:
        return own[None]
    draw = lambda index: jax.random.uniform(jax.random.fold_in(key, index), (config.ensemble_size,))
    counts = (jax.vmap(draw)(chosen)[..., None] > POISSON).sum(axis=-1)
    return counts.T * own


def of_pairs(params: Params, config: Config, composer: Composer, rows: Pairs) -> tuple[jax.Array, jax.Array]:
    """Each head's rewards of a and of b, float32 (heads, B) both."""
    condition = None if rows.condition is None else jnp.concatenate([rows.condition, rows.condition])
    likeness = None if rows.likeness is None else rows.likeness.T.reshape(-1)
    both = rewards(params, config, composer, condition, jnp.concatenate([rows.a, rows.b]), likeness)
    first, second = jnp.split(both, 2, axis=1)
    return first, second


def loss(
    params: Params, config: Config, composer: Composer, rows: Pairs, weight: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Of some pairs, weighted (heads, B) -> loss, metrics: TRL's (accuracy leaves ties out), and nu."""
    chex.assert_equal_shape([rows.a, rows.b])
    first, second = of_pairs(params, config, composer, rows)
    both = jnp.stack([first, second])
    log_nu = params.log_nu[:, None] if config.ties else NEVER
    nats = negative_log_likelihood(first - second, rows.choice, log_nu, config.margin)
    nats += config.center_rewards_coefficient * (first + second) ** 2
    mean = lambda values, weight: (values * weight).sum() / jnp.maximum(weight.sum(), 1e-8)
    favour = rows.choice * (first - second).mean(axis=0)
    decided = (rows.choice != 0) * 1.0
    metrics = {
        "accuracy": mean((favour > 0) + 0.5 * (favour == 0), decided),
        "margin": mean(favour, decided),
        "mean_reward": both.mean(),
        "min_reward": both.min(),
        "max_reward": both.max(),
        "nu": jnp.exp(log_nu).mean() if config.ties else jnp.float32(0.0),
    }
    return mean(nats, weight), metrics


def step(state: State, config: Config, composer: Composer, data: Pairs) -> tuple[State, dict[str, jax.Array]]:
    """One update on the pairs. Metrics: those of `loss` and of `epochs.descend`."""
    examples = data.choice.shape[0]
    key_order, key_bootstrap = jax.random.split(state.key)
    chosen = epochs.minibatch(key_order, state.update, config, examples)
    weight = weights(key_bootstrap, config, data, chosen)
    rows = jax.tree.map(lambda x: x[chosen], data)
    objective = lambda params: loss(params, config, composer, rows, weight)
    return epochs.minibatch_step(state, config, examples, objective, optimiser(config), weight.sum())


def probabilities(params: Params, config: Config, composer: Composer, rows: Pairs) -> jax.Array:
    """P(a preferred, tie, b preferred), mean of the heads, float32 (B, 3); the margin has no part in it."""
    first, second = of_pairs(params, config, composer, rows)
    log_nu = params.log_nu[:, None] if config.ties else NEVER
    return jnp.exp(log_probabilities(first - second, log_nu)).mean(axis=0)
