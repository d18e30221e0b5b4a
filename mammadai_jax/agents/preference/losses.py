# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""The objectives, and the minibatches that follow them.

Both maximise E[score - beta * sum_t KL(pi || ref at s_t)], whose optimum is ref * exp(score / beta) / Z.

PPO (Ziegler et al. 2019) makes the divergence a reward of every note, -beta * kl_t, with the score added at
the last. Only k1 tells a note's own probability: the other estimators are the same whatever the note was, or
not in proportion. In place of k1 they are right in what they say of all later notes, but a note's own credit
needs log pi/ref, and without it the optimum would be another one. So

    A_t = GAE(score - beta kl)_t - beta (k1_t - kl_t)

REINFORCE with a learned baseline is what MusicRL (Cideron et al. 2024) prints,

    J = (1 - alpha) sum_t log pi(a_t|s_t) (sum_{i >= t} r_i - V(s_t)) - alpha sum_t sum_a log(pi/ref)(a|s_t)

but with pi(a|s_t) weighing the inner sum, as a divergence has it. As printed, unweighted, the reference would
be no anchor at all: log ref does not depend on what is learned and drops out of the gradient, and what
remains is least, without bound, where the policy never plays some token. The divergence is that at the notes
played; how a note changes later notes' divergence is not credited. alpha = beta / (1 + beta), so that both
methods mean the same by beta.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mammadai_jax.agents.preference.config import Config
from mammadai_jax.agents.preference.rollout import Played
from mammadai_jax.learning import collectives, microbatches, minibatches
from mammadai_jax.networks.composer import Composer, Output
from mammadai_jax.networks.critic import Critic, traits_so_far
from mammadai_jax.objectives import distributions, policy_losses, returns, value_losses
from mammadai_jax.objectives.kl import LARGEST_LOG_RATIO
from mammadai_jax.objectives.kl import divergence as kl_divergence

MUON_RMS = 0.3  # of the step of a matrix, as Adam's is about
QUARTERS = 4  # minibatches of a critic's epoch


class Batch(NamedTuple):
    """What is learned from: time-major (T, B), see Played; and `log_reference` (T, B, A).

    With a critic also what it is told, see networks.critic: `heard` (L, B, traits), and the reference's
    `hidden` (T, B, width).
    """

    previous_token: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array
    log_reference: jax.Array
    heard: jax.Array | None = None
    hidden: jax.Array | None = None


def forward(
    params: Any, config: Config, composer: Composer, previous_token: jax.Array, condition: Any
) -> Output:
    """Logits over the temperature, and values, of whole melodies fed (T, B); params as in State."""
    output = composer.apply(params["policy"], previous_token, positions(previous_token), condition)
    value = output.value
    if config.separate_value:
        value = composer.apply(params["value"], previous_token, positions(previous_token), condition).value
    return Output(output.logits / config.temperature, value)


def positions(previous_token: jax.Array) -> jax.Array:
    """The time of each note of whole melodies (T, B)."""
    return jnp.broadcast_to(jnp.arange(previous_token.shape[0])[:, None], previous_token.shape)


def prepare(
    params: Any,
    reference: Any,
    config: Config,
    composer: Composer,
    played: Played,
    condition: Any,
    score: jax.Array,
    kl_coef: jax.Array,
) -> tuple[Batch, jax.Array]:
    """Value, advantage and target of played notes -> Batch, and the divergence (T, B).

    Args:
        params: as in State; reference: of the composer at the leash's other end.
        config, composer: see step.
        played: under params.
        condition: its prompts (B, C) or None.
        score: of each melody (B,).
        coefficient: beta.

    """
    hidden = composer.apply(
        reference, played.previous_token, positions(played.previous_token), condition, method="hidden"
    )
    reference_logits = composer.apply(reference, hidden, method="heads").logits
    log_reference = jax.nn.log_softmax(reference_logits / config.temperature)
    measure = lambda kind: kl_divergence(played.log_policy, log_reference, played.action, kind)
    kl = measure(config.kl_estimator)
    told = (traits_so_far(played.action), hidden) if config.critic_width else ()
    value = played.value  # a shared one was read while playing
    if config.separate_value:
        value = forward(params, config, composer, played.previous_token, condition).value
    if config.critic_width:
        value = Critic(config.critic_width).apply(params["critic"], *told, condition)
    last = jnp.zeros_like(kl).at[-1].set(score)
    if config.method == "reinforce":
        advantage = returns.advantages(last, value, config.gamma, 1.0)
        target = advantage + value
    else:
        reward = last - kl_coef * kl
        advantage = returns.advantages(reward, value, config.gamma, config.gae_lambda)
        # a critic learns from what followed to the end, whatever the policy's trace (Yuan et al. 2025)
        whole = returns.advantages(reward, value, config.gamma, 1.0) if config.critic_width else advantage
        target = whole + value
        advantage -= kl_coef * (measure("k1") - kl)
    notes = played.previous_token, played.action, played.log_prob
    return Batch(*notes, value, advantage, target, log_reference, *told), kl


def loss(
    params: Any,
    config: Config,
    composer: Composer,
    batch: Batch,
    condition: Any,
    kl_coef: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The method's loss of a minibatch of whole melodies, see the module -> loss, metrics."""
    logits, value = forward(params, config, composer, batch.previous_token, condition)
    distribution = distributions.Categorical(logits)
    log_prob = distribution.log_prob(batch.action)
    log_ratio = jnp.clip(log_prob - batch.log_prob, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    clipped, told = policy_losses.clipped_surrogate(
        log_ratio.ravel(), batch.advantage.ravel(), config.clip_eps
    )
    if config.method == "reinforce":
        alpha = kl_coef / (1.0 + kl_coef)
        kl = kl_divergence(distribution.logits, batch.log_reference, batch.action, "exact").mean()
        policy = alpha * kl - (1.0 - alpha) * (log_prob * batch.advantage).mean()
        error = value_losses.clipped_value_loss(value, batch.value, batch.target)
    else:
        policy = clipped
        error = value_losses.clipped_value_loss(value, batch.value, batch.target, config.vf_clip_eps)
    if config.critic_width:
        error = 0.0  # it learns by itself, see `attend`
    entropy = distribution.entropy().mean()
    metrics = {
        "loss/policy_avg": policy,
        "loss/value_avg": error,
        "policy/approxkl_avg": told["policy/approxkl_avg"],
        "policy/clipfrac_avg": told["policy/clipfrac_avg"],
        "policy/entropy_avg": entropy,
        "val/ratio": jnp.exp(log_ratio).mean(),
    }
    return policy + config.vf_coef * error - config.ent_coef * entropy, metrics


def optimiser(config: Config) -> optax.GradientTransformation:
    """Adam or Muon behind a global-norm clip, for each network; `descend` has the rates.

    Muon orthogonalises the step of every matrix (Jordan 2024; Liu et al. 2025) and leaves the rest to Adam.
    """
    clip = optax.clip_by_global_norm(config.max_grad_norm)
    if config.optimiser == "muon":
        return optax.chain(clip, optax.contrib.muon(-1.0, beta=0.9, consistent_rms=MUON_RMS))
    return optax.chain(clip, optax.scale_by_adam(eps=1e-5))


def left(config: Config, update: jax.Array) -> jax.Array:
    """What is left of the learning rates in an update, from 1 to 0."""
    done = update / jnp.maximum(config.num_updates, 1)
    return jnp.where(config.num_updates > 0, jnp.maximum(0.0, 1.0 - done), 1.0)


def optimiser_step(
    params: Any, opt_state: Any, gradient: Any, config: Config, rate: jax.Array
) -> tuple[Any, Any]:
    """A step of each network's optimiser, with `rate` of the learning rates -> params, opt_state."""
    updates, after = {}, {}
    for name in params:
        updates[name], after[name] = optimiser(config).update(gradient[name], opt_state[name], params[name])

    def scale(path, update):
        names = {getattr(entry, "key", None) for entry in path}
        of_value = names & {"value", "value_head", "critic"}
        return -rate * (config.value_learning_rate if of_value else config.learning_rate) * update

    return optax.apply_updates(params, jax.tree_util.tree_map_with_path(scale, updates)), after


def update_policy(
    params: Any,
    opt_state: Any,
    config: Config,
    composer: Composer,
    batch: Batch,
    condition: Any,
    kl_coef: jax.Array,
    rate: jax.Array,
    key: jax.Array,
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """Epochs of minibatches on prepared melodies -> params, opt_state, metrics.

    A minibatch that finds the policy further than `config.stop_kl` from the one that played, and all after
    it, change nothing and are left out of the metrics.
    """

    def learn(loop, part):
        params, opt_state, going = loop
        chosen = jax.tree.map(lambda x: x[:, part], batch)
        prompts = jax.tree.map(lambda x: x[part], condition)
        if config.method == "ppo" and config.normalize_advantages:
            advantage = minibatches.normalized(chosen.advantage.ravel()).reshape(chosen.advantage.shape)
            chosen = chosen._replace(advantage=advantage)

        def of_few(params, rows):
            few, told = rows
            return loss(params, config, composer, few, told, kl_coef)

        taken = functools.partial(microbatches.value_and_grad, num_steps=config.num_steps, axes=(1, 0))
        gradient_of = collectives.value_and_grad(of_few, taken=taken)
        (_, metrics), gradient = gradient_of(params, (chosen, prompts))
        after = optimiser_step(params, opt_state, gradient, config, rate)
        if config.target_kl is not None:
            going = going & (metrics["policy/approxkl_avg"] <= config.target_kl)
            after = jax.tree.map(lambda new, old: jnp.where(going, new, old), after, (params, opt_state))
        return (*after, going), ({**metrics, "grad_norm": optax.tree.norm(gradient)}, going)

    epochs = config.num_epochs if config.method == "ppo" else 1
    parts = minibatches.shuffled(key, config.num_envs, epochs, config.num_minibatches)
    (params, opt_state, _), (metrics, taken) = jax.lax.scan(
        learn, (params, opt_state, jnp.bool_(True)), parts
    )
    mean = lambda x: jnp.where(taken, x, 0.0).sum() / jnp.maximum(taken.sum(), 1)
    told = {name: mean(metric) for name, metric in metrics.items()}
    told["val/ratio_var"] = mean((metrics["val/ratio"] - told["val/ratio"]) ** 2)
    told["explained_variance"] = collectives.each(value_losses.explained_variance, batch.value, batch.target)
    return params, opt_state, {**told, "minibatches": jnp.float32(taken.sum())}


def update_critic(
    critic: Any, opt_state: Any, config: Config, batch: Batch, condition: Any, rate: jax.Array, key: jax.Array
) -> tuple[Any, Any, jax.Array]:
    """Epochs in which a critic learns what prepared melodies were worth -> critic, opt_state, its loss."""

    def error(params, rows, prompts):
        value = Critic(config.critic_width).apply(params["critic"], rows.heard, rows.hidden, prompts)
        return value_losses.clipped_value_loss(value, rows.value, rows.target, config.vf_clip_eps)

    def learn(loop, part):
        params, opt_state = loop
        rows = jax.tree.map(lambda x: x[:, part], batch)
        prompts = jax.tree.map(lambda x: x[part], condition)
        nats, gradient = collectives.value_and_grad(error, has_aux=False)(params, rows, prompts)
        return optimiser_step(params, opt_state, gradient, config, rate), nats

    parts = minibatches.shuffled(
        key, config.num_envs, config.critic_epochs, math.gcd(QUARTERS, config.num_envs)
    )
    loop = {"critic": critic}, {"critic": opt_state}
    (params, opt_state), errors = jax.lax.scan(learn, loop, parts)
    return params["critic"], opt_state["critic"], errors.mean()
