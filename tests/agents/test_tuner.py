"""The tuner: what it plays, remembers and learns, on melodies of few notes and rules of our own."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from mammadai_jax.agents import tuner
from mammadai_jax.agents.tuner import losses
from mammadai_jax.environments import Theory
from mammadai_jax.music import theory
from mammadai_jax.networks.composer import Composer, Output
from mammadai_jax.networks.note_rnn import NoteRNN
from mammadai_jax.objectives import soft_backups
from tests.agents.theory_world import (
    LENGTH,
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
    raw,
    read,
    small_world,
    weights,
)

NOTE_RNN = NoteRNN(SIZE, 16)
COMPOSER = Composer(SIZE, width=16, lookback=(1,))
BOTH = pytest.mark.parametrize("network", [NOTE_RNN, COMPOSER], ids=["note_rnn", "composer"])
SMALL = tuner.Config(
    algorithm="g",
    num_envs=6,
    num_minibatches=2,
    batch_size=8,
    buffer_size=64,
    reward_scale=1.5,
    temperature=0.7,
    gamma=0.8,
    rule_weights={"high": 3.0},
)
TRANSITIONS = SMALL.replace(
    learns_from="transitions",
    exploration="epsilon",
    epsilon=0.2,
    epsilon_decay=0,
    num_minibatches=1,
)
MODES = pytest.mark.parametrize("config", [SMALL, TRANSITIONS], ids=["melodies", "transitions"])


@functools.partial(jax.jit, static_argnames=("network", "length", "rules", "steps"))
def _play(params, prior, config, key, epsilon, network, length, rules, steps):
    env = Theory(theory.Config(length=length), config.rule_weights, dict(rules))
    return tuner.play(params, prior, config, network, env, key, epsilon=epsilon, num_steps=steps)


def play(config, network, epsilon=0.0, length=PIECE.length, rules=RULES, steps=None):
    """Melodies by one network's opinion and another's prior."""
    rules, key = tuple(rules.items()), jax.random.key(0)
    played = _play(
        weights(network, 1), weights(network, 2), config, key, epsilon, network, length, rules, steps
    )
    return jax.tree.map(np.asarray, played)


def replay(state, config, epsilon=0.0, steps=None):
    """The melodies that the next step will play."""
    key, rules = jax.random.split(state.key, 3)[1], tuple(RULES.items())
    network = network_of(config)
    played = _play(state.params, state.prior, config, key, epsilon, network, PIECE.length, rules, steps)
    return jax.tree.map(np.asarray, played)


def network_of(config):
    """The network that steps are tested with: one that remembers, where that is stored."""
    return NOTE_RNN if config.learns_from == "transitions" else Table


@functools.partial(jax.jit, static_argnames="network")
def _begin(key, prior, config, network):
    return tuner.init(key, config, network, prior, PIECE, RULES)


def begin(config):
    network = network_of(config)
    return _begin(jax.random.key(0), weights(network), config, network)


# compiled once for all tests of the same static fields
step = jax.jit(lambda state, config: tuner.step(state, config, network_of(config), PIECE, RULES))


# What is played


@BOTH
@pytest.mark.parametrize("exploration", ["sampling", "epsilon"])
def test_recorded_log_probabilities_are_those_of_the_policy(network, exploration):
    config = SMALL.replace(exploration=exploration, num_envs=16, rule_weights={})
    played = play(config, network, epsilon=0.3, length=20, rules={})  # longer than the composer's lookback
    log_prior = log_softmax(read(network, weights(network, 2), played.previous_token))
    np.testing.assert_allclose(played.log_prior, log_prior, atol=1e-5)
    log_policy = log_softmax(read(network, weights(network, 1), played.previous_token))
    if exploration == "epsilon":
        best = log_policy.argmax(axis=-1)[..., None] == np.arange(SIZE)
        log_policy = np.log(0.7 * best + 0.3 / SIZE)
        assert 0.5 < best[np.arange(20)[:, None], np.arange(16), played.action].mean() < 0.9
    np.testing.assert_allclose(played.log_prob, pick(log_policy, played.action), atol=1e-5)
    np.testing.assert_array_equal(played.previous_token[0], network.start)
    np.testing.assert_array_equal(played.previous_token[1:], played.action[:-1])
    assert played.action.dtype == jnp.int32


@pytest.mark.parametrize("algorithm", ["psi", "g"])
def test_with_transitions_logits_are_the_action_values(algorithm):
    config = TRANSITIONS.replace(algorithm=algorithm, exploration="sampling")
    played = play(config, Table)
    values = read(Table, weights(Table, 1), played.previous_token)
    logits = (values + played.log_prior if algorithm == "g" else values) / config.temperature
    np.testing.assert_allclose(played.log_prob, pick(log_softmax(logits), played.action), atol=1e-5)


def test_with_melodies_the_logits_are_the_policy(random):
    logits, log_prior = log_softmax(random.normal(size=(2, 5, SIZE)))
    level = random.normal(size=5)

    @jax.jit
    def says(logits, level, log_prior):
        """Each algorithm's policy, and what it expects."""
        found = {}
        for algorithm in ("q", "psi", "g", "pure_rl"):
            config = SMALL.replace(algorithm=algorithm)
            values = tuner.rollout.action_values(Output(logits, level), log_prior, config)
            kind = values, log_prior, algorithm, config.temperature
            found[algorithm] = (
                jax.nn.log_softmax(soft_backups.preferences(*kind)),
                soft_backups.state_value(*kind),
            )
        return found

    for algorithm, (policy, value) in says(logits, level, log_prior).items():
        np.testing.assert_allclose(policy, logits, atol=1e-5)
        if algorithm in ("psi", "g"):
            np.testing.assert_allclose(value, level, atol=1e-5)


def test_the_policy_begins_as_the_prior():
    state = begin(SMALL)
    played = replay(state, SMALL)
    np.testing.assert_allclose(played.log_prob, pick(played.log_prior, played.action), atol=1e-5)
    assert_same((state.params, state.target), (state.prior, weights(Table)))


def test_rewards_are_those_of_the_theory():
    weighed = {"key": 2.0, "motif": 0.0, "preferred_intervals": -1.5}
    played = play(SMALL.replace(rule_weights=weighed), Table, length=12, rules=theory.RULES)
    scored = jax.tree.map(np.asarray, theory.score(played.action.T))
    assert played.rules.keys() == scored.keys()
    for name, reward in scored.items():
        np.testing.assert_allclose(played.rules[name], reward.T, atol=1e-5, err_msg=name)
    total = sum(weighed.get(name, 1.0) * reward.T for name, reward in scored.items())
    np.testing.assert_allclose(played.theory, total, atol=1e-4)
    assert np.abs(played.theory - sum(played.rules.values())).max() > 0.5


def test_a_weight_of_no_rule_is_refused():
    with pytest.raises(ValueError, match=r"\['tonic'\] belong to no rule"):
        play(SMALL.replace(rule_weights={"tonic": 2.0}), Table)


def test_any_primer_but_the_last():
    config = SMALL.replace(random_primer=True, num_envs=4000, rule_weights={})
    played = play(config, Table, length=1, rules={})
    counts = np.bincount(played.previous_token[0], minlength=SIZE)
    assert counts[-1] == 0
    assert counts[:-1].min() > 50
    assert played.previous_token.shape == (1, 4000)


# What is remembered


@BOTH
def test_transitions_are_the_notes_and_what_was_known(network):
    config = TRANSITIONS.replace(drifting_prior=True)
    steps, batch = PIECE.length, config.num_envs
    played = play(config, network, steps=steps + 1)
    item, plain = jax.jit(lambda x: (losses.items(x, config), losses.items(x, TRANSITIONS)))(played)
    place = np.arange(steps * batch)
    time, column = place // batch, place % batch
    np.testing.assert_array_equal(item.time, time)
    for name in ("previous_token", "action", "theory"):
        np.testing.assert_array_equal(getattr(item, name), getattr(played, name)[time, column])
    expected = pick(played.log_prior, played.action)[time, column]
    np.testing.assert_allclose(item.log_prior, expected, atol=1e-6)
    np.testing.assert_array_equal(item.log_prior_after, played.log_prior[time + 1, column])
    kept = [(item.carry, played.carry, time), (item.after, played.carry, time + 1)]
    kept.append((item.prior_after, played.prior_carry, time + 1))
    for found, carry, when in kept:
        jax.tree.map(lambda a, b, t=when: np.testing.assert_array_equal(a, b[t, column]), found, carry)
    # only a prior that drifts needs what the prior remembered
    assert plain.prior_after is None
    assert_same(plain, item._replace(prior_after=None))


@BOTH
def test_stored_carries_know_what_whole_melodies_do(network):
    config = TRANSITIONS.replace(drifting_prior=True)
    played = play(config, network, steps=PIECE.length + 1)
    item = jax.jit(lambda x: losses.items(x, config))(played)
    whole = read(network, weights(network, 1), played.previous_token)
    step = jax.jit(lambda params, *now: network.apply(params, *now, method="step")[0].logits)
    now = step(weights(network, 1), item.carry, item.previous_token, item.time)
    after = step(weights(network, 1), item.after, item.action, item.time + 1)
    np.testing.assert_allclose(now, whole[:-1].reshape(-1, SIZE), atol=1e-5)
    np.testing.assert_allclose(after, whole[1:].reshape(-1, SIZE), atol=1e-5)
    opinion = step(weights(network, 2), item.prior_after, item.action, item.time + 1)
    np.testing.assert_allclose(log_softmax(opinion), item.log_prior_after, atol=1e-5)


def test_melodies_are_kept_whole():
    played = play(SMALL, Table)
    item = jax.jit(lambda x: losses.items(x, SMALL))(played)
    for name, rows in item._asdict().items():
        np.testing.assert_array_equal(rows, getattr(played, name).swapaxes(0, 1))
    assert item.action.shape == (SMALL.num_envs, PIECE.length)


def test_replay_holds_the_newest():
    buffer = tuner.buffer(SMALL.replace(buffer_size=10, batch_size=10))
    draw = jax.jit(jax.vmap(buffer.sample, in_axes=(None, 0)))
    keys = jax.random.split(jax.random.key(0), 20)
    add, found = jax.jit(buffer.add), lambda state: set(np.unique(draw(state, keys).experience))
    state = add(jax.jit(buffer.init)(jnp.int32(0)), np.arange(1, 7))
    assert found(state) == set(range(1, 7))
    state = add(state, np.arange(7, 13))
    assert found(state) == set(range(3, 13))


@pytest.mark.parametrize("config", [SMALL, TRANSITIONS], ids=["melodies", "transitions"])
def test_replay_must_hold_an_update(config):
    count = 24 if config is TRANSITIONS else 6
    message = f"buffer_size of {count - 1} {config.learns_from} is less than the {count} that an update plays"
    prior, network = weights(network_of(config)), network_of(config)
    init = lambda config: jax.eval_shape(lambda key: _begin(key, prior, config, network), jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        init(config.replace(buffer_size=count - 1, batch_size=1))
    with pytest.raises(ValueError, match="or a batch_size of 65"):
        init(config.replace(batch_size=65))
    kept = init(config.replace(buffer_size=count, batch_size=count)).replay
    assert kept.experience.action.shape[:2] == (1, count)


# What is learned from


def expected_value(config, judged, log_prior, chooser):
    """As objectives/soft_backups.py has it, of one state after the other (A,), written out."""
    logits = lambda x: (x + log_prior if config.algorithm == "g" else x) / config.temperature
    if config.algorithm in ("q", "pure_rl"):
        return judged[chooser.argmax()]
    policy = np.exp(logits(chooser)) / np.exp(logits(chooser)).sum()
    return config.temperature * (policy * (logits(judged) - np.log(policy))).sum()


def gradient_towards(params, played, aim):
    """Of the mean squared distance of a table's values (T, B) to what is held fixed."""
    expected, places = np.zeros_like(params["logits"]), np.arange(len(aim))[:, None]
    error = pick(read(Table, params, played.previous_token)[: len(aim)], played.action[: len(aim)]) - aim
    np.add.at(
        expected, (places, played.previous_token[: len(aim)], played.action[: len(aim)]), 2 * error / aim.size
    )
    return (error**2).mean(), {"logits": expected, "value": np.zeros_like(params["value"])}


@functools.partial(jax.jit, static_argnames=("loss", "network"))
def _loss(learned, target, config, batch, loss, network):
    return jax.value_and_grad(loss)(learned, target, config, network, batch)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("algorithm", ["q", "g"])
def test_transition_loss_by_the_definition(algorithm, double):
    """The last note's target expects something beyond it, like all others."""
    config = TRANSITIONS.replace(algorithm=algorithm, double_q=double)
    played = play(TRANSITIONS, Table, steps=PIECE.length + 1)
    params, target = weights(Table, 3, 1.0), weights(Table, 4, 1.0)
    values, judged = (read(Table, p, played.previous_token) for p in (params, target))
    leash = pick(played.log_prior, played.action) if algorithm == "q" else np.zeros(played.action.shape)
    aim = np.zeros((PIECE.length, config.num_envs))
    for t, column in np.ndindex(*aim.shape):
        rows = judged[t + 1, column], played.log_prior[t + 1, column]
        after = expected_value(config, *rows, (values if double else judged)[t + 1, column])
        aim[t, column] = 1.5 * played.theory[t, column] + leash[t, column] + 0.8 * after
    batch = losses.items(played, TRANSITIONS)
    found = _loss({"network": params}, target, config, batch, losses.transition_loss, Table)
    expected, direction = gradient_towards(params, played, aim)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)
    assert_close(found[1]["network"], direction, rtol=1e-3, atol=1e-5)


def test_transitions_are_judged_by_what_was_remembered():
    """Of a network that remembers: what the target network remembers was stored by the other."""
    config = TRANSITIONS.replace(double_q=True, drifting_prior=True)
    played = play(config, NOTE_RNN, steps=PIECE.length + 1)
    prior, params, target = (weights(NOTE_RNN, seed) for seed in (2, 1, 3))
    batch = losses.items(played, config)
    learned, loss = {"network": params, "prior": prior}, losses.transition_loss
    error, gradient = _loss(learned, target, config, batch, loss, NOTE_RNN)
    values = read(NOTE_RNN, params, played.previous_token)
    next_step = batch.after, batch.action, batch.time + 1
    judged = jax.jit(lambda p: NOTE_RNN.apply(p, *next_step, method="step")[0].logits)(target)
    judged = np.asarray(judged).reshape(PIECE.length, -1, SIZE)
    squares = []
    for t, column in np.ndindex(PIECE.length, config.num_envs):
        rows = judged[t, column], played.log_prior[t + 1, column], values[t + 1, column]
        aim = 1.5 * played.theory[t, column] + 0.8 * expected_value(config, *rows)
        squares.append((values[t, column, played.action[t, column]] - aim) ** 2)
    np.testing.assert_allclose(error, np.mean(squares), rtol=1e-4)
    assert max(np.abs(x).max() for x in jax.tree.leaves(gradient["prior"])) > 1e-3


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("algorithm", ["q", "psi"])
def test_melody_loss_by_the_definition(algorithm, double):
    """Nothing is expected after the last note, and the returns are held fixed."""
    config = SMALL.replace(algorithm=algorithm, double_q=double, td_lambda=0.6)
    played = play(SMALL, Table)
    params, target = weights(Table, 3, 1.0), weights(Table, 4, 1.0)
    places = np.arange(PIECE.length)[:, None], played.previous_token
    values_of = lambda p: p["value"][places][..., None] + 0.7 * jax.nn.log_softmax(p["logits"][places])
    values, judged = (np.asarray(values_of(p)) for p in (params, target))
    log_policy = pick(log_softmax(values / config.temperature), played.action)
    trace = 0.6 * np.minimum(1, np.exp(log_policy - played.log_prob))
    reward = 1.5 * played.theory + pick(played.log_prior, played.action)
    taken, aim = pick(judged, played.action), np.zeros(played.action.shape)
    for column in range(config.num_envs):
        aim[-1, column] = reward[-1, column]
        for t in reversed(range(PIECE.length - 1)):
            rows = judged[t + 1, column], played.log_prior[t + 1, column]
            value = expected_value(config, *rows, (values if double else judged)[t + 1, column])
            correction = trace[t + 1, column] * (aim[t + 1, column] - taken[t + 1, column])
            aim[t, column] = reward[t, column] + 0.8 * (value + correction)
    batch = losses.items(played, config)
    found = _loss({"network": params}, target, config, batch, losses.melody_loss, Table)

    @jax.jit
    @jax.value_and_grad
    def squares(params):
        taken = jnp.take_along_axis(values_of(params), played.action[..., None], axis=-1)[..., 0]
        return jnp.square(taken - aim.astype("f")).mean()

    expected, direction = squares(params)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)
    assert_close(found[1]["network"], direction, rtol=1e-3, atol=1e-5)


def test_pick_takes_the_entries_of_notes(transform, random):
    rows, action = random.normal(size=(3, 5, 7)), random.integers(0, 7, (3, 5))
    np.testing.assert_allclose(transform(losses.pick)(rows, action), pick(rows, action), rtol=1e-6)


# What is learned in the end, of all melodies of two notes


def exact_values(config, beyond):
    """Optimal action values (time, last token, note), from those beyond the last note backwards."""
    prior, theory_reward = small_world()
    values = np.broadcast_to(beyond, prior.shape).copy()
    for t in reversed(range(LENGTH)):
        after = values[t + 1] + prior[t + 1] if config.algorithm == "g" else values[t + 1]
        if config.algorithm in ("q", "pure_rl"):
            after = after.max(axis=-1)
        else:
            after = config.temperature * special.logsumexp(after / config.temperature, axis=-1)
        if config.learns_from == "melodies" and t == LENGTH - 1:
            after = np.zeros(SIZE + 1)
        leash = prior[t] if config.algorithm in ("q", "psi") else 0.0
        values[t] = leash + config.reward_scale * theory_reward[t] + config.gamma * after[:SIZE]
    return values


def as_table(config, values):
    """The parameters of a table that says these action values."""
    if config.learns_from == "transitions":
        return {"logits": values, "value": np.zeros(values.shape[:2])}
    prior, _ = small_world()
    logits = (values + prior if config.algorithm == "g" else values) / config.temperature
    return {"logits": logits, "value": config.temperature * special.logsumexp(logits, axis=-1)}


def all_items(config):
    """What is kept of all melodies of two notes, played at random."""
    (prior, reward), (previous_token, action, places) = small_world(), all_melodies()
    log_prob = np.full(action.shape, -np.log(SIZE))
    played = tuner.Played(previous_token, action, reward[places], prior[places[:2]], log_prob, (), (), {})
    if config.learns_from == "melodies":
        return losses.items(played, config)
    item = losses.Transition(
        previous_token=played.previous_token,
        time=np.broadcast_to(places[0], played.previous_token.shape),
        action=played.action,
        theory=played.theory,
        log_prior=prior[places],
        log_prior_after=np.stack([prior[t + 1][played.action[t]] for t in range(LENGTH)]),
        carry=(),
        after=(),
        prior_after=None,
    )
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), item)


@pytest.mark.parametrize("config", [SMALL, TRANSITIONS], ids=["melodies", "transitions"])
@pytest.mark.parametrize("algorithm", ["q", "psi", "g", "pure_rl"])
def test_exact_values_are_where_learning_ends(random, config, algorithm):
    """There no note errs and nothing moves, whoever played; with any other setting something does."""
    config = config.replace(algorithm=algorithm, td_lambda=0.6)
    beyond = random.normal(size=SIZE)
    table = as_table(config, exact_values(config, beyond))
    floats = lambda tree: jax.tree.map(lambda x: x.astype("f") if x.dtype == float else x, tree)
    table, batch = floats((table, all_items(config)))
    function = losses.melody_loss if config.learns_from == "melodies" else losses.transition_loss
    loss = lambda config, table: _loss({"network": table}, table, config, batch, function, Table)
    error, gradient = loss(config, table)
    assert error < 1e-9
    largest = lambda tree: max(np.abs(x).max() for x in jax.tree.leaves(tree))
    assert largest(gradient) < 1e-6
    others = {"reward_scale": 1.6, "gamma": 0.7}
    if algorithm in ("psi", "g"):
        others["temperature"] = 0.8
    for name, other in others.items():
        assert loss(config.replace(**{name: other}), table)[0] > 1e-3, name
    moved = {**table, "logits": table["logits"] + np.float32(0.1) * (np.arange(SIZE) == 5)}
    error, gradient = loss(config, moved)
    assert error > 1e-5
    assert largest(gradient) > 1e-5


# A step


@MODES
def test_a_step_reports_what_it_played(config):
    state = begin(config)
    after, metrics = step(state, config)
    played = replay(state, config, epsilon=0.2, steps=PIECE.length + (config is TRANSITIONS))
    played = jax.tree.map(lambda x: x[: PIECE.length], played)
    expected = {
        "theory": played.theory.mean(),
        "log_prior": pick(played.log_prior, played.action).mean(),
        "entropy": -played.log_prob.mean(),
        **{name: reward.mean() for name, reward in played.rules.items()},
    }
    assert metrics.keys() == {*expected, "loss"}
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    # the rules' own rewards bear no weight
    assert metrics["theory"] == pytest.approx(float(metrics["opening_c"] + 3 * metrics["high"]), abs=1e-5)
    assert (int(after.notes), int(after.update)) == (24, 1)
    assert differ(after.params, state.params)
    assert differ(after.key, state.key)


@pytest.mark.parametrize(
    ("notes", "exploring", "epsilon"), [(0, 1000, 1.0), (250, 1000, 0.8), (1000, 1000, 0.2), (0, 0, 0.2)]
)
def test_exploration_falls_and_stays(notes, exploring, epsilon):
    config = TRANSITIONS.replace(epsilon=0.2, epsilon_decay=exploring)
    for played in (notes, 5 * notes):
        state = begin(config).replace(notes=jnp.int32(played))
        expected = replay(state, config, epsilon if played == notes else 0.2, PIECE.length + 1)
        _, metrics = step(state, config)
        np.testing.assert_allclose(metrics["entropy"], -expected.log_prob[:-1].mean(), rtol=1e-5)
        assert np.isfinite(metrics["loss"])


def test_the_target_follows():
    state = begin(TRANSITIONS)  # one minibatch a step
    for follow in (0.0, 0.25, 1.0):
        after, _ = step(state, TRANSITIONS.replace(tau=follow))
        mixed = jax.tree.map(lambda t, p, f=follow: (1 - f) * t + f * p, raw(state.target), raw(after.params))
        assert_close(after.target, mixed, rtol=0)
        assert differ(after.params, state.params)


def test_gradients_are_clipped_array_by_array():
    config = SMALL.replace(max_grad_norm_per_array=5.0)
    gradient = {"long": np.full((4, 25), 3.0, "f"), "short": np.full(4, 0.5, "f")}  # of norm 30 and 1
    optimiser = tuner.optimiser(config)
    _, state = jax.jit(lambda gradient: optimiser.update(gradient, optimiser.init(gradient)))(gradient)
    moment = next(part.mu for part in jax.tree.leaves(state, is_leaf=lambda x: hasattr(x, "mu"))[:1])
    np.testing.assert_allclose(moment["long"], 0.1 * 0.5, rtol=1e-5)  # Adam keeps a tenth
    np.testing.assert_allclose(moment["short"], 0.1 * 0.5, rtol=1e-5)


@MODES
def test_a_frozen_prior_stays_as_it_was(config):
    state = begin(config)
    after = step(step(state, config)[0], config)[0]
    assert_same(after.prior, state.prior)
    assert differ(after.params, state.params)


def test_a_drifting_prior_moves():
    config = TRANSITIONS.replace(drifting_prior=True)
    state = begin(config)
    after, _ = step(state, config)
    for name in ("prior", "params", "target"):
        assert differ(getattr(after, name), getattr(state, name)), name


def test_the_published_program_stays_as_it_was():
    published = {
        "algorithm": "q",
        "learns_from": "transitions",
        "exploration": "epsilon",
        "double_q": False,
        "drifting_prior": False,
        "batch_size": 32,
        "buffer_size": 100_000,
        "reward_scale": 2.0,
        "temperature": 1.0,
        "gamma": 0.5,
        "epsilon": 0.1,
        "epsilon_decay": 500_000,
        "learning_rate": 1e-3,
        "max_grad_norm_per_array": 5.0,
        "tau": 0.01,
    }
    assert {name: getattr(tuner.PAPER, name) for name in published} == published
    assert tuner.PAPER.num_envs * 32 == 5 * tuner.PAPER.num_minibatches  # notes


# Learning


@MODES
def test_learning_finds_higher_notes(config):
    """By the program of the other tests: what is asked for is played, and only if anything is learned."""
    config, found = config.replace(reward_scale=8.0, temperature=1.0, tau=0.1, epsilon=0.1), {}
    for rate in (0.0, 0.05):
        state, heard = begin(config), []
        for _ in range(120):
            state, metrics = step(state, config.replace(learning_rate=rate))
            heard.append(float(metrics["high"]))
        found[rate] = np.mean(heard[-20:])
    assert found[0.05] > found[0.0] + 0.1


# What surrounds it


@pytest.mark.parametrize(
    ("config", "network"), [(SMALL, Table), (TRANSITIONS, COMPOSER)], ids=["melodies", "transitions"]
)
def test_the_replay_buffer_is_never_copied(config, network):
    capacity = 7919  # found nowhere else
    config = config.replace(buffer_size=capacity)
    advance = lambda state, _: tuner.step(state, config, network, PIECE, RULES)
    chunk = jax.jit(lambda state: jax.lax.scan(advance, state, length=3), donate_argnums=0)
    init = lambda: tuner.init(jax.random.key(0), config, network, weights(network), PIECE, RULES)
    program = chunk.lower(jax.eval_shape(init)).compile().as_text()
    kept = rf"\w+\[[^\]]*\b{capacity}\b[^\]]*\]\S*"  # as in "%name = f32[1,7919,4]{2,1,0} copy(%other)"
    assert re.search(rf"= {kept} parameter\(", program)
    assert not re.findall(rf"= \(?{kept} copy\S*\(", program)
