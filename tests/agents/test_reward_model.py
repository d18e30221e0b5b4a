import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import reward_model
from mammadai_jax.agents.reward_model import Pairs
from mammadai_jax.music.traits import standardized_traits
from mammadai_jax.networks.composer import Composer
from tests.agents.table import Table, drawn
from tests.objectives.test_preferences import davidson

SIZE, C, T, N = 38, 3, 12, 40
COMPOSER = Table(SIZE, width=8, lookback=())
CONFIG = reward_model.Config(ensemble_size=3, batch_size=8, learning_rate=1e-2)
KEY = jax.random.key(0)


def random_pairs(n=N, seed=0, steps=T):
    random = np.random.default_rng(seed)
    a, b = random.integers(0, SIZE, (2, n, steps), np.int32)
    return Pairs(random.normal(size=(n, C)).astype(np.float32), a, b, random.integers(-1, 2, n))


DATA = random_pairs()
start = jax.jit(
    functools.partial(reward_model.init, condition_size=C), static_argnums=2, static_argnames="likeness"
)
update = jax.jit(reward_model.step, static_argnums=2)
rewards = jax.jit(reward_model.rewards, static_argnums=2)
both_rewards = jax.jit(reward_model.pair_rewards, static_argnums=2)


def composed(condition_size=C, composer=COMPOSER):
    """Parameters of a composer."""
    prompt = (np.zeros((1, condition_size)),) if condition_size else ()
    return jax.tree.map(jnp.asarray, drawn(composer, *np.zeros((2, 1, 1), int), *prompt))


@functools.cache
def fresh(config=CONFIG):
    return start(KEY, config, COMPOSER)


def random_params(composer=COMPOSER, config=CONFIG, likeness=False, steps=T):
    inputs = np.zeros((1, steps), int), np.zeros((1, C)), np.zeros(1) if likeness else None
    network = drawn(reward_model.reward_network(config, composer), *inputs)
    log_nu = np.linspace(-1.0, 0.5, config.ensemble_size, dtype=np.float32)
    return reward_model.Params(network, log_nu)


def train(state, updates, data=DATA, config=CONFIG):
    told = []
    for _ in range(updates):
        state, metrics = update(state, config, COMPOSER, data)
        told.append(metrics)
    return state, jax.tree.map(lambda *rows: np.stack(rows), *told)


def differences(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


# --- the loss


@pytest.mark.parametrize("ties", [True, False])
def test_the_loss_of_pairs_by_hand(ties, random):
    config = CONFIG.replace(ties=ties, margin=0.2, center_rewards_coefficient=0.3)
    params = random_params()
    weight = random.uniform(size=(3, N)).astype("f") * (ties | (DATA.choice != 0)) * (np.arange(N) < 30)
    first, second = both_rewards(params, CONFIG, COMPOSER, DATA)
    found, metrics = jax.jit(reward_model.weighted_loss, static_argnums=2)(
        params, config, COMPOSER, DATA, weight
    )
    log_nu = params.log_nu[:, None] if ties else np.full((3, 1), -30.0)
    difference = np.asarray(first - second)
    favour = DATA.choice * difference
    shifted = np.log(davidson(np.where(DATA.choice == 0, difference, favour - 0.2), np.exp(log_nu)))
    nats = -np.where(DATA.choice == 0, shifted[..., 1], shifted[..., 0])
    nats = np.where(weight > 0, nats, 0.0) + 0.3 * (first + second) ** 2
    np.testing.assert_allclose(found, (nats * weight).sum() / weight.sum(), rtol=1e-4)
    decided, favour = DATA.choice != 0, favour.mean(axis=0)
    both = np.stack([first, second])
    expected = {
        "accuracy": (favour > 0)[decided].mean(), "margin": favour[decided].mean(),
        "mean_reward": both.mean(), "min_reward": both.min(), "max_reward": both.max(),
        "nu": np.exp(params.log_nu).mean() if ties else 0.0,
    }  # fmt: skip
    assert metrics.keys() == expected.keys()
    for name, number in expected.items():
        np.testing.assert_allclose(metrics[name], number, rtol=1e-4, atol=1e-6, err_msg=name)
    chances = np.asarray(
        jax.jit(reward_model.probabilities, static_argnums=2)(params, config, COMPOSER, DATA)
    )
    np.testing.assert_allclose(chances, davidson(difference, np.exp(log_nu)).mean(axis=0), atol=1e-5)


# --- the network


def test_pairs_without_weight_have_no_loss():
    loss = lambda params: reward_model.weighted_loss(params, CONFIG, COMPOSER, DATA, np.zeros((3, N), "f"))[0]
    found, gradient = jax.jit(jax.value_and_grad(loss))(random_params())
    assert found == 0 and not any(np.any(x) for x in jax.tree.leaves(gradient))


def test_the_body_is_the_composers():
    given = composed()
    laid = start(KEY, CONFIG, COMPOSER, params=given).params.network["params"]
    new = fresh().params.network["params"]
    body = laid["composer"]
    assert body.keys() == given["params"].keys() - {"logits_head", "value_head"}
    jax.tree.map(np.testing.assert_array_equal, body, {name: given["params"][name] for name in body})
    np.testing.assert_array_equal(laid["kernel"], new["kernel"])
    assert differences(new["composer"], body) > 0.1
    assert not np.any(new["bias"]) and not np.any(fresh().params.log_nu)
    many = start(KEY, CONFIG.replace(ensemble_size=60), COMPOSER).params.network["params"]["kernel"]
    assert np.abs(np.std(many) * np.sqrt(many.shape[1] + 1) - 1) < 0.1


@pytest.mark.parametrize("traits", [0, 8])
def test_heads_read_the_composers_states_after_the_last_note(traits, random):
    """And, where a judge is told of them, the traits of the melody, and how like the prompt it is."""
    config = CONFIG.replace(trait_units=traits)
    data = random_pairs(6, steps=36)
    data = data.replace(likeness=random.uniform(-0.5, 0.5, (6, 2)).astype("f"))
    params = random_params(config=config, likeness=True, steps=36)
    network = params.network["params"]

    @jax.jit
    def features(tokens, likeness):
        previous_token = jnp.concatenate([jnp.full((1, 6), SIZE), tokens.T])
        times = jnp.broadcast_to(jnp.arange(37)[:, None], previous_token.shape)
        body = {"params": network["composer"]}
        hidden = COMPOSER.apply(body, previous_token, times, data.condition, method="hidden")
        near = 5.0 * likeness[:, None]
        heard = []
        if traits:
            heard = [jnp.concatenate([standardized_traits(tokens), data.condition, near], axis=-1)]
            for layer in ("Dense_1", "Dense_0"):  # flax counts from the outside
                dense = network[layer]
                heard = [jax.nn.gelu(heard[0] @ dense["kernel"] + dense["bias"])]
        return jnp.concatenate([hidden[1:].mean(axis=0), hidden[-1], *heard, near], axis=-1)

    found = both_rewards(params, config, COMPOSER, data)
    for column, tokens in enumerate((data.a, data.b)):
        expected = network["kernel"] @ np.asarray(features(tokens, data.likeness[:, column])).T
        np.testing.assert_allclose(found[column], expected + network["bias"], atol=1e-4)


def test_a_composer_without_prompts_may_be_the_body():
    body = start(KEY, CONFIG, COMPOSER, params=composed(0)).params.network["params"]["composer"]
    assert body["condition_layer"]["kernel"].shape == (C, 8)
    without = jax.eval_shape(lambda: reward_model.init(KEY, CONFIG, COMPOSER)).params
    assert "condition_layer" not in without.network["params"]["composer"]
    each = lambda params: reward_model.rewards(params, CONFIG, COMPOSER, None, DATA.a)
    assert jax.eval_shape(each, without).shape == (3, N)


def test_parameters_of_another_composer_are_refused():
    lay = lambda given: jax.eval_shape(lambda: reward_model.init(KEY, CONFIG, COMPOSER, C, params=given))
    with pytest.raises(ValueError, match=r"another composer: .* has shapes"):
        lay(composed(0, COMPOSER.clone(width=32)))
    with pytest.raises(ValueError, match="lack bar_table, place_table"):
        lay(composed(0, COMPOSER.clone(metre=False)))


def test_the_composer_outlives_a_donated_state():
    given = composed()
    laid = reward_model.load_body(given["params"], fresh().params.network["params"]["composer"])
    jax.tree.map(lambda x: x.delete(), laid)
    assert np.isfinite(jax.tree.leaves(given)[0]).all()


def test_heads_and_prompts_and_the_last_note_differ():
    composer = Composer(SIZE, body="lstm", width=4, lookback=())
    params = random_params(composer)
    each = rewards(params, CONFIG, composer, DATA.condition, DATA.a)
    assert each.shape == (3, N)
    assert np.abs(np.corrcoef(each)[np.triu_indices(3, 1)]).max() < 0.98
    assert differences(each, rewards(params, CONFIG, composer, -DATA.condition, DATA.a)) > 0.01
    last = np.concatenate([DATA.a[:, :-1], (DATA.a[:, -1:] + 1) % SIZE], axis=1)
    changed = np.abs(each - rewards(params, CONFIG, composer, DATA.condition, last))
    assert changed.max(axis=0).min() > 1e-5


def test_normalised_scores(random):
    each = random.normal(2.0, 3.0, (3, N)).astype("f") + np.array([[0.0], [5.0], [-4.0]], "f")
    score = jax.jit(reward_model.score)
    mean, std = score(each, jax.jit(reward_model.normalise)(each))
    assert float(mean.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(mean.std()) == pytest.approx(1.0, abs=1e-4)
    raw_mean, raw_std = score(each, reward_model.RAW)
    np.testing.assert_allclose(raw_mean, each.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(raw_std, each.std(axis=0), atol=1e-5)
    level = each - each.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(std, level.std(axis=0) / raw_mean.std(), atol=1e-4)


# --- the examples


def test_each_head_has_its_own_bootstrap():
    data = random_pairs(4000, steps=1)
    config = CONFIG.replace(ensemble_size=4)
    weights = jax.jit(reward_model.pair_weights)
    all_ = np.arange(4000)
    found = np.asarray(weights(KEY, config, data, all_))
    assert found.shape == (4, 4000)
    counts = np.bincount(found[0].astype(int), minlength=9)[:4] / 4000
    np.testing.assert_allclose(counts, np.exp(-1.0) / np.array([1, 1, 2, 6]), atol=0.03)
    assert np.abs(np.corrcoef(found)[np.triu_indices(4, 1)]).max() < 0.07
    # of the pair alone, not of its place in the batch
    np.testing.assert_array_equal(weights(KEY, config, data, all_[::-1]), found[:, ::-1])
    assert (weights(jax.random.key(1), config, data, all_) != found).any()
    weighty = data.replace(weight=np.linspace(0, 1, 4000, dtype="f"))
    np.testing.assert_allclose(weights(KEY, config, weighty, all_), weighty.weight * found, rtol=1e-6)
    np.testing.assert_array_equal(
        weights(KEY, config.replace(ensemble_size=1), data, all_), np.ones((1, 4000))
    )
    untied = weights(KEY, config.replace(ensemble_size=1, ties=False), data, all_)
    np.testing.assert_array_equal(untied[0], data.choice != 0)


# --- learning


def test_a_step_of_each_part_at_its_own_rate():
    """Adam's first step is the rate in each number; the schedule ends at zero with the epochs."""
    config = CONFIG.replace(learning_rate=1e-3, weight_decay=0.0, max_grad_norm=1e9, num_epochs=2.0)
    before = fresh()
    after, metrics = train(before, 11, config=config)
    np.testing.assert_allclose(metrics["lr"], 1e-3 * np.maximum(1 - np.arange(11) / 10, 0), rtol=1e-5)
    first, _ = train(before, 1, config=config)
    moved = jax.tree.map(lambda new, old: np.abs(new - old).max(), first.params, before.params)
    np.testing.assert_allclose(moved.log_nu, 0.1, rtol=0.01)
    np.testing.assert_allclose(moved.network["params"]["kernel"], 2e-3, rtol=0.02)
    np.testing.assert_allclose(
        moved.network["params"]["composer"]["condition_layer"]["kernel"], 1e-3, rtol=0.05
    )
    assert int(after.update) == 11
    momentum = first.opt_state[0][1].mu
    norm = np.sqrt(sum((np.asarray(x) ** 2).sum() for x in jax.tree.leaves(momentum)))
    np.testing.assert_allclose(metrics["grad_norm"][0], 10 * norm, rtol=1e-4)
    clipped = train(before, 1, config=config.replace(max_grad_norm=0.01))[0].opt_state[0][1].mu
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b * 0.001 / norm, atol=1e-6), clipped, momentum)
    # matrices decay, and nothing else does
    decay = train(before, 1, config=config.replace(weight_decay=10.0))[0].params
    shrunk = jax.tree.map(lambda new, old: new - old, decay, first.params).network["params"]
    old = before.params.network["params"]
    np.testing.assert_allclose(shrunk["kernel"], -2 * 0.01 * np.asarray(old["kernel"]), atol=1e-5)
    table = "token_table"
    expected = -0.01 * np.asarray(old["composer"][table]["embedding"])
    np.testing.assert_allclose(shrunk["composer"][table]["embedding"], expected, atol=1e-5)
    np.testing.assert_array_equal(decay.log_nu, first.params.log_nu)


def test_a_taste_for_a_note_is_learned():
    liked = (DATA.a >= 20).sum(axis=1) - (DATA.b >= 20).sum(axis=1)
    choice = np.where(np.abs(liked) <= 1, 0, np.sign(liked))
    data = DATA.replace(choice=choice)
    config = CONFIG.replace(num_epochs=16.0, learning_rate=2e-2)
    state, metrics = train(fresh(), 80, data, config)
    assert metrics["accuracy"][-10:].mean() > 0.85  # the bootstrap keeps some pairs from all heads
    assert metrics["loss"][-10:].mean() < 0.6 * metrics["loss"][0]
    probabilities = jax.jit(reward_model.probabilities, static_argnums=2)
    found = np.asarray(probabilities(state.params, config, COMPOSER, data))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)
    assert found[choice == 1, 0].mean() > 5 * found[choice == 1, 2].mean()
    assert found[choice == 0, 1].mean() > 1.5 * found[choice != 0, 1].mean()


def test_the_tie_parameter_moves_towards_the_share_of_ties():
    run = lambda choice: train(fresh(), 5, DATA.replace(choice=np.full(N, choice)))[0].params.log_nu
    assert (run(0) > 0.5).all()
    assert (run(1) < -0.5).all()


def test_the_judge_is_told_how_like_melody_and_prompt_are(random):
    likeness = random.uniform(-0.5, 0.5, (N, 2)).astype("f")
    data = DATA.replace(choice=np.sign(likeness[:, 0] - likeness[:, 1]).astype(int), likeness=likeness)
    state = start(KEY, CONFIG, COMPOSER, likeness=True)
    state, metrics = train(state, 30, data, CONFIG.replace(num_epochs=8.0))
    assert metrics["accuracy"][-5:].mean() > 0.9
    near, far = (np.full((N, 2), value, "f") for value in (0.5, -0.5))
    each = [both_rewards(state.params, CONFIG, COMPOSER, data.replace(likeness=x))[0] for x in (near, far)]
    assert (each[0].mean(axis=0) > each[1].mean(axis=0)).all()  # of any melody


def test_another_loss_of_pairs_may_be_given():
    """One without a slope changes nothing."""
    config = CONFIG.replace(weight_decay=0.0, center_rewards_coefficient=0.0, margin=0.7)
    flat = lambda difference, choice, *, log_nu, margin: 0.0 * difference + margin
    step = jax.jit(functools.partial(reward_model.step, loss=flat), static_argnums=2)
    state, metrics = step(fresh(), config, COMPOSER, DATA)
    np.testing.assert_allclose(metrics["loss"], 0.7, rtol=1e-5)
    assert differences(state.params, fresh().params) == 0
