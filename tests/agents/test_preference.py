import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import preference
from mammadai_jax.agents.preference import learning
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.networks.composer import Composer
from mammadai_jax.training.checkpoints import Checkpoints

TINY = Composer(size=4, width=8, layers=1, metre=False, lookback=())
SHORT = preference.Config(
    melodies=8, steps=6, epochs=2, minibatches=2, learning_rate=1e-2, value_learning_rate=1e-2, beta=0.1
)
PROMPTS = {"condition": jnp.eye(5, 3), "taste": jnp.arange(5) % 4}


def start(composer=TINY, prompts=3, scale=0.5, seed=0):
    """Parameters of a composer that has an opinion, of notes and of values."""
    blank = jnp.zeros((1, 1), jnp.int32)
    condition = jnp.zeros((1, prompts)) if prompts else None
    params = composer.init(jax.random.key(seed), blank, blank, condition)
    noise = lambda x: x + scale * jax.random.normal(jax.random.key(seed + 1), x.shape)
    return jax.tree.map(noise, params)


def matches(_, rows, tokens):
    """How many notes are the prompt's favourite one, and how many begin a melody so."""
    hit = tokens == rows["taste"][:, None]
    return {"share": hit.mean(axis=1), "first": hit[:, 0] * 1.0}


def bits(tree):
    raw = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return [(str(x.dtype), x.shape, np.asarray(raw(x)).tobytes()) for x in jax.tree.leaves(tree)]


def distance(one, other):
    return max(np.abs(a - b).max() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@functools.partial(jax.jit, static_argnums=(1, 2, 5))
def train(state, composer, reward, config, prompts, updates):
    """An updated state, and the metrics of each update."""
    learn = lambda state, _: preference.step(state, config, composer, prompts, reward)
    return jax.lax.scan(learn, state, length=updates)


update = jax.jit(preference.step, static_argnums=(2, 4))


@pytest.fixture(scope="module")
def params():
    return start()


def begin(params, config=SHORT, seed=0, **rest):
    return preference.init(jax.random.key(seed), config, TINY, params, **rest)


# What is played and measured


@pytest.mark.parametrize("body", ["lstm", "transformer"])
@pytest.mark.parametrize("temperature", [0.7, 0.99])
def test_recorded_probabilities_are_recomputed(body, temperature):
    composer = Composer(size=6, body=body, width=16, layers=2, heads=2, lookback=(1,), context=64)
    config = SHORT.replace(steps=24, temperature=temperature)
    params = start(composer, scale=0.2)
    condition = jax.random.normal(jax.random.key(1), (8, 3))
    play = jax.jit(preference.play, static_argnums=2)
    played = play(params, config, composer, condition, jax.random.key(2))
    assert played.action.shape == (24, 8)
    assert played.action.dtype == jnp.int32
    np.testing.assert_array_equal(played.fed[0], composer.start)
    np.testing.assert_array_equal(played.fed[1:], played.action[:-1])
    logits, value = preference.read({"policy": params}, config, composer, played.fed, condition)
    log_policy = jax.nn.log_softmax(logits)
    assert np.ptp(np.asarray(log_policy), axis=-1).mean() > 0.5
    np.testing.assert_allclose(played.log_policy, log_policy, atol=1e-5)
    chosen = jnp.take_along_axis(log_policy, played.action[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(played.log_prob, chosen, atol=1e-5)
    np.testing.assert_allclose(played.value, value, atol=1e-5)
    other = preference.read({"policy": params}, config, composer, played.fed, condition[::-1]).logits
    assert distance(other, logits) > 0.1


def test_without_prompts_as_many_are_played_as_the_config_says():
    played = preference.play(start(prompts=0), SHORT, TINY, None, jax.random.key(0))
    assert played.action.shape == (6, 8)


def test_estimators_agree_in_expectation(random):
    log_policy, log_reference = jax.nn.log_softmax(jnp.asarray(random.normal(size=(2, 3, 5)), jnp.float32))
    every = jnp.broadcast_to(jnp.arange(5), (3, 5))
    spread = lambda x: jnp.broadcast_to(x[:, None], (3, 5, 5))
    of = lambda kind: preference.divergence(spread(log_policy), spread(log_reference), every, kind)
    mean = lambda x: (jnp.exp(log_policy) * x).sum(axis=1)
    exact = preference.divergence(log_policy, log_reference, every[:, 0], "exact")
    assert exact.min() > 0.01
    np.testing.assert_allclose(of("exact"), np.broadcast_to(exact[:, None], (3, 5)), atol=1e-6)
    np.testing.assert_allclose(mean(of("k1")), exact, atol=1e-6)
    np.testing.assert_allclose(mean(of("k3")), exact, atol=1e-6)
    assert of("k1").min() < 0 < of("k3").min()
    same = preference.divergence(log_policy, log_policy, every[:, 0], "k3")
    np.testing.assert_allclose(same, 0.0, atol=1e-6)


def test_far_off_ratios_do_not_overflow():
    rows = jax.nn.log_softmax(jnp.array([[0.0, -200.0]])), jax.nn.log_softmax(jnp.array([[-200.0, 0.0]]))
    assert jnp.isfinite(preference.divergence(*rows, jnp.array([1]), "k3")).all()


@pytest.mark.parametrize(
    ("kl", "factor"), [(6.0, 1.0), (6.6, 1 + 0.1 * 0.08), (60.0, 1 + 0.2 * 0.08), (0.0, 1 - 0.2 * 0.08)]
)
def test_beta_follows_its_target(kl, factor):
    config = preference.Config(melodies=8, target=6.0, horizon=100.0)
    found = preference.adapt(jnp.float32(0.15), jnp.float32(kl), config)
    np.testing.assert_allclose(found, 0.15 * factor, rtol=1e-6)
    assert preference.adapt(jnp.float32(0.15), kl, config.replace(target=0.0)) == jnp.float32(0.15)


def test_statistics_are_those_of_all_rewards(random):
    rewards = random.normal(3.0, 2.0, (5, 7)).astype(np.float32)
    found = preference.Statistics(*jnp.zeros(3))
    assert found.scale == 1.0
    for row in rewards:
        found = found.add(jnp.asarray(row))
    np.testing.assert_allclose(found.mean, rewards.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.scale, rewards.std(), rtol=1e-5)
    assert found.add(jnp.ones(3)).count == 38
    assert preference.Statistics(*jnp.zeros(3)).add(jnp.full(4, 7.3)).scale == 1.0


# Prompts


@pytest.mark.parametrize("batch", [3, 7, 20])
def test_prompts_are_visited_once_an_epoch(batch):
    order = jax.random.key(5)
    rows = [preference.visited(order, jnp.int32(p), 7, batch) for p in range(0, 84, batch)]
    walked = np.concatenate(rows)[:84].reshape(12, 7)
    np.testing.assert_array_equal(np.sort(walked, axis=1), np.broadcast_to(np.arange(7), (12, 7)))
    assert len({tuple(row) for row in walked}) > 9
    alone = np.concatenate([preference.visited(order, jnp.int32(p), 7, 1) for p in range(84)])
    np.testing.assert_array_equal(walked.ravel(), alone)


def test_a_learner_walks_through_its_prompts(params):
    seen = lambda _, rows, tokens: {str(i): (rows["index"] == i) * 8.0 for i in range(12)}
    prompts = {"condition": jnp.ones((12, 3)), "index": jnp.arange(12)}
    state, metrics = train(begin(params), TINY, seen, SHORT, prompts, 3)
    visits = np.array([metrics[f"reward/{i}"] for i in range(12)])
    np.testing.assert_array_equal(visits.sum(axis=1), 2)  # 24 melodies
    assert state.position == 24
    np.testing.assert_array_equal(metrics["episode"], [8, 16, 24])


# Fixed points


def sequences(composer, params, config):
    """Every melody (T, A^T), and its log-probability."""
    melodies = jnp.array(list(itertools.product(range(composer.size), repeat=config.steps))).T
    fed = jnp.concatenate([jnp.full_like(melodies[:1], composer.start), melodies[:-1]])
    config = config.replace(separate=False)
    log_policy = jax.nn.log_softmax(preference.read({"policy": params}, config, composer, fed, None).logits)
    chosen = jnp.take_along_axis(log_policy, melodies[..., None], axis=-1)[..., 0]
    return melodies, chosen.sum(axis=0)


def taste(_, rows, tokens):
    """Every melody its own reward, between 0 and 1."""
    number = (tokens * 4 ** jnp.arange(tokens.shape[1])).sum(axis=1)
    return (number * 0.6180339887) % 1.0


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        (1, {"method": "reinforce"}),
        (1, {"estimator": "exact"}),
        (1, {"estimator": "k1"}),
        (1, {"estimator": "k3"}),
        (2, {"estimator": "exact"}),
        (2, {"estimator": "exact", "separate": True}),
        (2, {"estimator": "exact", "optimiser": "muon"}),
    ],
)
def test_the_optimum_is_the_tilted_reference(steps, kind):
    config = preference.Config(
        melodies=256, steps=steps, minibatches=2, updates=200, learning_rate=0.02, value_learning_rate=0.05,
        value_clip=None, temperature=1.0, beta=0.4, **kind,
    )  # fmt: skip
    params = start(prompts=0, scale=0.3)
    prompts = {"condition": None, "row": jnp.zeros(1)}
    state, _ = train(begin(params, config), TINY, taste, config, prompts, 200)
    melodies, log_reference = sequences(TINY, params, config)
    log_optimum = jax.nn.log_softmax(log_reference + taste(None, None, melodies.T) / 0.4)
    _, log_policy = sequences(TINY, state.params["policy"], config)
    apart = lambda x: float(jnp.abs(jnp.exp(x) - jnp.exp(log_optimum)).max())
    assert apart(log_reference) > 0.1
    assert apart(log_policy) < 0.02
    divergence = (jnp.exp(log_policy) * (log_policy - log_optimum)).sum()
    assert divergence < 0.005


# Learning


def prepared(params, config, **rest):
    """A state, its batch and the divergence, on the prompts' first melodies."""
    state = begin(params, config, **rest)
    condition = PROMPTS["condition"][jnp.arange(8) % 5]
    played = preference.play(state.params["policy"], config, TINY, condition, jax.random.key(3))
    score = jnp.linspace(-1.0, 1.0, 8)
    measured = state.params, state.reference, config, TINY, played, condition, score, state.coefficient
    return state, played, condition, *learning.prepare(*measured)


def test_advantages_by_hand(params):
    config = SHORT.replace(beta=0.3, trace=1.0, steps=2, temperature=1.0)
    for kind in ("exact", "k1", "k3"):
        state, played, condition, batch, kl = prepared(
            params, config.replace(estimator=kind), reference=start(seed=5)
        )
        there = preference.read({"policy": state.reference}, config, TINY, played.fed, condition).logits
        log_reference = jax.nn.log_softmax(there)
        expected = preference.divergence(played.log_policy, log_reference, played.action, kind)
        np.testing.assert_allclose(kl, expected, atol=1e-5)
        score = np.linspace(-1.0, 1.0, 8)
        own = preference.divergence(played.log_policy, log_reference, played.action, "k1")
        returns = np.stack([-0.3 * (kl[0] + kl[1]), -0.3 * kl[1]]) + score
        np.testing.assert_allclose(batch.target, returns, atol=1e-5)
        credit = np.stack([-0.3 * (own[0] + kl[1]), -0.3 * own[1]]) + score - played.value
        np.testing.assert_allclose(batch.advantage, credit, atol=1e-5)


def test_reinforce_follows_the_printed_gradient(params):
    """The sum over the alphabet is weighted by pi, and sampled notes by their return less the value."""
    config = SHORT.replace(method="reinforce", beta=0.25, value_weight=0.0, temperature=1.0)
    state, played, condition, batch, _ = prepared(params, config, reference=start(seed=5))
    mine = lambda p: learning.loss(p, config, TINY, batch, condition, state.coefficient)[0]

    def printed(p):
        log_policy = jax.nn.log_softmax(preference.read(p, config, TINY, played.fed, condition).logits)
        chosen = jnp.take_along_axis(log_policy, played.action[..., None], axis=-1)[..., 0]
        gain = (chosen * (jnp.linspace(-1.0, 1.0, 8) - played.value)).sum(axis=0)
        leash = (jnp.exp(log_policy) * (log_policy - batch.log_reference)).sum(axis=(0, 2))
        return -(0.8 * gain - 0.2 * leash).mean() / 6

    np.testing.assert_allclose(mine(state.params), printed(state.params), rtol=1e-5)
    found, expected = jax.jit(lambda p: (jax.grad(mine)(p), jax.grad(printed)(p)))(state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)


def test_rewards_are_named_weighed_and_logged(params):
    config = SHORT.replace(weights={"first": 3.0})
    _, metrics = update(begin(params), config, TINY, PROMPTS, matches)
    total = metrics["reward/share"] + 3.0 * metrics["reward/first"]
    assert metrics["reward/share"] > 0
    np.testing.assert_allclose(metrics["objective/scores"], total, rtol=1e-5)
    penalty = metrics["objective/non_score_reward"]
    np.testing.assert_allclose(penalty, -0.1 * metrics["objective/kl"], rtol=1e-5)
    np.testing.assert_allclose(metrics["objective/rlhf_reward"], total + penalty, rtol=1e-5)
    assert all(jnp.shape(value) == () for value in metrics.values())
    scaled = update(begin(params), config.replace(scale_rewards=True), TINY, PROMPTS, matches)[1]
    np.testing.assert_allclose(scaled["objective/scores"], total, rtol=1e-5)
    assert abs(scaled["objective/rlhf_reward"] - metrics["objective/rlhf_reward"]) > 0.01


def test_mistakes_are_told(params):
    with pytest.raises(ValueError, match=r"reward has shape \(8, 6\)"):
        preference.step(begin(params), SHORT, TINY, PROMPTS, lambda p, rows, tokens: tokens * 1.0)
    with pytest.raises(ValueError, match=r"weights name \['frist'\].*\['first', 'share'\]"):
        preference.step(begin(params), SHORT.replace(weights={"frist": 1.0}), TINY, PROMPTS, matches)
    with pytest.raises(ValueError, match="8 melodies cannot be shared by 3 minibatches"):
        begin(params, SHORT.replace(minibatches=3))
    with pytest.raises(ValueError, match="a critic is the value"):
        begin(params, SHORT.replace(critic=8, separate=True))
    with pytest.raises(ValueError, match="estimator is one of"):
        begin(params, SHORT.replace(estimator="k2"))
    with pytest.raises(ValueError, match="optimiser is one of"):
        begin(params, SHORT.replace(optimiser="sgd"))
    with pytest.raises(ValueError, match=r"token table of \(5, 8\), the composer one of \(7, 8\)"):
        preference.init(jax.random.key(0), SHORT, TINY.clone(size=6), params)


def test_far_policies_stop_an_update(params):
    config = SHORT.replace(epochs=4, minibatches=1, stop_kl=1e-7)
    run = lambda config: update(begin(params, config), config, TINY, PROMPTS, matches)
    stopped, metrics = run(config)
    once, _ = run(config.replace(epochs=1, stop_kl=None))
    free, unstopped = run(config.replace(stop_kl=None))
    assert metrics["minibatches"] == 1
    assert unstopped["minibatches"] == 4
    assert distance(stopped.params, once.params) < 1e-6
    assert distance(stopped.opt_state, once.opt_state) < 1e-6
    assert distance(stopped.params, free.params) > 1e-3
    assert metrics["policy/approxkl_avg"] < 1e-7 < unstopped["policy/approxkl_avg"]


def test_the_value_may_share_the_trunk_or_not(params):
    shared = begin(params)
    assert set(shared.params) == set(shared.opt_state) == {"policy"}
    assert not any(map(np.any, jax.tree.leaves(shared.params["policy"]["params"]["value_head"])))
    config = SHORT.replace(separate=True, value_weight=0.0)
    apart = begin(params, config)
    assert set(apart.params) == set(apart.opt_state) == {"policy", "value"}
    after, _ = update(apart, config, TINY, PROMPTS, matches)
    # without a weight, its loss moves nothing but what is the policy's
    assert distance(after.params["value"], apart.params["value"]) == 0
    assert distance(after.params["policy"], apart.params["policy"]) > 1e-3
    taught, _ = update(apart, config.replace(value_weight=1.0), TINY, PROMPTS, matches)
    assert distance(taught.params["value"], apart.params["value"]) > 1e-3
    assert distance(taught.params["policy"], after.params["policy"]) == 0
    kept = begin(params, value=params)
    assert distance(kept.params, {"policy": params}) == 0


SINGER = Composer(size=MAGENTA.size, width=8, layers=1, metre=False, lookback=())
HEARD = SHORT.replace(steps=32, critic=8, trace=0.9)


def high(_, rows, tokens):
    """How much of a melody is in the upper half of the alphabet."""
    return (tokens >= MAGENTA.size // 2).mean(axis=1)


def test_a_critic_learns_by_itself_and_at_first_alone():
    params = start(SINGER, scale=0.1)
    config = HEARD.replace(settling=2, value_weight=0.0)
    state = preference.init(jax.random.key(0), config, SINGER, params)
    assert set(state.params) == set(state.opt_state) == {"policy", "critic"}
    settled, metrics = train(state, SINGER, high, config, PROMPTS, 2)
    assert distance(settled.params["policy"], state.params["policy"]) == 0
    assert distance(settled.params["critic"], state.params["critic"]) > 1e-3
    after, _ = train(settled, SINGER, high, config, PROMPTS, 1)
    assert distance(after.params["policy"], settled.params["policy"]) > 1e-3
    assert not any(map(np.any, jax.tree.leaves(after.params["policy"]["params"]["value_head"])))
    assert metrics["loss/value_avg"].min() > 0
    still = train(settled, SINGER, high, config.replace(value_learning_rate=0.0), PROMPTS, 1)[0]
    assert distance(still.params["critic"], settled.params["critic"]) == 0


def test_a_critic_foresees_more_while_a_melody_is_written():
    config = HEARD.replace(
        melodies=64,
        settling=60,
        critic=32,
        critic_epochs=8,
        value_learning_rate=5e-3,
        beta=0.0,
        value_clip=None,
    )
    params = start(SINGER, scale=0.1)
    state = preference.init(jax.random.key(0), config, SINGER, params)
    state, metrics = train(state, SINGER, high, config, PROMPTS, 60)
    assert metrics["explained_variance"][-10:].mean() > 0.2  # of all notes: half is the most that can be
    condition = PROMPTS["condition"][jnp.arange(64) % 5]
    played = preference.play(params, config, SINGER, condition, jax.random.key(3))
    score = high(None, None, played.action.T)
    batch, _ = learning.prepare(
        state.params, params, config, SINGER, played, condition, score, state.coefficient
    )
    error = np.var(batch.value - score, axis=1) / np.var(score)
    assert error[28] < 0.6 < 0.9 < error[0]


def test_rates_fall_and_differ(params):
    state = begin(params)
    config = SHORT.replace(updates=4, value_learning_rate=0.0, epochs=1)
    state, metrics = train(state, TINY, matches, config, PROMPTS, 6)
    np.testing.assert_allclose(metrics["lr"], 0.01 * np.array([1, 0.75, 0.5, 0.25, 0, 0]), rtol=1e-5)
    assert not any(map(np.any, jax.tree.leaves(state.params["policy"]["params"]["value_head"])))
    ended, _ = update(state, config, TINY, PROMPTS, matches)
    assert distance(ended.params, state.params) == 0


def test_seeds_in_one_program_are_the_single_runs(params):
    run = lambda key: train(preference.init(key, SHORT, TINY, params), TINY, matches, SHORT, PROMPTS, 3)
    keys = jax.random.split(jax.random.key(7), 3)
    together, metrics = jax.vmap(run)(keys)
    for seed in range(3):
        alone, told = run(keys[seed])
        one = jax.tree.map(lambda x: x[seed], (together.params, metrics))  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), one, (alone.params, told))
    assert distance(jax.tree.map(lambda x: x[0], together.params), alone.params) > 1e-3


@pytest.mark.parametrize(
    "kind",
    [
        {"method": "ppo", "separate": True},
        {"method": "reinforce", "separate": True},
        {"steps": 32, "critic": 8, "settling": 1, "optimiser": "muon"},
    ],
)
def test_a_restored_learner_goes_on_bit_for_bit(kind, tmp_path):
    config = SHORT.replace(**kind, target=1.0, scale_rewards=True, stop_kl=0.05, updates=6)
    composer = SINGER if config.critic else TINY
    params = start(composer)
    fresh = lambda: preference.init(jax.random.key(0), config, composer, params)
    go_on = lambda state, updates: train(state, composer, matches, config, PROMPTS, updates)
    state, _ = go_on(fresh(), 2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, state)
    restored = checkpoints.restore(jax.eval_shape(fresh))
    assert restored is not None
    assert bits(restored[1]) == bits(state)
    after, metrics = go_on(state, 2)
    again, told = go_on(restored[1], 2)
    assert bits((again, told)) == bits((after, metrics))
    assert after.coefficient != state.coefficient
    straight, _ = go_on(fresh(), 4)
    assert distance(straight.params, after.params) < 1e-6


def test_prompts_are_answered_on_the_leash():
    """From a share of 1 in 4 to more than 1 in 2, at the target's divergence."""
    config = preference.Config(
        melodies=64, steps=8, minibatches=2, learning_rate=5e-3, value_learning_rate=1e-2,
        target=3.0, horizon=500.0, beta=0.05, weights={"first": 0.0},
    )  # fmt: skip
    state = begin(start(scale=0.05), config)
    _, metrics = train(state, TINY, matches, config, PROMPTS, 120)
    assert 0.2 < metrics["reward/share"][0] < 0.35
    assert metrics["reward/share"][-10:].mean() > 0.55
    assert 2.0 < metrics["objective/kl"][-20:].mean() < 4.0
