# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
# (flax adds constructors and `replace` to its dataclasses)
"""A prompted composer tuned by a reward, and by a discriminator that is trained beside it.

A reward that stays the same is answered by ever more of the same music. Here a discriminator learns, in every
update, to tell that update's melodies from real ones, and what it says joins the reward's terms as "real":
what the policy plays too often is told from real music, and loses (GAPT, Wu et al. 2025). It is GAIL
(agents/gail.py) in which the state is a prompt and the action a whole melody; the real pairs are melodies
with their own captions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import struct

from mammadai_jax.agents import gail, preference, reward_model
from mammadai_jax.fields import static, traced
from mammadai_jax.learning import collectives
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.reward_network import RewardNetwork
from mammadai_jax.objectives.discriminator import REWARDS, RewardForm, Transitions, gail_loss

TERM = "real"  # the name of the discriminator's reward


@struct.dataclass
class Config:
    """Settings of the discriminator.

    Attributes:
        reward_form: reward of the discriminator's logit, see objectives/discriminator.py.
        disc_updates: minibatches of the discriminator in an update.
        batch_size: examples in a minibatch; here real melodies, and as many of the policy.
        learning_rate: step size of the optimiser; of the discriminator.
        disc_ent_coef: weight of the discriminator's entropy in its loss.

    """

    reward_form: RewardForm = static("softplus")
    disc_updates: int = static(2, low=1)
    batch_size: int = static(64, low=1)
    learning_rate: float = traced(3e-4, low=0)
    disc_ent_coef: float = traced(0.1, low=0)


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        tuner: of the composer's tuning.
        discriminator: its parameters.
        opt_state: of its optimiser.
        update: int32, number of updates made.
        key: of its next minibatches.

    """

    tuner: preference.State
    discriminator: Any
    opt_state: Any
    update: jax.Array
    key: jax.Array = collectives.own()

    @property
    def params(self) -> dict[str, Any]:
        """Of the composer and its value, as in preference.State."""
        return self.tuner.params


class OfMelodies(NamedTuple):
    """The discriminator's network: a composer's body that reads a prompt and its melody, and one head."""

    composer: Composer

    def apply(self, params: Any, condition: jax.Array, tokens: jax.Array) -> jax.Array:
        """The logit, float32 (N,), of melodies (N, T) being those of their prompts (N, C)."""
        chex.assert_rank([condition, tokens], 2)
        return RewardNetwork(self.composer).apply(params, tokens, condition)[0]


def init(key: jax.Array, config: Config, tuner: preference.Config, composer: Composer, params: Any) -> State:
    """A learner that starts as a composer with these parameters, as does the discriminator's body."""
    key, key_tuner, key_body = jax.random.split(key, 3)
    size = len(params["params"]["condition_layer"]["kernel"])
    one_head = reward_model.Config(ensemble_size=1)
    body = reward_model.init(key_body, one_head, composer, size, params=params).params.network
    state = preference.init(key_tuner, tuner, composer, params)
    return State(state, body, gail.optimiser(config).init(body), jnp.int32(0), key)


def step(
    state: State,
    config: Config,
    tuner: preference.Config,
    composer: Composer,
    prompts: Any,
    real: Transitions,
    *,
    reward_fn: preference.Reward,
    reward_params: Any = None,
) -> tuple[State, dict[str, jax.Array]]:
    """One update: play, train the discriminator on it, reward, train.

    Args:
        state: of the learner.
        config: see Config.
        tuner: of the composer's tuning; the weight of the discriminator's reward is reward_weights["real"].
        composer: the network.
        prompts: as of `preference.step`, with a condition.
        real: prompts float32 (N, C) and their real melodies int32 (N, T).
        reward_fn: as of `preference.step`.
        reward_params: its parameters.

    Returns:
        State, and the metrics of `preference.step` and of the discriminator's loss.

    """
    key, key_draw = jax.random.split(state.key)
    performed = preference.perform(state.tuner, tuner, composer, prompts)
    rows, tokens, network = performed.rows, performed.tokens, OfMelodies(composer)
    discriminator, opt_state, metrics = gail.update_discriminator(
        state.discriminator,
        state.opt_state,
        config,
        real,
        Transitions(rows["condition"], tokens),
        key_draw,
        network=network,
        loss=gail_loss(config.disc_ent_coef),
    )

    def reward(params, rows, tokens):
        logit = network.apply(discriminator, rows["condition"], tokens)
        terms = preference.by_name(reward_fn(params, rows, tokens))
        return {**terms, TERM: REWARDS[config.reward_form](logit)}

    inputs = tuner, reward, reward_params, rows, tokens
    score, terms = collectives.each(preference.score_melodies, *inputs)
    tuned, more = preference.learn(state.tuner, tuner, composer, performed, score=score, terms=terms)
    return State(tuned, discriminator, opt_state, state.update + 1, key), {**metrics, **more}
