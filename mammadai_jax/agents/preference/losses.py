# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Advantages and losses of melodies that were played.

PPO maximises E[score - beta sum_t KL(pi || ref at s_t)], whose optimum is ref exp(score / beta) / Z, with
beta = kl_coef. It makes the divergence a reward of every note, -beta kl_t, and adds the score to that of the
last note (Ziegler et al. 2019). Of the estimators only k1 is proportional to the note's own log pi/ref;
"exact" is the same for every note that could be played, and k3 is not proportional. In place of k1 they are
right for all later notes, but a note's own credit needs log pi/ref: without it the optimum would be another
one. So

    A_t = GAE(score - beta kl)_t - beta (k1_t - kl_t)

REINFORCE with a learned baseline is MusicRL's (Cideron et al. 2024), see policy_losses.reinforce_with_kl. The
divergence is that at the notes that were played; the effect of a note on the divergence of later notes is not
credited to it. So its fixed point is another policy than PPO's: at each state s

    pi(a|s)  ~  ref(a|s) exp(Q(s, a) / beta),   Q(s, a) = E_pi[score | s, a]

where Q has no cost of later divergence, as the optimum's soft value has. For the last note both agree.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mammadai_jax.agents.preference.config import Config, value_network
from mammadai_jax.agents.preference.rollout import Played
from mammadai_jax.learning.sequences import positions
from mammadai_jax.networks.composer import Composer, Output
from mammadai_jax.networks.critic import Critic, traits_so_far
from mammadai_jax.objectives import distributions, policy_losses, returns, value_losses
from mammadai_jax.objectives import kl as kl_objectives

if TYPE_CHECKING:
    from mammadai_jax.objectives.distributions import Categorical


class Batch(NamedTuple):
    """Melodies to learn from, time-major.

    Attributes:
        previous_token: the token before each note, int32 (T, B).
        action: the note, int32 (T, B).
        log_prob: its log-probability under the policy that played it, float32 (T, B).
        value: before the note, when it was played, float32 (T, B).
        advantage: float32 (T, B).
        target: of the value, float32 (T, B).
        log_reference: log-probabilities of all notes under the reference, float32 (T, B, A).
        traits: the critic's input, see networks.critic, float32 (L, B, traits), or None.
        hidden: the reference's states, the critic's other input, float32 (T, B, width), or None.

    """

    previous_token: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array
    log_reference: jax.Array
    traits: jax.Array | None = None
    hidden: jax.Array | None = None


# (distribution of the policy (T, B), batch, config, kl_coef) -> loss ()
PolicyLoss = Callable[["Categorical", Batch, Config, jax.Array], jax.Array]


def forward(
    params: Any, config: Config, composer: Composer, previous_token: jax.Array, condition: Any
) -> Output:
    """Logits, divided by the temperature, and values of whole melodies (T, B); params as in State."""
    chex.assert_rank(previous_token, 2)
    inputs = previous_token, positions(previous_token), condition
    output = composer.apply(params["policy"], *inputs)
    value = output.value
    if value_network(config) == "composer":
        value = composer.apply(params["value"], *inputs).value
    return Output(distributions.at_temperature(output.logits, config.temperature), value)


def prepare(
    params: Any,
    config: Config,
    composer: Composer,
    *,
    reference: Any,
    played: Played,
    condition: Any,
    score: jax.Array,
    kl_coef: jax.Array,
) -> tuple[Batch, jax.Array]:
    """Values, advantages and value targets of played melodies -> Batch, and the divergence (T, B).

    Args:
        params: as in State.
        config: see Config.
        composer: the network.
        reference: the reference's parameters.
        played: melodies of the policy with these params.
        condition: their prompts (B, C) or None.
        score: of each melody (B,).
        kl_coef: reward that a nat of divergence costs.

    """
    chex.assert_rank([score, kl_coef], [1, 0])
    inputs = played.previous_token, positions(played.previous_token), condition
    hidden = composer.apply(reference, *inputs, method="hidden")
    reference_logits = composer.apply(reference, hidden, method="heads").logits
    log_reference = jax.nn.log_softmax(distributions.at_temperature(reference_logits, config.temperature))
    critic_inputs = ()
    value = played.value
    if value_network(config) == "composer":
        value = forward(params, config, composer, played.previous_token, condition).value
    if value_network(config) == "critic":
        critic_inputs = traits_so_far(played.action), hidden
        value = Critic(config.critic_width).apply(params["critic"], *critic_inputs, condition)
    divergence = functools.partial(kl_objectives.divergence, played.log_policy, log_reference, played.action)
    kl = divergence(config.kl_estimator)
    final = jnp.zeros_like(kl).at[-1].set(score)
    if config.method != "ppo":
        advantage, target = monte_carlo(final, value, config)
        advantage = jnp.broadcast_to(score, kl.shape) if config.method == "grpo" else advantage
    else:
        advantage, target = penalised_gae(final - kl_coef * kl, value, config)
        advantage -= kl_coef * (divergence("k1") - kl)
    notes = played.previous_token, played.action, played.log_prob
    return Batch(*notes, value, advantage, target, log_reference, *critic_inputs), kl


def monte_carlo(reward: jax.Array, value: jax.Array, config: Config) -> tuple[jax.Array, jax.Array]:
    """Advantages and value targets (T, B) from whole returns, of rewards and values (T, B)."""
    chex.assert_equal_shape([reward, value])
    advantage = returns.advantages(reward, value, config.gamma, 1.0)
    return advantage, advantage + value


def penalised_gae(reward: jax.Array, value: jax.Array, config: Config) -> tuple[jax.Array, jax.Array]:
    """Advantages and value targets (T, B) by GAE, of rewards and values (T, B).

    A critic's targets are whole returns, whatever the policy's lambda (Yuan et al. 2025).
    """
    chex.assert_equal_shape([reward, value])
    advantage = returns.advantages(reward, value, config.gamma, config.gae_lambda)
    if value_network(config) == "critic":
        return advantage, monte_carlo(reward, value, config)[1]
    return advantage, advantage + value


def ppo_loss(distribution: Categorical, batch: Batch, config: Config, kl_coef: jax.Array) -> jax.Array:
    """PPO's clipped surrogate (); the KL penalty is in the advantages."""
    chex.assert_rank(kl_coef, 0)
    del kl_coef
    log_ratio = _log_ratio(distribution.log_prob(batch.action), batch)
    surrogate = policy_losses.clipped_surrogate(log_ratio.ravel(), batch.advantage.ravel(), config.clip_eps)
    return surrogate[0]


def reinforce_loss(distribution: Categorical, batch: Batch, config: Config, kl_coef: jax.Array) -> jax.Array:
    """MusicRL's objective (), with the exact divergence from the reference."""
    chex.assert_rank(kl_coef, 0)
    del config
    kl = kl_objectives.divergence(distribution.logits, batch.log_reference, batch.action, "exact")
    log_prob = distribution.log_prob(batch.action)
    return policy_losses.reinforce_with_kl(log_prob, batch.advantage, kl, kl_coef=kl_coef)


def grpo_loss(distribution: Categorical, batch: Batch, config: Config, kl_coef: jax.Array) -> jax.Array:
    """GRPO's objective (): the clipped surrogate, and the divergence from the reference as a loss.

    DeepSeekMath (Shao et al. 2024) estimates the divergence by k3; here it is config.kl_estimator's.
    """
    chex.assert_rank(kl_coef, 0)
    surrogate = ppo_loss(distribution, batch, config, kl_coef)
    inputs = distribution.logits, batch.log_reference, batch.action
    return surrogate + kl_coef * kl_objectives.divergence(*inputs, config.kl_estimator).mean()


LOSSES: Mapping[str, PolicyLoss] = {"ppo": ppo_loss, "reinforce": reinforce_loss, "grpo": grpo_loss}


def minibatch_loss(
    params: Any,
    config: Config,
    composer: Composer,
    *,
    batch: Batch,
    condition: Any,
    kl_coef: jax.Array,
    policy_loss: PolicyLoss | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of a minibatch of whole melodies -> loss, metrics.

        L = policy_loss + vf_coef value_loss - ent_coef entropy

    A critic has a loss of its own, see `update_critic`, and GRPO has no value; the value's is then 0 here.

    Args:
        params: as in State.
        config: see Config.
        composer: the network.
        batch: the melodies.
        condition: their prompts (B, C) or None.
        kl_coef: reward that a nat of divergence costs.
        policy_loss: see PolicyLoss; None for that of config.method.

    """
    chex.assert_rank(kl_coef, 0)
    logits, value = forward(params, config, composer, batch.previous_token, condition)
    distribution = distributions.Categorical(logits)
    policy = (policy_loss or LOSSES[config.method])(distribution, batch, config, kl_coef)
    error = jnp.float32(0.0)
    if value_network(config) != "critic" and config.method != "grpo":
        clip_eps = config.vf_clip_eps if config.method == "ppo" else None
        error = value_losses.clipped_value_loss(value, batch.value, batch.target, clip_eps)
    entropy = distribution.entropy().mean()
    log_ratio = _log_ratio(distribution.log_prob(batch.action), batch)
    _, clipping = policy_losses.clipped_surrogate(log_ratio.ravel(), batch.advantage.ravel(), config.clip_eps)
    metrics = {
        **clipping,
        "loss/policy_avg": policy,
        "loss/value_avg": error,
        "policy/entropy_avg": entropy,
        "val/ratio": jnp.exp(log_ratio).mean(),
    }
    return policy + config.vf_coef * error - config.ent_coef * entropy, metrics


def _log_ratio(log_prob: jax.Array, batch: Batch) -> jax.Array:
    """Log pi/pi_old of the notes, clipped so that no ratio overflows."""
    limit = kl_objectives.LARGEST_LOG_RATIO
    return jnp.clip(log_prob - batch.log_prob, -limit, limit)
