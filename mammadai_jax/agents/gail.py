# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Generative adversarial imitation learning (Ho & Ermon 2016), over notes.

A discriminator tells the expert's (observation, action) from the policy's; its opinion is the reward of PPO:

    min_pi max_D  E_expert[log D(s, a)] + E_pi[log(1 - D(s, a))] - lambda H(pi)

Here D is the probability of the *expert*, and networks give its logit h = log D - log(1 - D). (Ho & Ermon,
and Lowe's thesis, write D for the probability of the policy: their log D is our log(1 - D).) At the
optimum h(s, a) = log rho_expert(s, a) - log rho_pi(s, a).

A *loss* is `(logits, demo, played, key) -> (loss, metrics)`, where `logits(observation, action)` is the
discriminator with its parameters in place and demo and played are Transitions. Factories make losses, and
`with_gradient_penalty` makes a loss of a loss.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.agents import ppo
from mammadai_jax.agents.cloning import Demonstrations
from mammadai_jax.environments import Environment
from mammadai_jax.learning import collectives
from mammadai_jax.music.notes import Alphabet
from mammadai_jax.networks.mlp import Discriminator

static = functools.partial(struct.field, pytree_node=False)
WIDEST = 13  # semitones; intervals in a motion are cut there
RewardForm = Literal["softplus", "log_d", "logit", "fairl"]


class Transitions(NamedTuple):
    """What a discriminator judges: observation float32 (N, D), action as one-hot rows float32 (N, A).

    The rows of `action` may tell more of the melody than the last action, see motion.
    """

    observation: jax.Array
    action: jax.Array


Logits = Callable[[jax.Array, jax.Array], jax.Array]
Loss = Callable[[Logits, Transitions, Transitions, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def reward_of(logit: jax.Array, form: RewardForm) -> jax.Array:
    """The reward of a discriminator's logit h, elementwise.

    * "softplus": -log(1 - D) = softplus(h), never negative (Ho & Ermon's code);
    * "log_d": log D = -softplus(-h), never positive;
    * "logit": log D - log(1 - D) = h (AIRL);
    * "fairl": -h exp(h), h clipped at 20 (Ghasemipour et al. 2019).

    Raises:
        ValueError: for another form.

    """
    forms = {
        "softplus": jax.nn.softplus,
        "log_d": lambda h: -jax.nn.softplus(-h),
        "logit": lambda h: h,
        "fairl": lambda h: -jnp.minimum(h, 20.0) * jnp.exp(jnp.minimum(h, 20.0)),
    }
    if form not in forms:
        raise ValueError(f"the reward's form is one of {sorted(forms)}, not {form!r}")
    return forms[form](logit)


def gail_loss(entropy_weight: float | jax.Array = 0.0) -> Loss:
    """Binary cross-entropy with the expert labelled 1, less a bonus for the discriminator's own entropy.

    The entropy of Bernoulli(D) in terms of the logit is softplus(h) - h D(h); it keeps opinions mild.
    """

    def loss(logits, demo, played, key):
        del key
        expert, policy = logits(*demo), logits(*played)
        cross_entropy = jax.nn.softplus(-expert).mean() + jax.nn.softplus(policy).mean()
        both = jnp.concatenate([expert, policy])
        entropy = (jax.nn.softplus(both) - both * jax.nn.sigmoid(both)).mean()
        metrics = {
            "disc_loss": cross_entropy,
            "disc_entropy": entropy,
            "disc_acc_expert": (expert > 0).mean(),
            "disc_acc_gen": (policy < 0).mean(),
        }
        return cross_entropy - entropy_weight * entropy, metrics

    return loss


def with_gradient_penalty(loss: Loss, weight: float | jax.Array, target: float = 1.0) -> Loss:
    """Add weight * E(||grad h(x)|| - target)^2, x anywhere between expert and policy (Gulrajani 2017)."""

    def penalised(logits, demo, played, key):
        key, key_mix = jax.random.split(key)
        value, metrics = loss(logits, demo, played, key)
        mix = jax.random.uniform(key_mix, (demo.action.shape[0], 1))
        between = jax.tree.map(lambda a, b: mix * a + (1.0 - mix) * b, demo, played)
        slope = jax.vmap(jax.grad(lambda o, a: logits(o, a), argnums=(0, 1)))(*between)
        norm = jnp.sqrt(sum((s**2).sum(axis=-1) for s in slope) + 1e-12)
        penalty = ((norm - target) ** 2).mean()
        return value + weight * penalty, {**metrics, "gradient_penalty": penalty}

    return penalised


@struct.dataclass
class Config:
    """How imitation learns. Fields marked *static* change the program; the rest may be traced and swept.

    Attributes:
        ppo: of PPO.
        reward_form: see reward_of (static).
        hidden: units of the discriminator's hidden layers (static).
        lipschitz: bound by spectral normalisation, or None (static).
        context_length: how many notes of the melody the discriminator sees, the last one included (static).
            One note is GAIL as published, over (s, a); with more it sees rhythm and motion, also where the
            policy sees nothing but the accompaniment.
        disc_updates: discriminator minibatches in a step (static).
        batch_size: transitions of each side (static).
        learning_rate: of the discriminator's Adam.
        disc_ent_coef, gradient_penalty_coef: see the losses; a gradient_penalty_coef of None leaves it out.
        kl_coef: nats of reward that a nat of divergence from the first policy costs. Where the discriminator
            has nothing to say, the leash keeps the policy from drifting.

    """

    ppo: ppo.Config = struct.field(default_factory=ppo.Config)
    reward_form: RewardForm = static(default="logit")
    hidden: tuple[int, ...] = static(default=(100,))
    lipschitz: float | None = static(default=None)
    context_length: int = static(default=1)
    disc_updates: int = static(default=8)
    batch_size: int = static(default=256)
    learning_rate: float = 1e-3
    disc_ent_coef: float = 1e-3
    gradient_penalty_coef: float | None = None
    kl_coef: float = 0.0


@struct.dataclass
class State:
    """Everything that must survive a crash: the policy's and the discriminator's halves, count and key.

    `first` are the policy's parameters before imitation, the other end of the leash.
    """

    policy: ppo.State
    reference: Any
    discriminator: Any
    opt_state: Any
    update: jax.Array
    key: jax.Array = collectives.own()


def discriminator(config: Config) -> Discriminator:
    """The discriminator's network."""
    return Discriminator(config.hidden, config.lipschitz)


def optimiser(config: Config) -> optax.GradientTransformation:
    """The discriminator's Adam."""
    return optax.adam(config.learning_rate, b1=0.5)


def init(key: jax.Array, config: Config, env: Environment, warm_start: Any = None) -> State:
    """A fresh learner; `warm_start` are policy parameters to begin with, from cloning."""
    key, key_policy, key_params = jax.random.split(key, 3)
    policy = ppo.init(key_policy, config.ppo, env)
    if warm_start is not None:
        policy = dataclasses.replace(
            policy, params=warm_start, opt_state=ppo.optimiser(config.ppo).init(warm_start)
        )
    nothing = jnp.zeros(1, jnp.int32)
    blank = (
        jnp.zeros((1, env.observation_size)),
        motion(nothing, nothing, config.context_length, env.alphabet),
    )
    params = discriminator(config).init(key_params, *blank)
    reference = jax.tree.map(jnp.copy, policy.params)
    return State(policy, reference, params, optimiser(config).init(params), jnp.int32(0), key)


def motion(action: jax.Array, step: jax.Array, count: int, alphabet: Alphabet) -> jax.Array:
    """The action of each place, and how the melody came to it over the last `count` notes, in one-hot rows.

    For each earlier note there is its interval to the present one, cut at an octave and a semitone, or which
    of the two is silent. What was held, repeated or approached by step is then plain to see, in any key.
    Before a melody's start there is silence.

    Args:
        action, step: int32 (N,), the actions of melody after melody and their places in it.

    Returns:
        float32 (N, actions + (count - 1) * 30).
    """
    chex.assert_equal_shape([action, step])
    rows = [jax.nn.one_hot(action, alphabet.size)]
    for back in range(1, count):
        earlier = jnp.where(step >= back, jnp.roll(action, back), alphabet.silence)
        quiet, quiet_before = action == alphabet.silence, earlier == alphabet.silence
        interval = jnp.clip(earlier - action, -WIDEST, WIDEST) + WIDEST
        silent = 2 * WIDEST + quiet + 2 * quiet_before
        rows.append(jax.nn.one_hot(jnp.where(quiet | quiet_before, silent, interval), 2 * WIDEST + 4))
    return jnp.concatenate(rows, axis=1)


def update_discriminator(
    params: Any,
    opt_state: Any,
    config: Config,
    network: Discriminator,
    demo: Transitions,
    played: Transitions,
    key: jax.Array,
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """Minibatches of the discriminator's loss -> params, opt_state, metrics. Sides may differ in length."""
    chex.assert_rank([*demo, *played], 2)
    loss = gail_loss(config.disc_ent_coef)
    if config.gradient_penalty_coef is not None:
        loss = with_gradient_penalty(loss, config.gradient_penalty_coef)
    learner = optimiser(config)

    def draw(key, side):
        rows = jax.random.randint(key, (config.batch_size,), 0, side.action.shape[0])
        return jax.tree.map(lambda x: x[rows], side)

    def minibatch_step(carry, key):
        params, opt_state = carry
        key_demo, key_played, key_loss = jax.random.split(key, 3)
        sides = draw(key_demo, demo), draw(key_played, played)
        objective = lambda p: loss(functools.partial(network.apply, p), *sides, key_loss)
        (_, metrics), gradient = collectives.value_and_grad(objective)(params)
        updates, opt_state = learner.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), metrics

    (params, opt_state), metrics = jax.lax.scan(
        minibatch_step, (params, opt_state), jax.random.split(key, config.disc_updates)
    )
    return params, opt_state, jax.tree.map(jnp.mean, metrics)


def rewarded(
    params: Any,
    reference: Any,
    config: Config,
    env: Environment,
    trajectory: ppo.Trajectory,
    played: Transitions,
) -> tuple[ppo.Trajectory, dict[str, jax.Array]]:
    """What was played, with the reward of a discriminator's opinion less the leash's cost -> it, metrics.

    Args:
        params: of the discriminator; first: of the policy at the other end of the leash.
        config: see Config.
        env: the environment.
        trajectory: (T, B); played: the same notes (B * T,), melody after melody.

    """
    opinion = discriminator(config).apply(params, *played).reshape(trajectory.action.shape[::-1]).T
    divergence = trajectory.log_prob - ppo.log_prob(reference, ppo.network(config.ppo, env), trajectory)
    reward = reward_of(opinion, config.reward_form) - config.kl_coef * divergence
    metrics = {
        "reward": reward.mean(),
        "kl": divergence.mean(),
        "rest_rate": (trajectory.action == env.alphabet.silence).mean(),
    }
    return trajectory._replace(reward=reward), metrics


def step(
    state: State, config: Config, env: Environment, env_params: Any, demos: Demonstrations
) -> tuple[State, dict[str, jax.Array]]:
    """One update: play, teach the discriminator, reward by its opinion, improve the policy."""
    key, key_play, key_discriminate, key_improve = jax.random.split(state.key, 4)
    trajectory = collectives.each(ppo.play, state.policy.params, config.ppo, env, env_params, key_play)
    # melody after melody, as in the demonstrations
    seen, action = (
        x.swapaxes(0, 1).reshape(-1, *x.shape[2:]) for x in (trajectory.observation, trajectory.action)
    )
    place = jnp.arange(action.shape[0]) % config.ppo.num_steps
    played = Transitions(seen, motion(action, place, config.context_length, env.alphabet))
    place = demos.step if config.context_length > 1 else jnp.zeros_like(demos.action)
    demo = Transitions(demos.observation, motion(demos.action, place, config.context_length, env.alphabet))
    network = discriminator(config)
    disc_params, opt_state, told = update_discriminator(
        state.discriminator, state.opt_state, config, network, demo, played, key_discriminate
    )
    trajectory, heard = collectives.each(
        rewarded, disc_params, state.reference, config, env, trajectory, played
    )
    params, policy_opt, learned = ppo.update_policy(
        state.policy.params,
        state.policy.opt_state,
        config.ppo,
        ppo.network(config.ppo, env),
        trajectory,
        key_improve,
    )
    policy = dataclasses.replace(
        state.policy, params=params, opt_state=policy_opt, update=state.policy.update + 1
    )
    metrics = {**told, **learned, **heard}
    return State(policy, state.reference, disc_params, opt_state, state.update + 1, key), metrics
