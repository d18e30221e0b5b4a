import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax import environments
from mammadai_jax.agents import cloning, gail, ppo
from mammadai_jax.environments import make
from mammadai_jax.music import harmony
from mammadai_jax.music.notes import VOICES, VOICES_HOLD

WEIGHTS = {"crossing": 2.0, "cadence": 0.5}
FEW = {name: harmony.RULES[name] for name in ("voice_ranges", "final_tonic")}
SMALL = harmony.Config(voices=2, frames=4)
HOLD = VOICES_HOLD.hold
COUNT = 12
ORDER = [0, 2, 1]  # of three voices


@functools.cache
def made():
    """An environment of three voices that tests share, so that its step is compiled once."""
    return make("polyphonic", config=harmony.Config(voices=3, frames=8), weights=WEIGHTS)


@functools.partial(jax.jit, static_argnames="env")
def play(env, params, actions):
    """Observations (N, T + 1, ...), states after, rewards, ends and info of N rows of actions (N, T)."""

    def row(params, actions):
        obs, state = env.reset(jax.random.key(0), params)

        def one(state, action):
            stepped = env.step(jax.random.key(1), state, action, params)
            return stepped[1], stepped

        later, *rest = jax.lax.scan(one, state, actions)[1]
        return jnp.concatenate([obs[None], later]), *rest

    return jax.vmap(row)(params, actions)


def each(params, **changes):
    """Params of COUNT pieces, those of the changes by piece."""
    changes = {"tonic": np.zeros(COUNT, int), "minor": np.zeros(COUNT, bool), **changes}
    changes = {"max_steps_in_episode": np.full(COUNT, 24), "fixed": np.full((COUNT, 8, 3), -1), **changes}
    return params.replace(**changes)


def decisions(seed=0):
    """Tokens (COUNT, 8, 3), few of them and close together."""
    rng = np.random.default_rng(seed)
    tokens = np.array([32, 24, 12]) + rng.integers(0, 14, (COUNT, 8, 3))
    return np.where(
        rng.random(tokens.shape) < 0.25, rng.choice([0, HOLD], tokens.shape, p=[0.2, 0.8]), tokens
    )


def in_order(tokens):
    """Tokens (COUNT, 8, 3) as they are decided, (COUNT, 24)."""
    return tokens[:, :, ORDER].reshape(COUNT, 24)


def test_rewards_are_the_rules():
    env, params = made()
    assert params.max_steps_in_episode == 24 and list(env.config.decision_order) == ORDER
    tokens = decisions()
    _, _, reward, terminated, _, info = play(env, each(params), in_order(tokens))
    np.testing.assert_array_equal(terminated, np.arange(24)[None] == np.full((COUNT, 1), 23))
    assert not info["forced"].any()
    scores = harmony.score(tokens, env.config)
    for name, values in scores.items():
        np.testing.assert_array_equal(info["rules"][name].sum(axis=1), values)
    total = sum(WEIGHTS.get(name, 1.0) * np.asarray(values) for name, values in scores.items())
    np.testing.assert_allclose(reward.sum(axis=1), total, atol=1e-4)
    assert sum(np.any(values != 0) for values in scores.values()) > 8


def test_given_tokens_are_played_whatever_the_action():
    """A given soprano and one given note of the lowest voice; where tokens are none, the agent decides."""
    env, params = made()
    tokens, others = decisions(1), decisions(2)
    forced = np.zeros((8, 3), bool)
    forced[:, 0] = forced[2, 2] = True
    fixed = np.where(forced, tokens, -1)
    fixed[:, 5, 1] = HOLD + 1
    expected = np.where(forced, tokens, others)
    given = play(env, each(params, fixed=fixed), in_order(others))
    free = play(env, each(params), in_order(expected))
    np.testing.assert_array_equal(given[-1]["forced"], np.tile(forced[:, ORDER].ravel(), (COUNT, 1)))
    np.testing.assert_array_equal(given[1].token[:, :-1], in_order(expected)[:, :-1])
    for ours, theirs in zip(given[:1] + given[2:5], free[:1] + free[2:5], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    chex.assert_trees_all_equal(given[-1]["rules"], free[-1]["rules"])
    assert (given[2] != play(env, each(params), in_order(others))[2]).any()


def test_pieces_in_all_keys_and_lengths_at_once():
    env, params = made()
    tonic, minor = np.arange(12), np.arange(12) % 2 == 1
    lengths = np.where(tonic == 0, 15, 24)
    cadence = np.array([[71, 67, 55], [72, 64, 48]]).repeat(4, axis=0) - 32
    tokens = cadence + tonic[:, None, None]
    many = each(params, max_steps_in_episode=lengths, tonic=tonic, minor=minor)
    earned = play(env, many, in_order(tokens))[-1]["rules"]["final_tonic"]
    expected = np.zeros((12, 24))
    expected[1:, -1] = 1
    expected[0, 14] = 1
    np.testing.assert_array_equal(earned, expected)


def seen(tokens, time):
    """The observation before a decision, of tokens (8, 3) by voice, with loops."""
    frame, place = divmod(time, 3)
    rows, held = np.zeros((9, 3)), np.zeros(3)
    for index, row in enumerate(tokens):
        for voice in range(3):
            now = {0: 0, HOLD: rows[index - 1, voice] if index else 0}.get(row[voice], row[voice] + 32)
            rows[index, voice] = now
    picture = np.zeros((3, 27))
    for rank, voice in enumerate(ORDER):
        last = frame if rank < place else frame - 1
        held[voice] = last >= 0 and tokens[last, voice] == HOLD
        before = rows[frame - 1, voice] if frame else 0
        for offset, pitch in ((0, before), (13, rows[frame, voice] if rank < place else 0)):
            if pitch:
                picture[voice, offset + int(pitch) % 12] = 1
                picture[voice, offset + 12] = (pitch - 32) / 65
    picture[:, 26] = held
    return np.concatenate([picture.ravel(), np.eye(3)[ORDER[place]], np.eye(4)[frame % 4]])


def test_observations_are_what_has_sounded():
    env, params = made()
    tokens = decisions(3)
    obs = play(env, each(params), in_order(tokens))[0]
    assert obs.shape[2] == env.observation_size == 3 * 28 + 4
    for found, piece in zip(obs, tokens, strict=True):
        np.testing.assert_allclose(found[:24], [seen(piece, time) for time in range(24)], atol=1e-6)
        np.testing.assert_allclose(found[24], obs[0, 0])  # the next piece


def test_the_alphabet_without_holds():
    env, params = make("polyphonic", config=SMALL.replace(alphabet=VOICES), rules=FEW)
    assert (env.num_actions, int(env.initial(None, params).token)) == (66, 66)
    environments.check(env, params, steps=9)


def test_rules_of_ones_own():
    rules = {"high": lambda state, action, config: jnp.where(action > 20, 1.0, 0.0)}
    env, params = make("polyphonic", config=SMALL, rules=rules, weights={"high": 3.0})
    state = env.reset(jax.random.key(0), params)[1]
    step = lambda action: env.step(jax.random.key(0), state, action, params)
    assert [float(step(action)[2]) for action in (20, 21)] == [0.0, 3.0]
    assert list(step(20)[-1]["rules"]) == ["high"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make("polyphonic", weights={"key": 1.0}), r"\['key'\] belong to no rule"),
        (lambda: made()[0].check_size(66), "network has 66 tokens, and the alphabet 'voices_hold' 67"),
        (
            lambda: made()[0].initial(None, made()[1].replace(fixed=np.zeros((8, 4)))),
            r"\(frames, 3\) tokens, got shape \(8, 4\)",
        ),
    ],
)
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    made()[0].check_size(67)


def test_ppo_learns_to_end_on_the_tonic_below_a_given_voice():
    rules = {"final_tonic": harmony.RULES["final_tonic"]}
    env, params = make("polyphonic", config=harmony.Config(voices=2, frames=1), rules=rules)
    params = params.replace(fixed=np.array([[72 - 32, -1]]))
    config = ppo.Config(num_envs=256, num_steps=2, hidden=(8,), learning_rate=3e-2, num_minibatches=2)

    @jax.jit
    def learn(key):
        update = lambda state, _: ppo.step(state, config, env, params)
        return jax.lax.scan(update, ppo.init(key, config, env, params), length=25)[1]["return"]

    returns = np.asarray(learn(jax.random.key(0)))
    assert returns[:2].mean() < 0.2
    assert returns[-3:].mean() > 0.8


def test_gail_imitates_pieces():
    env, params = make("polyphonic", config=SMALL, rules={})
    pieces = np.tile([40, 16, 41, HOLD], (3, 2))
    demos = cloning.demonstrate(env, params, np.zeros(3, int), pieces)
    assert demos.observation.shape == (24, env.observation_size)
    config = gail.Config(
        ppo=ppo.Config(num_envs=8, num_steps=8, hidden=(8,), num_minibatches=2),
        hidden=(8,),
        context_length=2,
        batch_size=8,
    )

    @jax.jit
    def learn(key):
        return gail.step(gail.init(key, config, env), config, env, params, demos)

    state, metrics = learn(jax.random.key(0))
    assert int(state.update) == 1
    assert all(np.isfinite(value) for value in metrics.values())
