import functools
import math

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from mammadai_jax.agents import dpo
from mammadai_jax.agents.reward_model import Pairs
from tests.agents.table import drawn, table_of

SIZE, C, T, N = 7, 3, 6, 24
COMPOSER = table_of(SIZE)
CONFIG = dpo.Config(batch_size=8, learning_rate=1e-2, kl_coef=0.5)
RANDOM = np.random.default_rng(0)
DATA = Pairs(
    RANDOM.normal(size=(N, C)).astype(np.float32),
    *RANDOM.integers(0, SIZE, (2, N, T), np.int32),
    np.tile([1, -1, 0, 1], N // 4),
)
PARAMS, MOVED = (drawn(COMPOSER, *np.zeros((2, 1, 1), int), np.zeros((1, C)), seed=seed) for seed in (0, 1))
update = jax.jit(dpo.step, static_argnums=2)
log_prob = jax.jit(dpo.log_prob, static_argnums=1)


@jax.jit
def objective(params, data):
    """Loss, metrics and gradient, with PARAMS as the reference."""
    of = lambda p: dpo.weighted_loss(p, PARAMS, CONFIG, COMPOSER, data)
    (loss, metrics), gradient = jax.value_and_grad(of, has_aux=True)(params)
    return loss, metrics, gradient


def by_hand(params, tokens):
    """Log pi of melodies (N, T), note by note."""
    weights = params["params"]
    head, previous = weights["logits_head"], np.concatenate([np.full((N, 1), SIZE), tokens[:, :-1]], axis=1)
    prompt = DATA.condition @ weights["condition_layer"]["kernel"]
    features = weights["token_table"]["embedding"][previous] + prompt[:, None]
    each = log_softmax(features @ head["kernel"] + head["bias"], axis=-1)
    return np.take_along_axis(each, tokens[..., None], axis=-1)[..., 0].sum(axis=1)


def test_log_probabilities_are_those_of_writing_note_by_note():
    found = log_prob(PARAMS, COMPOSER, DATA.condition, DATA.a)
    np.testing.assert_allclose(found, by_hand(PARAMS, DATA.a), atol=1e-4)


def test_the_loss_by_hand():
    """Of pairs of unequal weight, away from the reference."""
    weight = RANDOM.uniform(size=N).astype(np.float32)
    loss, metrics, _ = objective(MOVED, DATA.replace(weight=weight))
    first, decided = DATA.choice > 0, weight * (DATA.choice != 0)
    own = [by_hand(MOVED, tokens) for tokens in (DATA.a, DATA.b)]
    reward = [0.5 * (mine - by_hand(PARAMS, rows)) for mine, rows in zip(own, (DATA.a, DATA.b), strict=True)]
    sort = lambda a, b: (np.where(first, a, b), np.where(first, b, a))
    chosen, rejected = sort(*reward)
    mean = lambda x: (x * decided).sum() / decided.sum()
    expected = {
        "rewards/chosen": mean(chosen), "rewards/rejected": mean(rejected),
        "rewards/margins": mean(chosen - rejected), "rewards/accuracies": mean(chosen > rejected),
        "logps/chosen": mean(sort(*own)[0]), "logps/rejected": mean(sort(*own)[1]),
    }  # fmt: skip
    assert metrics.keys() == expected.keys()
    for name, number in expected.items():
        np.testing.assert_allclose(metrics[name], number, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(loss, mean(np.log1p(np.exp(rejected - chosen))), rtol=1e-5)


def test_at_the_reference_the_loss_is_a_coin_and_pushes_the_chosen_up():
    loss, metrics, found = objective(PARAMS, DATA)
    assert float(loss) == pytest.approx(math.log(2), abs=1e-6)
    assert float(metrics["rewards/margins"]) == pytest.approx(0.0, abs=1e-5)

    # there, the gradient is -beta / 2 times that of log pi(w) - log pi(l), of the pairs that are not tied
    def margin(p):
        first, second = (dpo.log_prob(p, COMPOSER, DATA.condition, tokens) for tokens in (DATA.a, DATA.b))
        return (DATA.choice * (first - second)).sum() / (DATA.choice != 0).sum()

    expected = jax.tree.map(lambda g: -0.25 * g, jax.jit(jax.grad(margin))(PARAMS))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)
    assert max(np.abs(x).max() for x in jax.tree.leaves(expected)) > 1e-2
    moved = objective(jax.tree.map(lambda p, g: p - 1e-2 * g, PARAMS, found), DATA)[1]
    assert moved["rewards/margins"] > 0 > moved["rewards/rejected"]
    assert moved["logps/chosen"] > metrics["logps/chosen"]


def test_tied_pairs_say_nothing():
    tied = (DATA.choice == 0)[:, None]
    other = DATA.replace(a=np.where(tied, 0, DATA.a))
    np.testing.assert_allclose(objective(MOVED, DATA)[0], objective(MOVED, other)[0], rtol=1e-6)
    loss, metrics, gradient = objective(MOVED, DATA.replace(choice=np.zeros_like(DATA.choice)))
    assert not any(np.any(x) for x in jax.tree.leaves((loss, metrics, gradient)))


def test_pairs_are_learned_and_the_reference_stays():
    config = CONFIG.replace(num_epochs=20.0, learning_rate=5e-2)
    state, told = jax.jit(dpo.init)(jax.random.key(0), config, PARAMS), []
    for _ in range(60):
        state, metrics = update(state, config, COMPOSER, DATA)
        told.append(metrics)
    assert min(metrics["rewards/accuracies"] for metrics in told[-3:]) == 1.0
    assert told[-1]["loss"] < 0.35 < told[0]["loss"]
    jax.tree.map(np.testing.assert_array_equal, state.reference, PARAMS)
    assert int(state.update) == 60
    rates = [metrics["lr"] for metrics in told]
    np.testing.assert_allclose(rates, 0.05 * (1 - np.arange(60) / 60), rtol=1e-4)


def test_another_loss_of_pairs_may_be_given():
    """The squared loss of IPO (Azar et al. 2023), which asks for a margin of 1 / (2 beta)."""
    ipo = lambda chosen, rejected, *, beta: (chosen - rejected - 1 / (2 * beta)) ** 2
    state = jax.jit(dpo.init)(jax.random.key(0), CONFIG, PARAMS).replace(params=MOVED)
    step = jax.jit(functools.partial(dpo.step, loss=ipo), static_argnums=2)
    _, metrics = step(state, CONFIG.replace(batch_size=N), COMPOSER, DATA)
    ratio = lambda tokens: by_hand(MOVED, tokens) - by_hand(PARAMS, tokens)
    margin = DATA.choice * (ratio(DATA.a) - ratio(DATA.b))
    expected = ((margin - 1 / (2 * CONFIG.kl_coef)) ** 2)[DATA.choice != 0].mean()
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-4)
