# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportArgumentType=false
# (flax declares that apply returns a tuple)
"""The reward model: a reward for a melody and its prompt, trained on pairwise choices.

The likelihood of choices is Davidson's, or Bradley and Terry's, see objectives/preferences.py. It depends on
differences of rewards only; `normalise` fixes their level and scale on reference melodies.

The network is a `RewardNetwork`: the body of a composer and an ensemble of heads. Each head weights the
pairs by a bootstrap of its own (Poisson(1) counts, Oza & Russell 2001), so that the spread of the heads
measures the uncertainty of a reward. Training takes one epoch, with a learning rate that falls to zero
(Huang et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable
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
from mammadai_jax.objectives import preferences, spread

LOG_NU_RATE = 100.0  # times the learning rate: Adam's steps are small, and log nu is a single number
HEAD_RATE = 2.0  # times the learning rate, for what is trained from scratch beside a trained body
# P(count <= 0), P(count <= 1), ... of Poisson(1)
POISSON = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 8)])).astype(np.float32)

# (differences r_a - r_b (...), choices (...), *, log_nu, margin) -> (...), as preferences.davidson_loss
PairLoss = Callable[..., jax.Array]


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

    ensemble_size: int = static(4, low=1, high=256)
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
    """The trained parameters.

    Attributes:
        network: of the reward network.
        log_nu: log nu of each head, float32 (heads,): its readiness to call a tie.

    """

    network: Any
    log_nu: jax.Array


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: see Params.
        opt_state: of the optimiser.
        update: int32, number of updates made.
        key: of the order of the examples and of the bootstrap; it never changes.

    """

    params: Any
    opt_state: Any
    update: jax.Array
    key: jax.Array


@struct.dataclass
class Pairs:
    """Pairs of melodies for one prompt each, and the choices between them.

    Attributes:
        condition: the prompts, float32 (N, C), or None.
        a: tokens of one melody, int32 (N, T).
        b: tokens of the other, int32 (N, T).
        choice: int32 (N,): 1 if a was preferred, -1 if b was, 0 for a tie.
        weight: of each pair, float32 (N,); None for equal weights.
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
    """`shift` (heads,), subtracted from each head's reward, and the common factor `gain` ()."""

    shift: Any = 0.0
    gain: Any = 1.0


RAW = Scale()


def optimiser(config: Config) -> optax.GradientTransformation:
    """That of `epochs`, with larger steps of log nu and of all but the body."""

    def rescale(updates, params):
        parts = updates.network["params"]
        parts = {
            name: part if name == "composer" else jax.tree.map(lambda x: HEAD_RATE * x, part)
            for name, part in parts.items()
        }
        return Params({"params": parts}, LOG_NU_RATE * updates.log_nu)

    return optax.chain(epochs.optimiser(config), optax.stateless(rescale))


def reward_network(config: Config, composer: Composer) -> RewardNetwork:
    """The network of a config, on the body of a composer."""
    return RewardNetwork(composer, config.ensemble_size, config.trait_units)


def init(
    key: jax.Array,
    config: Config,
    composer: Composer,
    condition_size: int = 0,
    *,
    params: Any = None,
    likeness: bool = False,
) -> State:
    """A fresh learner.

    Args:
        key: of parameters and of everything random later on.
        config: see Config.
        composer: the body; its width, layers and so on are those of `params`.
        condition_size: numbers in a prompt (C); 0 for melodies without prompts.
        params: a composer's, from which the body starts; None for a fresh body. If they are of a composer
            without prompts, the prompt's layer is fresh.
        likeness: whether the likeness of melody and prompt is an input of the heads.

    Returns:
        State. ValueError if the parameters are not of such a composer.

    """
    key, key_network = jax.random.split(key)
    condition = jnp.zeros((1, condition_size)) if condition_size else None
    blank = jnp.zeros((1, 32), jnp.int32), condition, jnp.zeros(1) if likeness else None
    network = reward_network(config, composer).init(key_network, *blank)
    if params is not None:
        body = load_body(params["params"], network["params"]["composer"])
        network = {"params": {**network["params"], "composer": body}}
    trained = Params(network=network, log_nu=jnp.zeros(config.ensemble_size))
    return State(trained, optimiser(config).init(trained), jnp.int32(0), key)


def load_body(params: Any, fresh: Any) -> dict[str, Any]:
    """A composer's parameters in the place of fresh ones of the same names; ValueError if they do not fit."""
    missing = fresh.keys() - params.keys() - {"condition_layer"}
    if missing:
        raise ValueError(f"the parameters are of another composer: they lack {', '.join(sorted(missing))}")
    body = {name: params.get(name, fresh[name]) for name in fresh}
    shapes = lambda tree: jax.tree.map(jnp.shape, tree)
    different = sorted(name for name in body if shapes(body[name]) != shapes(fresh[name]))
    if different:
        name = different[0]
        raise ValueError(
            f"the parameters are of another composer: {name} has shapes {shapes(body[name])} where "
            f"{shapes(fresh[name])} are needed; give the composer that they were trained with"
        )
    return jax.tree.map(jnp.copy, body)  # a copy: donating the state must not delete the composer


def rewards(
    params: Params,
    config: Config,
    composer: Composer,
    condition: Any,
    tokens: jax.Array,
    likeness: Any = None,
) -> jax.Array:
    """Each head's reward of melodies (B, T) for prompts (B, C) or None, float32 (heads, B).

    `likeness` (B,), see Pairs, is an input of networks that were initialised with it.
    """
    chex.assert_rank(tokens, 2)
    return reward_network(config, composer).apply(params.network, tokens, condition, likeness)


def score(each: jax.Array, scale: Scale = RAW) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation (B,), (B,) over the heads of their rewards (heads, B).

    Without a `scale` the deviation includes the different levels of the heads, which have no meaning.
    """
    chex.assert_rank(each, 2)
    each = (each - jnp.reshape(scale.shift, (-1, 1))) * scale.gain
    return each.mean(axis=0), each.std(axis=0)


def normalise(each: jax.Array) -> Scale:
    """The scale by which scores of reference melodies, from rewards (heads, B), have mean 0 and variance 1.

    Every head gets mean 0. All share one gain, so that the spread of the heads keeps its meaning; it is 1 if
    all scores are equal.
    """
    chex.assert_rank(each, 2)
    return Scale(shift=each.mean(axis=1), gain=1.0 / (spread.scale(each.mean(axis=0)) + 1e-8))


def pair_weights(key: jax.Array, config: Config, data: Pairs, chosen: jax.Array) -> jax.Array:
    """Weights of the chosen pairs (B,) for every head, float32 (heads, B).

    A pair's count in the bootstrap of a head is a function of (key, pair), the same in every epoch.
    """
    chex.assert_rank(chosen, 1)
    own = jnp.ones(chosen.shape) if data.weight is None else data.weight[chosen]
    if not config.ties:
        own = own * (data.choice[chosen] != 0)
    if config.ensemble_size == 1:
        return own[None]
    draw = lambda index: jax.random.uniform(jax.random.fold_in(key, index), (config.ensemble_size,))
    counts = (jax.vmap(draw)(chosen)[..., None] > POISSON).sum(axis=-1)
    return counts.T * own


def pair_rewards(
    params: Params, config: Config, composer: Composer, rows: Pairs
) -> tuple[jax.Array, jax.Array]:
    """Each head's rewards of a and of b, both float32 (heads, B)."""
    condition = None if rows.condition is None else jnp.concatenate([rows.condition, rows.condition])
    likeness = None if rows.likeness is None else rows.likeness.T.reshape(-1)
    both = rewards(params, config, composer, condition, jnp.concatenate([rows.a, rows.b]), likeness)
    first, second = jnp.split(both, 2, axis=1)
    return first, second


def weighted_loss(
    params: Params,
    config: Config,
    composer: Composer,
    rows: Pairs,
    weight: jax.Array,
    *,
    loss: PairLoss = preferences.davidson_loss,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Weighted mean (heads, B) of the loss of pairs -> loss, metrics.

    Metrics have TRL's names: "accuracy" and "margin" of the pairs that are not tied, and the mean, min and
    max of the rewards; "nu" is the mean of the heads' nu, 0 without ties.
    """
    chex.assert_equal_shape([rows.a, rows.b])
    first, second = pair_rewards(params, config, composer, rows)
    log_nu = _log_nu(params, config)
    nats = loss(first - second, rows.choice, log_nu=log_nu, margin=config.margin)
    nats += config.center_rewards_coefficient * (first + second) ** 2
    mean = lambda values, weight: (values * weight).sum() / jnp.maximum(weight.sum(), 1e-8)
    favour = rows.choice * (first - second).mean(axis=0)
    decided = (rows.choice != 0) * 1.0
    both = jnp.stack([first, second])
    metrics = {
        "accuracy": mean((favour > 0) + 0.5 * (favour == 0), decided),
        "margin": mean(favour, decided),
        "mean_reward": both.mean(),
        "min_reward": both.min(),
        "max_reward": both.max(),
        "nu": jnp.exp(log_nu).mean() if config.ties else jnp.float32(0.0),
    }
    return mean(nats, weight), metrics


def step(
    state: State,
    config: Config,
    composer: Composer,
    data: Pairs,
    *,
    loss: PairLoss = preferences.davidson_loss,
) -> tuple[State, dict[str, jax.Array]]:
    """One update on the pairs.

    Args:
        state: of the learner.
        config: see Config.
        composer: the body.
        data: all pairs.
        loss: of each pair, see PairLoss.

    Returns:
        State, and the metrics of `weighted_loss` and of `epochs.minibatch_step`.

    """
    examples = data.choice.shape[0]
    key_order, key_bootstrap = jax.random.split(state.key)
    chosen = epochs.minibatch(key_order, state.update, config, examples)
    weight = pair_weights(key_bootstrap, config, data, chosen)
    rows = jax.tree.map(lambda x: x[chosen], data)
    objective = lambda params: weighted_loss(params, config, composer, rows, weight, loss=loss)
    return epochs.minibatch_step(
        state, config, objective, examples=examples, optimiser=optimiser(config), weight=weight.sum()
    )


def probabilities(params: Params, config: Config, composer: Composer, rows: Pairs) -> jax.Array:
    """P(a preferred, tie, b preferred), the mean over the heads, float32 (B, 3); without the margin."""
    first, second = pair_rewards(params, config, composer, rows)
    log_probs = preferences.davidson_log_probs(first - second, _log_nu(params, config))
    return jnp.exp(log_probs).mean(axis=0)


def _log_nu(params: Params, config: Config) -> Any:
    """Log nu of each head (heads, 1), or that of no ties."""
    return params.log_nu[:, None] if config.ties else preferences.NO_TIES
