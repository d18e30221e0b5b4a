import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import cloning
from mammadai_jax.environments import Accompanied
from mammadai_jax.networks.mlp import ActorCritic

T = 9
FRAMES = np.random.default_rng(0).random((3, T, 128)) < 0.05


@pytest.mark.parametrize("representation", ["snapshot", "counts", "decayed"])
def test_demonstrations_are_what_a_player_would_have_seen(representation, random):
    env = Accompanied(representation, "both", accompaniments=FRAMES)
    params = env.default_params
    pieces, melodies = np.array([2, 0]), random.integers(0, env.num_actions, (2, T))
    demos = jax.jit(lambda pieces, melodies: cloning.demonstrate(env, params, pieces, melodies))(
        pieces, melodies
    )
    assert demos.observation.shape == (2 * T, 256)
    np.testing.assert_array_equal(demos.action, melodies.reshape(-1))
    np.testing.assert_array_equal(demos.step, np.tile(np.arange(T), 2))
    observations, begin, row = np.asarray(demos.observation), jax.jit(env.begin), 0
    for piece, melody in zip(pieces, melodies, strict=True):
        state = begin(piece)
        np.testing.assert_allclose(observations[row], jax.jit(env.observe)(state, params), atol=1e-6)
        for note, action in enumerate(melody):
            seen, state, _, terminated, _, _ = env.step(jax.random.key(0), state, action, params)
            row += 1
            if note < T - 1:
                np.testing.assert_allclose(observations[row], seen, atol=1e-6)
        assert bool(terminated)


def test_a_deterministic_policy_is_recovered(random):
    pitches = np.array([60, 62, 64, 65, 67])
    frames = np.arange(128) == pitches[random.integers(0, 5, (4, 16))][..., None]
    env = Accompanied(accompaniments=frames)
    melodies = env.alphabet.first + frames.argmax(axis=2) + 12 - env.alphabet.lowest  # an octave above
    config = cloning.Config(hidden=(16,), batch_size=32, learning_rate=0.02)
    actor = ActorCritic(env.num_actions, config.hidden)

    @jax.jit
    def learn(key):
        demos = cloning.demonstrate(env, env.default_params, np.arange(4), melodies)
        before = cloning.init(key, config, env)
        update = lambda state, _: cloning.step(state, config, actor, demos)
        after, metrics = jax.lax.scan(update, before, length=100)
        blank = jnp.zeros((5, 128)).at[jnp.arange(5), pitches].set(1.0)
        values = [state.params["params"]["value"] for state in (before, after)]
        return values, after.update, metrics, actor.apply(after.params, blank).logits.argmax(axis=1)

    (old, new), update, metrics, played = jax.tree.map(np.asarray, learn(jax.random.key(0)))
    assert metrics["nats"][0] == pytest.approx(np.log(env.num_actions), abs=0.1)
    assert metrics["nats"][-1] < 0.05
    assert metrics["accuracy"][-1] == 1.0
    np.testing.assert_array_equal(played, pitches + 12 - 21 + 1)
    # nothing teaches the value: it only decays
    for name in old:
        np.testing.assert_allclose(new[name], old[name] * (1 - 0.02 * 1e-4) ** 100, atol=1e-5)
    assert update == 100
