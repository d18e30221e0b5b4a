import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from mammadai_jax.agents import preference
from mammadai_jax.agents.preference import losses, updates
from mammadai_jax.learning import sequences
from mammadai_jax.networks.critic import Critic
from tests.agents.table import drawn, melodies_of, table, table_of

A = 4
TABLE = table_of(A)
SHORT = preference.Config(
    num_envs=8, num_steps=6, num_epochs=2, num_minibatches=2, learning_rate=1e-2,
    value_learning_rate=1e-2, kl_coef=0.1,
    reward_weights={"share": 1.0, "first": 1.0, "third_prompt": 0.0},
)  # fmt: skip
PROMPTS = {
    "condition": np.eye(5, 3, dtype=np.float32),
    "taste": np.arange(5) % A,
    "number": np.arange(5),
}
PARAMS = drawn(TABLE, *np.zeros((2, 1, 1), int), np.zeros((1, 3)), scale=0.7)


def matches(_, rows, tokens):
    """How many notes are the prompt's favourite one, how many begin a melody so, and a prompt's visits."""
    hit = tokens == rows["taste"][:, None]
    return {"share": hit.mean(axis=1), "first": hit[:, 0] * 1.0, "third_prompt": (rows["number"] == 2) * 1.0}


update = jax.jit(preference.step, static_argnums=2, static_argnames="reward_fn")
begin_jit = jax.jit(preference.init, static_argnums=2)


def begin(config=SHORT, params=PARAMS, seed=0, **rest):
    return begin_jit(jax.random.key(seed), config, TABLE, params, **rest)


def learn(state, config=SHORT, updates=1):
    """The state after some updates, and the metrics of each."""
    told = []
    for _ in range(updates):
        state, metrics = update(state, config, TABLE, PROMPTS, reward_fn=matches)
        told.append(metrics)
    return state, jax.tree.map(lambda *rows: np.stack(rows), *told)


def distance(one, other):
    return max(np.abs(a - b).max() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def close(found, expected, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


def value_head(params):
    return jax.tree.leaves(params["params"]["value_head"])


# What is played and measured


def test_recorded_probabilities_are_recomputed():
    config = SHORT.replace(num_steps=24, temperature=0.7)
    condition = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
    play = jax.jit(preference.play, static_argnums=2)
    played = play(PARAMS, config, TABLE, condition, jax.random.key(2))
    assert played.action.shape == (24, 8)
    assert played.action.dtype == jnp.int32
    np.testing.assert_array_equal(played.previous_token[0], TABLE.start)
    np.testing.assert_array_equal(played.previous_token[1:], played.action[:-1])
    forward = jax.jit(preference.forward, static_argnums=2)
    logits, value = forward({"policy": PARAMS}, config, TABLE, played.previous_token, condition)
    raw = forward(
        {"policy": PARAMS}, config.replace(temperature=1.0), TABLE, played.previous_token, condition
    ).logits
    np.testing.assert_allclose(logits, raw / 0.7, rtol=1e-5)
    log_policy = log_softmax(logits, axis=-1)
    assert np.ptp(log_policy, axis=-1).mean() > 0.5
    np.testing.assert_allclose(played.log_policy, log_policy, atol=1e-5)
    chosen = np.take_along_axis(log_policy, np.asarray(played.action)[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(played.log_prob, chosen, atol=1e-5)
    np.testing.assert_allclose(played.value, value, atol=1e-5)
    other = forward({"policy": PARAMS}, config, TABLE, played.previous_token, condition[::-1]).logits
    assert distance(other, logits) > 0.1


def test_without_prompts_as_many_are_played_as_the_config_says():
    params = drawn(TABLE, *np.zeros((2, 1, 1), int))
    play = lambda key: preference.play(params, SHORT, TABLE, None, key)
    assert jax.eval_shape(play, jax.random.key(0)).action.shape == (6, 8)


def test_statistics_are_those_of_all_rewards(random):
    rewards = random.normal(3.0, 2.0, (5, 7)).astype(np.float32)
    nothing = preference.Statistics(*np.zeros(3, np.float32))

    @jax.jit
    def add(found, row):
        found = found.add(row)
        return found, found.scale

    assert nothing.scale == 1.0
    found = nothing
    for row in rewards:
        found, scale = add(found, row)
    np.testing.assert_allclose(found.count, 35)
    np.testing.assert_allclose(found.mean, rewards.mean(), rtol=1e-5)
    np.testing.assert_allclose(scale, rewards.std(), rtol=1e-5)
    assert add(nothing, np.full(7, 7.3, np.float32))[1] == 1.0


# Prompts


def test_prompts_are_visited_once_an_epoch():
    order = jax.random.key(5)

    @jax.jit
    def visits(order):
        at = lambda batch: lambda p: preference.prompt_indices(order, p, 7, batch)
        return [jax.vmap(at(batch))(jnp.arange(0, 84, batch)) for batch in (3, 7, 20, 1)]

    *walks, alone = (np.concatenate(rows)[:84].reshape(12, 7) for rows in visits(order))
    for walked in walks:
        np.testing.assert_array_equal(walked, alone)
    np.testing.assert_array_equal(np.sort(alone, axis=1), np.broadcast_to(np.arange(7), (12, 7)))
    assert len({tuple(row) for row in alone}) > 9


def test_a_learner_walks_through_its_prompts():
    state, metrics = learn(begin(), updates=5)
    visits = np.cumsum(8 * metrics["reward/third_prompt"])
    due = 8 * np.arange(1, 6) / 5
    assert (np.floor(due) - 1e-3 <= visits).all() and (visits <= np.ceil(due) + 1e-3).all()
    np.testing.assert_allclose(visits[-1], 8)
    assert state.position == 40
    np.testing.assert_array_equal(metrics["episode"], [8, 16, 24, 32, 40])


# The objectives on a problem of which every melody can be written down

KINDS = ("exact", "k1", "k3")
BETA = 0.4
TEMPERATURE = 0.7


@jax.jit
def measure(params, reference, config, action, previous_token, score, beta):
    """Of every melody: what is played, the batch, its divergence, and the loss's gradient in expectation."""
    logits, value = preference.forward(
        {"policy": params["policy"]}, config.replace(separate_value=False), TABLE, previous_token, None
    )
    log_policy = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_policy, action[..., None], axis=-1)[..., 0]
    played = preference.Played(previous_token, action, chosen, log_policy, value)
    batch, kl = losses.prepare(
        params, config, TABLE, reference=reference, played=played, condition=None, score=score, kl_coef=beta
    )

    def gradient(melody):
        alone = jax.tree.map(lambda x: x[:, melody][:, None], batch)
        loss = lambda p: losses.minibatch_loss(p, config, TABLE, batch=alone, condition=None, kl_coef=beta)
        return jax.grad(lambda p: loss(p)[0])(params)

    each = jax.vmap(gradient)(jnp.arange(action.shape[1]))
    probability = jnp.exp(chosen.sum(axis=0))
    return played, batch, kl, jax.tree.map(lambda x: jnp.tensordot(probability, x, 1), each)


@functools.partial(jax.jit, static_argnames="steps")
def objective_gradient(policy, reference, scores, steps):
    """Of -(E[score] - beta KL(pi || ref)) / T, the sum over all melodies written out."""
    action, previous_token = melodies_of(A, steps)

    def log_prob(params):
        logits = TABLE.apply(params, previous_token, previous_token, None).logits / TEMPERATURE
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)
        return chosen[..., 0].sum(axis=0)

    def loss(policy):
        own = log_prob(policy)
        return -(jnp.exp(own) * (scores - BETA * (own - log_prob(reference)))).sum() / steps

    return jax.grad(loss)(policy)


def problem(steps, seed=3):
    """A reference, scores of all melodies, and the best policy with the value of each of its states."""
    random = np.random.default_rng(seed)
    logits, scores = random.normal(size=(A + 1, A)), random.normal(size=A**steps)
    reference = table(logits, random.normal(size=A + 1))
    log_reference = log_softmax(logits / TEMPERATURE, axis=1)
    tilted, value = log_reference.copy(), np.zeros(A + 1)
    earned = scores
    if steps == 2:
        tilted[:A] += scores.reshape(A, A) / BETA
        value[:A] = earned = BETA * logsumexp(tilted[:A], axis=1)
    tilted[A] += earned / BETA
    value[A] = BETA * logsumexp(tilted[A])
    return reference, scores.astype(np.float32), table(TEMPERATURE * tilted, value), value


@pytest.mark.parametrize("kind", [*KINDS, "separate"])
def test_the_expected_gradient_is_that_of_the_objective_and_zero_at_the_tilted_reference(kind, random):
    """The value may be any while all of the return is awaited; the right one may be bootstrapped from."""
    separate = kind == "separate"
    estimator = "exact" if separate else kind
    config = preference.Config(
        num_envs=16, num_steps=2, kl_estimator=estimator, separate_value=separate, temperature=TEMPERATURE,
        ent_coef=0.0, vf_coef=0.0, gae_lambda=1.0,
    )  # fmt: skip
    reference, scores, optimum, _ = problem(2)
    rows = (*melodies_of(A, 2), scores, np.float32(BETA))

    def expected_gradient(policy, value, config):
        params = {"policy": policy, "value": value} if separate else {"policy": policy}
        return measure(params, reference, config, *rows)[-1]

    elsewhere = table(random.normal(size=(A + 1, A)), random.normal(size=A + 1))
    for policy in (reference, elsewhere):
        found = expected_gradient(policy, elsewhere, config)["policy"]
        exact = objective_gradient(policy, reference, scores, 2)
        close(found, exact, atol=1e-5)
        assert np.abs(exact["params"]["logits_head"]["kernel"]).max() > 0.02
    ready = config.replace(gae_lambda=0.9, vf_coef=0.5)
    zero = lambda tree: distance(tree, jax.tree.map(np.zeros_like, tree))
    wrong = jax.tree.map(np.copy, optimum)
    wrong["params"]["value_head"]["bias"] += 0.2
    # a separate value is the one that counts, whatever the policy's own head says
    right, other = (wrong, optimum) if separate else (optimum, wrong)
    assert zero(expected_gradient(right, optimum, ready)) < 2e-6
    assert zero(expected_gradient(other, wrong, ready)) > 0.05


def test_reinforce_has_the_same_optimum_of_one_note(random):
    config = preference.Config(
        method="reinforce", num_envs=4, num_steps=1, temperature=TEMPERATURE, vf_coef=0.0
    )
    reference, scores, optimum, _ = problem(1)
    expected = lambda policy: measure(
        {"policy": policy}, reference, config, *melodies_of(A, 1), scores, np.float32(BETA)
    )[-1]["policy"]
    for policy in (reference, table(random.normal(size=(A + 1, A)), random.normal(size=A + 1))):
        exact = objective_gradient(policy, reference, scores, 1)
        assert distance(exact, jax.tree.map(np.zeros_like, exact)) > 0.02
        close(expected(policy), jax.tree.map(lambda x: x / (1 + BETA), exact), atol=1e-5)
    assert distance(expected(optimum), jax.tree.map(np.zeros_like, reference)) < 1e-6


@pytest.mark.parametrize("kind", [*KINDS, "reinforce"])
def test_advantages_by_hand(kind, random):
    method = "reinforce" if kind == "reinforce" else "ppo"
    estimator = "exact" if kind == "reinforce" else kind
    config = preference.Config(
        method=method, num_envs=16, num_steps=2, kl_estimator=estimator, temperature=TEMPERATURE,
        gamma=0.8, gae_lambda=0.6, vf_coef=0.0, ent_coef=0.0,
    )  # fmt: skip
    reference, scores, *_ = problem(2)
    policy = {"policy": table(random.normal(size=(A + 1, A)), random.normal(size=A + 1))}
    action, previous_token = melodies_of(A, 2)
    played, batch, kl, gradient = measure(
        policy, reference, config, action, previous_token, scores, np.float32(BETA)
    )
    table_there = reference["params"]["logits_head"]["kernel"]
    log_reference = log_softmax(table_there[previous_token] / TEMPERATURE, axis=-1)
    np.testing.assert_allclose(batch.log_reference, log_reference, atol=1e-5)
    log_policy = np.asarray(played.log_policy)
    own = np.take_along_axis(log_policy - log_reference, action[..., None], axis=-1)[..., 0]
    exact = (np.exp(log_policy) * (log_policy - log_reference)).sum(axis=-1)
    measured = {"exact": exact, "k1": own, "k3": np.exp(-own) - 1 + own}[estimator]
    np.testing.assert_allclose(kl, measured, atol=1e-5)
    value = np.asarray(played.value)
    np.testing.assert_array_equal(batch.value, value)
    trace = 0.6
    if method == "reinforce":
        measured, own, trace = np.zeros_like(own), np.zeros_like(own), 1.0
    last = scores - BETA * measured[1] - value[1]
    first = -BETA * measured[0] + 0.8 * value[1] - value[0]
    estimate = np.stack([first + 0.8 * trace * last, last])
    np.testing.assert_allclose(batch.target, estimate + value, atol=1e-5)
    np.testing.assert_allclose(batch.advantage, estimate - BETA * (own - measured), atol=1e-5)
    if method == "reinforce":
        expected = _printed_gradient(policy["policy"], action, previous_token, batch.advantage, log_reference)
        close(gradient["policy"], expected, atol=1e-5)


@jax.jit
def _printed_gradient(policy, action, previous_token, advantage, log_reference):
    """The sum over the alphabet is weighted by pi, and sampled notes by their return less the value."""

    def loss(params):
        log_policy = jax.nn.log_softmax(
            TABLE.apply(params, previous_token, previous_token, None).logits / TEMPERATURE
        )
        chosen = jnp.take_along_axis(log_policy, action[..., None], axis=-1)[..., 0]
        penalty = (jnp.exp(log_policy) * (log_policy - log_reference)).sum(axis=-1)
        probability = jax.lax.stop_gradient(jnp.exp(chosen.sum(axis=0)))
        alpha = BETA / (1 + BETA)
        gain = (1 - alpha) * chosen * advantage - alpha * penalty
        return -(probability * gain.mean(axis=0)).sum()

    return jax.grad(loss)(policy)


@pytest.mark.parametrize("method", ["ppo", "reinforce", "grpo"])
def test_the_loss_by_hand(method, random):
    """Of a policy that has moved on since it played."""
    config = SHORT.replace(
        method=method,
        num_steps=2,
        clip_eps=0.1,
        vf_clip_eps=0.3,
        vf_coef=0.7,
        ent_coef=0.2,
        temperature=1.0,
    )
    action, previous_token = melodies_of(A, 2)
    logits, values = random.normal(size=(A + 1, A)), random.normal(size=A + 1)
    log_policy, value = log_softmax(logits, axis=1)[previous_token], values[previous_token]
    log_prob = np.take_along_axis(log_policy, action[..., None], axis=-1)[..., 0]
    log_reference = log_softmax(random.normal(size=(A + 1, A)), axis=1)[previous_token]
    before, advantage, old_value, target = random.normal(size=(4, *action.shape))
    old = log_prob + 0.2 * before
    told = old, old_value, advantage, target, log_reference
    batch = losses.Batch(previous_token, action, *(np.asarray(x, np.float32) for x in told))
    loss = jax.jit(losses.minibatch_loss, static_argnums=2)
    params = {"policy": table(logits, values)}
    found, metrics = loss(params, config, TABLE, batch=batch, condition=None, kl_coef=np.float32(BETA))
    ratio = np.exp(log_prob - old)
    entropy = -(np.exp(log_policy) * log_policy).sum(axis=-1).mean()
    penalty = (np.exp(log_policy) * (log_policy - log_reference)).sum(axis=-1)
    policy = -np.minimum(ratio * advantage, np.clip(ratio, 0.9, 1.1) * advantage).mean()
    if method == "ppo":
        near = old_value + np.clip(value - old_value, -0.3, 0.3)
        error = 0.5 * np.maximum((value - target) ** 2, (near - target) ** 2).mean()
    elif method == "grpo":
        policy, error = policy + BETA * penalty.mean(), 0.0
    else:
        alpha = BETA / (1 + BETA)
        policy = (alpha * penalty - (1 - alpha) * log_prob * advantage).mean()
        error = 0.5 * ((value - target) ** 2).mean()
    np.testing.assert_allclose(found, policy + 0.7 * error - 0.2 * entropy, rtol=1e-5)
    expected = {
        "loss/policy_avg": policy,
        "loss/value_avg": error,
        "policy/approxkl_avg": (ratio - 1 - np.log(ratio)).mean(),
        "policy/clipfrac_avg": (np.abs(ratio - 1) > 0.1).mean(),
        "policy/entropy_avg": entropy,
        "val/ratio": ratio.mean(),
    }
    assert metrics.keys() == expected.keys()
    for name, number in expected.items():
        np.testing.assert_allclose(metrics[name], number, rtol=1e-4, err_msg=name)


# An update


def test_rewards_are_named_weighed_and_logged():
    config = SHORT.replace(reward_weights=SHORT.reward_weights | {"first": 3.0})
    before, _ = learn(begin(), config)
    state, metrics = update(before, config, TABLE, PROMPTS, reward_fn=matches)
    total = metrics["reward/share"] + 3.0 * metrics["reward/first"]
    assert metrics["reward/share"] > 0
    np.testing.assert_allclose(metrics["objective/scores"], total, rtol=1e-5)
    penalty = metrics["objective/non_score_reward"]
    assert penalty < -1e-5
    np.testing.assert_allclose(penalty, -0.1 * metrics["objective/kl"], rtol=1e-5)
    np.testing.assert_allclose(metrics["objective/rlhf_reward"], total + penalty, rtol=1e-5)
    np.testing.assert_allclose(2 * state.statistics.mean - before.statistics.mean, total, rtol=1e-4)
    assert state.statistics.count == 16


def test_metrics_of_a_policy_without_an_opinion():
    """It is even, its reference plays each note alike after any other: both say the same of all melodies."""
    logits = np.tile(np.array([1.0, 0.0, -0.5, 0.3], np.float32), (A + 1, 1))
    params, reference = (jax.tree.map(np.zeros_like, PARAMS) for _ in range(2))
    params["params"]["token_table"]["embedding"] = reference["params"]["token_table"]["embedding"] = np.eye(
        A + 1, dtype=np.float32
    )
    reference["params"]["logits_head"]["kernel"] = logits
    state = begin(params=params, reference=reference)
    config = SHORT.replace(learning_rate=0.0, value_learning_rate=0.0, kl_target=2.0, kl_horizon=100.0)
    after, metrics = update(state, config, TABLE, PROMPTS, reward_fn=matches)
    kl = 6 * (np.log(1 / A) - log_softmax(logits[0] / config.temperature)).mean()
    expected = {
        "objective/kl": kl, "objective/entropy": 6 * np.log(A), "policy/entropy_avg": np.log(A),
        "policy/approxkl_avg": 0.0, "policy/clipfrac_avg": 0.0, "val/ratio": 1.0, "val/ratio_var": 0.0,
        "kl_coef": 0.1, "minibatches": 4, "lr": 0.0,
    }  # fmt: skip
    for name, number in expected.items():
        np.testing.assert_allclose(metrics[name], number, rtol=1e-4, atol=1e-6, err_msg=name)
    assert 0.2 < metrics["explained_variance"] + 1 < 1.2  # a value of 0 foresees nothing
    assert distance(after.params, state.params) == 0
    # the next beta follows from the divergence
    np.testing.assert_allclose(after.kl_coef, 0.1 * (1 + np.clip(kl / 2 - 1, -0.2, 0.2) * 0.08), rtol=1e-4)
    assert after.kl_coef != state.kl_coef


def test_a_scale_of_rewards_changes_no_whitened_advantage():
    free = {"vf_coef": 0.0, "learning_rate": 0.0, "max_grad_norm": 1e9}

    def norm(config, scale):
        """Of the gradient where nothing but the reward counts."""
        state = begin(config).replace(kl_coef=np.float32(0.0))
        weights = {"share": scale, "first": 0.0, "third_prompt": 0.0}
        return learn(state, config.replace(**free, reward_weights=weights))[1]["grad_norm"][0]

    np.testing.assert_allclose(norm(SHORT, 10.0), norm(SHORT, 1.0), rtol=1e-3)
    assert norm(SHORT, 1.0) > 0.01
    # MusicRL's objective does not standardise
    np.testing.assert_allclose(norm(APART, 10.0), 10 * norm(APART, 1.0), rtol=1e-3)


def test_mistakes_are_told():
    state = begin()
    step = lambda config, reward: jax.eval_shape(
        lambda state, prompts: preference.step(state, config, TABLE, prompts, reward_fn=reward),
        state,
        PROMPTS,
    )
    with pytest.raises(ValueError, match=r"reward has shape \(8, 6\)"):
        step(SHORT.replace(reward_weights={}), lambda p, rows, tokens: tokens * 1.0)
    with pytest.raises(ValueError, match=r"weights name \['frist'\].*\['first', 'share', 'third_prompt'\]"):
        step(SHORT.replace(reward_weights={"frist": 1.0}), matches)
    start = lambda **changes: preference.init(jax.random.key(0), SHORT.replace(**changes), TABLE, PARAMS)
    with pytest.raises(ValueError, match="8 melodies cannot be shared by 3 minibatches"):
        start(num_minibatches=3)
    with pytest.raises(ValueError, match="estimator is one of"):
        start(kl_estimator="k2")
    with pytest.raises(ValueError, match="optimiser is one of"):
        start(optimiser="sgd")
    with pytest.raises(ValueError, match="method is one of"):
        start(method="dqn")
    with pytest.raises(ValueError, match=r"token table of \(5, 5\), the composer one of \(7, 5\)"):
        preference.init(jax.random.key(0), SHORT, TABLE.clone(size=6), PARAMS)


def test_a_single_reward_needs_no_name():
    config = SHORT.replace(reward_weights={})
    tokens = np.arange(48, dtype=np.int32).reshape(8, 6) % A
    score, terms = preference.rollout.score_melodies(
        config, lambda p, rows, tokens: p * tokens[:, 0], 2, None, tokens
    )
    np.testing.assert_array_equal(score, 2.0 * tokens[:, 0])
    assert score.dtype == jnp.float32 and preference.rollout.means_of(terms) == {}


STOPPED = SHORT.replace(scale_rewards=True, target_kl=1e-7)


def test_far_policies_stop_an_update_and_rewards_may_be_scaled():
    state = begin(STOPPED)
    run = lambda target_kl: update(
        state, STOPPED.replace(target_kl=target_kl), TABLE, PROMPTS, reward_fn=matches
    )
    (stopped, metrics), (free, unstopped) = run(1e-7), run(np.inf)
    assert metrics["minibatches"] == 1
    assert unstopped["minibatches"] == 4
    moved = {"stopped": stopped, "free": free}
    steps = {name: int(after.opt_state["policy"][1].count) for name, after in moved.items()}
    assert steps == {"stopped": 1, "free": 4}
    far = {name: distance(after.params, state.params) for name, after in moved.items()}
    assert far["stopped"] <= 0.01 * 1.001 < 0.02 < far["free"]  # Adam's first step is as long as the rate
    assert metrics["policy/approxkl_avg"] < 1e-7 < unstopped["policy/approxkl_avg"]
    np.testing.assert_allclose(metrics["val/ratio_var"], 0.0, atol=1e-10)
    assert unstopped["val/ratio_var"] > 0
    # rewards are divided by their deviation where the learner sees them
    plain = update(begin(), SHORT, TABLE, PROMPTS, reward_fn=matches)[1]
    np.testing.assert_allclose(metrics["objective/scores"], plain["objective/scores"], rtol=1e-5)
    seen = metrics["objective/scores"] / stopped.statistics.scale + metrics["objective/non_score_reward"]
    np.testing.assert_allclose(metrics["objective/rlhf_reward"], seen, rtol=1e-5)
    assert abs(stopped.statistics.scale - 1) > 0.05


APART = SHORT.replace(method="reinforce", separate_value=True)


def test_the_value_may_share_the_trunk_or_not():
    shared = begin()
    assert set(shared.params) == set(shared.opt_state) == {"policy"}
    assert not any(map(np.any, value_head(shared.params["policy"])))
    config = APART.replace(vf_coef=0.0)
    apart = begin(config)
    assert set(apart.params) == set(apart.opt_state) == {"policy", "value"}
    assert not any(map(np.any, value_head(apart.params["value"])))
    after, metrics = learn(apart, config)
    # without a weight, its loss moves nothing but what is the policy's
    assert distance(after.params["value"], apart.params["value"]) == 0
    assert distance(after.params["policy"], apart.params["policy"]) > 1e-3
    assert metrics["minibatches"] == 2  # reinforce makes one pass
    taught, _ = learn(apart, config.replace(vf_coef=1.0))
    assert distance(taught.params["value"], apart.params["value"]) > 1e-3
    assert distance(taught.params["policy"], after.params["policy"]) == 0
    kept = begin(value=PARAMS)
    assert distance(kept.params, {"policy": PARAMS}) == 0


# The optimiser


def test_rates_fall_and_differ():
    config = SHORT.replace(num_updates=4, value_learning_rate=0.0)
    state, metrics = learn(begin(), config, 6)
    np.testing.assert_allclose(metrics["lr"], 0.01 * np.array([1, 0.75, 0.5, 0.25, 0, 0]), rtol=1e-5)
    assert not any(map(np.any, value_head(state.params["policy"])))
    ended, _ = learn(state, config)
    assert distance(ended.params, state.params) == 0
    assert state.update == 6


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_a_step_of_each_networks_optimiser(kind, random):
    config = preference.Config(optimiser=kind, learning_rate=0.1, value_learning_rate=0.02, max_grad_norm=0.5)
    draw = lambda *shape: random.normal(size=shape).astype(np.float32)
    gradient = {
        "policy": {"kernel": draw(6, 4), "value_head": {"bias": draw(3)}},
        "value": {"bias": draw(2)},
        "critic": {"bias": draw(2)},
    }
    params = jax.tree.map(lambda x: draw(*x.shape), gradient)

    @jax.jit
    def optimiser_step(params, gradient, config):
        opt_state = {name: updates.optimiser(config).init(network) for name, network in params.items()}
        return updates.optimiser_step(params, opt_state, config, gradient=gradient, decay=0.5)

    after, opt_state = optimiser_step(params, gradient, config)
    change = jax.tree.map(lambda new, old: np.asarray(new - old), after, params)
    # Adam's first step is its rate in each number, and what Nesterov adds to it in Muon's Adam
    rate = 0.02 * (1.0 if kind == "adam" else 1 + 0.9 * 0.1 / (1 - 0.9**2))
    for found, slope in [
        (change["policy"]["value_head"], gradient["policy"]["value_head"]),
        (change["value"], gradient["value"]),
        (change["critic"], gradient["critic"]),
    ]:
        np.testing.assert_allclose(found["bias"], -0.5 * rate * np.sign(slope["bias"]), rtol=2e-3)
    kernel, slope = change["policy"]["kernel"], gradient["policy"]["kernel"]
    if kind == "adam":
        np.testing.assert_allclose(kernel, -0.5 * 0.1 * np.sign(slope), rtol=2e-2)
        norm = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(gradient["policy"])))
        clipped = 0.1 * slope * 0.5 / norm
        np.testing.assert_allclose(opt_state["policy"][1].mu["kernel"], clipped, rtol=1e-4)
    else:  # the step of a matrix is made orthogonal: it is long in all directions
        left, _, right = np.linalg.svd(slope, full_matrices=False)
        cosine = -(kernel * (left @ right)).sum() / np.linalg.norm(kernel) / np.linalg.norm(left @ right)
        assert cosine > 0.97
        np.testing.assert_allclose(np.sqrt((kernel**2).mean()), 0.5 * 0.1 * 0.3, rtol=0.3)


# The critic

CRITICAL = SHORT.replace(critic_width=8, gae_lambda=0.5, critic_warmup_steps=2, vf_coef=0.0, critic_epochs=8)


@pytest.fixture
def plain_hearing(monkeypatch):
    """What a critic hears of a melody is here which notes were played before each beat, of any alphabet."""

    def heard(tokens):
        steps = tokens.shape[0]
        counts = jnp.cumsum(jax.nn.one_hot(tokens, A), axis=0) - jax.nn.one_hot(tokens, A)
        return counts[jnp.arange(0, steps, 4)]

    monkeypatch.setattr(losses, "traits_so_far", heard)
    monkeypatch.setattr(preference, "traits_so_far", heard)


def test_a_critic_learns_by_itself_and_at_first_alone(plain_hearing):
    state = begin(CRITICAL)
    assert set(state.params) == set(state.opt_state) == {"policy", "critic"}
    settled, metrics = learn(state, CRITICAL, 2)
    assert distance(settled.params["policy"], state.params["policy"]) == 0
    assert distance(settled.params["critic"], state.params["critic"]) > 1e-3
    assert settled.opt_state["critic"][1].count == 2 * 8 * 4  # quarters of the melodies
    after, _ = learn(settled, CRITICAL)
    assert distance(after.params["policy"], settled.params["policy"]) > 1e-3
    assert not any(map(np.any, value_head(after.params["policy"])))
    assert metrics["loss/value_avg"].min() > 0
    still = learn(settled, CRITICAL.replace(value_learning_rate=0.0))[0]
    assert distance(still.params["critic"], settled.params["critic"]) == 0


def test_a_critic_learns_what_followed_to_the_end(plain_hearing, random):
    """Its targets are whole returns, though the policy's advantages are not; then it foresees them."""
    state = begin(CRITICAL)
    critic = jax.tree.map(lambda x: random.normal(0, 0.5, x.shape).astype(np.float32), state.params["critic"])
    action = random.integers(0, A, (6, 8)).astype(np.int32)
    previous_token = np.concatenate([np.full((1, 8), A, np.int32), action[:-1]])
    condition, scores = (
        jnp.asarray(PROMPTS["condition"][np.arange(8) % 5]),
        (action == 1).mean(axis=0).astype(np.float32),
    )

    @jax.jit
    def prepare(params, config, action, previous_token):
        logits, value = preference.forward({"policy": PARAMS}, config, TABLE, previous_token, condition)
        log_policy = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(log_policy, action[..., None], axis=-1)[..., 0]
        played = preference.Played(previous_token, action, chosen, log_policy, value)
        batch, kl = losses.prepare(
            params, config, TABLE, reference=state.reference, played=played, condition=condition,
            score=scores, kl_coef=jnp.float32(0.1),
        )  # fmt: skip
        hidden = TABLE.apply(
            state.reference, previous_token, sequences.positions(previous_token), condition, method="hidden"
        )
        value = Critic(8).apply(params["critic"], losses.traits_so_far(action), hidden, condition)
        inputs = {"batch": batch, "condition": condition, "decay": jnp.float32(1.0)}
        taught = updates.update_critic(
            params["critic"], state.opt_state["critic"], config, key=jax.random.key(1), **inputs
        )
        return batch, kl, value, taught

    batch, kl, value, (_, _, error) = prepare(
        {"policy": PARAMS, "critic": critic}, CRITICAL, action, previous_token
    )
    np.testing.assert_allclose(batch.value, value, atol=1e-5)
    reward = np.concatenate([np.zeros((5, 8)), scores[None]]) - 0.1 * kl
    np.testing.assert_allclose(batch.target, np.cumsum(reward[::-1], axis=0)[::-1], atol=1e-5)
    following = np.concatenate([value[1:], np.zeros((1, 8))])
    delta, advantage = reward + following - value, np.zeros((7, 8))
    for time in reversed(range(6)):
        advantage[time] = delta[time] + 0.5 * advantage[time + 1]
    log_ratio = (
        np.asarray(batch.log_prob)
        - np.take_along_axis(np.asarray(batch.log_reference), action[..., None], axis=-1)[..., 0]
    )
    np.testing.assert_allclose(batch.advantage, advantage[:6] - 0.1 * (log_ratio - kl), atol=1e-5)
    before = 0.5 * np.mean((value - batch.target) ** 2)
    longer = CRITICAL.replace(value_learning_rate=0.05, vf_clip_eps=np.float32(1e9))
    learned, _, mean_error = prepare({"policy": PARAMS, "critic": critic}, longer, action, previous_token)[-1]
    taught = prepare({"policy": PARAMS, "critic": learned}, longer, action, previous_token)[0].value
    assert 0.5 * np.mean((taught - batch.target) ** 2) < 0.3 * before
    assert error <= before * 1.5 and mean_error < before


# Learning


def test_prompts_are_followed_at_the_target_divergence():
    """From a share of about 1 in 4 to more than 1 in 2, at the target's divergence."""
    config = SHORT.replace(
        learning_rate=2e-2,
        kl_target=3.0,
        kl_horizon=100.0,
        reward_weights=SHORT.reward_weights | {"share": 2.0, "first": 0.0},
    )
    params = jax.tree.map(lambda x: 0.1 * x, PARAMS)
    params["params"]["condition_layer"] = PARAMS["params"]["condition_layer"]
    _, metrics = learn(begin(config, params), config, 100)
    assert 0.1 < metrics["reward/share"][:5].mean() < 0.4
    assert metrics["reward/share"][-40:].mean() > 0.55
    assert 2.0 < metrics["objective/kl"][-40:].mean() < 4.0


def test_another_loss_of_the_policy_may_be_given():
    """One without a slope leaves the policy as it is, and is logged."""
    flat = lambda distribution, batch, config, kl_coef: 0.0 * distribution.logits.mean() + 3.0
    step = jax.jit(functools.partial(preference.step, reward_fn=matches, policy_loss=flat), static_argnums=2)
    state = begin()
    after, metrics = step(state, SHORT.replace(vf_coef=0.0), TABLE, PROMPTS)
    assert metrics["loss/policy_avg"] == 3.0
    assert distance(after.params, state.params) == 0
