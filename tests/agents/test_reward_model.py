import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mammadai_jax.agents import epochs, reward_model
from mammadai_jax.agents.reward_model import Pairs
from mammadai_jax.networks.composer import Composer

SIZE, C, T, N = 38, 3, 12, 40
COMPOSER = Composer(SIZE, body="transformer", width=16, layers=1, heads=2, lookback=())
CONFIG = reward_model.Config(heads=3, batch=8, learning_rate=1e-2)


def random_pairs(n=N, seed=0, condition=True):
    random = np.random.default_rng(seed)
    a, b = random.integers(0, SIZE, (2, n, T))
    prompts = jnp.asarray(random.normal(size=(n, C)), jnp.float32) if condition else None
    return Pairs(prompts, jnp.asarray(a), jnp.asarray(b), jnp.asarray(random.integers(-1, 2, n)))


DATA = random_pairs()
start = jax.jit(functools.partial(reward_model.init, condition_size=C), static_argnums=2)
update = jax.jit(reward_model.step, static_argnums=2)
rewards = jax.jit(reward_model.rewards, static_argnums=2)


@functools.partial(jax.jit, static_argnums=(0, 1))
def composed(composer, condition_size):
    """Parameters of a composer."""
    fed = jnp.zeros((1, 1), jnp.int32)
    return composer.init(jax.random.key(7), fed, fed, jnp.zeros((1, C)) if condition_size else None)


def train(key, config, updates, data=DATA, params=None):
    state = reward_model.init(key, config, COMPOSER, C, params)
    learn = lambda state, _: reward_model.step(state, config, COMPOSER, data)
    return jax.lax.scan(learn, state, length=updates)


def differences(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


# --- the loss


def test_equal_rewards_are_a_coin(transform):
    nats = transform(lambda d, c: reward_model.negative_log_likelihood(d, c))
    np.testing.assert_allclose(nats(jnp.zeros(2), jnp.array([1, -1])), np.log(2), rtol=1e-6)


def test_bradley_terry_by_hand(transform):
    difference, choice = jnp.array([2.0, 2.0, -0.5]), jnp.array([1, -1, -1])
    nats = transform(lambda d, c: reward_model.negative_log_likelihood(d, c, margin=0.3))
    expected = np.log1p(np.exp(-(np.array([2.0, -2.0, 0.5]) - 0.3)))
    np.testing.assert_allclose(nats(difference, choice), expected, rtol=1e-5)


def test_davidson_by_hand(transform):
    nu, a, b = 0.7, np.array([1.0, -2.0]), np.array([0.2, 3.0])
    parts = np.stack([np.exp(a), nu * np.exp((a + b) / 2), np.exp(b)], axis=-1)
    found = jnp.exp(transform(reward_model.log_probabilities)(jnp.asarray(a - b), jnp.log(nu)))
    np.testing.assert_allclose(found, parts / parts.sum(axis=-1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, rtol=1e-6)
    for index, choice in enumerate((1, 0, -1)):
        nats = reward_model.negative_log_likelihood(jnp.asarray(a - b), jnp.int32(choice), jnp.log(nu))
        np.testing.assert_allclose(nats, -jnp.log(found[:, index]), rtol=1e-4)


def test_few_ties_are_nearly_bradley_terry():
    difference = jnp.linspace(-4, 4, 9)
    few = reward_model.log_probabilities(difference, jnp.log(1e-7))
    np.testing.assert_allclose(few[:, 0], jax.nn.log_sigmoid(difference), atol=1e-5)
    none = reward_model.log_probabilities(difference, reward_model.NEVER)
    np.testing.assert_allclose(none[:, 2], jax.nn.log_sigmoid(-difference), atol=1e-6)


def test_sides_do_not_matter(transform):
    nats = transform(lambda d, c: reward_model.negative_log_likelihood(d, c, 0.4, 0.1))
    difference, choice = jnp.array([1.2, 1.2, 1.2]), jnp.array([1, 0, -1])
    np.testing.assert_allclose(nats(difference, choice), nats(-difference, -choice), rtol=1e-6)


@pytest.mark.parametrize("nu", [0.0, 0.8])
def test_a_linear_taste_is_recovered(nu, random):
    taste = np.array([1.0, -2.0, 0.5, 0.0])
    a, b = random.normal(size=(2, 20_000, 4))
    log_nu = np.log(nu) if nu else reward_model.NEVER
    share = np.exp(reward_model.log_probabilities(jnp.asarray((a - b) @ taste), log_nu))
    choice = 1 - (random.random((len(a), 1)) > share.cumsum(axis=1)[:, :2]).sum(axis=1)

    @jax.jit
    def fit(params):
        def loss(params):
            tie = params["log_nu"] if nu else reward_model.NEVER
            nats = reward_model.negative_log_likelihood((a - b) @ params["taste"], choice, tie)
            return nats.mean()

        solver = optax.lbfgs()
        both = optax.value_and_grad_from_state(loss)

        def step(carry, _):
            params, memory = carry
            value, slope = both(params, state=memory)
            move = {"value": value, "grad": slope, "value_fn": loss}
            change, memory = solver.update(slope, memory, params, **move)
            return (optax.apply_updates(params, change), memory), value

        return jax.lax.scan(step, (params, solver.init(params)), length=15)[0][0]

    found = fit({"taste": jnp.zeros(4), "log_nu": jnp.float32(0.0)})
    # four standard errors; the information of a pair is at most a quarter of its squared difference
    np.testing.assert_allclose(found["taste"], taste, atol=0.12)
    if nu:
        assert found["log_nu"] == pytest.approx(log_nu, abs=0.08)


# --- the network


def test_the_body_is_the_composers():
    given = composed(COMPOSER, C)
    key = jax.random.key(0)
    laid = start(key, CONFIG, COMPOSER, params=given).params.network["params"]
    fresh = start(key, CONFIG, COMPOSER).params.network["params"]
    body = laid["composer"]
    assert body.keys() == given["params"].keys() - {"logits_head", "value_head"}
    jax.tree.map(np.testing.assert_array_equal, body, {name: given["params"][name] for name in body})
    np.testing.assert_array_equal(laid["kernel"], fresh["kernel"])
    assert differences(fresh["composer"], body) > 0.1


def test_heads_read_the_composers_states_after_the_last_note():
    given = composed(COMPOSER, C)
    params = start(jax.random.key(0), CONFIG, COMPOSER, params=given).params
    tokens = jnp.concatenate([jnp.full((1, N), SIZE), DATA.a.T])
    times = jnp.broadcast_to(jnp.arange(T + 1)[:, None], tokens.shape)
    hidden = np.asarray(COMPOSER.apply(given, tokens, times, DATA.condition, method="hidden"))
    features = np.concatenate([hidden[1:].mean(axis=0), hidden[-1]], axis=-1)
    kernel = np.asarray(params.network["params"]["kernel"])
    found = rewards(params, CONFIG, COMPOSER, DATA.condition, DATA.a)
    np.testing.assert_allclose(found, (features @ kernel.T).T, atol=1e-4)
    changed = rewards(params, CONFIG, COMPOSER, DATA.condition, DATA.a.at[:, -1].add(1) % SIZE)
    assert np.abs(found - changed).min(axis=1).max() > 1e-5, "the last note is heard"
    assert np.abs(kernel.std() * np.sqrt(kernel.shape[1] + 1) - 1) < 0.3


def test_a_composer_without_prompts_may_be_the_body():
    given = composed(COMPOSER, 0)
    body = start(jax.random.key(0), CONFIG, COMPOSER, params=given).params.network["params"]["composer"]
    assert body["condition_layer"]["kernel"].shape == (C, 16)
    without = jax.jit(reward_model.init, static_argnums=2)(jax.random.key(0), CONFIG, COMPOSER).params
    assert "condition_layer" not in without.network["params"]["composer"]
    assert rewards(without, CONFIG, COMPOSER, None, DATA.a).shape == (3, N)


def test_parameters_of_another_composer_are_refused():
    wide = composed(COMPOSER.clone(width=32), 0)
    with pytest.raises(ValueError, match=r"another composer: .* has shapes"):
        reward_model.init(jax.random.key(0), CONFIG, COMPOSER, C, wide)
    unmetred = composed(COMPOSER.clone(metre=False), 0)
    with pytest.raises(ValueError, match="lack bar_table, place_table"):
        reward_model.init(jax.random.key(0), CONFIG, COMPOSER, C, unmetred)


def test_the_composer_outlives_a_donated_state():
    given = composed(COMPOSER, C)
    fresh = start(jax.random.key(0), CONFIG, COMPOSER).params.network["params"]["composer"]
    laid = reward_model.lay(given["params"], fresh)
    jax.tree.map(lambda x: x.delete(), laid)
    assert np.isfinite(jax.tree.leaves(given)[0]).all()


def test_heads_and_prompts_differ():
    params = start(jax.random.key(0), CONFIG, COMPOSER).params
    each = rewards(params, CONFIG, COMPOSER, DATA.condition, DATA.a)
    assert each.shape == (3, N)
    assert np.abs(np.corrcoef(each)[np.triu_indices(3, 1)]).max() < 0.9
    other = rewards(params, CONFIG, COMPOSER, -DATA.condition, DATA.a)
    assert np.abs(each - other).max() > 0.01


def test_normalised_scores():
    params = start(jax.random.key(0), CONFIG, COMPOSER).params
    each = rewards(params, CONFIG, COMPOSER, DATA.condition, DATA.a)
    mean, std = reward_model.score(each, reward_model.normalise(each))
    assert float(mean.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(mean.std()) == pytest.approx(1.0, abs=1e-4)
    raw_mean, raw_std = reward_model.score(each)
    np.testing.assert_allclose(raw_mean, each.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(raw_std, each.std(axis=0), atol=1e-6)
    level = each - each.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(std, level.std(axis=0) / raw_mean.std(), atol=1e-4)


# --- the examples


def test_an_epoch_shows_every_pair_once_and_is_a_function_of_key_and_update():
    key = jax.random.key(3)
    chosen = [epochs.minibatch(key, jnp.int32(i), CONFIG, N) for i in range(10)]
    for epoch in (chosen[:5], chosen[5:]):
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), np.arange(N))
    assert (np.concatenate(chosen[:5]) != np.concatenate(chosen[5:])).any()
    np.testing.assert_array_equal(chosen[7], epochs.minibatch(key, jnp.int32(7), CONFIG, N))
    assert epochs.minibatch(key, jnp.int32(0), CONFIG, 3).shape == (3,)
    assert epochs.updates_in(CONFIG.replace(epochs=2), N) == 10
    with pytest.raises(ValueError, match="no examples"):
        epochs.updates_in(CONFIG, 0)


def test_each_head_has_its_own_bootstrap(random):
    data = random_pairs(4000)
    config = CONFIG.replace(heads=4)
    weights = jax.jit(reward_model.weights)
    all_, key = jnp.arange(4000), jax.random.key(0)
    found = np.asarray(weights(key, config, data, all_))
    assert found.shape == (4, 4000)
    counts = np.bincount(found[0].astype(int), minlength=9)[:4] / 4000
    np.testing.assert_allclose(counts, np.exp(-1.0) / np.array([1, 1, 2, 6]), atol=0.03)
    assert np.abs(np.corrcoef(found)[np.triu_indices(4, 1)]).max() < 0.07
    # of the pair alone, not of its place in the batch
    np.testing.assert_array_equal(weights(key, config, data, all_[::-1]), found[:, ::-1])
    weighty = data.replace(weight=jnp.full(4000, 0.5))
    np.testing.assert_array_equal(weights(key, config, weighty, all_), 0.5 * found)
    np.testing.assert_array_equal(weights(key, config.replace(heads=1), data, all_), np.ones((1, 4000)))
    untied = weights(key, config.replace(heads=1, ties=False), data, all_)
    np.testing.assert_array_equal(untied[0], data.choice != 0)


def test_pairs_without_weight_have_no_say():
    silent = DATA.replace(weight=jnp.where(jnp.arange(N) < 20, 1.0, 0.0))
    other = silent.replace(choice=jnp.where(jnp.arange(N) < 20, DATA.choice, -DATA.choice))
    config = CONFIG.replace(batch=N)
    state = start(jax.random.key(0), config, COMPOSER)
    one, two = update(state, config, COMPOSER, silent)[0], update(state, config, COMPOSER, other)[0]
    assert differences(one.params, two.params) == 0
    assert differences(one.params, update(state, config, COMPOSER, DATA)[0].params) > 0


# --- learning


def test_a_taste_for_a_note_is_learned():
    random = np.random.default_rng(1)
    a, b = random.integers(0, SIZE, (2, 512, T))
    liked = (a >= 20).sum(axis=1) - (b >= 20).sum(axis=1)
    choice = np.where(np.abs(liked) <= 1, 0, np.sign(liked))
    data = Pairs(jnp.zeros((512, C)), jnp.asarray(a), jnp.asarray(b), jnp.asarray(choice))
    config = reward_model.Config(heads=2, batch=32, epochs=8, learning_rate=3e-3)
    training = jax.jit(lambda key: train(key, config, 128, data))
    state, metrics = training(jax.random.key(0))
    assert metrics["accuracy"][-16:].mean() > 0.95
    assert metrics["loss"][-16:].mean() < 0.6 * metrics["loss"][0]
    assert metrics["learning_rate"][0] == pytest.approx(3e-3)
    assert 0 < metrics["learning_rate"][-1] < 3e-5
    assert all(values.shape == (128,) for values in metrics.values())
    found = reward_model.probabilities(state.params, config, COMPOSER, data)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)
    assert found[choice == 1, 0].mean() > 5 * found[choice == 1, 2].mean()
    assert found[choice == 0, 1].mean() > 1.5 * found[choice != 0, 1].mean()


@pytest.mark.parametrize("traits", [0, 8])
def test_a_taste_for_what_is_like_the_prompt_is_learned(traits, random):
    likeness = jnp.asarray(random.uniform(-0.5, 0.5, (64, 2)), jnp.float32)
    data = random_pairs(64)
    data = data.replace(
        a=jnp.tile(data.a, (1, 3)),  # traits are of 32 steps or more
        b=jnp.tile(data.b, (1, 3)),
        choice=jnp.sign(likeness[:, 0] - likeness[:, 1]),
        likeness=likeness,
    )
    config = CONFIG.replace(traits=traits, epochs=8, batch=16)
    state = reward_model.init(jax.random.key(0), config, COMPOSER, C, likeness=True)
    state, metrics = jax.lax.scan(
        lambda state, _: reward_model.step(state, config, COMPOSER, data), state, length=32
    )
    assert metrics["accuracy"][-4:].mean() > 0.9
    near = lambda value: reward_model.rewards(
        state.params, config, COMPOSER, data.condition, data.a, jnp.full(64, value)
    ).mean(axis=0)
    assert (near(0.5) > near(-0.5)).all()  # of any melody
    both = reward_model.of_pairs(state.params, config, COMPOSER, data)
    for column, (found, melodies) in enumerate(zip(both, (data.a, data.b), strict=True)):
        known = data.condition, melodies, likeness[:, column]
        np.testing.assert_allclose(
            found, reward_model.rewards(state.params, config, COMPOSER, *known), atol=1e-5
        )


def test_centring_keeps_rewards_near_zero():
    far = lambda weight: CONFIG.replace(center_rewards_coefficient=weight, epochs=8)
    run = jax.jit(lambda config: train(jax.random.key(0), config, 40)[0].params)
    sums = [
        np.abs(rewards(run(far(weight)), CONFIG, COMPOSER, DATA.condition, DATA.a).mean())
        for weight in (0.0, 1.0)
    ]
    assert sums[1] < 0.5 * sums[0]
    assert sums[1] < 0.2


def test_the_tie_parameter_moves_towards_the_share_of_ties():
    run = jax.jit(lambda data: train(jax.random.key(0), CONFIG, 5, data)[0].params.log_nu)
    assert (run(DATA.replace(choice=jnp.zeros(N, int))) > 0.5).all()
    assert (run(DATA.replace(choice=jnp.ones(N, int))) < -0.5).all()


def test_seeds_together_equal_seeds_alone():
    keys = jax.random.split(jax.random.key(0), 2)
    together = jax.jit(jax.vmap(lambda key: train(key, CONFIG, 4)[0].params))(keys)
    alone = jax.jit(lambda key: train(key, CONFIG, 4)[0].params)
    for seed in range(2):
        found = jax.tree.map(lambda x: x[seed], together)  # noqa: B023
        assert differences(found, alone(keys[seed])) < 1e-4
    assert differences(alone(keys[0]), alone(keys[1])) > 0.01


def test_resumed_is_the_same_to_the_bit():
    state = start(jax.random.key(0), CONFIG, COMPOSER)
    for count in range(4):
        if count == 2:
            data = jax.tree.map(
                lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, state
            )
            saved = jax.tree.map(np.asarray, data)
        state, _ = update(state, CONFIG, COMPOSER, DATA)
    restored = jax.tree.map(jnp.asarray, saved)
    restored = restored.replace(key=jax.random.wrap_key_data(restored.key))
    for _ in range(2):
        restored, _ = update(restored, CONFIG, COMPOSER, DATA)
    jax.tree.map(np.testing.assert_array_equal, restored.params, state.params)
    jax.tree.map(np.testing.assert_array_equal, restored.opt_state, state.opt_state)
    assert int(restored.update) == 4


def test_the_step_is_traced_once():
    traced = []

    @jax.jit
    def step(state, config):
        traced.append(1)
        return reward_model.step(state, config, COMPOSER, DATA)

    state = start(jax.random.key(0), CONFIG, COMPOSER)
    for rate in (1e-3, 2e-3):
        state, _ = step(state, CONFIG.replace(learning_rate=rate, margin=rate))
    assert len(traced) == 1
