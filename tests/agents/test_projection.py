"""The projection: what it plays, how melodies are weighted, and where learning ends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from mammadai_jax.agents import projection, tuner
from mammadai_jax.environments import MelodyState, Theory
from mammadai_jax.learning.rollout import Trajectory
from mammadai_jax.music import theory
from mammadai_jax.music.variety import own_runs
from mammadai_jax.networks.note_rnn import NoteRNN
from tests.agents.theory_world import (
    PIECE,
    RULES,
    SIZE,
    Table,
    all_melodies,
    assert_close,
    assert_same,
    differ,
    log_softmax,
    pick,
    read,
    small_world,
    weights,
)

CONFIG = projection.Config(
    num_envs=6,
    num_minibatches=2,
    batch_size=8,
    reward_scale=1.5,
    temperature=0.7,
    rule_weights={"high": 3.0},
    copy_lag=1,
)


@functools.partial(jax.jit, static_argnames=("network", "length", "rules"))
def _play(params, prior, config, key, network, length, rules):
    env = Theory(theory.Config(length=length), config.rule_weights, dict(rules))
    return projection.play(params, prior, config, network, env, key)


def play(config, network=Table, length=PIECE.length, rules=RULES):
    """Melodies of one network, with another as the prior."""
    params, prior, rules = weights(network, 1), weights(network, 2), tuple(rules.items())
    return jax.tree.map(np.asarray, _play(params, prior, config, jax.random.key(0), network, length, rules))


def begin():
    return jax.jit(projection.init)(jax.random.key(0), CONFIG, weights(Table))


# compiled once for all tests of the same static fields
step = jax.jit(lambda state, config: projection.step(state, config, Table, PIECE, RULES))


# What is played


def test_melodies_are_rewarded_by_the_rules_and_the_prior():
    weighed = {"key": 2.0, "motif": 0.0, "preferred_intervals": -1.5}
    network = NoteRNN(SIZE, 16)
    config = CONFIG.replace(rule_weights=weighed, copy_lag=0)
    played = play(config, network, length=12, rules=theory.RULES)
    previous = played.observation.token
    np.testing.assert_array_equal(played.observation.time, np.broadcast_to(np.arange(12)[:, None], (12, 6)))
    np.testing.assert_array_equal(previous[0], network.start)
    np.testing.assert_array_equal(previous[1:], played.action[:-1])
    found = played.log_prob, played.reward.log_prior
    for seed, log_prob in enumerate(found, start=1):
        log_policy = log_softmax(read(network, weights(network, seed), previous))
        np.testing.assert_allclose(log_prob, pick(log_policy, played.action), atol=1e-5)
    scored = jax.tree.map(np.asarray, theory.score(played.action.T))
    assert played.reward.rules.keys() == scored.keys()
    for name, reward in scored.items():
        np.testing.assert_allclose(played.reward.rules[name], reward.T, atol=1e-5, err_msg=name)
    total = sum(weighed.get(name, 1.0) * reward.T for name, reward in scored.items())
    np.testing.assert_allclose(played.reward.theory, total, atol=1e-4)


def test_a_weight_of_no_rule_is_refused():
    with pytest.raises(ValueError, match=r"\['tonic'\] belong to no rule"):
        play(CONFIG.replace(rule_weights={"tonic": 2.0}))


def test_exploration_copies_whole_bars_from_copy_lag_steps_before():
    config = CONFIG.replace(copy_lag=4, num_envs=200, rule_weights={})
    piece = {"length": 24, "rules": {}}
    always = play(config.replace(copy_prob=1.0), **piece)
    np.testing.assert_array_equal(always.action[4:], always.action[:-4])
    np.testing.assert_array_equal(always.log_prob[4:], 0.0)  # a copied note was certain
    assert (always.log_prob[:4] < 0).all() and (always.reward.log_prior < 0).all()
    never = play(config.replace(copy_prob=0.0), **piece)
    assert (never.action[4:] != never.action[:-4]).any() and (never.log_prob < 0).all()
    copied = play(config.replace(copy_prob=0.5), **piece).log_prob == 0.0
    assert not copied[:4].any()
    for bar in (copied[4:8], copied[8:16], copied[16:]):
        np.testing.assert_array_equal(bar, np.broadcast_to(bar[:1], bar.shape))
        assert 0.4 < bar[0].mean() < 0.6


# How melodies are weighted


def test_melodies_are_weighted_by_the_target_over_the_policy():
    """At eta 1 the weights are pi*/pi, where copied notes have the policy's own probability."""
    config = CONFIG.replace(ess_fraction=0.0, copy_prob=0.5)
    played = play(config)
    assert (played.log_prob == 0).any()
    none = jnp.zeros(6)
    found = jax.jit(lambda played: projection.weigh(weights(Table, 1), played, none, config, Table))(played)
    previous = played.observation.token
    np.testing.assert_array_equal(found.previous_token, previous.T)
    np.testing.assert_array_equal(found.action, played.action.T)
    policy = log_softmax(read(Table, weights(Table, 1), previous))
    target = (1.5 * played.reward.theory + played.reward.log_prior) / 0.7
    ratio = np.exp((target - pick(policy, played.action)).sum(axis=0))
    np.testing.assert_allclose(found.weight, ratio / ratio.mean(), rtol=1e-3)


def test_runs_that_no_other_melody_has_are_rewarded():
    network, config = NoteRNN(SIZE, 16), CONFIG.replace(ess_fraction=0.0, copy_lag=0, rule_weights={})
    played = play(config, network, length=12, rules={})
    twice = played.action.copy()
    twice[:, 1] = twice[:, 0]
    twice[:3, 2] = 0  # of the third melody some runs are lost, and the others stay its own
    played = played._replace(action=twice)

    @jax.jit
    def weigh(variety):
        varied = config.replace(variety=variety)
        shared = projection.shared_runs(played, varied)
        return projection.weigh(weights(network), played, shared, varied, network).weight

    own = np.asarray(own_runs(jnp.asarray(twice.T), n=5))
    np.testing.assert_array_equal(own, [0, 0, 1, 1, 1, 1])
    ratio = np.asarray(weigh(0.4) / weigh(0.0))
    np.testing.assert_allclose(ratio / ratio[0], np.exp(0.4 * 1.5 / 0.7 * own), rtol=1e-3)


def test_every_pass_has_every_melody():
    config = CONFIG.replace(num_minibatches=5, batch_size=4)  # of 8 melodies: two passes and a half
    rows = np.arange(8)
    whole = projection.Weighted(rows[:, None], rows[:, None] + 100, 1.0 * rows)
    batches = jax.jit(lambda key, x: projection.minibatches(key, x, config))(jax.random.key(0), whole)
    assert batches.weight.shape == (5, 4)
    np.testing.assert_array_equal(batches.previous_token[..., 0], batches.weight)
    np.testing.assert_array_equal(batches.action[..., 0], np.asarray(batches.weight) + 100)
    first, second, rest = np.split(np.asarray(batches.weight).ravel(), [8, 16])
    assert set(first) == set(second) == set(range(8))
    assert len(set(rest)) == 4
    assert (first != second).any()


@jax.jit
def loss(params, batch):
    return jax.value_and_grad(projection.loss)(params, Table, batch)


def test_the_loss_by_the_definition():
    played, params = play(CONFIG), weights(Table, 3)
    weight, previous = np.arange(6, dtype=np.float32), played.observation.token
    nats = -pick(log_softmax(read(Table, params, previous)), played.action)
    found = loss(params, projection.Weighted(previous.T, played.action.T, weight))[0]
    assert found == pytest.approx((nats * weight).mean(), rel=1e-5)


def test_learning_ends_at_the_exact_policy():
    """pi*(m) is (p(m) exp(r(m) / c)) ** (1 / t) over its sum, whatever policy played."""
    (prior, reward), (previous, action, places) = small_world(), all_melodies()
    rewards = projection.Rewards(reward[places], prior[places], {})
    played = Trajectory(MelodyState(time=None, token=previous), action, None, rewards)
    target = ((prior + 1.5 * reward)[places] / 0.7).sum(axis=0)
    exact = special.softmax(target)
    own = np.asarray(weights(Table, 3)["logits"], np.float64)
    config = CONFIG.replace(ess_fraction=0.0)

    @jax.jit
    def weigh(logits):
        params = {"logits": logits, "value": logits[..., 0]}
        return projection.weigh(params, played, jnp.zeros(SIZE**2), config, Table).weight

    probability = np.exp(log_softmax(own)[places].sum(axis=0))
    share = np.asarray(weigh(own.astype("f")), float) * probability
    np.testing.assert_allclose(share / share.sum(), exact, rtol=1e-3)
    # of melodies that are played so often, likelihood is greatest at pi*, note by note
    best = own.copy()
    best[0, SIZE] = special.logsumexp(target.reshape(SIZE, SIZE), axis=1)
    best[1, :SIZE] = target.reshape(SIZE, SIZE)
    batch = projection.Weighted(previous.T, action.T, (share * SIZE**2 / share.sum()).astype("f"))
    for logits, least in ((best, 0.0), (own, 1e-3)):
        _, gradient = loss({"logits": logits.astype("f"), "value": np.zeros(logits.shape[:2], "f")}, batch)
        moves = np.abs(gradient["logits"]).max()
        assert moves > least if least else moves < 1e-6


# A step


def test_a_step_reports_what_it_played():
    state = begin()
    after, metrics = step(state, CONFIG)
    settled, key = CONFIG.replace(copy_prob=0.0), jax.random.split(state.key, 3)[1]
    played = _play(state.params, state.prior, settled, key, Table, PIECE.length, tuple(RULES.items()))
    expected = {
        "theory": played.reward.theory.mean(),
        "log_prior": played.reward.log_prior.mean(),
        "entropy": -played.log_prob.mean(),
        **{name: reward.mean() for name, reward in played.reward.rules.items()},
    }
    assert metrics.keys() == {*expected, "loss"}
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    # the rules' own rewards are not weighted
    assert metrics["theory"] == pytest.approx(float(metrics["opening_c"] + 3 * metrics["high"]), abs=1e-5)
    # it begins as the prior, which stays as it was
    np.testing.assert_allclose(played.log_prob, played.reward.log_prior, atol=1e-6)
    assert_same((state.params, state.average, after.prior), (weights(Table),) * 3)
    assert differ(after.params, state.params) and differ(after.average, state.average)
    assert int(after.update) == 1 and differ(after.key, state.key)


def test_learning_finds_higher_notes():
    config, means = CONFIG.replace(reward_scale=8.0, temperature=1.0, tau=0.1), {}
    for rate in (0.0, 0.05):
        state, heard = begin(), []
        for _ in range(120):
            state, metrics = step(state, config.replace(learning_rate=rate))
            heard.append(float(metrics["high"]))
        means[rate] = np.mean(heard[-20:])
    assert means[0.05] > means[0.0] + 0.1


def test_configs_side_by_side_learn_as_each_alone():
    """Two settings of all that is not static, and two seeds."""
    config = CONFIG.replace(warmup_steps=2, warmup_rule_weights={"high": 2.0}, copy_prob=0.5)
    other = config.replace(
        reward_scale=0.8,
        temperature=0.9,
        rule_weights={"high": 1.0},
        warmup_rule_weights={"high": 1.0},
        ess_fraction=0.4,
        copy_prob=0.2,
        learning_rate=3e-3,
        lr_decay_steps=1,
        max_grad_norm_per_array=1.0,
        tau=0.05,
    )
    both = jax.tree.map(lambda *x: np.stack(x), config, other)
    keys = jax.random.split(jax.random.key(0), 2)
    start = lambda key, config: projection.init(key, config, weights(Table))
    learn = lambda key, config: projection.step(start(key, config), config, Table, PIECE, RULES)[0]
    swept = jax.jit(jax.vmap(jax.vmap(learn, in_axes=(None, 0)), in_axes=(0, None)))(keys, both)
    alone = jax.jit(learn)
    for seed, place in np.ndindex(2, 2):
        single = alone(keys[seed], jax.tree.map(lambda x, at=place: x[at], both))
        assert_close(jax.tree.map(lambda x, at=(seed, place): x[at], swept), single, rtol=1e-4, atol=1e-5)
    logits = np.asarray(swept.params["logits"])
    assert np.abs(logits[0, 0] - logits[0, 1]).max() > 1e-4
    assert np.abs(logits[0, 0] - logits[1, 0]).max() > 1e-4


# Rules with a target


def test_weights_end_where_the_optimal_policy_reaches_the_targets():
    """Of two notes, which are likely by 10 and 30 %, a share of 25 and 20 % is asked for: in closed form."""
    prior, asked = np.array([0.1, 0.3]), np.array([0.25, 0.2])
    config = CONFIG.replace(rule_targets={"a": 0.25, "b": -0.2}, target_rate=0.1)

    def approach(weights, _):
        tilted = jnp.append(prior * jnp.exp(jnp.array([weights["a"], -weights["b"]])), 0.6)
        share = tilted / tilted.sum()
        rewards = {"a": share[0], "b": -share[1]}
        return projection.adapted(weights, rewards, config), share

    start = {"a": jnp.float32(0.2), "b": jnp.float32(3.0)}
    found, share = jax.lax.scan(approach, start, length=500)
    np.testing.assert_allclose(share[-1, :2], asked, rtol=1e-3)
    exact = np.log(asked / prior / (1 - asked.sum()) * 0.6) * [1, -1]
    np.testing.assert_allclose([found["a"], found["b"]], exact, rtol=0.02)


def test_a_weight_grows_while_its_rule_gives_too_little_and_is_used_by_the_next_update():
    config = CONFIG.replace(rule_targets={"opening_c": 0.4, "high": -2.0}, target_rate=0.1)
    start = projection.init(jax.random.key(0), config, weights(Table))
    assert {name: float(x) for name, x in start.rule_weights.items()} == {"opening_c": 1.0, "high": 3.0}
    learn = jax.jit(lambda state: projection.step(state, config, Table, PIECE, RULES))
    after, metrics = learn(start)
    missing = (0.4 - metrics["opening_c"]) / 0.4
    assert after.rule_weights["opening_c"] == pytest.approx(np.exp(0.1 * float(missing)), rel=1e-5)
    assert after.rule_weights["high"] == pytest.approx(3 * np.exp(-0.1), rel=1e-5)  # no more in one update
    _, metrics = learn(after)
    total = sum(float(after.rule_weights[name] * metrics[name]) for name in RULES)
    assert metrics["theory"] == pytest.approx(total, abs=1e-5)


def test_melodies_of_32_steps_need_the_tonic_at_both_ends_to_reach_its_target():
    piece = theory.Config(labels="corrected")
    melodies = np.full((2, piece.length), 30)
    melodies[:, -4:] = piece.tonic, piece.hold, piece.off, piece.hold
    melodies[1, 0] = piece.tonic
    ending, both = theory.score(melodies, piece)["tonic"].mean(axis=1)
    assert (ending, both) == pytest.approx((12 / 32, 15 / 32))
    assert ending + 0.05 < projection.SHORT.rule_targets["tonic"] < both


def test_a_target_of_no_rule_is_refused():
    config = CONFIG.replace(rule_targets={"tonic": 0.4})
    state = projection.init(jax.random.key(0), config, weights(Table))
    with pytest.raises(ValueError, match=r"\['tonic'\] belong to no rule"):
        projection.step(state, config, Table, PIECE, RULES)


# Warm-up


@pytest.mark.parametrize(("update", "copied"), [(2, True), (3, False)])
def test_bars_are_copied_during_the_warm_up(update, copied):
    config = CONFIG.replace(copy_prob=1.0, warmup_steps=3)
    _, metrics = step(begin().replace(update=jnp.int32(update)), config)
    # only the first note of each melody was not copied
    assert (float(metrics["entropy"]) < 2 * np.log(SIZE) / PIECE.length) == copied


def test_warm_up_weights_hold_during_the_warm_up():
    early = {"key": 0.5, "motif": 0.0}
    config = CONFIG.replace(rule_weights={"key": 2.0}, warmup_rule_weights=early, warmup_steps=3)
    young, grown = (projection.at_update(config, jnp.int32(update)).rule_weights for update in (2, 3))
    assert {k: float(v) for k, v in young.items()} == early
    assert {k: float(v) for k, v in grown.items()} == {"key": 2.0, "motif": 1.0}


@pytest.mark.parametrize("learner", [projection, tuner], ids=lambda learner: learner.__name__.split(".")[-1])
def test_the_learning_rate_falls_to_zero_in_the_later_half(learner):
    config = learner.Config(
        lr_decay_steps=10, num_minibatches=2, learning_rate=0.1, max_grad_norm_per_array=1e9
    )
    ones, optimiser = {"x": np.ones((1, 1), "f")}, learner.optimiser(config)

    def update(state, _):
        updates, state = optimiser.update(ones, state, ones)
        return state, -updates["x"][0, 0]

    rates = np.asarray(jax.jit(lambda: jax.lax.scan(update, optimiser.init(ones), length=22)[1])())
    np.testing.assert_allclose(rates[:11], 0.1, rtol=1e-4)  # Adam's step of a constant gradient is its rate
    np.testing.assert_allclose(rates[15], 0.05, rtol=1e-4)
    np.testing.assert_allclose(rates[20:], 0.0, atol=1e-6)
