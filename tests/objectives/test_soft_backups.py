"""The backups: identities among them, hand examples, and exact values of all melodies of a small alphabet."""

import functools
import itertools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from mammadai_jax.objectives import soft_backups
from tests.agents.probes import compiled

ALGORITHMS = get_args(soft_backups.Algorithm)
TEMPERATURES = 0.3, 1.0, 2.0
B, A = 5, 6


def log_prior(random, *shape):
    return special.log_softmax(random.normal(size=shape), axis=-1).astype(np.float32)


def table(random):
    """Action values, the rules' rewards of every note, and log p, each (B, A)."""
    values, theory = random.normal(size=(2, B, A)).astype(np.float32)
    return values, theory, log_prior(random, B, A)


@functools.cache
def _program(function, algorithm):
    """Of arrays and the temperature, which is traced: one program for all temperatures."""
    return compiled(functools.partial(function, algorithm))


def _state_value(algorithm, temperature, values, log_prior, chooser=None):
    return soft_backups.state_value(values, log_prior, algorithm, temperature, chooser=chooser)


def _preferences(algorithm, temperature, values, log_prior):
    return soft_backups.preferences(values, log_prior, algorithm, temperature)


def _back_up(algorithm, temperature, values, theory, now, after):
    value = soft_backups.state_value(values, after, algorithm, temperature)
    return soft_backups.reward(theory, now, algorithm, 1.5) + 0.8 * value[:, None]


def _reward(algorithm, scale, theory, log_prob):
    return soft_backups.reward(theory, log_prob, algorithm, scale)


def state_value(*arrays, algorithm, temperature=1.0):
    """Of values, log p and perhaps a chooser."""
    return _program(_state_value, algorithm)(temperature, *arrays)


def preferences(values, log_prior, algorithm, temperature=1.0):
    return _program(_preferences, algorithm)(temperature, values, log_prior)


def back_up(values, theory, now, after, algorithm, temperature):
    """Values (B, A) of every note: its rewards, and what is expected after it, whichever note it was."""
    return _program(_back_up, algorithm)(temperature, values, theory, now, after)


def reward(theory, log_prob, algorithm, scale):
    return _program(_reward, algorithm)(scale, theory, log_prob)


def close(found, expected, atol=1e-5):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_of_a_uniform_prior_psi_and_g_differ_by_a_constant(random, temperature):
    values, theory, _ = table(random)
    uniform = np.full((B, A), -np.log(A), np.float32)
    value = {
        algorithm: state_value(values, uniform, algorithm=algorithm, temperature=temperature)
        for algorithm in ("psi", "g")
    }
    close(value["g"], value["psi"] - np.log(A))
    close(reward(theory, uniform, "psi", 1.5), reward(theory, uniform, "g", 1.5) - np.log(A))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_psi_stays_g_and_the_prior(random, temperature):
    g, theory, now = table(random)
    after = log_prior(random, B, A)
    close(
        state_value(g + now, now, algorithm="psi", temperature=temperature),
        state_value(g, now, algorithm="g", temperature=temperature),
    )
    psi = back_up(g + after, theory, now, after, "psi", temperature)
    close(psi, back_up(g, theory, now, after, "g", temperature) + now)
    close(
        preferences(psi, now, "psi", temperature),
        preferences(psi - now, now, "g", temperature),
    )


def test_psi_at_temperature_zero_is_q(random):
    values, theory, now = table(random)
    after = log_prior(random, B, A)
    cold = back_up(values, theory, now, after, "psi", 1e-3)
    close(cold, back_up(values, theory, now, after, "q", 1.0), atol=1e-3 * np.log(A))
    warm = back_up(values, theory, now, after, "psi", 1.0)
    assert np.abs(warm - cold).min() > 0.1


def test_psi_has_the_published_backup(random):
    values, theory, now = table(random)
    after = log_prior(random, B, A)
    exact = now + 1.5 * theory + 0.8 * np.log(np.exp(values).sum(-1, keepdims=True))
    close(back_up(values, theory, now, after, "psi", 1.0), exact)
    exact = 1.5 * theory + 0.8 * np.log((np.exp(after) * np.exp(values)).sum(-1, keepdims=True))
    close(back_up(values, theory, now, after, "g", 1.0), exact)
    exact = now + 1.5 * theory + 0.8 * values.max(-1, keepdims=True)
    close(back_up(values, theory, now, after, "q", 1.0), exact)


def test_pure_rl_ignores_the_prior(random):
    values, theory, now = table(random)
    found = back_up(values, theory, now, now, "pure_rl", 1.0)
    close(found, 1.5 * theory + 0.8 * values.max(-1, keepdims=True))
    other = log_prior(random, B, A)
    np.testing.assert_array_equal(found, back_up(values, theory, other, other, "pure_rl", 1.0))
    np.testing.assert_array_equal(soft_backups.preferences(values, other, "pure_rl"), values)


def test_q_takes_the_prior_as_reward_and_nowhere_else(random):
    values, theory, now = table(random)
    np.testing.assert_array_equal(soft_backups.preferences(values, now, "q"), values)
    close(reward(theory, now, "q", 3.0), 3 * theory + now)
    close(reward(theory, now, "g", 3.0), 3 * theory)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_double_of_one_opinion_is_the_plain_backup(random, algorithm, temperature):
    values, _, now = table(random)
    kind = {"algorithm": algorithm, "temperature": temperature}
    plain = state_value(values, now, **kind)
    close(state_value(values, now, values, **kind), plain)
    # another's choice is never better than one's own
    other = random.normal(size=(B, A)).astype(np.float32)
    assert (state_value(values, now, other, **kind) <= plain + 1e-6).all()


@pytest.mark.parametrize("algorithm", ["q", "pure_rl"])
def test_hard_double_by_hand(algorithm):
    values = np.array([[1.0, 5.0, 2.0], [7.0, 6.0, 0.0]], np.float32)
    chooser = np.array([[3.0, 0.0, 4.0], [1.0, 2.0, 0.0]], np.float32)
    close(state_value(values, np.zeros((2, 3), "f"), chooser, algorithm=algorithm), [2.0, 6.0])


def test_soft_double_by_hand():
    values, prior = np.array([[1.0, 2.0]], np.float32), np.log(np.array([[0.5, 0.5]], np.float32))
    chooser = np.log(np.array([[1.0, 3.0]], np.float32))  # a policy of 1/4 and 3/4
    expected = 0.25 * (1 - np.log(0.25)) + 0.75 * (2 - np.log(0.75))
    close(state_value(values, prior, chooser, algorithm="psi"), [expected])
    close(soft_backups.state_value(values, prior, "psi", chooser=chooser), [expected])
    # at temperature 1/2 a policy of 1/10 and 9/10
    expected = 0.1 * (1 - 0.5 * np.log(0.1)) + 0.9 * (2 - 0.5 * np.log(0.9))
    close(state_value(values, prior, chooser, algorithm="psi", temperature=0.5), [expected])
    # a prior of 3/4 and 1/4 evens the chooser out
    prior = np.log(np.array([[0.75, 0.25]], np.float32))
    expected = 0.5 * (1 + np.log(0.75) - np.log(0.5)) + 0.5 * (2 + np.log(0.25) - np.log(0.5))
    close(state_value(values, prior, chooser, algorithm="g"), [expected])


_returns = compiled(soft_backups.returns)


def returns(reward, taken, value, discount, trace):
    reward, taken, value, trace = (np.asarray(x, np.float32) for x in (reward, taken, value, trace))
    return _returns(reward, taken, value, discount, trace)


def test_returns_by_hand():
    reward = [[1.0], [2.0], [3.0]]
    taken, value, trace = [[9.0], [1.0], [2.0]], [[9.0], [0.5], [4.0]], [[9.0], [0.5], [0.25]]
    # 3;  2 + (4 + (3 - 2) / 4) / 2;  1 + (0.5 + (4.125 - 1) / 2) / 2;  what came before is not asked for
    close(returns(reward, taken, value, 0.5, trace), [[2.03125], [4.125], [3.0]])


def test_returns_of_no_trace_are_one_step_targets(random):
    reward, taken, value = random.normal(size=(3, 7, B))
    after = np.concatenate([value[1:], np.zeros((1, B))])
    close(returns(reward, taken, value, 0.9, np.zeros((7, B))), reward + 0.9 * after)


def test_returns_of_whole_traces_are_discounted_sums(random):
    reward, taken, value = random.normal(size=(3, 7, B))
    whole = np.ones((7, B))
    discounted = lambda x, t: sum(0.9 ** (k - t) * x[k] for k in range(t, 7))
    # where the values are those of the one note that is played, the plain sum of rewards
    expected = [discounted(reward, t) for t in range(7)]
    close(returns(reward, taken, taken, 0.9, whole), expected)
    # else with what each state is worth above its note: of psi that is -log pi, the entropy
    expected = [discounted(reward + value - taken, t) - (value - taken)[t] for t in range(7)]
    close(returns(reward, taken, value, 0.9, whole), expected)


def test_nothing_comes_after_the_last_note(random):
    reward, taken, value, trace = random.normal(size=(4, 7, B))
    np.testing.assert_array_equal(
        returns(reward, taken, value, 0.9, trace)[-1], reward[-1].astype(np.float32)
    )
    alone = returns(reward[:1], taken[:1], value[:1], 0.9, trace[:1])
    np.testing.assert_array_equal(alone, reward[:1].astype(np.float32))


def test_retrace_clips_at_lambda():
    log_policy = np.log(np.array([0.8, 0.4, 0.2, 1e-9], np.float32))
    log_behaviour = np.log(np.array([0.1, 0.4, 0.4, 1.0], np.float32))
    close(compiled(soft_backups.retrace)(log_policy, log_behaviour, 0.9), [0.9, 0.9, 0.45, 0.0])


def test_shapes_must_agree():
    with pytest.raises(AssertionError):
        soft_backups.preferences(np.ones((2, 3)), np.ones(3), "psi")
    with pytest.raises(AssertionError):
        soft_backups.reward(np.ones((2, 3)), np.ones(2), "psi", 1.0)
    with pytest.raises(AssertionError):
        soft_backups.returns(np.ones((2, 3)), np.ones((2, 3)), np.ones((3, 3)), 0.9, np.ones((2, 3)))


# Melodies of three notes out of four tokens: what the rules and the prior say of a note depends on the
# time, on the last token (4 before the first) and on the note: tables of (time, last token, note)
STEPS, TOKENS = 3, 4
THEORY = np.random.default_rng(1).normal(size=(STEPS, TOKENS + 1, TOKENS))
PRIOR = special.log_softmax(1.5 * np.random.default_rng(2).normal(size=THEORY.shape), axis=-1)
SCALE = 2.0


def exact(algorithm, discount, temperature):
    """Optimal action values (time, last token, note), from the last note backwards."""
    values = np.zeros_like(THEORY)
    after = np.zeros(TOKENS)
    for t in reversed(range(STEPS)):
        for last, note in itertools.product(range(TOKENS + 1), range(TOKENS)):
            leash = PRIOR[t, last, note] if algorithm in ("q", "psi") else 0.0
            values[t, last, note] = leash + SCALE * THEORY[t, last, note] + discount * after[note]
        if algorithm in ("q", "pure_rl"):
            after = np.array([max(values[t, last]) for last in range(TOKENS)])
        else:
            logits = values[t] + PRIOR[t] if algorithm == "g" else values[t]
            after = temperature * special.logsumexp(logits[:TOKENS] / temperature, axis=-1)
    return values


def all_melodies():
    """Tokens and the last tokens (STEPS, 64), and how to find them in a table."""
    notes = np.array(list(itertools.product(range(TOKENS), repeat=STEPS))).T
    last = np.concatenate([np.full_like(notes[:1], TOKENS), notes[:-1]])
    return notes, last, (np.arange(STEPS)[:, None], last, notes)


def _sweep(algorithm, temperature, values, theory, log_prior):
    """Everything backed up once."""
    value = soft_backups.state_value(values, log_prior, algorithm, temperature)[:, :TOKENS]
    after = jnp.concatenate([value[1:], jnp.zeros((1, TOKENS))])
    return soft_backups.reward(theory, log_prior, algorithm, SCALE) + 0.9 * after[:, None]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_sweeps_of_backups_reach_the_exact_values(random, algorithm, temperature):
    values = random.normal(size=THEORY.shape).astype(np.float32)
    for _ in range(STEPS):
        values = _program(_sweep, algorithm)(temperature, values, THEORY, PRIOR)
    close(values, exact(algorithm, 0.9, temperature))


def _target(algorithm, trace, rows, log_prior, behaviour):
    """Returns of all melodies, of whom `behaviour` is the log-probability."""
    *_, place = all_melodies()
    value = soft_backups.state_value(rows, log_prior, algorithm, 0.5)
    log_policy = jax.nn.log_softmax(soft_backups.preferences(rows, log_prior, algorithm, 0.5))
    of = lambda table: jnp.take_along_axis(table, place[2][..., None], axis=-1)[..., 0]
    earned = soft_backups.reward(THEORY[place], of(log_prior), algorithm, SCALE)
    traces = soft_backups.retrace(of(log_policy), behaviour, trace)
    return soft_backups.returns(earned, of(rows), value, 0.9, traces)


@pytest.mark.parametrize("trace", [0.0, 0.9])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_returns_of_exact_values_are_these_values(random, algorithm, trace):
    """Whoever played the notes, and however far a return looks."""
    values, (_, last, place) = exact(algorithm, 0.9, 0.5).astype(np.float32), all_melodies()
    prior, time = PRIOR.astype(np.float32), np.arange(STEPS)[:, None]
    behaviour = log_prior(random, *THEORY.shape)[place]
    found = _program(_target, algorithm)(trace, values[time, last], prior[time, last], behaviour)
    close(found, values[place], atol=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("algorithm", ["psi", "g"])
def test_soft_policies_are_the_prior_times_what_is_earned(algorithm, temperature):
    """Undiscounted, of all melodies: p(tau) e^{sum r / c}, to the power of 1/t, over their sum."""
    *_, place = all_melodies()
    values = exact(algorithm, 1.0, temperature)
    policy = special.log_softmax(preferences(values, PRIOR, algorithm, temperature), axis=-1)
    found = policy[place].sum(axis=0)
    earned = (PRIOR + SCALE * THEORY)[place].sum(axis=0) / temperature
    close(found, special.log_softmax(earned))
    start = state_value(values, PRIOR, algorithm=algorithm, temperature=temperature)[0, TOKENS]
    close(start, temperature * special.logsumexp(earned))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_exact_psi_is_exact_g_and_the_prior(temperature):
    close(exact("psi", 0.9, temperature), exact("g", 0.9, temperature) + PRIOR, atol=1e-12)
