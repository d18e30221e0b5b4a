"""The tuner: what it plays, remembers and learns, on melodies of few notes and rules of our own."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import tuner
from mammadai_jax.agents.tuner import backup, learning, projection
from mammadai_jax.music import theory
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.note_rnn import NoteRNN
from mammadai_jax.training.checkpoints import Checkpoints

SIZE = theory.melody.SIZE
NOTE_RNN = NoteRNN(SIZE, 16)
COMPOSER = Composer(SIZE, width=16, lookback=(1,))
BOTH = pytest.mark.parametrize("network", [NOTE_RNN, COMPOSER], ids=["note_rnn", "composer"])
PIECE = theory.Config(length=4)
SMALL = tuner.Config(
    algorithm="g",
    melodies=6,
    minibatches=2,
    batch=8,
    capacity=64,
    scale=1.5,
    temperature=0.7,
    discount=0.8,
    weights={"high": 3.0},
)
TRANSITIONS = SMALL.replace(learns_from="transitions", value_head=False)
GREEDY = SMALL.replace(exploration="epsilon", minibatches=1)
WHOLES = SMALL.replace(algorithm="psi", learns_from="wholes")
MODES = pytest.mark.parametrize(
    "config", [SMALL, TRANSITIONS, WHOLES], ids=["melodies", "transitions", "wholes"]
)


def opening_c(state, action, config):
    """1 for middle C as the first note."""
    del config
    return 1.0 * ((state.time == 0) & (action == theory.melody.TONIC))


def high(state, action, config):
    """More for a higher token, and less the later."""
    del config
    return action / SIZE - 0.1 * state.time


RULES = {"opening_c": opening_c, "high": high}


@functools.cache
def weights(network, seed=0, spread=0.3):
    """Parameters that have an opinion: heads begin near zero."""
    rows = jnp.zeros((1, 1), jnp.int32)
    key, key_spread = jax.random.split(jax.random.key(seed))
    params = jax.jit(network.init)(key, rows, rows)
    return jax.tree.map(lambda x: x + spread * jax.random.normal(key_spread, x.shape), params)


@functools.partial(jax.jit, static_argnames=("network", "length", "rules", "steps"))
def _play(params, prior, config, key, epsilon, network, length, rules, steps):
    piece = theory.Config(length=length)
    return tuner.play(params, prior, config, network, piece, key, epsilon, dict(rules), steps)


def play(config, network, epsilon=0.0, length=PIECE.length, rules=RULES, steps=None):
    """Melodies by one network's opinion and another's prior."""
    rules, key = tuple(rules.items()), jax.random.key(0)
    return _play(
        weights(network, 1), weights(network, 2), config, key, epsilon, network, length, rules, steps
    )


def replay(state, config, epsilon=0.0, steps=None):
    """The melodies that the next step of the Note RNN will play."""
    key, rules = jax.random.split(state.key, 3)[1], tuple(RULES.items())
    return _play(state.params, state.prior, config, key, epsilon, NOTE_RNN, PIECE.length, rules, steps)


def read(network, params, played):
    """What a network says of played melodies, read as a whole."""
    times = jnp.broadcast_to(jnp.arange(len(played.fed))[:, None], played.fed.shape)
    return network.apply(params, played.fed, times)


def begin(config, network=NOTE_RNN, seed=0):
    return tuner.init(jax.random.key(seed), config, network, weights(network), PIECE, RULES)


# compiled once for all tests of the same static fields
step = jax.jit(lambda state, config: tuner.step(state, config, NOTE_RNN, PIECE, RULES))


def raw(tree):
    """The tree with keys as numbers."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, raw(found), raw(expected))


def differ(found, expected):
    pairs = zip(jax.tree.leaves(raw(found)), jax.tree.leaves(raw(expected)), strict=True)
    return any((one != other).any() for one, other in pairs)


def pick(rows, action):
    return np.take_along_axis(np.asarray(rows), np.asarray(action)[..., None], axis=-1)[..., 0]


# What is played


@BOTH
@pytest.mark.parametrize("exploration", ["sampling", "epsilon"])
def test_recorded_log_probabilities_are_those_of_the_policy(network, exploration):
    config = SMALL.replace(exploration=exploration, melodies=16, weights={})
    played = play(config, network, epsilon=0.3, length=20, rules={})  # longer than the composer's lookback
    log_prior = jax.nn.log_softmax(read(network, weights(network, 2), played).logits)
    np.testing.assert_allclose(played.log_prior, log_prior, atol=1e-5)
    log_policy = jax.nn.log_softmax(read(network, weights(network, 1), played).logits)
    if exploration == "epsilon":
        best = log_policy.argmax(axis=-1, keepdims=True) == np.arange(SIZE)
        log_policy = np.log(0.7 * best + 0.3 / SIZE)
        assert 0.5 < best[np.arange(20)[:, None], np.arange(16), played.action].mean() < 0.9
    np.testing.assert_allclose(played.log_prob, pick(log_policy, played.action), atol=1e-5)
    np.testing.assert_array_equal(played.fed[0], network.start)
    np.testing.assert_array_equal(played.fed[1:], played.action[:-1])
    assert played.action.dtype == jnp.int32


@pytest.mark.parametrize("algorithm", ["psi", "g"])
def test_without_a_value_head_logits_are_the_action_values(algorithm):
    config = SMALL.replace(algorithm=algorithm, value_head=False)
    played = play(config, NOTE_RNN)
    values = read(NOTE_RNN, weights(NOTE_RNN, 1), played).logits
    logits = (values + played.log_prior if algorithm == "g" else values) / config.temperature
    expected = pick(jax.nn.log_softmax(logits), played.action)
    np.testing.assert_allclose(played.log_prob, expected, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["q", "psi", "g", "pure_rl"])
def test_with_a_value_head_the_logits_are_the_policy(random, algorithm):
    config = SMALL.replace(algorithm=algorithm)
    logits, log_prior = jax.nn.log_softmax(random.normal(size=(2, 5, SIZE)))
    output = tuner.playing.Output(logits, jnp.asarray(random.normal(size=5)))
    values = tuner.playing.action_values(output, log_prior, config)
    policy = jax.nn.log_softmax(backup.preferences(values, log_prior, algorithm, config.temperature))
    np.testing.assert_allclose(policy, logits, atol=1e-5)
    if algorithm in ("psi", "g"):
        level = backup.state_value(values, log_prior, algorithm, config.temperature)
        np.testing.assert_allclose(level, output.value, atol=1e-5)


def test_the_policy_begins_as_the_prior():
    state = begin(SMALL)
    played = replay(state, SMALL)
    np.testing.assert_allclose(played.log_prob, pick(played.log_prior, played.action), atol=1e-5)
    assert_same((state.params, state.target), (state.prior, weights(NOTE_RNN)))


def test_rewards_are_those_of_the_theory():
    weighed = {"key": 2.0, "motif": 0.0, "preferred_intervals": -1.5}
    played = play(SMALL.replace(weights=weighed), NOTE_RNN, length=12, rules=theory.RULES)
    scored = theory.score(played.action.T)
    assert played.rules.keys() == scored.keys()
    for name, reward in scored.items():
        np.testing.assert_allclose(played.rules[name], reward.T, atol=1e-5, err_msg=name)
    total = sum(weighed.get(name, 1.0) * reward.T for name, reward in scored.items())
    np.testing.assert_allclose(played.theory, total, atol=1e-4)
    assert np.abs(played.theory - sum(played.rules.values())).max() > 0.5


def test_a_weight_of_no_rule_is_refused():
    with pytest.raises(ValueError, match=r"\['tonic'\] belong to no rule"):
        play(SMALL.replace(weights={"tonic": 2.0}), NOTE_RNN)


def test_any_primer_but_the_last():
    config = SMALL.replace(any_primer=True, melodies=4000, weights={})
    played = play(config, NOTE_RNN, length=1, rules={})
    counts = np.bincount(played.fed[0], minlength=SIZE)
    assert counts[-1] == 0
    assert counts[:-1].min() > 50
    assert played.fed.shape == (1, 4000)


# What is remembered


@BOTH
@pytest.mark.parametrize("drift", [False, True])
def test_transitions_are_the_notes_and_what_was_known(network, drift):
    config = TRANSITIONS.replace(drift=drift)
    steps, batch = PIECE.length, config.melodies
    played = play(config, network, steps=steps + 1)
    item = learning.items(played, config)
    place = np.arange(steps * batch)
    time, column = place // batch, place % batch
    np.testing.assert_array_equal(item.time, time)
    for name in ("fed", "action", "theory"):
        np.testing.assert_array_equal(getattr(item, name), getattr(played, name)[time, column])
    expected = pick(played.log_prior, played.action)[time, column]
    np.testing.assert_allclose(item.log_prior, expected, atol=1e-6)
    np.testing.assert_array_equal(item.log_prior_after, played.log_prior[time + 1, column])
    kept = [(item.carry, played.carry, time), (item.after, played.carry, time + 1)]
    if drift:
        kept.append((item.prior_after, played.prior_carry, time + 1))
    for found, carry, when in kept:
        jax.tree.map(lambda a, b, t=when: np.testing.assert_array_equal(a, b[t, column]), found, carry)
    assert (item.prior_after is None) != drift


@BOTH
def test_stored_carries_know_what_whole_melodies_do(network):
    config = TRANSITIONS.replace(drift=True)
    played = play(config, network, steps=PIECE.length + 1)
    item = learning.items(played, config)
    whole = read(network, weights(network, 1), played).logits
    step = lambda params, *now: network.apply(params, *now, method="step")[0].logits
    now = step(weights(network, 1), item.carry, item.fed, item.time)
    after = step(weights(network, 1), item.after, item.action, item.time + 1)
    np.testing.assert_allclose(now, whole[:-1].reshape(-1, SIZE), atol=1e-5)
    np.testing.assert_allclose(after, whole[1:].reshape(-1, SIZE), atol=1e-5)
    opinion = step(weights(network, 2), item.prior_after, item.action, item.time + 1)
    np.testing.assert_allclose(jax.nn.log_softmax(opinion), item.log_prior_after, atol=1e-5)


def test_melodies_are_kept_whole():
    played = play(SMALL, NOTE_RNN)
    item = learning.items(played, SMALL)
    for name, rows in item._asdict().items():
        np.testing.assert_array_equal(rows, getattr(played, name).swapaxes(0, 1))
    assert item.action.shape == (SMALL.melodies, PIECE.length)


def test_replay_holds_the_newest():
    buffer = tuner.buffer(SMALL.replace(capacity=10, batch=10))
    state = buffer.init(jnp.int32(0))
    sample = lambda state: {
        int(x) for seed in range(20) for x in buffer.sample(state, jax.random.key(seed)).experience
    }
    state = buffer.add(state, 1 + jnp.arange(6))
    assert sample(state) == set(range(1, 7))
    state = buffer.add(state, 7 + jnp.arange(6))
    assert sample(state) == set(range(3, 13))


@pytest.mark.parametrize("config", [SMALL, TRANSITIONS], ids=["melodies", "transitions"])
def test_replay_must_hold_an_update(config):
    count = 24 if config is TRANSITIONS else 6
    message = f"capacity of {count - 1} {config.learns_from} is less than the {count} that an update plays"
    with pytest.raises(ValueError, match=message):
        begin(config.replace(capacity=count - 1, batch=1))
    with pytest.raises(ValueError, match="or the 65 of a batch"):
        begin(config.replace(batch=65))
    begin(config.replace(capacity=count, batch=count))


# What is learned from


def expected_value(config, judged, log_prior, chooser):
    """As backup.py has it, of one state after the other (A,), written out."""
    logits = lambda x: (x + log_prior if config.algorithm == "g" else x) / config.temperature
    if config.algorithm in ("q", "pure_rl"):
        return judged[chooser.argmax()]
    policy = np.exp(logits(chooser)) / np.exp(logits(chooser)).sum()
    return config.temperature * (policy * (logits(judged) - np.log(policy))).sum()


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("algorithm", ["q", "g"])
def test_transition_loss_by_the_definition(algorithm, double):
    """The last note's target expects something beyond it, like all others."""
    config = TRANSITIONS.replace(algorithm=algorithm, double=double)
    played = play(config, NOTE_RNN, steps=PIECE.length + 1)
    params, target = weights(NOTE_RNN, 1), weights(NOTE_RNN, 3)
    values, log_prior = np.asarray(read(NOTE_RNN, params, played).logits), np.asarray(played.log_prior)

    def squares(item):
        return learning.transition_loss({"network": params}, target, config, NOTE_RNN, item)

    for column in range(2):
        # what the target network remembers was stored by the other: only its last step is its own
        for t in range(PIECE.length):
            item = jax.tree.map(lambda x, n=t * 6 + column: x[n : n + 1], learning.items(played, config))
            action = int(played.action[t, column])
            next_step = item.after, item.action, item.time + 1
            judged = np.asarray(NOTE_RNN.apply(target, *next_step, method="step")[0].logits[0])
            after = expected_value(
                config, judged, log_prior[t + 1, column], values[t + 1, column] if double else judged
            )
            leash = log_prior[t, column, action] if algorithm == "q" else 0.0
            aim = 1.5 * played.theory[t, column] + leash + 0.8 * after
            np.testing.assert_allclose(squares(item), (values[t, column, action] - aim) ** 2, rtol=1e-4)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("algorithm", ["q", "psi"])
def test_melody_loss_by_the_definition(algorithm, double):
    """Nothing is expected after the last note."""
    config = SMALL.replace(algorithm=algorithm, value_head=False, double=double, trace=0.6)
    played = play(config, NOTE_RNN)
    params, target = weights(NOTE_RNN, 3), weights(NOTE_RNN, 4)
    values, judged = (np.asarray(read(NOTE_RNN, p, played).logits) for p in (params, target))
    log_policy = pick(jax.nn.log_softmax(values / config.temperature), played.action)
    trace = 0.6 * np.minimum(1, np.exp(log_policy - played.log_prob))
    reward = 1.5 * played.theory + pick(played.log_prior, played.action)
    taken, aim = pick(judged, played.action), np.zeros(played.action.shape)
    for column in range(config.melodies):
        aim[-1, column] = reward[-1, column]
        for t in reversed(range(PIECE.length - 1)):
            rows = judged[t + 1, column], played.log_prior[t + 1, column]
            value = expected_value(config, *rows, (values if double else judged)[t + 1, column])
            correction = trace[t + 1, column] * (aim[t + 1, column] - taken[t + 1, column])
            aim[t, column] = reward[t, column] + 0.8 * (value + correction)
    batch = learning.items(played, config)
    loss = lambda p: learning.melody_loss({"network": p}, target, config, NOTE_RNN, batch)
    fixed = lambda p: jnp.square(learning.of(read(NOTE_RNN, p, played).logits, played.action) - aim).mean()
    found, gradient = jax.jit(jax.value_and_grad(loss))(params)
    expected, direction = jax.jit(jax.value_and_grad(fixed))(params)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    # the returns are held fixed
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), gradient, direction)


def test_wholes_are_weighed_by_their_aim_over_what_plays_them():
    """At eta 1 the weights are pi*/pi, and what an echo copied counts as the policy would have played it."""
    config = WHOLES.replace(effective=0.0, echo=1, copying=0.5)
    played = play(config, NOTE_RNN)
    assert (played.log_prob == 0).any()
    found = projection.weigh(weights(NOTE_RNN, 1), played, config, NOTE_RNN)
    np.testing.assert_array_equal(found.fed, played.fed.T)
    np.testing.assert_array_equal(found.action, played.action.T)
    policy = jax.nn.log_softmax(read(NOTE_RNN, weights(NOTE_RNN, 1), played).logits)
    aim = (1.5 * played.theory + pick(played.log_prior, played.action)) / 0.7
    ratio = np.exp((aim - pick(policy, played.action)).sum(axis=0))
    np.testing.assert_allclose(found.weight, ratio / ratio.mean(), rtol=1e-3)


@pytest.mark.parametrize("spread", [0.1, 3.0, 1000.0])
def test_weights_are_worth_a_share_of_the_sample(random, transform, spread):
    score = jnp.asarray(spread * random.normal(size=500), jnp.float32)
    found = np.asarray(transform(lambda score: projection.weights(score, 0.3))(score), float)
    assert found.mean() == pytest.approx(1, rel=1e-5)
    share = 1 / np.square(found).mean()
    if spread == 0.1:  # worth that in any case: nothing is flattened
        np.testing.assert_allclose(found, np.exp(score) / np.exp(score).mean(), rtol=1e-4)
    else:
        assert share == pytest.approx(0.3, abs=1e-3)
    assert (np.argsort(found) == np.argsort(score)).all()


def test_every_epoch_has_every_melody():
    config = WHOLES.replace(minibatches=5, batch=4)  # of 8 melodies: two epochs and a half
    rows = jnp.arange(8)
    whole = projection.Weighed(rows[:, None], rows[:, None] + 100, 1.0 * rows)
    batches = projection.minibatches(jax.random.key(0), whole, config)
    assert batches.weight.shape == (5, 4)
    np.testing.assert_array_equal(batches.fed[..., 0], batches.weight)
    np.testing.assert_array_equal(batches.action[..., 0], batches.weight + 100)
    first, second, rest = np.split(np.asarray(batches.weight).ravel(), [8, 16])
    assert set(first) == set(second) == set(range(8))
    assert len(set(rest)) == 4
    assert (first != second).any()


def test_the_loss_of_wholes_by_the_definition():
    played, params = play(WHOLES, NOTE_RNN), weights(NOTE_RNN, 3)
    batch = projection.Weighed(played.fed.T, played.action.T, jnp.arange(6.0))
    nats = -pick(jax.nn.log_softmax(read(NOTE_RNN, params, played).logits), played.action)
    expected = (nats * np.arange(6.0)).mean()
    found = projection.weighed_loss({"network": params}, None, WHOLES, NOTE_RNN, batch)
    assert found == pytest.approx(expected, rel=1e-5)


def test_of_picks_the_notes(transform, random):
    rows, action = random.normal(size=(3, 5, 7)), random.integers(0, 7, (3, 5))
    np.testing.assert_allclose(transform(learning.of)(rows, action), pick(rows, action), rtol=1e-6)


# A step


@MODES
def test_a_step_reports_what_it_played(config):
    state = begin(config)
    after, metrics = step(state, config)
    played = replay(state, config, steps=PIECE.length + (config is TRANSITIONS))
    played = jax.tree.map(lambda x: np.asarray(x[: PIECE.length]), played)
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
    config = GREEDY.replace(epsilon=0.2, exploring=exploring)
    for played in (notes, 5 * notes):
        state = begin(config).replace(notes=jnp.int32(played))
        expected = replay(state, config, epsilon if played == notes else 0.2)
        _, metrics = step(state, config)
        np.testing.assert_allclose(metrics["entropy"], -expected.log_prob.mean(), rtol=1e-5)
        assert np.isfinite(metrics["loss"])


def test_the_target_follows():
    state = begin(GREEDY)
    for follow in (0.0, 0.25, 1.0):
        after, _ = step(state, GREEDY.replace(follow=follow))
        expected = jax.tree.map(lambda t, p, f=follow: (1 - f) * t + f * p, state.target, after.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.target, expected)
        assert differ(after.params, state.params)


def test_gradients_are_clipped_array_by_array():
    config = SMALL.replace(clip=5.0)
    gradient = {"long": jnp.full((4, 25), 3.0), "short": jnp.full(4, 0.5)}  # of norm 30 and 1
    optimiser = tuner.optimiser(config)
    _, state = optimiser.update(gradient, optimiser.init(gradient))
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
    config = TRANSITIONS.replace(drift=True)
    state = begin(config)
    after, _ = step(state, config)
    for name in ("prior", "params", "target"):
        assert differ(getattr(after, name), getattr(state, name)), name


def test_drift_is_only_for_g_of_transitions():
    for algorithm in ("q", "psi", "pure_rl"):
        with pytest.raises(ValueError, match="drift"):
            TRANSITIONS.replace(algorithm=algorithm, drift=True)
    with pytest.raises(ValueError, match="drift"):
        SMALL.replace(drift=True)


def test_a_value_head_is_only_for_melodies():
    with pytest.raises(ValueError, match="value_head"):
        tuner.Config(learns_from="transitions", value_head=True)


def test_wholes_are_only_for_psi():
    with pytest.raises(ValueError, match="wholes"):
        WHOLES.replace(algorithm="g")


def test_the_published_program_stays_as_it_was():
    published = {
        "algorithm": "q",
        "learns_from": "transitions",
        "exploration": "epsilon",
        "value_head": False,
        "double": False,
        "drift": False,
        "batch": 32,
        "capacity": 100_000,
        "scale": 2.0,
        "temperature": 1.0,
        "discount": 0.5,
        "epsilon": 0.1,
        "exploring": 500_000,
        "learning_rate": 1e-3,
        "clip": 5.0,
        "follow": 0.01,
    }
    assert {name: getattr(tuner.PAPER, name) for name in published} == published
    assert tuner.PAPER.melodies * 32 == 5 * tuner.PAPER.minibatches  # notes


# Learning


LEARNING = tuner.Config(
    melodies=16,
    minibatches=4,
    batch=16,
    capacity=64,
    temperature=1.0,
    discount=1.0,
    trace=0.9,
    learning_rate=5e-3,
    follow=0.1,
)
SCALES = np.array([2.0, 3.0, 8.0], np.float32)


def probability(config, network, state):
    """Of middle C as the first note, by the policy and by the prior."""
    fed, time = jnp.array([network.start]), jnp.zeros(1, jnp.int32)
    says = lambda params: network.apply(params, network.initial_carry(1), fed, time, method="step")[0]
    log_prior = jax.nn.log_softmax(says(state.prior).logits)
    values = tuner.playing.action_values(says(state.params), log_prior, config)
    policy = backup.preferences(values, log_prior, config.algorithm, config.temperature)
    return jax.nn.softmax(policy)[0, theory.melody.TONIC], jnp.exp(log_prior[0, theory.melody.TONIC])


def learn(config, network, updates, scales=SCALES):
    """Learned probabilities of middle C as the first note, and the prior's, one for each scale."""
    rules, prior = {"opening_c": opening_c}, weights(network)

    def one(key, scale):
        scaled = config.replace(scale=scale)
        state = tuner.init(key, scaled, network, prior, PIECE, rules)
        advance = lambda state, _: tuner.step(state, scaled, network, PIECE, rules)
        return probability(scaled, network, jax.lax.scan(advance, state, length=updates)[0])

    keys = jax.random.split(jax.random.key(0), len(scales))
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys, scales))


@pytest.mark.parametrize("algorithm", ["psi", "g"])
def test_soft_learning_reaches_the_exact_policy(algorithm):
    learned, prior = learn(LEARNING.replace(algorithm=algorithm), NOTE_RNN, 400)
    earned = prior * np.exp(SCALES)
    np.testing.assert_allclose(learned, earned / (earned + 1 - prior), atol=0.02)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_projection_reaches_the_exact_policy(temperature):
    """pi* of the first note: its own part of (p e^r)^(1/t), and the sum over all that may follow it."""
    piece = theory.Config(length=1)
    prior, rules = weights(NOTE_RNN), {"opening_c": opening_c}
    config = LEARNING.replace(
        learns_from="wholes", melodies=256, batch=64, temperature=temperature, learning_rate=2e-3, scale=3.0
    )
    state = tuner.init(jax.random.key(0), config, NOTE_RNN, prior, piece, rules)
    advance = lambda state, _: tuner.step(state, config, NOTE_RNN, piece, rules)
    state = jax.jit(lambda state: jax.lax.scan(advance, state, length=150)[0])(state)
    start = NOTE_RNN.initial_carry(1), jnp.array([NOTE_RNN.start]), jnp.zeros(1, jnp.int32)
    says = lambda params: jax.nn.log_softmax(NOTE_RNN.apply(params, *start, method="step")[0].logits[0])
    reward = 3.0 * (np.arange(SIZE) == theory.melody.TONIC)
    exact = jax.nn.softmax((says(prior) + reward) / temperature)
    np.testing.assert_allclose(jnp.exp(says(state.target)), exact, atol=0.03)


@pytest.mark.parametrize(("algorithm", "network"), [("q", COMPOSER), ("pure_rl", NOTE_RNN)], ids=["q", "rl"])
def test_hard_learning_finds_the_note(algorithm, network):
    learned, prior = learn(LEARNING.replace(algorithm=algorithm), network, 200, SCALES[2:])
    assert prior < 0.1
    assert learned > 0.9


@pytest.mark.parametrize("algorithm", ["q", "g"])
def test_transitions_find_the_note(algorithm):
    config = LEARNING.replace(
        algorithm=algorithm,
        learns_from="transitions",
        value_head=False,
        exploration="epsilon",
        exploring=2000,
        discount=0.5,
        capacity=1024,
        batch=32,
    )
    learned, prior = learn(config, NOTE_RNN, 300, SCALES[2:])
    assert prior < 0.1
    assert learned > 0.9


# What surrounds it


@MODES
def test_resumed_learning_goes_on_the_same(tmp_path, config):
    state = begin(config)
    for _ in range(2):
        state, _ = step(state, config)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, state)
    update, restored = checkpoints.restore(jax.eval_shape(lambda: begin(config)))
    assert update == 2
    assert_same(restored, state)
    for _ in range(2):
        (state, metrics), (restored, again) = step(state, config), step(restored, config)
        assert_same((restored, again), (state, metrics))
    assert int(restored.update) == 4


@MODES
def test_sweeps_of_seeds_and_scales_are_the_single_runs(config):
    keys, scales = jax.random.split(jax.random.key(0), 4), jnp.array([0.5, 1.0, 2.0, 4.0])
    prior = weights(NOTE_RNN)
    start = lambda key: tuner.init(key, config, NOTE_RNN, prior, PIECE, RULES)
    one = lambda state, scale: tuner.step(state, config.replace(scale=scale), NOTE_RNN, PIECE, RULES)[0]
    by_scale = jax.vmap(one)
    swept = jax.vmap(lambda key: jax.vmap(lambda _: start(key))(scales))(keys)
    sweep = jax.jit(jax.vmap(by_scale, in_axes=(0, None)))
    for _ in range(3):
        swept = sweep(swept, scales)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    for seed, place in np.ndindex(4, 4):
        single = start(keys[seed])
        for _ in range(3):
            single, _ = step(single, config.replace(scale=float(scales[place])))
        found = jax.tree.map(lambda x, at=(seed, place): x[at], swept)
        jax.tree.map(close, raw(found), raw(single))
    kernel = swept.params["params"]["kernel"]
    assert np.abs(kernel[0, 0] - kernel[0, 1]).max() > 1e-4
    assert np.abs(kernel[0, 0] - kernel[1, 0]).max() > 1e-4


@pytest.mark.parametrize(
    ("config", "network"), [(SMALL, NOTE_RNN), (TRANSITIONS, COMPOSER)], ids=["melodies", "transitions"]
)
def test_the_replay_buffer_is_never_copied(config, network):
    capacity = 7919  # found nowhere else
    config = config.replace(capacity=capacity)
    advance = lambda state, _: tuner.step(state, config, network, PIECE, RULES)
    chunk = jax.jit(lambda state: jax.lax.scan(advance, state, length=3), donate_argnums=0)
    program = chunk.lower(begin(config, network)).compile().as_text()
    kept = rf"\w+\[[^\]]*\b{capacity}\b[^\]]*\]\S*"  # as in "%name = f32[1,7919,4]{2,1,0} copy(%other)"
    assert re.search(rf"= {kept} parameter\(", program)
    assert not re.findall(rf"= \(?{kept} copy\S*\(", program)


def test_exploration_copies_what_lies_an_echo_back():
    network, prior = NoteRNN(38, 8), None
    blank = jnp.zeros((1, 1), jnp.int32)
    prior = network.init(jax.random.key(0), blank, blank)
    config = tuner.Config(echo=4, copying=1.0, melodies=5)
    played = tuner.play(prior, prior, config, network, theory.Config(length=16), jax.random.key(1))
    np.testing.assert_array_equal(played.action[4:], played.action[:-4])
    np.testing.assert_array_equal(played.log_prob[4:], 0.0)  # a copied note was certain
    never = tuner.play(
        prior, prior, config.replace(copying=0.0), network, theory.Config(length=16), jax.random.key(1)
    )
    assert (never.action[4:] != never.action[:-4]).any() and (never.log_prob < 0).all()


def test_copying_is_decided_bar_by_bar():
    network = NoteRNN(38, 8)
    blank = jnp.zeros((1, 1), jnp.int32)
    prior = network.init(jax.random.key(0), blank, blank)
    config = tuner.Config(echo=8, copying=0.5, melodies=200)
    played = tuner.play(prior, prior, config, network, theory.Config(length=24), jax.random.key(1))
    copied = np.asarray(played.log_prob == 0.0)
    assert not copied[:8].any()
    for bar in (copied[8:16], copied[16:]):
        np.testing.assert_array_equal(bar, np.broadcast_to(bar[:1], bar.shape))
        assert 0.4 < bar[0].mean() < 0.6


@pytest.mark.parametrize(("update", "copied"), [(2, True), (3, False)])
def test_bars_are_copied_until_the_melodies_have_settled(update, copied):
    config = WHOLES.replace(echo=1, copying=1.0, settling=3)
    _, metrics = step(begin(config).replace(update=jnp.int32(update)), config)
    # only the first note of each melody was not copied
    assert (float(metrics["entropy"]) < np.log(SIZE) / PIECE.length) == copied


def test_early_weights_hold_until_the_melodies_have_settled():
    early = {"key": 0.5, "motif": 0.0}
    config = tuner.Config(weights={"key": 2.0}, early=early, settling=3)
    young, grown = (tuner._settled(config, jnp.int32(update)).weights for update in (2, 3))
    assert {k: float(v) for k, v in young.items()} == early
    assert {k: float(v) for k, v in grown.items()} == {"key": 2.0, "motif": 1.0}


def test_the_learning_rate_falls_to_zero_in_the_later_half():
    config = tuner.Config(annealing=10, minibatches=2, learning_rate=0.1, clip=1e9)
    params = {"x": jnp.zeros((1, 1))}
    optimiser = tuner.optimiser(config)
    state, rates = optimiser.init(params), []
    for _ in range(22):
        updates, state = optimiser.update({"x": jnp.ones((1, 1))}, state, params)
        rates.append(-float(updates["x"][0, 0]))
    np.testing.assert_allclose(rates[:11], 0.1, rtol=1e-4)  # Adam's step of a constant gradient is its rate
    np.testing.assert_allclose(rates[15], 0.05, rtol=1e-4)
    np.testing.assert_allclose(rates[20:], 0.0, atol=1e-6)
