"""Every learner with the smallest settings that use all of it, for tests that hold of any learner."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import (
    adversarial,
    cloning,
    dpo,
    dqn,
    embedding,
    expert_iteration,
    gail,
    polyphonic_prior,
    ppo,
    preference,
    prior,
    projection,
    prompted,
    quality,
    reward_model,
    tuner,
)
from mammadai_jax.agents.tuner import rollout as tuner_rollout
from mammadai_jax.environments import Theory
from mammadai_jax.learning import rollout
from mammadai_jax.music import theory
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.note_rnn import NoteRNN
from mammadai_jax.objectives.discriminator import Transitions
from tests.agents.probes import Probe, Walk

SIZE, CONDITION = 6, 3
RANDOM = np.random.default_rng(0)


class Learner(NamedTuple):
    """A learner behind the interface that they all share.

    Attributes:
        name: for the test's id.
        config: its settings, of which the traced fields may be replaced.
        init: (key, config) -> state.
        step: (state, config, data) -> (state, metrics); some take another `loss` too.
        data: pytree of arrays that every step is given.
        played: (state, config, key) -> log-probabilities as recorded while melodies are played, and as
            recomputed by reading them as a whole; None if the learner plays nothing.
        rounded: whether its sums are rounded as XLA compiles what is around them, so that the same numbers on
            more devices are equal to rounding only.
        fixed_key: whether its key stays the same, and an update's randomness is a function of (key, update).
        split: whether S shards with a batch of B / S make the very update of one with B: the examples of an
            update are then chosen by the key alone. The others draw by a key of each shard.

    """

    name: str
    config: Any
    init: Callable[[jax.Array, Any], Any]
    step: Callable[..., tuple[Any, dict[str, jax.Array]]]
    data: Any = ()
    played: Callable[[Any, Any, jax.Array], tuple[Any, Any]] | None = None
    rounded: bool = False
    fixed_key: bool = False
    split: bool = False


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def numbers(tree):
    """The tree as arrays of numpy, keys as their numbers."""
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)


def spread(params, scale=0.3):
    """Parameters moved at random: heads begin near zero, and a difference between them would go unseen."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [x + scale * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


def opinionated(network, condition=0):
    """Parameters of a composer, with an opinion, that is told `condition` numbers."""
    blank = jnp.zeros((1, 1), jnp.int32)
    prompt = (jnp.zeros((1, condition)),) if condition else ()
    return spread(network.init(jax.random.key(7), blank, blank, *prompt))


def pick(log_policy, action):
    """The log-probabilities (...) of notes (...) in rows (..., A)."""
    return jnp.take_along_axis(log_policy, action[..., None], axis=-1)[..., 0]


# Imitation: policies without memory


ENV = Probe(lambda state, action, after: state.signal * action, length=3, sees="time", actions=3)
CLONING = cloning.Config(hidden=(8,), batch_size=16)
PPO = ppo.Config(
    hidden=(8,), num_envs=8, num_steps=3, num_epochs=2, num_minibatches=2, vf_clip_eps=0.1, ent_coef=0.1
)
DQN = dqn.Config(hidden=(8,), num_envs=4, num_minibatches=2, batch_size=8, buffer_size=32)
GAIL = gail.Config(
    PPO, hidden=(8,), context_length=2, disc_updates=2, batch_size=8, gradient_penalty_coef=1.0, kl_coef=0.1
)
DEMONSTRATIONS = cloning.Demonstrations(
    observation=jnp.asarray(RANDOM.normal(size=(24, 1)), jnp.float32),
    action=jnp.asarray(RANDOM.integers(0, 3, 24), jnp.int32),
    step=jnp.arange(24) % 3,
)


def ppo_played(params, config, key):
    params, temperature = spread(params), 0.7
    network = ppo.make_network(config, ENV)
    found = ppo.play(params, config, ENV, ENV.default_params, key, temperature=temperature)
    logits = network.apply(params, found.observation).logits / temperature
    return found.log_prob, pick(jax.nn.log_softmax(logits), found.action)


# XLA of jax 0.12 rounds sums of networks as small as these by what is around them, but not those of a run.
# XLA of jax 0.10.0 does so in PPO with automatic resets.
PPO_IS_ROUNDED = jax.__version_info__ >= (0, 12)
RESETS_ARE_ROUNDED = PPO_IS_ROUNDED or jax.__version_info__ < (0, 10, 2)
IMITATION = [
    Learner(
        "cloning",
        CLONING,
        lambda key, config: cloning.init(key, config, ENV),
        lambda state, config, data, **loss: cloning.step(
            state, config, ppo.make_network(PPO, ENV), data, **loss
        ),
        DEMONSTRATIONS,
    ),
    Learner(
        "ppo",
        PPO,
        lambda key, config: ppo.init(key, config, ENV),
        lambda state, config, _: ppo.step(state, config, ENV, ENV.default_params),
        played=lambda state, config, key: ppo_played(state.params, config, key),
        rounded=RESETS_ARE_ROUNDED,
    ),
    Learner(
        "ppo_episodes",
        PPO.replace(num_steps=4),
        lambda key, config: ppo.init(key, config, Walk()),
        lambda state, config, _: ppo.step(state, config, Walk()),
        rounded=RESETS_ARE_ROUNDED,
    ),
    Learner(
        "dqn",
        DQN,
        lambda key, config: dqn.init(key, config, Walk()),
        lambda state, config, _: dqn.step(state, config, Walk()),
        rounded=PPO_IS_ROUNDED,
    ),
    Learner(
        "gail",
        GAIL,
        lambda key, config: gail.init(key, config, ENV),
        lambda state, config, data: gail.step(state, config, ENV, ENV.default_params, data),
        DEMONSTRATIONS,
        played=lambda state, config, key: ppo_played(state.policy.params, config.ppo, key),
        rounded=PPO_IS_ROUNDED,
    ),
]

# Likelihood: composers that read melodies


PRIOR = prior.Config(
    width=8, num_heads=2, attention_window=16, lookback=(1,), match_steps=8, dropout=0.1, batch_size=4,
    sequence_length=20,
)  # fmt: skip
STREAM = prior.stream(np.split(RANDOM.integers(0, SIZE, 71), [40, 47, 70]), SIZE)


POLYPHONIC = polyphonic_prior.Config(
    voices=2,
    steps_per_quarter=1,
    width=8,
    match_steps=4,
    dropout=0.1,
    transpose=1,
    batch_size=4,
    sequence_length=10,
)
FRAMES = polyphonic_prior.stream([RANDOM.integers(0, SIZE, (n, 2)) for n in (21, 9)], SIZE)


def prior_played(state, config, key, make_composer=prior.make_composer):
    composer, params = make_composer(config, SIZE), spread(state.params)
    found = rollout.compose(
        composer, params, key, 4, 20, make_policy=lambda it: rollout.composer_policy(it, 0.7)
    )
    output = composer.apply(params, found.observation.token, found.observation.time)
    return found.log_prob, pick(jax.nn.log_softmax(output.logits / 0.7), found.action)


def prior_learner(body, optimiser):
    return Learner(
        f"prior_{body}",
        PRIOR.replace(body=body, optimiser=optimiser),
        lambda key, config: prior.init(key, config, SIZE),
        lambda state, config, data, **loss: prior.step(state, config, data, SIZE, **loss),
        STREAM,
        played=prior_played,
        rounded=body == "transformer" or optimiser == "muon",
    )


PROMPTED = prompted.Config(
    width=8,
    num_layers=1,
    num_heads=2,
    attention_window=16,
    lookback=(),
    match_steps=8,
    dropout=0.1,
    batch_size=4,
    condition_dropout=0.5,
)
PROMPTED_DATA = prompted.Excerpts(
    jnp.asarray(RANDOM.integers(0, SIZE, (8, 20)), jnp.int32),
    jnp.asarray(RANDOM.normal(size=(8, CONDITION)), jnp.float32),
    jnp.arange(8) % 3 == 0,
)


def prompted_played(state, config, key):
    composer, params = prompted.make_composer(config, SIZE), spread(state.params)
    condition = PROMPTED_DATA.embedding[:4]
    policy = functools.partial(rollout.composer_policy, condition=condition)
    found = rollout.compose(composer, params, key, 4, 20, make_policy=policy)
    begin = composer.start_of(20)
    nats = prompted.negative_log_likelihood(composer, params, found.action.T, condition, begin=begin)
    return found.log_prob, -nats.T


LIKELIHOOD = [
    prior_learner("lstm", "muon"),
    prior_learner("transformer", "adam"),
    Learner(
        "polyphonic_prior",
        POLYPHONIC,
        lambda key, config: polyphonic_prior.init(key, config, SIZE),
        lambda state, config, data, **loss: polyphonic_prior.step(state, config, data, SIZE, **loss),
        FRAMES,
        played=functools.partial(prior_played, make_composer=polyphonic_prior.make_composer),
    ),
    Learner(
        "prompted",
        PROMPTED,
        lambda key, config: prompted.init(key, config, SIZE, CONDITION),
        lambda state, config, data, **loss: prompted.step(state, config, data, SIZE, **loss),
        PROMPTED_DATA,
        played=prompted_played,
        rounded=True,
    ),
]

# Theory: the tuner's two ways to learn, and the projection


PIECE = theory.Config(length=4)
NOTE_RNN = NoteRNN(theory.melody.SIZE, 8)
EPSILON = 0.3
RULES = {
    "opening_c": lambda state, action, _: 1.0 * ((state.time == 0) & (action == theory.melody.TONIC)),
    "high": lambda state, action, _: action / theory.melody.SIZE - 0.1 * state.time,
}
MELODIES = tuner.Config(
    algorithm="g",
    num_envs=6,
    num_minibatches=2,
    batch_size=8,
    buffer_size=24,
    temperature=0.7,
    rule_weights={"high": 3.0},
)
TRANSITIONS = MELODIES.replace(
    learns_from="transitions", drifting_prior=True, random_primer=True, exploration="epsilon", buffer_size=48
)
PROJECTION = projection.Config(
    num_envs=6,
    num_minibatches=2,
    batch_size=8,
    temperature=0.7,
    rule_weights={"high": 3.0},
    copy_lag=2,
    warmup_rule_weights={"high": 1.0},
    warmup_steps=1,
    rule_targets={"opening_c": 0.1},
    lr_decay_steps=4,
)


def tuner_played(state, config, key):
    prior_params, env = spread(state.prior, 0.1), Theory(PIECE, config.rule_weights, RULES)
    played = tuner.play(state.params, prior_params, config, NOTE_RNN, env, key, epsilon=EPSILON, num_steps=12)
    times = jnp.broadcast_to(jnp.arange(12)[:, None], played.previous_token.shape)
    log_prior = jax.nn.log_softmax(NOTE_RNN.apply(prior_params, played.previous_token, times).logits)
    values = tuner_rollout.action_values(
        NOTE_RNN.apply(state.params, played.previous_token, times), log_prior, config
    )
    policy = tuner_rollout.behaviour(values, log_prior, config, EPSILON)
    return (played.log_prob, played.log_prior), (policy.log_prob(played.action), log_prior)


def tuner_learner(config):
    return Learner(
        config.learns_from,
        config,
        lambda key, config: tuner.init(key, config, NOTE_RNN, opinionated(NOTE_RNN), PIECE, RULES),
        lambda state, config, _: tuner.step(state, config, NOTE_RNN, PIECE, RULES),
        played=tuner_played,
    )


def projection_played(state, config, key):
    config = config.replace(copy_lag=0)  # a copied note has log-probability 0 under any network
    prior_params, env = spread(state.prior, 0.1), Theory(theory.Config(length=12), config.rule_weights, RULES)
    played = projection.play(state.params, prior_params, config, NOTE_RNN, env, key)
    log_probs = [
        pick(jax.nn.log_softmax(NOTE_RNN.apply(params, played.observation.token, None).logits), played.action)
        for params in (state.params, prior_params)
    ]
    return [played.log_prob, played.reward.log_prior], log_probs


THEORY = [
    tuner_learner(MELODIES),
    tuner_learner(TRANSITIONS),
    Learner(
        "projection",
        PROJECTION,
        lambda key, config: projection.init(key, config, opinionated(NOTE_RNN)),
        lambda state, config, _: projection.step(state, config, NOTE_RNN, PIECE, RULES),
        played=projection_played,
    ),
]

# Judgement: what learns from captions, pairs and opinions


EMBEDDING = embedding.Config(
    vocab_size=16,
    trigram_buckets=8,
    text_width=8,
    text_heads=2,
    music_width=4,
    kernel_sizes=(8,),
    strides=(4,),
    use_traits=False,
    embedding_dim=8,
    batch_size=4,
)
CAPTIONED = embedding.Data(
    tokens=jnp.asarray(RANDOM.integers(0, MAGENTA.size, (8, 48)), jnp.int32),
    captions=jnp.asarray(RANDOM.integers(0, 8, (8, 2, 6, 4)), jnp.int32),
    group=jnp.arange(8) // 2,
)
ATTENTIVE = Composer(
    MAGENTA.size, body="transformer", width=8, num_layers=1, num_heads=2, lookback=(), attention_window=16
)
REWARD = reward_model.Config(ensemble_size=2, batch_size=8, margin=0.1)
PAIRS = reward_model.Pairs(
    condition=jnp.asarray(RANDOM.normal(size=(16, CONDITION)), jnp.float32),
    a=jnp.asarray(RANDOM.integers(0, MAGENTA.size, (16, 12)), jnp.int32),
    b=jnp.asarray(RANDOM.integers(0, MAGENTA.size, (16, 12)), jnp.int32),
    choice=jnp.asarray(np.tile([1, 1, -1, 0], 4), jnp.int32),
    weight=jnp.asarray(RANDOM.uniform(0.5, 2.0, 16), jnp.float32),
    likeness=jnp.asarray(RANDOM.uniform(-1.0, 1.0, (16, 2)), jnp.float32),
)
QUALITY = quality.Config(ensemble_size=2, batch_size=8)
OPINIONS = quality.Excerpts(PAIRS.a, jnp.asarray(RANDOM.uniform(size=16), jnp.float32))
DPO = dpo.Config(batch_size=8, learning_rate=1e-3)
WRITER = Composer(MAGENTA.size, width=8, metre=False, lookback=())

JUDGEMENT = [
    Learner(
        "embedding",
        EMBEDDING,
        lambda key, config: embedding.init(key, config, CAPTIONED),
        lambda state, config, data: embedding.step(state, config, data),
        CAPTIONED,
        rounded=True,
    ),
    Learner(
        "reward_model",
        REWARD,
        lambda key, config: reward_model.init(key, config, ATTENTIVE, CONDITION, likeness=True),
        lambda state, config, data: reward_model.step(state, config, ATTENTIVE, data),
        PAIRS,
        rounded=True,
        fixed_key=True,
        split=True,
    ),
    Learner(
        "quality",
        QUALITY,
        lambda key, config: quality.init(key, config, WRITER),
        lambda state, config, data, **loss: quality.step(state, config, WRITER, data, **loss),
        OPINIONS,
        fixed_key=True,
        split=True,
    ),
    Learner(
        "dpo",
        DPO,
        # away from its reference: there, which melody is preferred is a matter of rounding
        lambda key, config: (state := dpo.init(key, config, opinionated(WRITER, CONDITION))).replace(
            params=spread(state.params, 0.1)
        ),
        lambda state, config, data: dpo.step(state, config, WRITER, data),
        PAIRS.replace(likeness=None),
        rounded=True,
        fixed_key=True,
        split=True,
    ),
]

# Preference: a composer tuned by a reward


SHORT = preference.Config(
    num_envs=4, num_steps=6, num_epochs=2, num_minibatches=2, temperature=0.7, kl_target=3.0, target_kl=1.0,
    scale_rewards=True, ent_coef=0.01, num_updates=8, reward_weights={"first": 0.5},
)  # fmt: skip
PROMPTS = {"condition": jnp.eye(5, CONDITION), "taste": jnp.arange(5) % SIZE}
READER = ATTENTIVE.clone(size=SIZE, metre=False)


def pleasing(_, rows, tokens):
    """Two terms, of which the first is hardly ever the same for two melodies."""
    return {
        "wave": jnp.sin(tokens * (1.0 + rows["taste"][:, None])).mean(axis=1),
        "first": 1.0 * (tokens[:, 0] == rows["taste"]),
    }


def preference_learner(name, composer, config):
    def init(key, config):
        return preference.init(key, config, composer, opinionated(composer, CONDITION))

    def played(state, config, key):
        params = {name: spread(part, 0.1) for name, part in state.params.items()}
        condition = PROMPTS["condition"][:4]
        found = preference.play(params["policy"], config, composer, condition, key)
        shared = config.replace(separate_value=False)
        logits, value = preference.forward(params, shared, composer, found.previous_token, condition)
        log_policy = jax.nn.log_softmax(logits)
        recorded = found.log_prob, found.log_policy, found.value
        return recorded, (pick(log_policy, found.action), log_policy, value)

    return Learner(
        name,
        config,
        init,
        lambda state, config, data: preference.step(state, config, composer, data, reward_fn=pleasing),
        PROMPTS,
        played=played,
        rounded=True,
    )


PREFERENCE = [
    preference_learner("preference_ppo", READER, SHORT),
    preference_learner(
        "preference_reinforce",
        WRITER.clone(size=SIZE),
        SHORT.replace(method="reinforce", separate_value=True, optimiser="muon"),
    ),
    preference_learner(
        "preference_grpo",
        WRITER.clone(size=SIZE),
        SHORT.replace(method="grpo", group_size=2, decouple_rewards=True),
    ),
    preference_learner(
        "preference_critic", WRITER, SHORT.replace(critic_width=8, critic_epochs=2, num_steps=32)
    ),
]
ADVERSARIAL = Learner(
    "preference_adversarial",
    adversarial.Config(batch_size=4),
    lambda key, config: adversarial.init(
        key, config, SHORT, WRITER.clone(size=SIZE), opinionated(WRITER.clone(size=SIZE), CONDITION)
    ),
    lambda state, config, data: adversarial.step(
        state, config, SHORT, WRITER.clone(size=SIZE), *data, reward_fn=pleasing
    ),
    (PROMPTS, Transitions(PROMPTS["condition"], jnp.asarray(RANDOM.integers(0, SIZE, (5, 6)), jnp.int32))),
    rounded=True,
)
PREFERENCE.append(ADVERSARIAL)
PREFERENCE.append(
    Learner(
        "expert_iteration",
        expert_iteration.Config(num_envs=4, candidates=3, num_steps=6),
        lambda key, config: expert_iteration.init(key, config, opinionated(WRITER, CONDITION)),
        lambda state, config, data: expert_iteration.step(
            state, config, WRITER, data, lambda *given: sum(pleasing(*given).values()), ()
        ),
        PROMPTS,
        rounded=True,
    )
)
LEARNERS = {each.name: each for each in (*IMITATION, *LIKELIHOOD, *THEORY, *JUDGEMENT, *PREFERENCE)}
