# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Minibatch steps of the policy, its value and the critic."""

from __future__ import annotations

import functools
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from mammadai_jax.agents.preference.config import Config
from mammadai_jax.agents.preference.losses import Batch, PolicyLoss, minibatch_loss
from mammadai_jax.learning import collectives, microbatches, minibatches
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.critic import Critic
from mammadai_jax.objectives import value_losses

MUON_RMS = 0.3  # root mean square of a matrix's step, about that of Adam's
CRITIC_MINIBATCHES = 4  # of an epoch


def optimiser(config: Config) -> optax.GradientTransformation:
    """Adam or Muon on a gradient clipped by its global norm, of one network; `optimiser_step` has the rates.

    Muon orthogonalises the step of every matrix (Jordan 2024; Liu et al. 2025) and leaves the rest to Adam.
    """
    clip = optax.clip_by_global_norm(config.max_grad_norm)
    if config.optimiser == "muon":
        return optax.chain(clip, optax.contrib.muon(-1.0, beta=0.9, consistent_rms=MUON_RMS))
    return optax.chain(clip, optax.scale_by_adam(eps=1e-5))


def optimiser_step(
    params: Any, opt_state: Any, config: Config, *, gradient: Any, decay: jax.Array | float
) -> tuple[Any, Any]:
    """A step of each network's optimiser, by `decay` () times the learning rates -> params, opt_state."""
    updates, after = {}, {}
    for name in params:
        updates[name], after[name] = optimiser(config).update(gradient[name], opt_state[name], params[name])

    def scale(path, update):
        names = {getattr(entry, "key", None) for entry in path}
        is_value = names & {"value", "value_head", "critic"}
        return -decay * (config.value_learning_rate if is_value else config.learning_rate) * update

    return optax.apply_updates(params, jax.tree_util.tree_map_with_path(scale, updates)), after


def minibatch_step(
    params: Any,
    opt_state: Any,
    config: Config,
    *,
    composer: Composer,
    batch: Batch,
    condition: Any,
    kl_coef: jax.Array,
    decay: jax.Array,
    policy_loss: PolicyLoss | None,
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """A gradient step on whole melodies (T, B) -> params, opt_state, metrics; see `update_policy`."""
    chex.assert_rank([kl_coef, decay], 0)
    if config.method == "ppo" and config.normalize_advantages:
        advantage = minibatches.normalized(batch.advantage.ravel()).reshape(batch.advantage.shape)
        batch = batch._replace(advantage=advantage)

    def loss(params, rows):
        batch, condition = rows
        arguments = {"batch": batch, "condition": condition, "kl_coef": kl_coef, "policy_loss": policy_loss}
        return minibatch_loss(params, config, composer, **arguments)

    taken = functools.partial(microbatches.value_and_grad, num_steps=config.num_steps, axes=(1, 0))
    gradient_of = collectives.value_and_grad(loss, taken=taken)
    (_, metrics), gradient = gradient_of(params, (batch, condition))
    params, opt_state = optimiser_step(params, opt_state, config, gradient=gradient, decay=decay)
    return params, opt_state, {**metrics, "grad_norm": optax.tree.norm(gradient)}


def update_policy(
    params: Any,
    opt_state: Any,
    config: Config,
    *,
    composer: Composer,
    batch: Batch,
    condition: Any,
    kl_coef: jax.Array,
    decay: jax.Array,
    key: jax.Array,
    policy_loss: PolicyLoss | None = None,
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """Epochs of minibatches on prepared melodies -> params, opt_state, metrics.

    A minibatch whose policy is further than `config.target_kl` from the policy that played, and all that
    follow it, change nothing and are not in the metrics.

    Args:
        params: of the policy and its value, without the critic.
        opt_state: of their optimisers.
        config: see Config.
        composer: the network.
        batch: all melodies of the update.
        condition: their prompts (B, C) or None.
        kl_coef: reward that a nat of divergence costs.
        decay: factor of the learning rates.
        key: of the order of the melodies.
        policy_loss: see losses.PolicyLoss.

    """
    chex.assert_rank([kl_coef, decay], 0)
    shared = {"composer": composer, "kl_coef": kl_coef, "decay": decay, "policy_loss": policy_loss}

    def step(carry, chosen):
        params, opt_state, active = carry
        rows, prompts = _take(batch, condition, chosen)
        *after, metrics = minibatch_step(params, opt_state, config, batch=rows, condition=prompts, **shared)
        if config.target_kl is not None:
            # a divergence that is not finite is no early stop: the outer loop has to see it
            active = active & ~(metrics["policy/approxkl_avg"] > config.target_kl)
            after = jax.tree.map(lambda new, old: jnp.where(active, new, old), after, [params, opt_state])
        return (*after, active), (metrics, active)

    epochs = 1 if config.method == "reinforce" else config.num_epochs
    orders = minibatches.shuffled(key, config.num_envs, epochs, config.num_minibatches)
    carry = params, opt_state, jnp.bool_(True)
    (params, opt_state, _), (metrics, active) = jax.lax.scan(step, carry, orders)
    mean = lambda x: jnp.where(active, x, 0.0).sum() / jnp.maximum(active.sum(), 1)
    means = {name: mean(metric) for name, metric in metrics.items()}
    means["val/ratio_var"] = mean((metrics["val/ratio"] - means["val/ratio"]) ** 2)
    means["explained_variance"] = collectives.each(value_losses.explained_variance, batch.value, batch.target)
    return params, opt_state, {**means, "minibatches": jnp.float32(active.sum())}


def update_critic(
    params: Any,
    opt_state: Any,
    config: Config,
    *,
    batch: Batch,
    condition: Any,
    decay: jax.Array,
    key: jax.Array,
) -> tuple[Any, Any, jax.Array]:
    """Epochs of minibatches for a critic on a batch's targets (T, B) -> params, opt_state, mean loss ()."""
    chex.assert_rank(decay, 0)

    def loss(params, rows, prompts):
        value = Critic(config.critic_width).apply(params["critic"], rows.traits, rows.hidden, prompts)
        return value_losses.clipped_value_loss(value, rows.value, rows.target, config.vf_clip_eps)

    def step(carry, chosen):
        params, opt_state = carry
        rows = _take(batch, condition, chosen)
        value, gradient = collectives.value_and_grad(loss, has_aux=False)(params, *rows)
        return optimiser_step(params, opt_state, config, gradient=gradient, decay=decay), value

    parts = math.gcd(CRITIC_MINIBATCHES, config.num_envs)
    orders = minibatches.shuffled(key, config.num_envs, config.critic_epochs, parts)
    carry = {"critic": params}, {"critic": opt_state}
    (params, opt_state), losses = jax.lax.scan(step, carry, orders)
    return params["critic"], opt_state["critic"], losses.mean()


def _take(batch: Batch, condition: Any, chosen: jax.Array) -> tuple[Batch, Any]:
    """The chosen melodies of a batch, and their prompts."""
    return jax.tree.map(lambda x: x[:, chosen], batch), jax.tree.map(lambda x: x[chosen], condition)
